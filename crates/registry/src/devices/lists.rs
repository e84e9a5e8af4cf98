//! Lists of bounded length: of one that is too long nothing else is looked at.

use std::collections::BTreeSet;

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use crate::tree::text;

/// Checks each item of a list of at most `max`.
pub(super) fn each(
    list: &[Value],
    max: usize,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
    check: impl Fn(&Value, &Path<'_>, &mut Vec<FieldError>),
) {
    if list.len() > max {
        errors.push(FieldError::too_many(path, list.len(), max));
        return;
    }
    for (index, item) in list.iter().enumerate() {
        check(item, &path.index(index), errors);
    }
}

/// The same of a list in which no two items have the same key.
pub(super) fn set(
    list: &[Value],
    max: usize,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
    key: impl Fn(&Value) -> String,
    check: impl Fn(&Value, &Path<'_>, &mut Vec<FieldError>),
) {
    each(list, max, path, errors, check);
    if list.len() > max {
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, item) in list.iter().enumerate() {
        let key = key(item);
        if seen.contains(&key) {
            errors.push(FieldError::duplicate(&path.index(index), key));
        } else {
            seen.insert(key);
        }
    }
}

/// The key of items that a field tells apart.
pub(super) fn by(field: &'static str) -> impl Fn(&Value) -> String {
    move |item| text(item, &[field]).to_owned()
}

/// The key of items that are texts.
pub(super) fn itself(item: &Value) -> String {
    item.as_str().unwrap_or_default().to_owned()
}
