//! What ValidatingAdmissionPolicies get wrong of the kinds that they name, in their status: once for each change of one.

use crate::plan::{Plan, patch_status};
use crate::{Controller, World};
use api::{kinds, schemas};
use apimachinery::field::Path;
use apimachinery::gvk::{GroupVersion, GroupVersionKind};
use apimachinery::schema::Schema;
use async_trait::async_trait;
use cel::DeclType;
use client::kube::{self, ResourceExt};
use client::{Api, Client, ListParams, ObjectKey, Reader, WorkQueue};
use expressions::Typed;
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Kinds of one policy that are looked at. Upstream's number.
const MOST: usize = 10;

/// The controller; see the module. Keys are names of policies.
pub struct PolicyStatus {
    client: Client,
    policies: Reader<ValidatingAdmissionPolicy>,
}

/// What it looks at.
pub struct View {
    /// The policy.
    pub policy: Option<Arc<ValidatingAdmissionPolicy>>,
    /// Custom resources, where it names a kind that is not built in.
    pub definitions: Vec<CustomResourceDefinition>,
}

/// Whether this version of the policy has not been looked at.
fn is_new(policy: &ValidatingAdmissionPolicy) -> bool {
    let seen = policy.status.as_ref().and_then(|status| status.observed_generation);
    policy.metadata.generation > seen
}

/// The resources that it names one by one: rules with a wildcard in their groups or versions are about too many.
fn resources(policy: &ValidatingAdmissionPolicy) -> BTreeSet<(String, String, String)> {
    let constraints = policy.spec.as_ref().and_then(|spec| spec.match_constraints.as_ref());
    let mut named = BTreeSet::new();
    for rule in constraints.into_iter().flat_map(|constraints| constraints.resource_rules.iter().flatten()) {
        let (groups, versions) = (rule.api_groups.iter().flatten(), rule.api_versions.iter().flatten());
        if groups.clone().chain(versions.clone()).any(|name| name.contains('*')) {
            continue;
        }
        for group in groups {
            for version in versions.clone() {
                let plain = rule.resources.iter().flatten().filter(|name| !name.contains(['*', '/']));
                named.extend(plain.map(|name| (group.clone(), version.clone(), name.clone())));
            }
        }
    }
    named
}

/// The kind of its parameters.
fn param_kind(policy: &ValidatingAdmissionPolicy) -> Option<GroupVersionKind> {
    let kind = policy.spec.as_ref()?.param_kind.as_ref()?;
    let version = kind.api_version.as_deref()?.parse::<GroupVersion>().ok()?;
    Some(GroupVersionKind::new(version.group, version.version, kind.kind.clone()?))
}

fn builtin(group: &str, version: &str, resource: &str) -> Option<GroupVersionKind> {
    let named =
        |kind: &&kinds::BuiltinKind| (kind.group, kind.version, kind.plural) == (group, version, resource);
    kinds::ALL.iter().find(named).map(kinds::BuiltinKind::gvk)
}

impl View {
    /// The kind of a resource.
    fn kind(&self, group: &str, version: &str, resource: &str) -> Option<GroupVersionKind> {
        let custom = || {
            let of = self.definitions.iter().map(|definition| &definition.spec);
            let mut of = of.filter(|spec| spec.group == group && spec.names.plural == resource);
            let kind = of.next()?.names.kind.clone();
            Some(GroupVersionKind::new(group.to_owned(), version.to_owned(), kind))
        };
        builtin(group, version, resource).or_else(custom)
    }

    /// What objects of a kind are, where somebody says so.
    fn decl(&self, gvk: &GroupVersionKind) -> Option<DeclType> {
        let decl = |schema: &Schema| {
            DeclType::from_schema(schema, &gvk.kind, true).unwrap_or_else(DeclType::dynamic)
        };
        if gvk.group == "apiextensions.k8s.io" {
            // Schemas hold schemas: a declaration of them would have no end.
            return Some(DeclType::dynamic());
        }
        if let Some(schema) = schemas::builtin().kind(gvk) {
            return Some(decl(schema));
        }
        let mut specs = self.definitions.iter().map(|definition| &definition.spec);
        let spec = specs.find(|spec| spec.group == gvk.group && spec.names.kind == gvk.kind)?;
        let version = spec.versions.iter().find(|version| version.name == gvk.version && version.served)?;
        let schema = serde_json::to_value(version.schema.as_ref()?.open_api_v3_schema.as_ref()?).ok()?;
        let metadata = schemas::builtin().object_meta();
        Schema::from_crd(&schema, metadata, &Path::empty()).ok().as_ref().map(decl)
    }
}

#[async_trait]
impl Controller for PolicyStatus {
    const NAME: &'static str = "validatingadmissionpolicy-status-controller";
    type Key = String;
    type View = View;
    type Memory = ();

    fn wire(world: &World, queue: &Arc<WorkQueue<String>>) -> Self {
        let (policies, add) = (world.reader::<ValidatingAdmissionPolicy>(), queue.clone());
        policies.informer().on_change(move |change| add.add(change.object().name_any()));
        Self { client: world.client().clone(), policies }
    }

    fn view(&self, name: &String) -> View {
        View { policy: self.policies.get(&ObjectKey::cluster(name)), definitions: Vec::new() }
    }

