//! What classes hand to those who make volumes.

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use crate::tree::entries;

const MOST: usize = 512;
const MAX_BYTES: usize = 256 * 1024;

/// Checks the parameters of a class.
pub(crate) fn validate(class: &Value, may_be_empty: bool, errors: &mut Vec<FieldError>) {
    let path = Path::new("parameters");
    let count = entries(class, &["parameters"]).count();
    if count > MOST {
        errors.push(FieldError::too_long(&path, MOST));
        return;
    }
    let mut total = 0;
    for (key, value) in entries(class, &["parameters"]) {
        if key.is_empty() {
            errors.push(FieldError::invalid(&path, "", "field can not be empty."));
        }
        total += key.len() + value.as_str().map_or(0, str::len);
    }
    if total > MAX_BYTES {
        errors.push(FieldError::too_long(&path, MAX_BYTES));
    }
    if !may_be_empty && count == 0 {
        errors.push(FieldError::required(&path, "must contain at least one key/value pair"));
    }
}

/// A field that a class keeps for its whole life.
pub(crate) fn kept(class: &Value, old: &Value, field: &str, errors: &mut Vec<FieldError>) {
    let is_empty = |value: &Value| value.as_object().is_some_and(serde_json::Map::is_empty);
    let of = |class: &Value| class.get(field).filter(|value| !is_empty(value)).cloned();
    if of(class) != of(old) {
        errors.push(FieldError::forbidden(&Path::new(field), format!("updates to {field} are forbidden.")));
    }
}
