//! Conditions of the common shape (`metav1.Condition`).

use std::collections::BTreeSet;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::qualified_name;
use serde_json::Value;

use crate::tree::{items, number, text};

const STATUSES: [&str; 3] = ["False", "True", "Unknown"];
const REASON_MAX: usize = 1024;
const MESSAGE_MAX: usize = 32 * 1024;
const REASON: &str = "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?";

/// What is wrong with `status.conditions`.
pub(crate) fn validate(object: &Value, errors: &mut Vec<FieldError>) {
    let status = Path::new("status");
    validate_list(items(object, &["status", "conditions"]), &status.child("conditions"), errors);
}

/// What is wrong with such a list.
pub(crate) fn validate_list(conditions: &[Value], path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (index, condition) in conditions.iter().enumerate() {
        let path = path.index(index);
        let kind = text(condition, &["type"]);
        if !seen.insert(kind) {
            errors.push(FieldError::duplicate(&path.child("type"), kind));
        }
        validate_one(condition, &path, errors);
    }
}

fn validate_one(condition: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let kind = text(condition, &["type"]);
    if kind.is_empty() {
        errors.push(FieldError::required(&path.child("type"), "must be set"));
    } else {
        let path = path.child("type");
        errors.extend(qualified_name(kind).into_iter().map(|why| FieldError::invalid(&path, kind, why)));
    }
    let status = text(condition, &["status"]);
    if !STATUSES.contains(&status) {
        errors.push(FieldError::not_supported(&path.child("status"), status, &STATUSES));
    }
    if let Some(generation) = number(condition, &["observedGeneration"]).filter(|number| *number < 0) {
        let why = "must be greater than or equal to zero";
        errors.push(FieldError::invalid(&path.child("observedGeneration"), generation, why));
    }
    if text(condition, &["lastTransitionTime"]).is_empty() {
        errors.push(FieldError::required(&path.child("lastTransitionTime"), "must be set"));
    }
    let reason = text(condition, &["reason"]);
    let at_reason = path.child("reason");
    if reason.is_empty() {
        errors.push(FieldError::required(&at_reason, "must be set"));
    } else {
        if !is_reason(reason) {
            let why = format!(
                "a condition reason must start with alphabetic character, optionally followed by a string of \
                 alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. \
                 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used \
                 for validation is '{REASON}')"
            );
            errors.push(FieldError::invalid(&at_reason, reason, why));
        }
        if reason.len() > REASON_MAX {
            errors.push(FieldError::too_long(&at_reason, REASON_MAX));
        }
    }
    if text(condition, &["message"]).len() > MESSAGE_MAX {
        errors.push(FieldError::too_long(&path.child("message"), MESSAGE_MAX));
    }
}

fn is_reason(reason: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_,:".contains(&byte);
    let ends = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let bytes = reason.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.last().is_some_and(ends)
        && bytes.iter().all(|byte| fits(*byte))
}