    async fn observe(&self, _: &String, view: &mut View) -> Result<(), kube::Error> {
        let Some(policy) = view.policy.as_deref().filter(|policy| is_new(policy)) else { return Ok(()) };
        let custom = |(group, version, resource): &(String, String, String)| {
            builtin(group, version, resource).is_none()
        };
        let params = param_kind(policy).is_some_and(|gvk| kinds::by_gvk(&gvk).is_none());
        if params || resources(policy).iter().any(custom) {
            // Seldom, so that no process need hold every definition for it.
            let all: Api<CustomResourceDefinition> = Api::all(self.client.clone());
            view.definitions = all.list(&ListParams::default()).await?.items;
        }
        Ok(())
    }

    fn plan(_: &String, view: &View, (): &(), _: Timestamp) -> Plan<()> {
        let mut plan = Plan::default();
        let Some(policy) = view.policy.as_deref().filter(|policy| is_new(policy)) else { return plan };
        let named = resources(policy);
        let known = named.iter().filter_map(|(group, version, resource)| view.kind(group, version, resource));
        let kinds: BTreeSet<GroupVersionKind> = known.take(MOST).collect();
        let typed = kinds.iter().filter_map(|gvk| Some(Typed { name: words(gvk), decl: view.decl(gvk)? }));
        let typed: Vec<Typed> = typed.collect();
        let params = param_kind(policy).and_then(|gvk| view.decl(&gvk));
        let spec = policy.spec.as_ref().and_then(|spec| serde_json::to_value(spec).ok()).unwrap_or_default();
        let warnings = expressions::type_check(&spec, &typed, params.as_ref());
        let warnings: Vec<Value> = warnings
            .into_iter()
            .map(|warning| json!({ "fieldRef": warning.field, "warning": warning.warning }))
            .collect();
        let warnings = Some(warnings).filter(|warnings| !warnings.is_empty());
        let status = json!({
            "observedGeneration": policy.metadata.generation,
            "typeChecking": { "expressionWarnings": warnings },
        });
        plan.then(patch_status(policy, status));
        plan
    }
}

/// As upstream writes a kind in messages.
fn words(gvk: &GroupVersionKind) -> String {
    format!("{}/{}, Kind={}", gvk.group, gvk.version, gvk.kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Action;
    use serde_json::from_value;

    fn policy(spec: Value) -> ValidatingAdmissionPolicy {
        from_value(json!({ "metadata": { "name": "p", "generation": 2 }, "spec": spec })).unwrap()
    }

    fn rule(group: &str, resources: &[&str]) -> Value {
        json!({ "apiGroups": [group], "apiVersions": ["v1"], "operations": ["*"], "resources": resources })
    }

    fn warnings(spec: Value, definitions: Vec<CustomResourceDefinition>) -> Vec<(String, String)> {
        let view = View { policy: Some(Arc::new(policy(spec))), definitions };
        let plan = PolicyStatus::plan(&String::new(), &view, &(), Timestamp::UNIX_EPOCH);
        let [Action::Patch(patch)] = &plan.actions[..] else { panic!("{plan:?}") };
        let status = &patch.body["status"];
        assert_eq!(status["observedGeneration"], 2);
        let found = status["typeChecking"]["expressionWarnings"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        found.iter().map(|warning| (text(&warning["fieldRef"]), text(&warning["warning"]))).collect()
    }

    #[test]
    fn every_kind_can_be_declared() {
        let view = View { policy: None, definitions: Vec::new() };
        for kind in kinds::ALL {
            assert!(view.decl(&kind.gvk()).is_some(), "{}", kind.gvk());
        }
    }

    #[test]
    fn a_mistake_in_a_field_is_told_of_for_each_kind_that_lacks_it() {
        let spec = json!({
            "matchConstraints": { "resourceRules": [
                rule("apps", &["deployments", "daemonsets", "deployments/scale"]), rule("", &["*"]), rule("*", &["pods"]),
            ] },
            "validations": [{ "expression": "object.spec.replicas < 5" }],
        });
        let found = warnings(spec, Vec::new());
        let wrong = "apps/v1, Kind=DaemonSet: ERROR: <input>:1:12: undefined field 'replicas'\n | object.spec.replicas < 5\n \
                     | ...........^\n";
        assert_eq!(found, [("spec.validations[0].expression".to_owned(), wrong.to_owned())]);
    }

    #[test]
    fn custom_kinds_are_known_by_their_definitions() {
        let definition = from_value(json!({
            "metadata": { "name": "webs.example.com" },
            "spec": { "group": "example.com", "scope": "Namespaced", "names": { "plural": "webs", "kind": "Web" },
                "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": {
                    "type": "object", "properties": { "spec": { "type": "object", "properties": {
                        "size": { "type": "integer" } } } } } } }] },
        }))
        .unwrap();
        let spec = json!({
            "paramKind": { "apiVersion": "example.com/v1", "kind": "Web" },
            "matchConstraints": { "resourceRules": [rule("example.com", &["webs"]), rule("", &["configmaps"])] },
            "validations": [
                { "expression": "object.metadata.name != params.spec.size" },
                { "expression": "params.spec.size > 1 && object.metadata.name != ''" },
            ],
        });
        let found = warnings(spec, vec![definition]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].1.starts_with("/v1, Kind=ConfigMap: ERROR"), "{found:?}");
        assert!(found[0].1.contains("\nexample.com/v1, Kind=Web: ERROR"), "{found:?}");
    }

    #[test]
    fn what_has_been_looked_at_is_left_alone() {
        let mut policy = policy(json!({ "validations": [{ "expression": "true" }] }));
        policy.status = from_value(json!({ "observedGeneration": 2 })).unwrap();
        let view = View { policy: Some(Arc::new(policy)), definitions: Vec::new() };
        let plan = PolicyStatus::plan(&String::new(), &view, &(), Timestamp::UNIX_EPOCH);
        assert_eq!(plan.actions, []);
    }
}
