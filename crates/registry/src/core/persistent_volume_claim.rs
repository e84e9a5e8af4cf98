//! PersistentVolumeClaims.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::{dns1123_label, dns1123_subdomain, qualified_name};
use apimachinery::meta::{annotation, annotations_mut};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::persistent_volume::{
    CLASS_ANNOTATION, access_modes, class, or_unset, validate_access_modes, validate_amounts, validate_class,
};
use super::pod_update::difference;
use crate::checks::{amount, invalid, required, selector, supported, unchanged};
use crate::kind::Column;
use crate::strategy::{Builtin, Rules, Strategy};
use crate::table;
use crate::tree::{at, at_mut, copy, entries, items, map, object, text};

const STORAGE: [&str; 4] = ["spec", "resources", "requests", "storage"];
/// How far a change of size can have come.
const RESIZE_STATES: &[&str] = &[
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

struct PersistentVolumeClaim;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("", "v1", "PersistentVolumeClaim"),
        rules: Rules { status: true, shows_deleted: true, ..Rules::default() },
        fields: Vec::new(),
        subresources: vec![table::status("PersistentVolumeClaim")],
        scale: None,
        columns: Column::parse(&[
            "Name",
            "Status",
            "Volume",
            "Capacity",
            "Access Modes",
            "StorageClass",
            "VolumeAttributesClass",
            "Age",
            "VolumeMode+",
        ]),
        strategy: Arc::new(PersistentVolumeClaim),
    }
}

impl Strategy for PersistentVolumeClaim {
    fn default(&self, claim: &mut Value) {
        let status = object(claim, "status");
        if status.get("phase").and_then(Value::as_str).is_none_or(str::is_empty) {
            status.insert("phase".into(), "Pending".into());
        }
        default_spec(claim);
    }

    fn prepare_create(&self, claim: &mut Value) {
        object(claim, "status").insert("phase".into(), "Pending".into());
        pair_sources(claim);
    }

    fn validate(&self, claim: &Value, errors: &mut Vec<FieldError>) {
        validate_spec(claim.get("spec").unwrap_or(&Value::Null), &Path::new("spec"), errors);
    }

    fn validate_update(&self, claim: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        self.validate(claim, errors);
        validate_spec_update(claim, old, errors);
    }

    fn validate_status(&self, claim: &Value, _old: &Value, errors: &mut Vec<FieldError>) {
        let status = Path::new("status");
        validate_amounts(claim, &["status", "capacity"], &status.child("capacity"), errors);
        let at_states = status.child("allocatedResourceStatus");
        for (name, state) in entries(claim, &["status", "allocatedResourceStatuses"]) {
            validate_key(name, &at_states, errors);
            if !RESIZE_STATES.iter().any(|known| state == known) {
                errors.push(FieldError::not_supported(&at_states, name.as_str(), RESIZE_STATES));
            }
        }
        let at_amounts = status.child("allocatedResources");
        for (name, _) in entries(claim, &["status", "allocatedResources"]) {
            validate_key(name, &at_amounts, errors);
        }
        validate_amounts(claim, &["status", "allocatedResources"], &at_amounts, errors);
    }

    fn warnings(&self, claim: &Value) -> Vec<String> {
        let mut found = Vec::new();
        if annotation(claim, CLASS_ANNOTATION).is_some() {
            found.push(format!(
                "metadata.annotations[{CLASS_ANNOTATION}]: deprecated since v1.8; use \"storageClassName\" attribute \
                 instead"
            ));
        }
        if let Some(storage) = amount(claim, &STORAGE)
            && storage.milli_value() % 1000 != 0
        {
            found.push(format!(
                "spec.resources.requests[storage]: fractional byte value \"{storage}\" is invalid, must be an integer"
            ));
        }
        found
    }

