//! What is wrong with the metrics of an autoscaler, in the form of `v2`.

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::path_segment;
use apimachinery::quantity::Quantity;
use serde_json::Value;

use super::validation::{Versions, reference};
use crate::tree::{at, items, number, text};

const TYPES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];
/// The sources, in the order in which upstream looks for them, and the types that they belong to.
const SOURCES: [(&str, &str); 5] = [
    ("object", "Object"),
    ("external", "External"),
    ("pods", "Pods"),
    ("resource", "Resource"),
    ("containerResource", "ContainerResource"),
];

pub(super) fn validate(
    spec: &Value,
    min: Option<i64>,
    described: Versions,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    let metrics = items(spec, &["metrics"]);
    for (index, metric) in metrics.iter().enumerate() {
        validate_one(metric, described, &path.index(index), errors);
    }
    // Nothing can be measured of pods that are not there.
    let outside = |metric: &Value| ["Object", "External"].contains(&text(metric, &["type"]));
    if min == Some(0) && !metrics.iter().any(outside) {
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.push(FieldError::forbidden(path, why));
    }
}

fn validate_one(metric: &Value, described: Versions, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let kind = text(metric, &["type"]);
    let at_type = path.child("type");
    if kind.is_empty() {
        errors.push(FieldError::required(&at_type, "must specify a metric source type"));
    }
    if !TYPES.contains(&kind) {
        errors.push(FieldError::not_supported(&at_type, kind, &TYPES));
    }
    let present = SOURCES.iter().map(|(source, _)| *source).filter(|source| metric.get(*source).is_some());
    let present: Vec<&str> = present.collect();
    if let Some(first) = present.first() {
        let source = metric.get(*first).unwrap_or(&Value::Null);
        validate_source(first, source, described, &path.child(first), errors);
    }
    let expected = SOURCES.iter().find(|(_, of)| *of == kind).map(|(source, _)| *source);
    match expected {
        Some(source) if !present.contains(&source) => {
            let why = "must populate information for the given metric source";
            errors.push(FieldError::required(&path.child(source), why));
        }
        Some(_) => {}
        None => errors.push(FieldError::not_supported(&at_type, kind, &TYPES)),
    }
    if present.len() != 1 {
        for source in present.into_iter().filter(|source| Some(*source) != expected) {
            let why = "must populate the given metric source only";
            errors.push(FieldError::forbidden(&path.child(source), why));
        }
    }
}

fn validate_source(
    name: &str,
    source: &Value,
    described: Versions,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    let of_resource = matches!(name, "resource" | "containerResource");
    if name == "object" {
        let object = source.get("describedObject").unwrap_or(&Value::Null);
        reference(object, described, &path.child("describedObject"), errors);
    }
    if of_resource {
        if text(source, &["name"]).is_empty() {
            errors.push(FieldError::required(&path.child("name"), "must specify a resource name"));
        }
        if name == "containerResource" && text(source, &["container"]).is_empty() {
            errors.push(FieldError::required(&path.child("container"), "must specify a container"));
        }
    } else {
        validate_metric(source, &path.child("metric"), errors);
    }
    let path = path.child("target");
    validate_target(source, &path, errors);
    let has = |field: &str| at(source, &["target", field]).is_some();
    let (value, average) = (has("value"), has("averageValue"));
    let mut required = |field: &str, why: &str| errors.push(FieldError::required(&path.child(field), why));
    match name {
        "object" if !value && !average => {
            required("averageValue", "must set either a target value or averageValue");
        }
        "external" if !value && !average => {
            let why = "must set either a target value for metric or a per-pod target";
            required("averageValue", why);
        }
        "pods" if !average => required("averageValue", "must specify a positive target averageValue"),
        _ if of_resource && !average && !has("averageUtilization") => {
            let why = "must set either a target raw value or a target utilization";
            required("averageUtilization", why);
        }
        "external" if value && average => {
            let why = "may not set both a target value for metric and a per-pod target";
            errors.push(FieldError::forbidden(&path.child("value"), why));
        }
        _ if of_resource && average && has("averageUtilization") => {
            let why = "may not set both a target raw value and a target utilization";
            errors.push(FieldError::forbidden(&path.child("averageValue"), why));
        }
        _ => {}
    }
}

fn validate_metric(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let path = path.child("name");
    match text(source, &["metric", "name"]) {
        "" => errors.push(FieldError::required(&path, "must specify a metric name")),
        name => {
            let faults = path_segment(name).into_iter();
            errors.extend(faults.map(|why| FieldError::invalid(&path, name, why)));
        }
    }
}

fn validate_target(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let kind = text(source, &["target", "type"]);
    let at_type = path.child("type");
    if kind.is_empty() {
        errors.push(FieldError::required(&at_type, "must specify a metric target type"));
    }
    if !["Utilization", "Value", "AverageValue"].contains(&kind) {
        let why = "must be either Utilization, Value, or AverageValue";
        errors.push(FieldError::invalid(&at_type, kind, why));
    }
    for field in ["value", "averageValue"] {
        let given = text(source, &["target", field]);
        if given.parse::<Quantity>().is_ok_and(|amount| amount.signum() != 1) {
            errors.push(FieldError::invalid(&path.child(field), given, "must be positive"));
        }
    }
    if let Some(percent) = number(source, &["target", "averageUtilization"]).filter(|percent| *percent < 1) {
        let path = path.child("averageUtilization");
        errors.push(FieldError::invalid(&path, percent, "must be greater than 0"));
    }
}
