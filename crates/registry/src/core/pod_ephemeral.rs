//! `pods/ephemeralcontainers`: adding a container to a pod that runs, to look at it.

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use super::container::{self, Around};
use super::pod_volumes;
use crate::tree::{at, items, object, text};

/// What an ephemeral container may say. What would make it part of the workload it may not.
const ALLOWED: [&str; 17] = [
    "name",
    "image",
    "command",
    "args",
    "workingDir",
    "env",
    "envFrom",
    "volumeMounts",
    "volumeDevices",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "imagePullPolicy",
    "securityContext",
    "stdin",
    "stdinOnce",
    "tty",
    "targetContainerName",
];

/// Of a changed pod only its ephemeral containers count.
pub(crate) fn keep(pod: &mut Value, old: &Value) {
    let added = at(pod, &["spec", "ephemeralContainers"]).cloned();
    *pod = old.clone();
    match added {
        Some(added) => object(pod, "spec").insert("ephemeralContainers".into(), added),
        None => object(pod, "spec").remove("ephemeralContainers"),
    };
}

/// Checks that containers have been added and none changed or taken away.
pub(crate) fn validate(pod: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let spec = Path::new("spec");
    let path = spec.child("ephemeralContainers");
    if apimachinery::meta::annotation(old, super::pod_update::MIRROR).is_some() {
        // Upstream's error names no field.
        let whole = Path::new("");
        errors.push(FieldError::forbidden(&whole, "static pods do not support ephemeral containers"));
        return;
    }
    validate_list(pod.get("spec").unwrap_or(&Value::Null), &spec, errors);
    let list = |pod| items(pod, &["spec", "ephemeralContainers"]);
    for known in list(old) {
        let name = text(known, &["name"]);
        match list(pod).iter().find(|each| text(each, &["name"]) == name) {
            None => {
                let why = format!("existing ephemeral containers {name:?} may not be removed\n");
                errors.push(FieldError::forbidden(&path, why));
            }
            Some(new) if new != known => {
                let why = format!(
                    "existing ephemeral containers {name:?} may not be changed\n{}",
                    super::pod_update::difference(known, new)
                );
                errors.push(FieldError::forbidden(&path, why));
            }
            Some(_) => {}
        }
    }
}

/// What is wrong with the ephemeral containers of a spec.
pub(crate) fn validate_list(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let path = path.child("ephemeralContainers");
    let around = Around::new(spec, pod_volumes::usable(spec));
    let others: Vec<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| items(spec, &[list]))
        .map(|container| text(container, &["name"]))
        .collect();
    let mut seen = others.clone();
    for (index, container) in items(spec, &["ephemeralContainers"]).iter().enumerate() {
        let at_one = path.index(index);
        container::validate(container, "ephemeralContainers", &around, &at_one, errors);
        let name = text(container, &["name"]);
        if seen.contains(&name) {
            errors.push(FieldError::duplicate(&at_one.child("name"), name));
        }
        seen.push(name);
        let target = text(container, &["targetContainerName"]);
        if !target.is_empty() && !others.contains(&target) {
            errors.push(FieldError::not_found(&at_one.child("targetContainerName"), target));
        }
        let why = "cannot be set for an Ephemeral Container";
        for (field, value) in container.as_object().into_iter().flatten() {
            if !ALLOWED.contains(&field.as_str()) && !is_empty(value) {
                errors.push(FieldError::forbidden(&at_one.child(field), why));
            }
        }
        let mounts = at_one.child("volumeMounts");
        for (index, mount) in items(container, &["volumeMounts"]).iter().enumerate() {
            for field in
                ["subPath", "subPathExpr"].into_iter().filter(|field| !text(mount, &[field]).is_empty())
            {
                errors.push(FieldError::forbidden(&mounts.index(index).child(field), why));
            }
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(set) => !set,
        Value::Number(_) => false,
    }
}
