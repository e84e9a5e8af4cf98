//! ResourceSlices: the devices that a driver has somewhere.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path, quote};
use apimachinery::meta::names::dns1123_subdomain;
use jiff::Timestamp;
use serde_json::Value;

use super::{device, lists, names, taints};
use crate::cache::Field;
use crate::checks::{invalid, unchanged};
use crate::core::node_selector;
use crate::kind::Column;
use crate::strategy::{Builtin, Generation, Rules, Strategy};
use crate::table;
use crate::tree::{at, is_true, items, items_mut, number, object, text};

/// Most devices of a slice, and most of one where some are tainted or draw on counters.
const MAX_DEVICES: [usize; 2] = [128, 64];
/// Most sets of counters that a slice shares out.
const MAX_COUNTER_SETS: usize = 8;

struct ResourceSlice;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("resource.k8s.io", "v1", "ResourceSlice"),
        rules: Rules { generation: Generation::Spec, shows_deleted: true, ..Rules::default() },
        fields: vec![Field::at("spec.nodeName"), Field::at("spec.driver")],
        subresources: Vec::new(),
        scale: None,
        columns: Column::parse(&["Name", "Node", "Driver", "Pool", "Age"]),
        strategy: Arc::new(ResourceSlice),
    }
}

impl Strategy for ResourceSlice {
    fn default(&self, slice: &mut Value) {
        object(slice, "spec");
        if let Some(spec) = slice.get_mut("spec") {
            object(spec, "pool");
        }
    }

    fn stamp(&self, slice: &mut Value, now: Timestamp) {
        for device in items_mut(slice, &["spec", "devices"]) {
            taints::stamp(device, now);
        }
    }

    fn prepare_create(&self, slice: &mut Value) {
        drop_disabled(slice, &Value::Null);
    }

    fn prepare_update(&self, slice: &mut Value, old: &Value) {
        drop_disabled(slice, old);
    }

    fn validate(&self, slice: &Value, errors: &mut Vec<FieldError>) {
        validate(slice, None, errors);
    }

    fn validate_update(&self, slice: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        validate(slice, Some(old), errors);
    }

    fn warnings(&self, slice: &Value) -> Vec<String> {
        let driver = text(slice, &["spec", "driver"]);
        if driver.bytes().any(|byte| byte.is_ascii_uppercase()) {
            let shown = quote(driver);
            let why = "spec.driver: driver names should be lowercase;";
            return vec![format!("{why} {shown} contains uppercase characters")];
        }
        Vec::new()
    }

    fn cells(&self, slice: &Value, now: Timestamp) -> Vec<Value> {
        let of = |path: &[&str]| Value::from(text(slice, path));
        vec![
            table::name(slice),
            of(&["spec", "nodeName"]),
            of(&["spec", "driver"]),
            of(&["spec", "pool", "name"]),
            table::age(slice, now),
        ]
    }
}

/// Takes out what upstream's gates leave off by default, unless it is there already.
fn drop_disabled(slice: &mut Value, old: &Value) {
    let any = |has: fn(&Value) -> bool| items(old, &["spec", "devices"]).iter().any(has);
    if !any(device::has_lists) {
        items_mut(slice, &["spec", "devices"]).iter_mut().for_each(device::drop_lists);
    }
    if !any(device::has_mappings) {
        device::drop_mappings(slice);
    }
}

fn validate(slice: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let path = Path::new("spec");
    let spec = slice.get("spec").unwrap_or(&Value::Null);
    names::driver(text(spec, &["driver"]), &path.child("driver"), errors);
    let at_pool = path.child("pool");
    names::pool(text(spec, &["pool", "name"]), &at_pool.child("name"), errors);
    let count = number(spec, &["pool", "resourceSliceCount"]).unwrap_or_default();
    if count <= 0 {
        let why = "must be greater than zero";
        errors.push(FieldError::invalid(&at_pool.child("resourceSliceCount"), count, why));
    }
    let generation = number(spec, &["pool", "generation"]).unwrap_or_default();
    if generation < 0 {
        let why = "must be greater than or equal to zero";
        errors.push(FieldError::invalid(&at_pool.child("generation"), generation, why));
    }
    let old_spec = old.map(|old| old.get("spec").unwrap_or(&Value::Null));
    if let Some(old) = old_spec {
        let name = |spec| at(spec, &["pool", "name"]);
        unchanged(&at_pool.child("name"), name(spec), name(old), errors);
        for field in ["driver", "nodeName"] {
            unchanged(&path.child(field), spec.get(field), old.get(field), errors);
        }
    }
    validate_place(spec, &path, errors);
    let given = |field: &str| spec.get(field).is_some_and(|value| !value.is_null());
    if given("sharedCounters") && given("devices") {
        let why = "only one of `sharedCounters` or `devices` is allowed";
        errors.push(FieldError::invalid(&path, "", why));
    }
    validate_devices(spec, old_spec, &path, errors);
    let sets = items(spec, &["sharedCounters"]);
    let at_sets = path.child("sharedCounters");
    lists::set(sets, MAX_COUNTER_SETS, &at_sets, errors, lists::by("name"), |set, path, errors| {
        device::validate_counters(set, "name", path, errors);
    });
}

/// Whose the devices can be: exactly one way of saying that is taken.
fn validate_place(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let given = |field: &str| spec.get(field).filter(|value| !value.is_null());
    let mut found = Vec::new();
    if let Some(name) = given("nodeName").and_then(Value::as_str) {
        let path = path.child("nodeName");
        if name.is_empty() {
            let why = "must be either unset or set to a non-empty string";
            errors.push(FieldError::invalid(&path, name, why));
        } else {
            found.push("`nodeName`");
            invalid(&path, name, dns1123_subdomain(name), errors);
        }
    }
    if let Some(selector) = given("nodeSelector") {
        found.push("`nodeSelector`");
        let path = path.child("nodeSelector");
        node_selector::validate(selector, &path, errors);
        let terms = items(selector, &["nodeSelectorTerms"]);
        if terms.len() != 1 {
            let why = "must have exactly one node selector term";
            errors.push(FieldError::invalid(&path.child("nodeSelectorTerms"), terms.to_vec(), why));
        }
    }
    for (field, shown) in [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")]
    {
        if is_true(spec, &[field]) {
            found.push(shown);
        } else if given(field).is_some() {
            let why = "must be either unset or set to true";
            errors.push(FieldError::invalid(&path.child(field), false, why));
        }
    }
    let why = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match found.len() {
        0 => errors.push(FieldError::required(path, why)),
        1 => {}
        _ => {
            let why = format!("{why}, but multiple fields are set");
            errors.push(FieldError::invalid(path, format!("{{{}}}", found.join(", ")), why));
        }
    }
}

fn validate_devices(spec: &Value, old: Option<&Value>, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let devices = items(spec, &["devices"]);
    let is_advanced = |device: &Value| {
        ["taints", "consumesCounters"].into_iter().any(|field| !items(device, &[field]).is_empty())
            || device::has_lists(device)
    };
    let max = MAX_DEVICES[usize::from(devices.iter().any(is_advanced))];
    let apart = is_true(spec, &["perDeviceNodeSelection"]);
    let before = |device: &Value| {
        let known = |old: &&Value| old.get("name") == device.get("name");
        old.and_then(|old| items(old, &["devices"]).iter().find(known))
    };
    lists::set(devices, max, &path.child("devices"), errors, lists::by("name"), |device, path, errors| {
        device::validate(device, before(device), apart, path, errors);
    });
}