    fn cells(&self, claim: &Value, now: Timestamp) -> Vec<Value> {
        let of = |field| text(claim, &["spec", field]);
        let is_going = apimachinery::meta::is_deleting(claim);
        let phase = if is_going { "Terminating" } else { text(claim, &["status", "phase"]) };
        let (mut capacity, mut modes) = (String::new(), String::new());
        if !of("volumeName").is_empty() {
            capacity = amount(claim, &["status", "capacity", "storage"]).unwrap_or_default().to_string();
            modes = access_modes(items(claim, &["status", "accessModes"]));
        }
        vec![
            table::name(claim),
            phase.into(),
            of("volumeName").into(),
            capacity.into(),
            modes.into(),
            class(claim).into(),
            or_unset(of("volumeAttributesClassName")),
            table::age(claim, now),
            or_unset(of("volumeMode")),
        ]
    }
}

/// Fills in the spec of a claim.
pub(crate) fn default_spec(claim: &mut Value) {
    if let Some(spec) = claim.get_mut("spec") {
        crate::tree::default(spec, "volumeMode", "Filesystem");
    }
}

/// A source may be given by the field of old, by the new one, or by both alike.
fn pair_sources(claim: &mut Value) {
    let Some(spec) = claim.get_mut("spec").filter(|spec| spec.is_object()) else { return };
    let other_namespace = !text(spec, &["dataSourceRef", "namespace"]).is_empty();
    if other_namespace {
        // Upstream's alpha CrossNamespaceVolumeDataSource.
        map(spec).remove("dataSourceRef");
    }
    if spec.get("dataSourceRef").is_none() && !is_usual(spec) {
        // What the field of old never took was never refused, either.
        map(spec).remove("dataSource");
    }
    let (old, new) = (spec.get("dataSource").cloned(), spec.get("dataSourceRef").cloned());
    match (old, new) {
        (Some(source), None) => map(spec).insert("dataSourceRef".into(), source),
        (None, Some(source)) => map(spec).insert("dataSource".into(), source),
        _ => None,
    };
}

/// Whether the source in the field of old is of the kinds that it always took.
fn is_usual(spec: &Value) -> bool {
    let of = |field| text(spec, &["dataSource", field]);
    matches!(
        (of("apiGroup"), of("kind")),
        ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
    )
}

/// What is wrong with the spec of a claim.
pub(crate) fn validate_spec(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if items(spec, &["accessModes"]).is_empty() {
        let why = "at least 1 access mode is required";
        errors.push(FieldError::required(&path.child("accessModes"), why));
    }
    selector(spec, "selector", path, errors);
    if !items(spec, &["accessModes"]).is_empty() {
        validate_access_modes(spec, "", path, errors);
    }
    let at_resources = path.child("resources");
    let at_storage = at_resources.key("storage");
    match amount(spec, &["resources", "requests", "storage"]) {
        None => errors.push(FieldError::required(&at_storage, "")),
        Some(storage) if storage.signum() <= 0 => {
            errors.push(FieldError::invalid(&at_storage, storage.to_string(), "must be greater than zero"));
        }
        Some(_) => {}
    }
    validate_class(spec, "storageClassName", path, errors);
    supported(spec, "volumeMode", &["Block", "Filesystem"], path, errors);
    for field in ["dataSource", "dataSourceRef"] {
        if let Some(source) = spec.get(field) {
            validate_source(source, &path.child(field), errors);
        }
    }
    let same = |field| at(spec, &["dataSource", field]) == at(spec, &["dataSourceRef", field]);
    let both = spec.get("dataSource").is_some() && spec.get("dataSourceRef").is_some();
    if both && !["apiGroup", "kind", "name"].into_iter().all(same) {
        errors.push(FieldError::invalid(path, json!({}), "must match dataSourceRef"));
    }
    validate_class(spec, "volumeAttributesClassName", path, errors);
}

fn validate_source(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    required(source, "name", path, errors);
    required(source, "kind", path, errors);
    let (group, kind) = (text(source, &["apiGroup"]), text(source, &["kind"]));
    if group.is_empty() {
        if kind != "PersistentVolumeClaim" {
            let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.push(FieldError::invalid(path, kind, why));
        }
    } else {
        invalid(&path.child("apiGroup"), group, dns1123_subdomain(group), errors);
    }
    let namespace = text(source, &["namespace"]);
    if !namespace.is_empty() {
        invalid(&path.child("namespace"), namespace, dns1123_label(namespace), errors);
    }
}

