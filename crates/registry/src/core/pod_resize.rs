//! `pods/resize`: other amounts of CPU and memory for the containers of a pod that exists.

use apimachinery::field::{FieldError, Path};
use apimachinery::quantity::Quantity;
use serde_json::Value;

use super::{pod_defaults, pod_spec, pod_update};
use crate::tree::{at, copy, entries, items, items_mut, map, object, text};

/// The lists that hold what can be resized: containers and sidecars.
const LISTS: [&str; 2] = ["containers", "initContainers"];

/// Of a changed pod only the resources of its containers count, and what becomes of them when these change. Whose they are
/// is known by name; whether the order is the old one is checked afterwards.
pub(crate) fn keep(pod: &mut Value, old: &Value) {
    let mut kept = old.clone();
    for list in LISTS {
        let wanted = items(pod, &["spec", list]);
        let names = |all: &[Value]| -> Vec<String> {
            all.iter().map(|container| text(container, &["name"]).to_owned()).collect()
        };
        if names(wanted) != names(items(old, &["spec", list])) {
            // Kept as sent, for the check to refuse.
            if let Some(sent) = at(pod, &["spec", list]) {
                object(&mut kept, "spec").insert(list.into(), sent.clone());
            }
            continue;
        }
        if let Some(spec) = kept.get_mut("spec") {
            for (container, wanted) in items_mut(spec, &[list]).iter_mut().zip(wanted) {
                copy(container, wanted, "resources");
                copy(container, wanted, "resizePolicy");
            }
        }
    }
    *pod = kept;
}

/// Checks a resize.
pub(crate) fn validate(pod: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let spec = Path::new("spec");
    let (new_spec, old_spec) =
        (pod.get("spec").unwrap_or(&Value::Null), old.get("spec").unwrap_or(&Value::Null));
    pod_spec::validate(new_spec, &spec, errors);
    let whole = Path::new("");
    if apimachinery::meta::annotation(old, pod_update::MIRROR).is_some() {
        errors.push(FieldError::forbidden(&whole, "static pods cannot be resized"));
        return;
    }
    if at(old_spec, &["resources"])
        .is_some_and(|resources| resources.as_object().is_some_and(|r| !r.is_empty()))
    {
        errors.push(FieldError::forbidden(&whole, "pods with pod-level resources cannot be resized"));
        return;
    }
    let class = pod_defaults::qos_class(new_spec);
    if class != pod_defaults::qos_class(old_spec) {
        let why = "Pod QOS Class may not change as a result of resizing";
        errors.push(FieldError::invalid(&spec, class, why));
    }
    if !can_resize(old) {
        errors.push(FieldError::forbidden(&spec, "Pod running on node without support for resize"));
    }
    let before = errors.len();
    for list in LISTS {
        check_order(new_spec, old_spec, list, &spec.child(list), errors);
    }
    if errors.len() > before {
        return;
    }
    for list in LISTS {
        let at_list = spec.child(list);
        let pairs = items(new_spec, &[list]).iter().zip(items(old_spec, &[list]));
        for (index, (new, known)) in pairs.enumerate() {
            check_container(new, known, list, &at_list.index(index), errors);
        }
    }
    check_rest(new_spec, old_spec, &spec, errors);
}

/// A node that knows of resizes tells of what its containers really have.
fn can_resize(pod: &Value) -> bool {
    let told = items(pod, &["status", "containerStatuses"]);
    let mut running = told.iter().filter(|told| at(told, &["state", "running"]).is_some());
    running.next().is_none_or(|told| told.get("resources").is_some())
}

fn check_order(new: &Value, old: &Value, list: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let (new, old) = (items(new, &[list]), items(old, &[list]));
    if new.len() != old.len() {
        errors.push(FieldError::forbidden(path, "containers may not be added or removed on resize"));
        return;
    }
    for (index, (new, known)) in new.iter().zip(old).enumerate() {
        let (name, was) = (text(new, &["name"]), text(known, &["name"]));
        if name != was {
            let why = format!("containers may not be renamed or reordered on resize: it was {was:?}");
            errors.push(FieldError::invalid(&path.index(index).child("name"), name, why));
        }
    }
}

/// Amounts may change, and not go; only those of what goes on running.
fn check_container(new: &Value, old: &Value, list: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if list == "initContainers" && text(old, &["restartPolicy"]) != "Always" {
        if amounts(new) != amounts(old) {
            let why = "resources for non-sidecar init containers are immutable";
            errors.push(FieldError::forbidden(&path.child("resources"), why));
        }
        return;
    }
    let at_resources = path.child("resources");
    for kind in ["requests", "limits"] {
        let has = |container, name: &str| at(container, &["resources", kind, name]).is_some();
        let gone = entries(old, &["resources", kind]).any(|(name, _)| !has(new, name));
        if gone {
            let why = format!("resource {kind} cannot be removed");
            errors.push(FieldError::forbidden(&at_resources.child(kind), why));
        }
    }
}

fn amounts(container: &Value) -> Vec<(&'static str, String, Option<Quantity>)> {
    let mut found = Vec::new();
    for kind in ["requests", "limits"] {
        for (name, value) in entries(container, &["resources", kind]) {
            found.push((kind, name.clone(), value.as_str().and_then(|text| text.parse().ok())));
        }
    }
    found
}

/// Everything but CPU and memory is as it was.
fn check_rest(new: &Value, old: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut munged = new.clone();
    for list in LISTS {
        for (container, known) in items_mut(&mut munged, &[list]).iter_mut().zip(items(old, &[list])) {
            copy(container, known, "resizePolicy");
            for kind in ["requests", "limits"] {
                let before = at(known, &["resources", kind]).and_then(Value::as_object);
                let resources = object(container, "resources");
                let amounts = map(resources.entry(kind).or_insert_with(|| Value::Object(Default::default())));
                for name in ["cpu", "memory"] {
                    match before.and_then(|before| before.get(name)) {
                        Some(amount) => amounts.insert(name.into(), amount.clone()),
                        None => amounts.remove(name),
                    };
                }
                if amounts.is_empty() && before.is_none() {
                    resources.remove(kind);
                }
            }
        }
    }
    if pod_update::normalised(munged.clone()) != pod_update::normalised(old.clone()) {
        let why =
            format!("only cpu and memory resources are mutable\n{}", pod_update::difference(old, &munged));
        errors.push(FieldError::forbidden(path, why));
    }
}
