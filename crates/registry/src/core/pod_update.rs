//! What may change of a pod once it is made.

use apimachinery::field::{FieldError, Path};
use apimachinery::quantity::Quantity;
use serde_json::Value;

use super::pod_defaults::CONTAINERS;
use super::pod_restart;
use crate::tree::{at, copy, items, items_mut, map, number, text};

/// Says that a pod is but the image of one that a node's own files ask for.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";

/// Checks that the spec is the old one, but for images, tolerations that were added, a shorter deadline or grace, and
/// scheduling gates that were lifted.
pub(crate) fn validate(pod: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let spec = Path::new("spec");
    validate_containers(pod, old, &spec, errors);
    validate_deadline(pod, old, &spec, errors);
    validate_tolerations(pod, old, &spec, errors);
    validate_gates(pod, old, &spec, errors);
    if !errors.is_empty() {
        return;
    }
    let mut munged = pod.get("spec").cloned().unwrap_or_default();
    let before = old.get("spec").cloned().unwrap_or_default();
    for list in ["containers", "initContainers"] {
        let olds = items(&before, &[list]);
        for (container, known) in items_mut(&mut munged, &[list]).iter_mut().zip(olds) {
            copy(container, known, "image");
        }
    }
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        copy(&mut munged, &before, field);
    }
    if number(&before, &["terminationGracePeriodSeconds"]).unwrap_or_default() < 0
        && number(&munged, &["terminationGracePeriodSeconds"]) == Some(1)
    {
        copy(&mut munged, &before, "terminationGracePeriodSeconds");
    }
    if !items(&before, &["schedulingGates"]).is_empty() {
        // A pod that is not to be scheduled yet may still be narrowed down.
        copy(&mut munged, &before, "nodeSelector");
        copy(&mut munged, &before, "affinity");
    }
    if normalised(munged.clone()) != normalised(before.clone()) {
        let why = format!(
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
             `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
             `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n{}",
            difference(&before, &munged)
        );
        errors.push(FieldError::forbidden(&spec, why));
    }
}

/// Amounts that are equal are equal however they are written.
pub(crate) fn normalised(mut spec: Value) -> Value {
    for list in CONTAINERS {
        for container in items_mut(&mut spec, &[list]) {
            for kind in ["limits", "requests"] {
                let amounts =
                    crate::tree::at_mut(container, &["resources", kind]).and_then(Value::as_object_mut);
                for (_, value) in amounts.into_iter().flatten() {
                    if let Some(amount) = value.as_str().and_then(|text| text.parse::<Quantity>().ok()) {
                        *value = amount.to_string().into();
                    }
                }
            }
        }
    }
    spec
}

/// The fields that differ, for people.
pub(crate) fn difference(before: &Value, after: &Value) -> String {
    let mut text = String::new();
    let mut names: Vec<&String> = before.as_object().into_iter().flatten().map(|(name, _)| name).collect();
    names.extend(after.as_object().into_iter().flatten().map(|(name, _)| name));
    names.sort_unstable();
    names.dedup();
    for name in names.into_iter().filter(|name| before.get(*name) != after.get(*name)) {
        let show = |tree: &Value| tree.get(name).map_or_else(|| "(none)".to_owned(), Value::to_string);
        text.push_str(&format!("- {name}: {}\n+ {name}: {}\n", show(before), show(after)));
    }
    text
}

fn validate_containers(pod: &Value, old: &Value, spec: &Path<'_>, errors: &mut Vec<FieldError>) {
    for list in ["containers", "initContainers"] {
        let path = spec.child(list);
        let (new, known) = (items(pod, &["spec", list]), items(old, &["spec", list]));
        if new.len() != known.len() {
            errors.push(FieldError::forbidden(&path, "pod updates may not add or remove containers"));
            continue;
        }
        for (index, container) in new.iter().enumerate() {
            if text(container, &["image"]).is_empty() {
                errors.push(FieldError::required(&path.index(index).child("image"), ""));
            }
        }
    }
}

fn validate_deadline(pod: &Value, old: &Value, spec: &Path<'_>, errors: &mut Vec<FieldError>) {
    let path = spec.child("activeDeadlineSeconds");
    let deadline = |pod: &Value| number(pod, &["spec", "activeDeadlineSeconds"]);
    match (deadline(pod), deadline(old)) {
        (None, Some(_)) => {
            let why = "must not update from a positive integer to nil value";
            errors.push(FieldError::invalid(&path, Value::Null, why));
        }
        (Some(new), Some(known)) if new > known => {
            errors.push(FieldError::invalid(&path, new, "must be less than or equal to previous value"));
        }
        (Some(new), _) if new < 1 => {
            let why = "must be between 1 and 2147483647, inclusive";
            errors.push(FieldError::invalid(&path, new, why));
        }
        _ => {}
    }
}

