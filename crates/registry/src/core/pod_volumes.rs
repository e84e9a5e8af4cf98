//! What is wrong with a pod's volumes.

use std::collections::BTreeMap;

use apimachinery::field::{FieldError, Path, quote};
use apimachinery::meta::names::{dns1123_label, dns1123_subdomain};
use serde_json::Value;

use super::container_env::{IN_FILES, validate_field, validate_resource};
use super::{container, persistent_volume_claim, pod_projected, volume_source};
use crate::checks::{amount, csi_driver, invalid, required};
use crate::tree::{at, items, number, text};

/// Each kind of source in upstream's order: its field, and what of it must be there.
const SOURCES: &[(&str, &[&str])] = &[
    ("emptyDir", &[]),
    ("hostPath", &["path"]),
    ("gitRepo", &["repository"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("secret", &["secretName"]),
    ("nfs", &["server", "path"]),
    ("iscsi", &["targetPortal"]),
    ("glusterfs", &["endpoints", "path"]),
    ("flocker", &[]),
    ("persistentVolumeClaim", &["claimName"]),
    ("rbd", &["monitors", "image"]),
    ("cinder", &["volumeID"]),
    ("cephfs", &["monitors"]),
    ("quobyte", &[]),
    ("downwardAPI", &[]),
    ("fc", &[]),
    ("flexVolume", &["driver"]),
    ("configMap", &["name"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("storageos", &["volumeName"]),
    ("projected", &[]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("csi", &[]),
    ("ephemeral", &["volumeClaimTemplate"]),
    ("image", &[]),
];

/// Checks them; gives those that nothing is wrong with, by their names.
pub(crate) fn validate<'a>(
    spec: &'a Value,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) -> BTreeMap<&'a str, &'a Value> {
    let mut usable = BTreeMap::new();
    let at_volumes = path.child("volumes");
    for (index, volume) in items(spec, &["volumes"]).iter().enumerate() {
        let at = at_volumes.index(index);
        let (before, name) = (errors.len(), text(volume, &["name"]));
        validate_sources(volume, name, &at, errors);
        container::label(name, &at.child("name"), errors);
        if usable.contains_key(name) {
            errors.push(FieldError::duplicate(&at.child("name"), name));
        }
        if errors.len() == before {
            usable.insert(name, volume);
        }
    }
    usable
}

/// Checks the claims that will be made for a pod: that they can have their names, and that no volume says to be one of
/// them.
pub(crate) fn validate_made(pod: &Value, errors: &mut Vec<FieldError>) {
    let (spec, name) = (Path::new("spec"), apimachinery::meta::name(pod));
    if name.is_empty() {
        return;
    }
    let path = spec.child("volumes");
    let volumes = items(pod, &["spec", "volumes"]);
    let made = |volume: &Value| {
        let own = text(volume, &["name"]);
        volume.get("ephemeral").filter(|_| !own.is_empty()).map(|_| format!("{name}-{own}"))
    };
    for (index, volume) in volumes.iter().enumerate() {
        let at = path.index(index);
        if let Some(claim) = made(volume) {
            let faults = dns1123_subdomain(&claim).into_iter();
            let faults = faults.map(|why| format!("PVC name {}: {why}", quote(&claim))).collect();
            invalid(&at.child("name"), text(volume, &["name"]), faults, errors);
        }
        let claim = text(volume, &["persistentVolumeClaim", "claimName"]);
        if !claim.is_empty() && volumes.iter().any(|volume| made(volume).as_deref() == Some(claim)) {
            let at_claim = at.child("persistentVolumeClaim");
            let why = "must not reference a PVC that gets created for an ephemeral volume";
            errors.push(FieldError::invalid(&at_claim.child("claimName"), claim, why));
        }
    }
}

/// Those that nothing is wrong with.
pub(crate) fn usable(spec: &Value) -> BTreeMap<&str, &Value> {
    validate(spec, &Path::new("spec"), &mut Vec::new())
}

fn validate_sources(volume: &Value, name: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut given = SOURCES.iter().filter_map(|(kind, needed)| Some((*kind, *needed, volume.get(*kind)?)));
    let Some((kind, needed, source)) = given.next() else {
        errors.push(FieldError::required(path, "must specify a volume type"));
        return;
    };
    for (more, _, _) in given {
        // So upstream's errors name them.
        let shown = match more {
            "cephfs" => "cephFS",
            "downwardAPI" => "downwarAPI",
            other => other,
        };
        errors.push(FieldError::forbidden(&path.child(shown), "may not specify more than 1 volume type"));
    }
    let at_source = path.child(if kind == "gcePersistentDisk" { "persistentDisk" } else { kind });
    let before = errors.len();
    for field in needed {
        required(source, field, &at_source, errors);
    }
    let lacks = errors.len() > before;
    if !(lacks && matches!(kind, "hostPath" | "ephemeral")) {
        validate_source(kind, source, &at_source, errors);
    }
    let portal = text(source, &["targetPortal"]);
    if kind == "iscsi" && source.get("initiatorName").is_some() && name.len() + portal.len() + 1 > 64 {
        let why = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if \
                   iscsi.initiatorName is specified.";
        errors.push(FieldError::invalid(&path.child("name"), name, why));
    }
}

fn validate_source(kind: &str, source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    match kind {
        "emptyDir" => {
            if amount(source, &["sizeLimit"]).is_some_and(|limit| limit.signum() < 0) {
                let why = "SizeLimit field must be a valid resource quantity";
                errors.push(FieldError::forbidden(&path.child("sizeLimit"), why));
            }
        }
        "gitRepo" => descending(text(source, &["directory"]), &path.child("directory"), errors),
        "secret" | "configMap" => {
            file_mode(source, "defaultMode", path, errors);
            keys(source, path, errors);
        }
        "downwardAPI" => {
            file_mode(source, "defaultMode", path, errors);
            for file in items(source, &["items"]) {
                downward_file(file, path, errors);
            }
        }
        "projected" => {
            file_mode(source, "defaultMode", path, errors);
            pod_projected::validate(source, path, errors);
        }
        "cinder" => secret_name(source, path, errors),
        "storageos" => {
            for field in ["volumeName", "volumeNamespace"] {
                let name = text(source, &[field]);
                if !name.is_empty() {
                    invalid(&path.child(field), name, dns1123_label(name), errors);
                }
            }
            secret_name(source, path, errors);
        }
        "csi" => {
            if required(source, "driver", path, errors) {
                csi_driver(text(source, &["driver"]), &path.child("driver"), errors);
            }
            if let Some(reference) = source.get("nodePublishSecretRef")
                && required(reference, "name", &path.child("nodePublishSecretRef"), errors)
            {
                let name = text(reference, &["name"]);
                invalid(&path.child("name"), name, dns1123_subdomain(name), errors);
            }
        }
        "ephemeral" => validate_claim(source, &path.child("volumeClaimTemplate"), errors),
        "image" => container::pull_policy(source, "pullPolicy", path, errors),
        _ => volume_source::validate_one(kind, source, None, path, errors),
    }
}

fn secret_name(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if let Some(reference) = source.get("secretRef") {
        required(reference, "name", &path.child("secretRef"), errors);
    }
}

fn validate_claim(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let Some(template) = source.get("volumeClaimTemplate") else { return };
    let metadata = path.child("metadata");
    if let Some(labels) = at(template, &["metadata", "labels"]).and_then(Value::as_object) {
        apimachinery::meta::validate_labels(labels, &metadata.child("labels"), errors);
    }
    if let Some(annotations) = at(template, &["metadata", "annotations"]).and_then(Value::as_object) {
        apimachinery::meta::validate_annotations(annotations, &metadata.child("annotations"), errors);
    }
    let spec = template.get("spec").unwrap_or(&Value::Null);
    persistent_volume_claim::validate_spec(spec, &path.child("spec"), errors);
}

/// Which keys become which files.
pub(crate) fn keys(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let at_items = path.child("items");
    for (index, item) in items(source, &["items"]).iter().enumerate() {
        let at = at_items.index(index);
        required(item, "key", &at, errors);
        required(item, "path", &at, errors);
        not_reserved(text(item, &["path"]), &at.child("path"), errors);
        file_mode(item, "mode", &at, errors);
    }
}

/// A file that says something about the pod. Upstream's errors do not say which.
pub(crate) fn downward_file(file: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    required(file, "path", path, errors);
    not_reserved(text(file, &["path"]), &path.child("path"), errors);
    match (file.get("fieldRef"), file.get("resourceFieldRef")) {
        (Some(field), resource) => {
            validate_field(field, IN_FILES, &path.child("fieldRef"), errors);
            if resource.is_some() {
                let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(FieldError::invalid(path, "resource", why));
            }
        }
        (None, Some(resource)) => validate_resource(resource, true, &path.child("resourceFieldRef"), errors),
        (None, None) => {
            errors.push(FieldError::required(path, "one of fieldRef and resourceFieldRef is required"));
        }
    }
    file_mode(file, "mode", path, errors);
}

fn file_mode(tree: &Value, field: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if let Some(mode) = number(tree, &[field]).filter(|mode| !(0..=0o777).contains(mode)) {
        let why = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.push(FieldError::invalid(&path.child(field), mode, why));
    }
}

/// A path that does not lead up.
pub(crate) fn no_backsteps(given: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    volume_source::no_backsteps(given, path, errors);
}

/// A path below where something is.
pub(crate) fn descending(given: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if given.starts_with('/') {
        errors.push(FieldError::invalid(path, given, "must be a relative path"));
    }
    no_backsteps(given, path, errors);
}

/// The same, and no name that the kubelet keeps for itself.
pub(crate) fn not_reserved(given: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    descending(given, path, errors);
    if given.starts_with("..") && !given.starts_with("../") {
        errors.push(FieldError::invalid(path, given, "must not start with '..'"));
    }
}
