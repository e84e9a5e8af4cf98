//! Tables into objects.

use serde_json::{Value, json};

use super::table::{BindingSpec, RoleSpec, RuleSpec, Who};
use crate::rbac::PolicyRule;

const API_VERSION: &str = "rbac.authorization.k8s.io/v1";
const API_GROUP: &str = "rbac.authorization.k8s.io";
const AGGREGATE_TO: &str = "rbac.authorization.k8s.io/aggregate-to-";

pub(super) fn cluster_role(spec: &RoleSpec, all: &[&RoleSpec]) -> Value {
    let mut object = object("ClusterRole", spec.name);
    for whole in spec.part_of {
        object["metadata"]["labels"][format!("{AGGREGATE_TO}{whole}")] = json!("true");
    }
    if spec.aggregated {
        let label = format!("{AGGREGATE_TO}{}", spec.name);
        object["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]});
    }
    let mut rules = Vec::new();
    collect(spec, all, &mut rules);
    object["rules"] = json!(rules);
    object
}

/// The role's rules; those of an aggregated role are its parts', as the controller that later keeps them would write.
fn collect(spec: &RoleSpec, all: &[&RoleSpec], into: &mut Vec<PolicyRule>) {
    for rule in rules(spec.rules) {
        if !into.contains(&rule) {
            into.push(rule);
        }
    }
    if spec.aggregated {
        for part in all.iter().filter(|part| part.part_of.contains(&spec.name)) {
            collect(part, all, into);
        }
    }
}

pub(super) fn role(namespace: &str, spec: &RoleSpec) -> Value {
    let mut object = object("Role", spec.name);
    object["metadata"]["namespace"] = json!(namespace);
    object["rules"] = json!(rules(spec.rules));
    object
}

pub(super) fn cluster_role_binding(spec: &BindingSpec<'_>) -> Value {
    let mut object = object("ClusterRoleBinding", spec.name);
    bind(&mut object, "ClusterRole", spec);
    object
}

/// Grants a controller's role to the service account that upstream's runs it under: the rest of the role's name, in
/// `kube-system`. None for a role of another kind.
pub(super) fn controller_binding(role: &'static str) -> Option<Value> {
    let account = role.strip_prefix("system:controller:")?;
    let subjects = &[Who::ServiceAccount("kube-system", account)];
    Some(cluster_role_binding(&BindingSpec { name: role, role, subjects }))
}

pub(super) fn role_binding(namespace: &str, spec: &BindingSpec<'_>) -> Value {
    let mut object = object("RoleBinding", spec.name);
    object["metadata"]["namespace"] = json!(namespace);
    bind(&mut object, "Role", spec);
    object
}

pub(super) fn rules(specs: &[RuleSpec]) -> Vec<PolicyRule> {
    let owned = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
    let rule = |spec: &RuleSpec| PolicyRule {
        verbs: owned(spec.verbs),
        api_groups: owned(spec.groups),
        resources: owned(spec.resources),
        resource_names: owned(spec.names),
        non_resource_urls: owned(spec.urls),
    };
    specs.iter().map(rule).collect()
}

fn bind(object: &mut Value, role_kind: &str, spec: &BindingSpec<'_>) {
    object["roleRef"] = json!({"apiGroup": API_GROUP, "kind": role_kind, "name": spec.role});
    let subject = |who: &Who| match who {
        Who::User(name) => json!({"apiGroup": API_GROUP, "kind": "User", "name": name}),
        Who::Group(name) => json!({"apiGroup": API_GROUP, "kind": "Group", "name": name}),
        Who::ServiceAccount(namespace, name) => {
            json!({"kind": "ServiceAccount", "name": name, "namespace": namespace})
        }
    };
    if !spec.subjects.is_empty() {
        object["subjects"] = spec.subjects.iter().map(subject).collect();
    }
}

fn object(kind: &str, name: &str) -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
        },
    })
}
