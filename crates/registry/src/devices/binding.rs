//! Conditions that a device has to meet, or must not meet, before a pod is bound that has it.

use std::collections::BTreeSet;

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use super::lists;
use super::names::label_key;
use crate::tree::items;

/// Most conditions of either kind.
const MAX_CONDITIONS: usize = 4;
const MET: &str = "bindingConditions";
const FAILED: &str = "bindingFailureConditions";

/// Checks both lists of a device, or of an allocated one.
pub(super) fn validate(owner: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let (met, failed) = (items(owner, &[MET]), items(owner, &[FAILED]));
    let key = |condition: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>| {
        label_key(condition.as_str().unwrap_or_default(), path, errors);
    };
    let (at_met, at_failed) = (path.child(MET), path.child(FAILED));
    lists::each(met, MAX_CONDITIONS, &at_met, errors, key);
    lists::each(failed, MAX_CONDITIONS, &at_failed, errors, key);
    let mut seen = BTreeSet::new();
    for (index, condition) in met.iter().map(lists::itself).enumerate() {
        if !seen.insert(condition.clone()) {
            errors.push(FieldError::duplicate(&at_met.index(index), condition));
        }
    }
    let mut seen_failed = BTreeSet::new();
    for (index, condition) in failed.iter().map(lists::itself).enumerate() {
        let path = at_failed.index(index);
        if !seen_failed.insert(condition.clone()) {
            errors.push(FieldError::duplicate(&path, condition.as_str()));
        }
        if seen.contains(&condition) {
            let why = "bindingFailureConditions must not overlap with bindingConditions";
            errors.push(FieldError::invalid(&path, condition, why));
        }
    }
    let both = |path: &Path<'_>, given: &[Value], why: &str| FieldError::invalid(path, given.to_vec(), why);
    match (met.is_empty(), failed.is_empty()) {
        (true, false) => {
            let why = "bindingConditions are required to use bindingFailureConditions";
            errors.push(both(&at_met, met, why));
        }
        (false, true) => {
            let why = "bindingFailureConditions are required to use bindingConditions";
            errors.push(both(&at_failed, failed, why));
        }
        _ => {}
    }
}
