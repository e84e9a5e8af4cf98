//! Pod templates, as the kinds that make pods carry them.

use apimachinery::field::{FieldError, Path};
use apimachinery::selector::Selector;
use serde_json::Value;

use super::{pod_defaults, pod_spec};
use crate::tree::{at, at_mut, items, object, text};

/// Fills in a template at `spec.template`.
pub(crate) fn default(owner: &mut Value) {
    if at(owner, &["spec", "template"]).is_none() {
        return;
    }
    if let Some(template) = at_mut(owner, &["spec", "template"]) {
        object(template, "metadata");
        let _ = object(template, "spec");
        if let Some(spec) = template.get_mut("spec") {
            pod_defaults::pod_spec(spec);
        }
    }
}

/// What is wrong with `spec.selector` and `spec.template` of a kind whose pods run for ever.
pub(crate) fn validate(owner: &Value, errors: &mut Vec<FieldError>) {
    let spec = Path::new("spec");
    let selector_path = spec.child("selector");
    let selector = match at(owner, &["spec", "selector"]) {
        None => {
            errors.push(FieldError::required(&selector_path, ""));
            None
        }
        Some(selector) => match Selector::from_object(selector, &selector_path) {
            Ok(parsed) => {
                if parsed.is_empty() {
                    let why = "empty selector is invalid for deployment";
                    errors.push(FieldError::invalid(&selector_path, selector.clone(), why));
                }
                Some(parsed)
            }
            Err(found) => {
                errors.extend(found);
                None
            }
        },
    };
    let path = spec.child("template");
    let Some(template) = at(owner, &["spec", "template"]) else {
        errors.push(FieldError::required(&path, ""));
        return;
    };
    let labels = at(template, &["metadata", "labels"]).and_then(Value::as_object);
    if selector.is_some_and(|selector| !selector.is_empty() && !selector.matches(labels)) {
        let (metadata, given) = (path.child("metadata"), labels.cloned().unwrap_or_default());
        let why = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid(&metadata.child("labels"), given, why));
    }
    let spec = path.child("spec");
    pod_spec::validate(template.get("spec").unwrap_or(&Value::Null), &spec, errors);
    let policy = text(template, &["spec", "restartPolicy"]);
    if policy != "Always" {
        errors.push(FieldError::not_supported(&spec.child("restartPolicy"), policy, &["Always"]));
    }
    if at(template, &["spec", "activeDeadlineSeconds"]).is_some() {
        let why = "activeDeadlineSeconds in ReplicaSet is not Supported";
        errors.push(FieldError::forbidden(&spec.child("activeDeadlineSeconds"), why));
    }
    if !items(template, &["spec", "ephemeralContainers"]).is_empty() {
        let why = "ephemeral containers not allowed in pod template";
        errors.push(FieldError::forbidden(&spec.child("ephemeralContainers"), why));
    }
}

/// A whole number that may not be negative.
pub(crate) fn not_negative(owner: &Value, path: &[&str], at_path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if let Some(number) = crate::tree::number(owner, path).filter(|number| *number < 0) {
        errors.push(FieldError::invalid(at_path, number, "must be greater than or equal to 0"));
    }
}

/// Names and images of a template's containers, joined, and the selector: the wide columns.
pub(crate) fn wide_cells(owner: &Value) -> [Value; 3] {
    let containers = items(owner, &["spec", "template", "spec", "containers"]);
    let of = |field: &str| {
        let all: Vec<&str> = containers.iter().map(|container| text(container, &[field])).collect();
        Value::from(all.join(","))
    };
    let path = Path::new("spec");
    let selector =
        at(owner, &["spec", "selector"]).and_then(|found| Selector::from_object(found, &path).ok());
    let selector = selector.map(|selector| selector.to_string()).unwrap_or_default();
    [of("name"), of("image"), crate::table::or_none(&selector)]
}
