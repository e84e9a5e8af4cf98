//! Pod templates, as the kinds that make pods carry them.

use apimachinery::field::{FieldError, Path};
use apimachinery::meta;
use apimachinery::meta::names::dns1123_label;
use apimachinery::selector::Selector;
use serde_json::Value;

use super::{pod_defaults, pod_spec};
use crate::tree::{at, at_mut, items, object, text};

/// Fills in a template at `spec.template`.
pub(crate) fn default(owner: &mut Value) {
    if let Some(template) = at_mut(owner, &["spec", "template"]) {
        fill(template);
    }
}

/// Fills in a template.
pub(crate) fn fill(template: &mut Value) {
    object(template, "metadata");
    let _ = object(template, "spec");
    if let Some(spec) = template.get_mut("spec") {
        pod_defaults::pod_spec(spec);
    }
}

/// What is wrong with `spec.selector` and `spec.template` of a ReplicaSet, or of a kind that makes ReplicaSets.
pub(crate) fn validate(owner: &Value, errors: &mut Vec<FieldError>) {
    let spec = Path::new("spec");
    let empty = "empty selector is invalid for deployment";
    let selector = validate_selector(owner, Some(empty), errors);
    let path = spec.child("template");
    let Some(template) = at(owner, &["spec", "template"]) else {
        errors.push(FieldError::required(&path, ""));
        return;
    };
    if let Some(selector) = selector {
        is_selected(&selector, template, &path, errors);
    }
    validate_template(template, &path, errors);
    runs_always(template, &path, errors);
    if at(template, &["spec", "activeDeadlineSeconds"]).is_some() {
        let why = "activeDeadlineSeconds in ReplicaSet is not Supported";
        let spec = path.child("spec");
        errors.push(FieldError::forbidden(&spec.child("activeDeadlineSeconds"), why));
    }
}

/// What is wrong with `spec.selector`; `empty` is what to say about one that selects everything, where that is wrong.
/// `None` if it cannot be read. An absent one holds for nothing.
pub(crate) fn validate_selector(
    owner: &Value,
    empty: Option<&str>,
    errors: &mut Vec<FieldError>,
) -> Option<Selector> {
    let spec = Path::new("spec");
    let path = spec.child("selector");
    let Some(selector) = at(owner, &["spec", "selector"]) else {
        errors.push(FieldError::required(&path, ""));
        return Some(Selector::nothing());
    };
    match Selector::from_object(selector, &path) {
        Ok(parsed) => {
            if let Some(empty) = empty.filter(|_| parsed.is_empty()) {
                errors.push(FieldError::invalid(&path, selector.clone(), empty));
            }
            Some(parsed)
        }
        Err(found) => {
            errors.extend(found);
            None
        }
    }
}

/// A template's pods must be its owner's.
pub(crate) fn is_selected(
    selector: &Selector,
    template: &Value,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    let labels = at(template, &["metadata", "labels"]).and_then(Value::as_object);
    if !selector.matches(labels) {
        let (metadata, given) = (path.child("metadata"), labels.cloned().unwrap_or_default());
        let why = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid(&metadata.child("labels"), given, why));
    }
}

/// What is wrong with a template, whatever its owner.
pub(crate) fn validate_template(template: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let spec = template.get("spec").unwrap_or(&Value::Null);
    validate_template_of(template, spec, path, errors);
}

/// The same for a template whose pods will have another spec.
pub(crate) fn validate_template_of(
    template: &Value,
    pod: &Value,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    if let Some(labels) = at(template, &["metadata", "labels"]).and_then(Value::as_object) {
        meta::validate_labels(labels, &path.child("labels"), errors);
    }
    if let Some(annotations) = at(template, &["metadata", "annotations"]).and_then(Value::as_object) {
        meta::validate_annotations(annotations, &path.child("annotations"), errors);
    }
    super::pod_annotations::validate(template, &path.child("annotations"), errors);
    let spec = path.child("spec");
    pod_spec::validate(pod, &spec, errors);
    if !items(pod, &["ephemeralContainers"]).is_empty() {
        let why = "ephemeral containers not allowed in pod template";
        errors.push(FieldError::forbidden(&spec.child("ephemeralContainers"), why));
    }
}

