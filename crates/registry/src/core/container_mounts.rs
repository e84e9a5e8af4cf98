//! What is wrong with how a container uses its pod's volumes.

use std::collections::{BTreeMap, BTreeSet};

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use super::pod_defaults::CONTAINERS;
use super::{pod_security, pod_volumes};
use crate::checks::required;
use crate::tree::{at, items, text};

type Volumes<'a> = BTreeMap<&'a str, &'a Value>;

/// Checks `volumeMounts` and `volumeDevices`.
pub(crate) fn validate(
    container: &Value,
    volumes: &Volumes<'_>,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    validate_mounts(container, volumes, &path.child("volumeMounts"), errors);
    validate_devices(container, volumes, &path.child("volumeDevices"), errors);
}

/// Checks that files which hold variables are in volumes of the pod's own.
pub(crate) fn validate_files(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let volumes: Volumes<'_> =
        items(spec, &["volumes"]).iter().map(|volume| (text(volume, &["name"]), volume)).collect();
    for list in CONTAINERS {
        let at_list = path.child(list);
        for (index, container) in items(spec, &[list]).iter().enumerate() {
            let at_one = at_list.index(index);
            let at_env = at_one.child("env");
            for (index, variable) in items(container, &["env"]).iter().enumerate() {
                let at_one = at_env.index(index);
                let at_source = at_one.child("valueFrom");
                let at_key = at_source.child("fileKeyRef");
                if let Some(reference) = at(variable, &["valueFrom", "fileKeyRef"]) {
                    let name = text(reference, &["volumeName"]);
                    validate_file(name, &volumes, &at_key.child("volumeName"), errors);
                }
            }
        }
    }
}

fn validate_file(name: &str, volumes: &Volumes<'_>, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    match volumes.get(name) {
        None => errors.push(FieldError::not_found(path, name)),
        Some(volume) if volume.get("emptyDir").is_none() => {
            errors.push(FieldError::invalid(path, name, "referenced volume must be of type emptyDir"));
        }
        Some(_) => {}
    }
}

fn validate_mounts(container: &Value, volumes: &Volumes<'_>, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let devices = items(container, &["volumeDevices"]);
    let mut places = BTreeSet::new();
    for (index, mount) in items(container, &["volumeMounts"]).iter().enumerate() {
        let at = path.index(index);
        let (name, place) = (text(mount, &["name"]), text(mount, &["mountPath"]));
        required(mount, "name", &at, errors);
        if !volumes.contains_key(name) {
            errors.push(FieldError::not_found(&at.child("name"), name));
        }
        required(mount, "mountPath", &at, errors);
        if !places.insert(place) {
            errors.push(FieldError::invalid(&at.child("mountPath"), place, "must be unique"));
        }
        if has(devices, "name", name) {
            let why = "must not already exist in volumeDevices";
            errors.push(FieldError::invalid(&at.child("name"), name, why));
        }
        if has(devices, "devicePath", place) {
            let why = "must not already exist as a path in volumeDevices";
            errors.push(FieldError::invalid(&at.child("mountPath"), place, why));
        }
        let [sub, expression] = ["subPath", "subPathExpr"].map(|field| text(mount, &[field]));
        if !sub.is_empty() && !expression.is_empty() {
            let why = "subPathExpr and subPath are mutually exclusive";
            errors.push(FieldError::invalid(&at.child("subPathExpr"), expression, why));
        }
        // Upstream's errors about these do not say which mount.
        pod_volumes::descending(sub, &path.child("subPath"), errors);
        pod_volumes::descending(expression, &path.child("subPathExpr"), errors);
        pod_security::validate_mount(mount, container, path, errors);
    }
}

fn validate_devices(container: &Value, volumes: &Volumes<'_>, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mounts = items(container, &["volumeMounts"]);
    let (mut names, mut places) = (BTreeSet::new(), BTreeSet::new());
    for (index, device) in items(container, &["volumeDevices"]).iter().enumerate() {
        let at = path.index(index);
        let (name, place) = (text(device, &["name"]), text(device, &["devicePath"]));
        let mut wrong = |field: &str, value: &str, why: &str| {
            errors.push(FieldError::invalid(&at.child(field), value, why));
        };
        if !name.is_empty() && !names.insert(name) {
            wrong("name", name, "must be unique");
        }
        if places.contains(place) {
            wrong("devicePath", place, "must be unique");
        }
        if place.split('/').any(|part| part == "..") {
            wrong("devicePath", place, "can not contain backsteps ('..')");
        } else {
            places.insert(place);
        }
        if has(mounts, "name", name) {
            wrong("name", name, "must not already exist in volumeMounts");
        }
        if has(mounts, "mountPath", place) {
            wrong("devicePath", place, "must not already exist as a path in volumeMounts");
        }
        match volumes.get(name) {
            None => errors.push(FieldError::not_found(&at.child("name"), name)),
            Some(volume)
                if !["persistentVolumeClaim", "ephemeral"].iter().any(|kind| volume.get(*kind).is_some()) =>
            {
                let why =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                wrong("name", name, why);
            }
            Some(_) => {}
        }
        required(device, "name", &at, errors);
        required(device, "devicePath", &at, errors);
    }
}

fn has(list: &[Value], field: &str, value: &str) -> bool {
    list.iter().any(|item| text(item, &[field]) == value)
}
