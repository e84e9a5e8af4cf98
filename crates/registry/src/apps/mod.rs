//! The group `apps`.

pub(crate) mod controller_revision;
pub(crate) mod daemon_set;
pub(crate) mod deployment;
pub(crate) mod replica_set;
pub(crate) mod rolling;
pub(crate) mod stateful_set;

use apimachinery::field::{FieldError, Path};
use apimachinery::selector::Selector;
use serde_json::Value;

use crate::tree::{at, same};

/// A selector decides whose pods are whose: it stays as it was made.
fn selector_is_unchanged(object: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let selector = at(object, &["spec", "selector"]);
    if !same(selector, at(old, &["spec", "selector"])) {
        let spec = Path::new("spec");
        let given = selector.cloned().unwrap_or_default();
        errors.push(FieldError::invalid(&spec.child("selector"), given, "field is immutable"));
    }
}

/// What is said, beside what is wrong with it, of a selector that cannot be read.
fn selector_is_readable(object: &Value, why: &str, errors: &mut Vec<FieldError>) {
    let spec = Path::new("spec");
    let path = spec.child("selector");
    let selector = at(object, &["spec", "selector"]);
    if let Some(given) = selector.filter(|given| Selector::from_object(given, &path).is_err()) {
        errors.push(FieldError::invalid(&path, given.clone(), why));
    }
}