fn validate_tolerations(pod: &Value, old: &Value, spec: &Path<'_>, errors: &mut Vec<FieldError>) {
    let without_seconds = |toleration: &Value| {
        let mut toleration = toleration.clone();
        map(&mut toleration).remove("tolerationSeconds");
        toleration
    };
    let new: Vec<Value> = items(pod, &["spec", "tolerations"]).iter().map(without_seconds).collect();
    let kept = items(old, &["spec", "tolerations"]).iter().all(|known| new.contains(&without_seconds(known)));
    if !kept {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden(&spec.child("tolerations"), why));
    }
}

fn validate_gates(pod: &Value, old: &Value, spec: &Path<'_>, errors: &mut Vec<FieldError>) {
    let known = items(old, &["spec", "schedulingGates"]);
    for gate in items(pod, &["spec", "schedulingGates"]).iter().filter(|gate| !known.contains(gate)) {
        let why =
            format!("only deletion is allowed, but found new scheduling gate '{}'", text(gate, &["name"]));
        errors.push(FieldError::forbidden(&spec.child("schedulingGates"), why));
    }
}

/// What the node authorizer and the kubelets go by for a pod's whole life, through whichever door it would be changed.
pub(crate) fn validate_annotations(pod: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let mirror = |pod| apimachinery::meta::annotation(pod, MIRROR);
    if mirror(pod) == mirror(old) {
        return;
    }
    let why = match mirror(old) {
        Some(_) => "may not remove or update mirror pod annotation",
        None => "may not add mirror pod annotation",
    };
    let metadata = Path::new("metadata");
    errors.push(FieldError::forbidden(&metadata.child("annotations").key(MIRROR), why));
}

/// What a kubelet may not write into a pod's status.
pub(crate) fn validate_status(pod: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let status = Path::new("status");
    let at_name = status.child("nominatedNodeName");
    let nominated = text(pod, &["status", "nominatedNodeName"]);
    if !nominated.is_empty() {
        let faults = apimachinery::meta::names::dns1123_subdomain(nominated).into_iter();
        errors.extend(faults.map(|why| FieldError::invalid(&at_name, nominated, why)));
    }
    super::pod_claims::validate_statuses(pod, &status, errors);
    let all = |rule: &Value| text(rule, &["action"]) == pod_restart::ALL;
    let lists = ["containers", "initContainers"].into_iter().flat_map(|list| items(old, &["spec", list]));
    if lists.flat_map(|container| items(container, &["restartPolicyRules"])).any(all) {
        return;
    }
    for (statuses, list) in [("containerStatuses", "containers"), ("initContainerStatuses", "initContainers")]
    {
        stays_ended(pod, old, statuses, list, &status.child(statuses), errors);
    }
}

/// A container that is not to be started again stays ended.
fn stays_ended(
    pod: &Value,
    old: &Value,
    statuses: &str,
    list: &str,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    for known in items(old, &["status", statuses]) {
        let Some(ended) = at(known, &["state", "terminated"]) else { continue };
        let named = |each: &&Value| text(each, &["name"]) == text(known, &["name"]);
        let code = number(ended, &["exitCode"]).unwrap_or_default();
        let container = items(old, &["spec", list]).iter().find(named).unwrap_or(&Value::Null);
        if starts_again(container, text(old, &["spec", "restartPolicy"]), list, code) {
            continue;
        }
        let mut new = items(pod, &["status", statuses]).iter().enumerate().filter(|(_, each)| named(each));
        if let Some((index, _)) = new.find(|(_, each)| at(each, &["state", "terminated"]).is_none()) {
            let why = "may not be transitioned to non-terminated state";
            errors.push(FieldError::forbidden(&path.index(index).child("state"), why));
        }
    }
}

/// Whether the container may run again after it ended with that code, by its own rules and policy or the pod's.
fn starts_again(container: &Value, pod_policy: &str, list: &str, code: i64) -> bool {
    let own = text(container, &["restartPolicy"]);
    let applies = |rule: &Value| {
        let listed = items(rule, &["exitCodes", "values"]).iter().any(|value| value.as_i64() == Some(code));
        match text(rule, &["exitCodes", "operator"]) {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        }
    };
    if !own.is_empty() && items(container, &["restartPolicyRules"]).iter().any(applies) {
        return true;
    }
    match if own.is_empty() { pod_policy } else { own } {
        // An init container that has done its work begins anew with a new sandbox of its pod.
        _ if list == "initContainers" && code == 0 => true,
        "Never" => false,
        "OnFailure" => code != 0,
        _ => true,
    }
}
