//! Configuration that means something to a driver only.

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use super::names;
use crate::tree::{at, text};

/// Most configurations of a claim or a class.
pub(super) const MAX_CONFIGURATIONS: usize = 32;
/// Longest data of a driver, in bytes of JSON.
const MAX_DATA: usize = 10 * 1024;

/// Checks what a configuration says beside whom it is for. What is stored already may be of any length.
pub(super) fn validate(config: &Value, stored: bool, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let path = path.child("opaque");
    let Some(opaque) = at(config, &["opaque"]).filter(|opaque| !opaque.is_null()) else {
        errors.push(FieldError::required(&path, ""));
        return;
    };
    names::driver(text(opaque, &["driver"]), &path.child("driver"), errors);
    data(opaque.get("parameters"), stored, &path.child("parameters"), errors);
}

/// Checks a driver's data.
pub(super) fn data(given: Option<&Value>, stored: bool, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    match given {
        None | Some(Value::Null) => errors.push(FieldError::required(path, "")),
        Some(data) if !stored && data.to_string().len() > MAX_DATA => {
            errors.push(FieldError::too_long(path, MAX_DATA));
        }
        Some(Value::Object(_)) => {}
        Some(_) => {
            errors.push(FieldError::invalid(path, "<value omitted>", "must be a valid JSON object"));
        }
    }
}
