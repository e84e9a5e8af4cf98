//! Taints of devices, and what claims put up with.

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::label_value;
use apimachinery::time;
use jiff::Timestamp;
use serde_json::Value;

use super::lists;
use super::names::label_key;
use crate::checks::invalid;
use crate::tree::{default, default_text, items, items_mut, text};

/// Most taints of a device.
const MAX_TAINTS: usize = 16;
const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];
const OPERATORS: [&str; 2] = ["Equal", "Exists"];

/// Notes when a taint was put on a device, where nobody says.
pub(super) fn stamp(device: &mut Value, now: Timestamp) {
    for taint in items_mut(device, &["taints"]) {
        default(taint, "timeAdded", time::format(now));
    }
}

/// Checks a device's taints.
pub(super) fn validate(device: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let list = items(device, &["taints"]);
    lists::each(list, MAX_TAINTS, &path.child("taints"), errors, |taint, path, errors| {
        label_key(text(taint, &["key"]), &path.child("key"), errors);
        let value = text(taint, &["value"]);
        invalid(&path.child("value"), value, label_value(value), errors);
        let at_effect = path.child("effect");
        match text(taint, &["effect"]) {
            "" => errors.push(FieldError::required(&at_effect, "")),
            effect if EFFECTS.contains(&effect) => {}
            other => errors.push(FieldError::not_supported(&at_effect, other, &EFFECTS)),
        }
    });
}

/// Fills in what tolerations leave out.
pub(super) fn default_tolerations(owner: &mut Value) {
    for toleration in items_mut(owner, &["tolerations"]) {
        default_text(toleration, "operator", "Equal");
    }
}

/// Checks tolerations, however many.
pub(super) fn validate_tolerations(owner: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let at_list = path.child("tolerations");
    for (index, toleration) in items(owner, &["tolerations"]).iter().enumerate() {
        let path = at_list.index(index);
        let key = text(toleration, &["key"]);
        if !key.is_empty() {
            label_key(key, &path.child("key"), errors);
        }
        let (value, at_value) = (text(toleration, &["value"]), path.child("value"));
        let at_operator = path.child("operator");
        match text(toleration, &["operator"]) {
            "Exists" if !value.is_empty() => {
                errors.push(FieldError::invalid(&at_value, value, "must be empty for operator `Exists`"));
            }
            "Exists" => {}
            "Equal" => invalid(&at_value, value, label_value(value), errors),
            "" => errors.push(FieldError::required(&at_operator, "")),
            other => errors.push(FieldError::not_supported(&at_operator, other, &OPERATORS)),
        }
        let effect = text(toleration, &["effect"]);
        if !effect.is_empty() && !EFFECTS.contains(&effect) {
            errors.push(FieldError::not_supported(&path.child("effect"), effect, &EFFECTS));
        }
    }
}
