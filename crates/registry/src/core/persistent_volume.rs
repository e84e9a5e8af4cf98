//! PersistentVolumes.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::dns1123_subdomain;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::pod_update::difference;
use super::{node_selector, volume_source};
use crate::checks::{amount, invalid, quantity, supported, unchanged};
use crate::kind::Column;
use crate::strategy::{Builtin, Rules, Strategy};
use crate::table;
use crate::tree::{at, default_text, entries, items, object, text};

/// What named a volume's class before there was a field for it.
pub(crate) const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
const MOUNT_OPTIONS_ANNOTATION: &str = "volume.beta.kubernetes.io/mount-options";
const RECLAIM_POLICIES: &[&str] = &["Delete", "Recycle", "Retain"];
const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];
/// Modes of access and their short forms, in the order in which they are shown.
const ACCESS_MODES: &[(&str, &str)] = &[
    ("ReadWriteOnce", "RWO"),
    ("ReadOnlyMany", "ROX"),
    ("ReadWriteMany", "RWX"),
    ("ReadWriteOncePod", "RWOP"),
];

struct PersistentVolume;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("", "v1", "PersistentVolume"),
        rules: Rules { status: true, shows_deleted: true, ..Rules::default() },
        fields: Vec::new(),
        subresources: vec![table::status("PersistentVolume")],
        scale: None,
        columns: Column::parse(&[
            "Name",
            "Capacity",
            "Access Modes",
            "Reclaim Policy",
            "Status",
            "Claim",
            "StorageClass",
            "VolumeAttributesClass",
            "Reason",
            "Age",
            "VolumeMode+",
        ]),
        strategy: Arc::new(PersistentVolume),
    }
}

impl Strategy for PersistentVolume {
    fn default(&self, volume: &mut Value) {
        let status = object(volume, "status");
        if status.get("phase").and_then(Value::as_str).is_none_or(str::is_empty) {
            status.insert("phase".into(), "Pending".into());
        }
        default_spec(volume);
    }

    fn prepare_create(&self, volume: &mut Value) {
        let now = at(volume, &["metadata", "creationTimestamp"]).cloned().unwrap_or_default();
        let status = object(volume, "status");
        status.insert("phase".into(), "Pending".into());
        status.insert("lastPhaseTransitionTime".into(), now);
    }

    fn prepare_status(&self, volume: &mut Value, old: &Value, now: Timestamp) {
        let told = |volume: &Value| at(volume, &["status", "lastPhaseTransitionTime"]).cloned();
        let phase = |volume: &Value| text(volume, &["status", "phase"]).to_owned();
        if phase(volume) != phase(old) && (told(volume).is_none() || told(volume) == told(old)) {
            let now = apimachinery::time::format(now);
            object(volume, "status").insert("lastPhaseTransitionTime".into(), now.into());
        }
    }

    fn validate(&self, volume: &Value, errors: &mut Vec<FieldError>) {
        let spec = volume.get("spec").unwrap_or(&Value::Null);
        validate_spec(spec, text(volume, &["metadata", "name"]), false, &Path::new("spec"), errors);
    }

    fn validate_update(&self, volume: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        self.validate(volume, errors);
        let spec = Path::new("spec");
        let (mut after, before) = (source_of(volume), source_of(old));
        // The one part of a source that may come later.
        if let (Some(csi), None) =
            (after.get_mut("csi"), at(old, &["spec", "csi", "controllerExpandSecretRef"]))
            && at(old, &["spec", "csi"]).is_some()
            && let Some(csi) = csi.as_object_mut()
        {
            csi.remove("controllerExpandSecretRef");
        }
        if after != before {
            let why = format!(
                "spec.persistentvolumesource is immutable after creation\n{}",
                difference(&before, &after)
            );
            errors.push(FieldError::forbidden(&spec.child("persistentvolumesource"), why));
        }
        let of = |volume, field| at(volume, &["spec", field]);
        let mode = Path::new("volumeMode");
        unchanged(&mode, of(volume, "volumeMode"), of(old, "volumeMode"), errors);
        if of(old, "nodeAffinity").is_some() {
            let path = Path::new("nodeAffinity");
            unchanged(&path, of(volume, "nodeAffinity"), of(old, "nodeAffinity"), errors);
        }
        let class = "volumeAttributesClassName";
        if of(old, class).is_some() && of(volume, class).is_none() {
            let why = "update from non-nil value to nil is forbidden";
            errors.push(FieldError::forbidden(&spec.child(class), why));
        }
    }