/// Pods of a kind that keeps them going start again whenever they end.
pub(crate) fn runs_always(template: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let policy = text(template, &["spec", "restartPolicy"]);
    if policy != "Always" {
        let spec = path.child("spec");
        errors.push(FieldError::not_supported(&spec.child("restartPolicy"), policy, &["Always"]));
    }
}

/// A whole number that may not be negative.
pub(crate) fn not_negative(owner: &Value, path: &[&str], at_path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if let Some(number) = crate::tree::number(owner, path).filter(|number| *number < 0) {
        errors.push(FieldError::invalid(at_path, number, "must be greater than or equal to 0"));
    }
}

/// Counts of a status that may not be negative.
pub(crate) fn counts(owner: &Value, fields: &[&str], errors: &mut Vec<FieldError>) {
    let status = Path::new("status");
    for field in fields {
        not_negative(owner, &["status", field], &status.child(field), errors);
    }
}

/// How often names of revisions have collided only grows.
pub(crate) fn collisions_grow(owner: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let count = |owner| crate::tree::number(owner, &["status", "collisionCount"]);
    if let Some(before) = count(old)
        && count(owner).is_none_or(|now| now < before)
    {
        let status = Path::new("status");
        let now = count(owner).unwrap_or_default();
        errors.push(FieldError::invalid(&status.child("collisionCount"), now, "cannot be decremented"));
    }
}

/// What whoever creates a kind is told whose name goes into the names of pods.
pub(crate) fn name_warning(owner: &Value) -> Option<String> {
    // An object that is there already has a version, and its name cannot change.
    let is_new = text(owner, &["metadata", "resourceVersion"]).is_empty();
    let faults = dns1123_label(meta::name(owner));
    (is_new && !faults.is_empty()).then(|| {
        format!(
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; \
             a DNS label is recommended: [{}]",
            faults.join(" ")
        )
    })
}

/// What whoever writes the template at `spec.template` is told about it.
pub(crate) fn spec_warnings(owner: &Value) -> Vec<String> {
    let spec = Path::new("spec");
    warnings(at(owner, &["spec", "template"]), &spec.child("template"))
}

/// What whoever writes a template is told about it.
pub(crate) fn warnings(template: Option<&Value>, path: &Path<'_>) -> Vec<String> {
    template.map(|template| super::pod_warnings::of_template(template, path)).unwrap_or_default()
}

/// Names and images of the containers of the template at `spec.template`, joined, and the selector: the wide columns.
pub(crate) fn wide_cells(owner: &Value) -> [Value; 3] {
    let [names, images] = container_cells(at(owner, &["spec", "template"]));
    [names, images, selector_cell(at(owner, &["spec", "selector"]))]
}

/// Names and images of a template's containers, joined.
pub(crate) fn container_cells(template: Option<&Value>) -> [Value; 2] {
    let containers = template.map(|template| items(template, &["spec", "containers"])).unwrap_or_default();
    let of = |field: &str| {
        let all: Vec<&str> = containers.iter().map(|container| text(container, &[field])).collect();
        Value::from(all.join(","))
    };
    [of("name"), of("image")]
}

/// A selector as text.
pub(crate) fn selector_cell(selector: Option<&Value>) -> Value {
    let path = Path::new("spec");
    let selector = selector.and_then(|found| Selector::from_object(found, &path).ok());
    crate::table::or_none(&selector.map(|selector| selector.to_string()).unwrap_or_default())
}

/// Labels as text.
pub(crate) fn labels_cell(labels: Option<&Value>) -> Value {
    let selector = Selector::from_map(labels.and_then(Value::as_object));
    crate::table::or_none(&selector.to_string())
}
