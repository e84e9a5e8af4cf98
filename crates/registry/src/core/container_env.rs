//! What is wrong with a container's environment, and with what it and volumes learn about the pod.

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::{self, config_key, dns1123_subdomain, qualified_name};
use serde_json::Value;

use super::container;
use crate::checks::{amount, invalid, required};
use crate::tree::{items, text};

/// What variables may say about the pod.
const IN_VARIABLES: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// What files may say about the pod.
pub(crate) const IN_FILES: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
/// Fields of pods that can be asked for at all.
const OF_PODS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const CPU_UNITS: &[&str] = &["1m", "1"];
const UNITS: &[&str] = &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
const SOURCES: [&str; 5] = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];

/// Checks `env` and `envFrom`.
pub(crate) fn validate(container: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let at_env = path.child("env");
    for (index, variable) in items(container, &["env"]).iter().enumerate() {
        let at_one = at_env.index(index);
        if required(variable, "name", &at_one, errors) {
            let name = text(variable, &["name"]);
            invalid(&at_one.child("name"), name, names::environment_variable(name), errors);
        }
        if let Some(source) = variable.get("valueFrom") {
            let has_value = !text(variable, &["value"]).is_empty();
            validate_source(source, has_value, &at_one.child("valueFrom"), errors);
        }
    }
    let at_from = path.child("envFrom");
    for (index, source) in items(container, &["envFrom"]).iter().enumerate() {
        let at_one = at_from.index(index);
        let prefix = text(source, &["prefix"]);
        if !prefix.is_empty() {
            invalid(&at_one.child("prefix"), prefix, names::environment_variable(prefix), errors);
        }
        let given = ["configMapRef", "secretRef"].map(|kind| Some((kind, source.get(kind)?)));
        for (kind, reference) in given.into_iter().flatten() {
            if required(reference, "name", &at_one.child(kind), errors) {
                // A name that is longer than these can be is a prefix to upstream.
                let name = text(reference, &["name"]);
                let faults = dns1123_subdomain(name.strip_suffix('-').unwrap_or(name));
                invalid(&at_one.child(kind).child("name"), name, faults, errors);
            }
        }
        // Upstream's errors are about the whole list.
        match given.iter().flatten().count() {
            0 => {
                let why = "must specify one of: `configMapRef` or `secretRef`";
                errors.push(FieldError::invalid(&at_from, "", why));
            }
            1 => {}
            _ => {
                let why = "may not have more than one field specified at a time";
                errors.push(FieldError::invalid(&at_from, "", why));
            }
        }
    }
}

fn validate_source(source: &Value, has_value: bool, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut count = 0;
    for kind in SOURCES {
        let Some(reference) = source.get(kind) else { continue };
        count += 1;
        let path = path.child(kind);
        match kind {
            "fieldRef" => validate_field(reference, IN_VARIABLES, &path, errors),
            "resourceFieldRef" => validate_resource(reference, false, &path, errors),
            "fileKeyRef" => validate_file_key(reference, &path, errors),
            _ => validate_key(reference, &path, errors),
        }
    }
    let why = match count {
        0 => {
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        }
        _ if has_value => "may not be specified when `value` is not empty",
        1 => return,
        _ => "may not have more than one field specified at a time",
    };
    errors.push(FieldError::invalid(path, "", why));
}

fn validate_key(reference: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let name = text(reference, &["name"]);
    invalid(&path.child("name"), name, dns1123_subdomain(name), errors);
    if required(reference, "key", path, errors) {
        let key = text(reference, &["key"]);
        invalid(&path.child("key"), key, config_key(key), errors);
    }
}

/// A field of the pod, one of those or a single label or annotation.
pub(crate) fn validate_field(
    reference: &Value,
    known: &[&str],
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    if !required(reference, "apiVersion", path, errors) || !required(reference, "fieldPath", path, errors) {
        return;
    }
    let (version, field) = (text(reference, &["apiVersion"]), text(reference, &["fieldPath"]));
    let single = field.strip_suffix("']").and_then(|field| field.split_once("['"));
    let fault = if version != "v1" {
        Some(format!("unsupported pod version: {version}"))
    } else {
        match single {
            Some(("metadata.annotations" | "metadata.labels", _)) => None,
            Some(_) => Some(format!("field label does not support subscript: {field}")),
            None if OF_PODS.contains(&field) || field == "spec.host" => None,
            None => Some(format!("field label not supported: {field}")),
        }
    };
    if let Some(fault) = fault {
        let why = format!("error converting fieldPath: {fault}");
        errors.push(FieldError::invalid(&path.child("fieldPath"), field, why));
        return;
    }
    match single {
        Some(("metadata.annotations", key)) => {
            let key = key.to_lowercase();
            invalid(path, &key, qualified_name(&key), errors);
        }
        Some((_, key)) => invalid(path, key, qualified_name(key), errors),
        None => {
            let field = if field == "spec.host" { "spec.nodeName" } else { field };
            if !known.contains(&field) {
                errors.push(FieldError::not_supported(&path.child("fieldPath"), field, known));
            }
        }
    }
}

/// An amount that a container may use; in a volume it must say which container's.
pub(crate) fn validate_resource(
    reference: &Value,
    in_volume: bool,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    let name = text(reference, &["resource"]);
    let is_pages = ["limits.hugepages-", "requests.hugepages-"].iter().any(|prefix| name.starts_with(prefix));
    if (!in_volume || required(reference, "containerName", path, errors))
        && required(reference, "resource", path, errors)
        && !is_pages
        && !RESOURCES.contains(&name)
    {
        errors.push(FieldError::not_supported(&path.child("resource"), name, RESOURCES));
    }
    let Some(divisor) = amount(reference, &["divisor"]).filter(|divisor| !divisor.is_zero()) else { return };
    let (units, shown, of) = match name {
        "limits.cpu" | "requests.cpu" => (CPU_UNITS, "1m and 1".to_owned(), "cpu"),
        "limits.memory" | "requests.memory" => (UNITS, UNITS.join(", "), "memory"),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => {
            (UNITS, UNITS.join(", "), "local ephemeral storage")
        }
        _ if is_pages => (UNITS, UNITS.join(", "), "hugepages"),
        _ => return,
    };
    if !units.contains(&divisor.to_string().as_str()) {
        let why = format!("only divisor's values {shown} are supported with the {of} resource");
        errors.push(FieldError::invalid(&path.child("divisor"), name, why));
    }
}

fn validate_file_key(reference: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if required(reference, "key", path, errors) {
        let key = text(reference, &["key"]);
        invalid(&path.child("key"), key, names::environment_variable(key), errors);
    }
    container::label(text(reference, &["volumeName"]), &path.child("volumeName"), errors);
    if required(reference, "path", path, errors) {
        super::pod_volumes::no_backsteps(text(reference, &["path"]), &path.child("path"), errors);
    }
}