    fn warnings(&self, volume: &Value) -> Vec<String> {
        let mut found = Vec::new();
        for (key, instead, since) in [
            (CLASS_ANNOTATION, "storageClassName", "v1.8"),
            (MOUNT_OPTIONS_ANNOTATION, "mountOptions", "v1.31"),
        ] {
            if apimachinery::meta::annotation(volume, key).is_some() {
                let why = format!("deprecated since {since}; use \"{instead}\" attribute instead");
                found.push(format!("metadata.annotations[{key}]: {why}"));
            }
        }
        let spec = volume.get("spec").unwrap_or(&Value::Null);
        if text(spec, &["persistentVolumeReclaimPolicy"]) == "Recycle" {
            found.push(
                "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the \
                 recommended approach is to use dynamic provisioning."
                    .to_owned(),
            );
        }
        found.extend(volume_source::warnings(spec));
        found
    }

    fn cells(&self, volume: &Value, now: Timestamp) -> Vec<Value> {
        let of = |field| text(volume, &["spec", field]);
        let claim = at(volume, &["spec", "claimRef"])
            .map(|claim| format!("{}/{}", text(claim, &["namespace"]), text(claim, &["name"])));
        let is_going = apimachinery::meta::is_deleting(volume);
        let phase = if is_going { "Terminating" } else { text(volume, &["status", "phase"]) };
        vec![
            table::name(volume),
            amount(volume, &["spec", "capacity", "storage"]).unwrap_or_default().to_string().into(),
            access_modes(items(volume, &["spec", "accessModes"])).into(),
            of("persistentVolumeReclaimPolicy").into(),
            phase.into(),
            claim.unwrap_or_default().into(),
            class(volume).into(),
            or_unset(of("volumeAttributesClassName")),
            text(volume, &["status", "reason"]).into(),
            table::age(volume, now),
            or_unset(of("volumeMode")),
        ]
    }
}

/// Fills in a spec, of a volume or of one that an attachment carries.
pub(crate) fn default_spec(owner: &mut Value) {
    let Some(spec) = owner.get_mut("spec").filter(|spec| spec.is_object()) else { return };
    default_text(spec, "persistentVolumeReclaimPolicy", "Retain");
    crate::tree::default(spec, "volumeMode", "Filesystem");
    volume_source::default_source(spec);
}

/// What is wrong with the spec of the volume of that name; of one that an attachment carries, where it is `inline`.
pub(crate) fn validate_spec(
    spec: &Value,
    name: &str,
    inline: bool,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    if inline {
        validate_inline(spec, path, errors);
    }
    validate_access_modes(spec, "", path, errors);
    if !inline {
        validate_capacity(spec, &path.child("capacity"), errors);
        supported(spec, "persistentVolumeReclaimPolicy", RECLAIM_POLICIES, path, errors);
        if let Some(affinity) = spec.get("nodeAffinity") {
            validate_affinity(affinity, &path.child("nodeAffinity"), errors);
        }
    }
    volume_source::validate(spec, name, path, errors);
    let root = text(spec, &["hostPath", "path"]);
    let is_root = root.starts_with('/') && root.split('/').all(|part| part.is_empty() || part == ".");
    if is_root && text(spec, &["persistentVolumeReclaimPolicy"]) == "Recycle" {
        let why = "may not be 'recycle' for a hostPath mount of '/'";
        errors.push(FieldError::forbidden(&path.child("persistentVolumeReclaimPolicy"), why));
    }
    if !inline {
        validate_class(spec, "storageClassName", path, errors);
        supported(spec, "volumeMode", VOLUME_MODES, path, errors);
    }
    match at(spec, &["volumeAttributesClassName"]).and_then(Value::as_str) {
        None => {}
        Some(class) => {
            if class.is_empty() {
                let why = "an empty string is disallowed";
                errors.push(FieldError::required(&path.child("volumeAttributesClassName"), why));
            }
            validate_class(spec, "volumeAttributesClassName", path, errors);
            if spec.get("csi").is_none() {
                let why = "has to be specified when using volumeAttributesClassName";
                errors.push(FieldError::required(&path.child("csi"), why));
            }
        }
    }
}

