//! Checks that many kinds share, in upstream's words.

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::{dns1123_subdomain, qualified_name};
use apimachinery::quantity::Quantity;
use apimachinery::selector::Selector;
use serde_json::Value;

use crate::tree::{at, text};

/// One error for each fault of a text.
pub(crate) fn invalid(path: &Path<'_>, value: &str, faults: Vec<String>, errors: &mut Vec<FieldError>) {
    errors.extend(faults.into_iter().map(|why| FieldError::invalid(path, value, why)));
}

/// A field that stays as it was made.
pub(crate) fn unchanged(
    path: &Path<'_>,
    new: Option<&Value>,
    old: Option<&Value>,
    errors: &mut Vec<FieldError>,
) {
    if new != old {
        let given = new.cloned().unwrap_or_default();
        errors.push(FieldError::invalid(path, given, "field is immutable"));
    }
}

/// A field that must be there and not be empty: text, or a list. Whether it is.
pub(crate) fn required(tree: &Value, field: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) -> bool {
    let is_empty = match tree.get(field) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    };
    if is_empty {
        errors.push(FieldError::required(&path.child(field), ""));
    }
    !is_empty
}

/// A field that must hold one of a few words, if it is there. Empty text is none of them.
pub(crate) fn supported(
    tree: &Value,
    field: &str,
    words: &[&str],
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    if let Some(word) = tree.get(field).and_then(Value::as_str).filter(|word| !words.contains(word)) {
        errors.push(FieldError::not_supported(&path.child(field), word, words));
    }
}

/// A field that must hold one of a few words, if it is there. Empty text is as good as nothing.
pub(crate) fn one_of(
    tree: &Value,
    field: &str,
    words: &[&str],
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    match text(tree, &[field]) {
        "" => {}
        word if words.contains(&word) => {}
        other => errors.push(FieldError::not_supported(&path.child(field), other, words)),
    }
}

/// A label selector, if there is one.
pub(crate) fn selector(tree: &Value, field: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if let Some(selector) = tree.get(field)
        && let Err(found) = Selector::from_object(selector, &path.child(field))
    {
        errors.extend(found);
    }
}

/// The name of a CSI driver.
pub(crate) fn csi_driver(name: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    if name.len() > 63 {
        errors.push(FieldError::too_long(path, 63));
    }
    invalid(path, name, dns1123_subdomain(&name.to_lowercase()), errors);
}

/// Who makes volumes of a class.
pub(crate) fn provisioner(name: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else {
        let lower = name.to_lowercase();
        invalid(path, &lower, qualified_name(&lower), errors);
    }
}

/// A name and a namespace of a Secret.
pub(crate) fn secret_reference(reference: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if required(reference, "name", path, errors) {
        let name = text(reference, &["name"]);
        invalid(&path.child("name"), name, dns1123_subdomain(name), errors);
    }
    if required(reference, "namespace", path, errors) {
        let namespace = text(reference, &["namespace"]);
        let faults = apimachinery::meta::names::dns1123_label(namespace);
        invalid(&path.child("namespace"), namespace, faults, errors);
    }
}

/// The amount at a path, if one is there.
pub(crate) fn amount(tree: &Value, path: &[&str]) -> Option<Quantity> {
    quantity(at(tree, path)?)
}

/// An amount; decoding has made sure that it is one.
pub(crate) fn quantity(value: &Value) -> Option<Quantity> {
    value.as_str().and_then(|text| text.parse().ok())
}
