//! All built-in kinds.

use std::collections::HashMap;
use std::sync::Arc;

use api::kinds::BuiltinKind;
use apimachinery::gvk::GroupResource;

use crate::resource::Resource;
use crate::strategy::Builtin;
use crate::{
    Head, Kind, Limits, admissionregistration, apiextensions, apiregistration, apps, autoscaling, batch,
    certificates, coordination, devices, discovery, events, kind, networking, node, policy, rbac, scheduling,
    storage,
};

pub(crate) const VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// One line a kind. Of two kinds with the same storage, the one that is stored comes first.
fn builtins(families: &[&'static str]) -> Vec<Builtin> {
    vec![
        crate::core::component_status::builtin(),
        crate::core::config_map::builtin(),
        crate::core::endpoints::builtin(),
        crate::core::event::builtin(),
        crate::core::limit_range::builtin(),
        crate::core::namespace::builtin(),
        crate::core::node::builtin(),
        crate::core::persistent_volume::builtin(),
        crate::core::persistent_volume_claim::builtin(),
        crate::core::pod::builtin(),
        crate::core::resource_quota::builtin(),
        crate::core::pod_template::builtin(),
        crate::core::replication_controller::builtin(),
        crate::core::secret::builtin(),
        crate::core::service::builtin(families),
        crate::core::service_account::builtin(),
        admissionregistration::validating_admission_policy::builtin(),
        admissionregistration::validating_admission_policy_binding::builtin(),
        admissionregistration::webhook_configuration::mutating(),
        admissionregistration::webhook_configuration::validating(),
        apiextensions::custom_resource_definition::builtin(),
        apiregistration::api_service::builtin(),
        apps::controller_revision::builtin(),
        apps::daemon_set::builtin(),
        apps::deployment::builtin(),
        apps::replica_set::builtin(),
        apps::stateful_set::builtin(),
        autoscaling::horizontal_pod_autoscaler::builtin(),
        autoscaling::horizontal_pod_autoscaler_v1::builtin(),
        batch::cron_job::builtin(),
        batch::job::builtin(),
        certificates::certificate_signing_request::builtin(),
        coordination::lease::builtin(),
        devices::device_class::builtin(),
        devices::resource_claim::builtin(),
        devices::resource_claim_template::builtin(),
        devices::resource_slice::builtin(),
        discovery::endpoint_slice::builtin(),
        events::event::builtin(),
        networking::ingress::builtin(),
        networking::ingress_class::builtin(),
        networking::ip_address::builtin(),
        networking::network_policy::builtin(),
        networking::service_cidr::builtin(),
        node::runtime_class::builtin(),
        policy::pod_disruption_budget::builtin(),
        rbac::binding::of_cluster(),
        rbac::binding::of_namespace(),
        rbac::role::of_cluster(),
        rbac::role::of_namespace(),
        storage::csi_driver::builtin(),
        storage::csi_node::builtin(),
        storage::csi_storage_capacity::builtin(),
        storage::storage_class::builtin(),
        storage::volume_attachment::builtin(),
        storage::volume_attributes_class::builtin(),
        scheduling::priority_class::builtin(),
    ]
}

/// Where a kind's objects lie if not under its own group.
fn storage(facts: &BuiltinKind) -> GroupResource {
    match (facts.group, facts.plural) {
        ("events.k8s.io", plural) => GroupResource::of("", plural),
        _ => facts.group_resource(),
    }
}

/// What users of a kind are told that something better has taken the place of.
fn deprecation(facts: &BuiltinKind) -> Option<String> {
    match (facts.group, facts.kind) {
        ("", "ComponentStatus") => Some("v1 ComponentStatus is deprecated in v1.19+".to_owned()),
        ("", "Endpoints") => {
            Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".to_owned())
        }
        _ => None,
    }
}

/// `families` are those that the cluster has addresses of for services.
pub(crate) fn builtin_kinds(limits: Limits, families: &[&'static str]) -> Vec<Arc<Kind>> {
    let mut resources: HashMap<GroupResource, (Arc<Resource>, u16)> = HashMap::new();
    let mut kinds = Vec::new();
    for builtin in builtins(families) {
        let (group, version, name) = builtin.name;
        let known = api::kinds::ALL.iter();
        let facts =
            known.clone().find(|each| (each.group, each.version, each.kind) == (group, version, name));
        // A test holds every line above against the table of facts.
        let Some(facts) = facts else { continue };
        let storage = storage(facts);
        let (resource, slot) = match resources.get_mut(&storage) {
            Some((resource, slots)) => {
                *slots += 1;
                (resource.clone(), *slots)
            }
            None => {
                let fields = builtin.fields.clone();
                let made = Resource::new(storage.clone(), facts.kind, facts.namespaced, fields, limits);
                let resource = Arc::new(made);
                resources.insert(storage, (resource.clone(), 0));
                (resource, 0)
            }
        };
        kinds.push(Arc::new(kind_of(builtin, facts, resource, slot)));
    }
    kinds
}

fn kind_of(builtin: Builtin, facts: &BuiltinKind, resource: Arc<Resource>, slot: u16) -> Kind {
    let api_version = kind::api_version(facts.group, facts.version);
    let list_kind = format!("{}List", facts.kind);
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Kind {
        group: facts.group.into(),
        version: facts.version.into(),
        kind: facts.kind.into(),
        plural: facts.plural.into(),
        singular: facts.singular.into(),
        short_names: owned(facts.short_names),
        categories: owned(facts.categories),
        namespaced: facts.namespaced,
        verbs: builtin.rules.verbs,
        subresources: builtin.subresources,
        schema: api::schemas::builtin().kind_ref(&facts.gvk()),
        custom: false,
        storage: slot == 0,
        deprecation: deprecation(facts),
        gvk: facts.gvk(),
        columns: builtin.columns,
        rules: builtin.rules,
        scale: builtin.scale,
        head: Head::new(&api_version, facts.kind),
        list_head: Head::new(&api_version, &list_kind),
        list_kind,
        resource,
        slot,
        shape: slot.into(),
        versions: None,
        strategy: builtin.strategy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stored_kind_has_a_strategy_and_every_strategy_a_kind() {
        let kinds = builtin_kinds(Limits::default(), &["IPv4"]);
        let ours: std::collections::BTreeSet<String> =
            kinds.iter().map(|kind| kind.gvk.to_string()).collect();
        let stored = api::kinds::ALL.iter().filter(|facts| !facts.create_only);
        let theirs: std::collections::BTreeSet<String> =
            stored.map(|facts| facts.gvk().to_string()).collect();
        assert_eq!(ours, theirs);
        assert_eq!(kinds.len(), builtins(&["IPv4"]).len());
        assert!(kinds.iter().all(|kind| kind.schema.is_some()));
        assert!(
            kinds.iter().all(|kind| kind.columns[0].name == "Name" || kind.resource.path == "core/events")
        );
    }
}
