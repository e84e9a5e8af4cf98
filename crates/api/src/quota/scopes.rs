//! Which objects a quota with scopes counts.

use apimachinery::gvk::GroupResource;
use serde_json::Value;

use super::{amounts, at, core, items, text};

/// Whether the object is in all scopes of the quota. Only pods and claims are in any.
pub fn selects(quota: &Value, resource: &GroupResource, object: &Value) -> bool {
    let matches = |scope: &str, operator: &str, values: &[Value]| match core(resource) {
        Some("pods") => pod_is_in(object, scope, operator, values),
        Some("persistentvolumeclaims") => {
            scope == "VolumeAttributesClass" && fits(&classes(object), operator, values)
        }
        _ => false,
    };
    let mut scopes = items(quota, &["spec", "scopes"]).iter().filter_map(Value::as_str);
    let mut expressions = items(quota, &["spec", "scopeSelector", "matchExpressions"]).iter();
    scopes.all(|scope| matches(scope, "Exists", &[]))
        && expressions.all(|expression| {
            let of = |field| text(expression, &[field]);
            matches(of("scopeName"), of("operator"), items(expression, &["values"]))
        })
}

fn pod_is_in(pod: &Value, scope: &str, operator: &str, values: &[Value]) -> bool {
    let ends = || {
        let deadline = at(pod, &["spec", "activeDeadlineSeconds"]).and_then(Value::as_i64);
        deadline.is_some_and(|seconds| seconds >= 0)
    };
    match scope {
        "Terminating" => ends(),
        "NotTerminating" => !ends(),
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "PriorityClass" => {
            let class = text(pod, &["spec", "priorityClassName"]);
            fits(
                &Some(class).filter(|class| !class.is_empty()).into_iter().collect::<Vec<_>>(),
                operator,
                values,
            )
        }
        "CrossNamespacePodAffinity" => looks_elsewhere(pod),
        _ => false,
    }
}

/// Whether one of the names satisfies the requirement; where there are none, only a negative one is satisfied.
fn fits(names: &[&str], operator: &str, values: &[Value]) -> bool {
    let is_among = || names.iter().any(|name| values.iter().any(|value| value == name));
    match operator {
        "Exists" => !names.is_empty(),
        "DoesNotExist" => names.is_empty(),
        "In" => is_among(),
        "NotIn" => !is_among(),
        _ => false,
    }
}

/// The classes of attributes that a claim has, wants or is on its way to.
fn classes(claim: &Value) -> Vec<&str> {
    let all = [
        text(claim, &["spec", "volumeAttributesClassName"]),
        text(claim, &["status", "currentVolumeAttributesClassName"]),
        text(claim, &["status", "modifyVolumeStatus", "targetVolumeAttributesClassName"]),
    ];
    all.into_iter().filter(|name| !name.is_empty()).collect()
}

/// Whether the pod says nothing about CPU and memory.
fn is_best_effort(pod: &Value) -> bool {
    let says = |owner: &Value| {
        ["requests", "limits"].into_iter().any(|field| {
            let given = amounts(at(owner, &["resources", field]));
            ["cpu", "memory"].iter().any(|name| given.get(*name).is_some_and(|amount| amount.signum() > 0))
        })
    };
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let mut containers = items(spec, &["containers"]).iter().chain(items(spec, &["initContainers"]));
    !says(spec) && !containers.any(says)
}

/// Whether an affinity of the pod speaks of pods of other namespaces.
fn looks_elsewhere(pod: &Value) -> bool {
    let names =
        |term: &Value| !items(term, &["namespaces"]).is_empty() || term.get("namespaceSelector").is_some();
    ["podAffinity", "podAntiAffinity"].into_iter().any(|kind| {
        let of = |list| items(pod, &["spec", "affinity", kind, list]).iter();
        let mut required = of("requiredDuringSchedulingIgnoredDuringExecution");
        let mut preferred = of("preferredDuringSchedulingIgnoredDuringExecution");
        required.any(names) || preferred.any(|term| term.get("podAffinityTerm").is_some_and(names))
    })
}