/// What a volume that is part of another object may not have.
fn validate_inline(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let context = "in the context of inline volumes";
    for field in ["claimRef", "capacity", "nodeAffinity", "storageClassName"] {
        let is_given = match spec.get(field) {
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Object(map)) => !map.is_empty(),
            _ => false,
        };
        if is_given {
            errors.push(FieldError::forbidden(&path.child(field), format!("may not be specified {context}")));
        }
    }
    if spec.get("csi").is_none() {
        errors.push(FieldError::required(&path.child("csi"), format!("has to be specified {context}")));
    }
    let policy = text(spec, &["persistentVolumeReclaimPolicy"]);
    if !policy.is_empty() && policy != "Retain" {
        let why = format!("may only be Retain {context}");
        errors.push(FieldError::forbidden(&path.child("persistentVolumeReclaimPolicy"), why));
    }
    let mode = text(spec, &["volumeMode"]);
    if !mode.is_empty() && mode != "Filesystem" {
        let why = format!("may not specify volumeMode other than Filesystem {context}");
        errors.push(FieldError::forbidden(&path.child("volumeMode"), why));
    }
}

/// Checks `accessModes`, of a volume or of a claim; `needed` are the words when there are none.
pub(crate) fn validate_access_modes(
    spec: &Value,
    needed: &str,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    let (modes, at_modes) = (items(spec, &["accessModes"]), path.child("accessModes"));
    if modes.is_empty() {
        errors.push(FieldError::required(&at_modes, needed));
    }
    let mut known: Vec<&str> = ACCESS_MODES.iter().map(|(mode, _)| *mode).collect();
    known.sort_unstable();
    let (mut alone, mut shared) = (false, false);
    for mode in modes.iter().map(|mode| mode.as_str().unwrap_or_default()) {
        if !known.contains(&mode) {
            errors.push(FieldError::not_supported(&at_modes, mode, &known));
        } else if mode == "ReadWriteOncePod" {
            alone = true;
        } else {
            shared = true;
        }
    }
    if alone && shared {
        let why = "may not use ReadWriteOncePod with other access modes";
        errors.push(FieldError::forbidden(&at_modes, why));
    }
}

fn validate_capacity(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let capacity = at(spec, &["capacity"]).and_then(Value::as_object).cloned().unwrap_or_else(Map::new);
    if capacity.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    if !capacity.contains_key("storage") || capacity.len() > 1 {
        errors.push(FieldError::not_supported(path, json!(capacity), &["storage"]));
    }
    for (name, value) in &capacity {
        let Some(given) = quantity(value) else { continue };
        let at_name = path.key(name);
        if given.value() < 0 {
            let why = "must be a valid resource quantity";
            errors.push(FieldError::invalid(&at_name, given.value(), why));
        }
        if given.signum() <= 0 {
            errors.push(FieldError::invalid(&at_name, given.to_string(), "must be greater than zero"));
        }
    }
}

fn validate_affinity(affinity: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    match affinity.get("required") {
        Some(required) => node_selector::validate(required, &path.child("required"), errors),
        None => {
            let why = "must specify required node constraints";
            errors.push(FieldError::required(&path.child("required"), why));
        }
    }
}

/// The name of a class, if there is one.
pub(crate) fn validate_class(spec: &Value, field: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let class = text(spec, &[field]);
    if !class.is_empty() {
        invalid(&path.child(field), class, dns1123_subdomain(class), errors);
    }
}

/// The part of a spec that says where the bytes are.
fn source_of(volume: &Value) -> Value {
    let spec = |field: &'static str| at(volume, &["spec", field]).map(|value| (field, value));
    volume_source::fields().filter_map(spec).map(|(field, value)| (field.to_owned(), value.clone())).collect()
}

/// The class of a volume or a claim, by whichever name it has.
pub(crate) fn class(object: &Value) -> &str {
    apimachinery::meta::annotation(object, CLASS_ANNOTATION)
        .unwrap_or_else(|| text(object, &["spec", "storageClassName"]))
}

/// `RWO,ROX`, each once.
pub(crate) fn access_modes(modes: &[Value]) -> String {
    let given = ACCESS_MODES.iter().filter(|(mode, _)| modes.iter().any(|given| given == mode));
    given.map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

/// The text, or what stands for a field that is not set.
pub(crate) fn or_unset(text: &str) -> Value {
    if text.is_empty() { "<unset>".into() } else { text.into() }
}

/// Checks amounts that may not be negative.
pub(crate) fn validate_amounts(
    owner: &Value,
    at_owner: &[&str],
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    for (name, value) in entries(owner, at_owner) {
        if let Some(given) = quantity(value).filter(|given| given.value() < 0) {
            let why = "must be a valid resource quantity";
            errors.push(FieldError::invalid(&path.key(name), given.value(), why));
        }
    }
}