/// A claim stays as it was made, but for its volume, its size and its attributes once it is bound.
fn validate_spec_update(claim: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let spec = Path::new("spec");
    let (mut after, mut before) = (claim.clone(), old.clone());
    if text(old, &["spec", "volumeName"]).is_empty() {
        keep(&mut before, claim, "volumeName");
    }
    keep_class(&mut after, claim, old, errors);
    if text(claim, &["status", "phase"]) == "Bound" {
        if let Some(requests) = at_mut(&mut after, &["spec", "resources", "requests"]) {
            copy(requests, at(old, &["spec", "resources", "requests"]).unwrap_or(&Value::Null), "storage");
        }
        if at(&after, &["spec", "volumeAttributesClassName"]).is_some() {
            keep(&mut after, old, "volumeAttributesClassName");
        }
    }
    let of = |claim: &Value| claim.get("spec").cloned().unwrap_or_default();
    let (after, before) = (of(&after), of(&before));
    if after != before {
        let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for \
                   bound claims";
        errors.push(FieldError::forbidden(&spec, format!("{why}\n{}", difference(&before, &after))));
    }
    let size = |claim: &Value| amount(claim, &STORAGE).unwrap_or_default();
    let has = amount(old, &["status", "capacity", "storage"]).unwrap_or_default();
    if size(claim) < size(old) && size(claim) <= has {
        let (resources, why) = (spec.child("resources"), "field can not be less than status.capacity");
        let requests = resources.child("requests");
        errors.push(FieldError::forbidden(&requests.child("storage"), why));
    }
    let field = |claim, field| at(claim, &["spec", field]);
    let mode = Path::new("volumeMode");
    unchanged(&mode, field(claim, "volumeMode"), field(old, "volumeMode"), errors);
    let class = "volumeAttributesClassName";
    if field(old, class).is_some() {
        let why = match field(claim, class).and_then(Value::as_str) {
            None => "update from non-nil value to nil is forbidden",
            Some("") => "update from non-nil value to an empty string is forbidden",
            Some(_) => return,
        };
        errors.push(FieldError::forbidden(&spec.child(class), why));
    }
}

/// A class may move from the annotation to the field, and be given where there was none.
fn keep_class(after: &mut Value, claim: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let named = |claim| annotation(claim, CLASS_ANNOTATION);
    let (had, has) = (at(old, &["spec", "storageClassName"]), at(claim, &["spec", "storageClassName"]));
    let has_text = has.and_then(Value::as_str);
    let moved = named(old).is_some()
        && had.is_none()
        && has_text == named(old)
        && named(claim).is_none_or(|name| Some(name) == named(old));
    if moved {
        keep(after, old, "storageClassName");
        let before = named(old).unwrap_or_default();
        annotations_mut(after).insert(CLASS_ANNOTATION.into(), before.into());
        return;
    }
    if named(claim).unwrap_or_default() != named(old).unwrap_or_default() {
        let metadata = Path::new("metadata");
        let given = named(claim).unwrap_or_default();
        errors.push(FieldError::invalid(&metadata.key(CLASS_ANNOTATION), given, "field is immutable"));
    }
    let given_later = had.is_none() && has.is_some() && named(old).is_none_or(|name| has_text == Some(name));
    if given_later {
        keep(after, old, "storageClassName");
    }
}

/// Makes a field of a claim's spec what it is in another.
fn keep(claim: &mut Value, from: &Value, field: &str) {
    if let Some(spec) = claim.get_mut("spec") {
        copy(spec, from.get("spec").unwrap_or(&Value::Null), field);
    }
}

fn validate_key(name: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let faults = qualified_name(name);
    let is_native = !name.contains('/') || name.contains("kubernetes.io/");
    if faults.is_empty() && is_native && name != "storage" {
        errors.push(FieldError::not_supported(path, name, &["storage"]));
    }
    invalid(path, name, faults, errors);
}
