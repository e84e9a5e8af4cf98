//! Selectors of nodes, as volumes and pods carry them.

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::{dns1123_subdomain, label_value, qualified_name};
use serde_json::Value;

use crate::checks::invalid;
use crate::tree::{items, text};

/// What is wrong with a node selector.
pub(crate) fn validate(selector: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let at_terms = path.child("nodeSelectorTerms");
    let terms = items(selector, &["nodeSelectorTerms"]);
    if terms.is_empty() {
        errors.push(FieldError::required(&at_terms, "must have at least one node selector term"));
    }
    for (index, term) in terms.iter().enumerate() {
        validate_term(term, true, &at_terms.index(index), errors);
    }
}

/// What is wrong with a term that a pod would like to hold. Its values may be anything: then nothing matches.
pub(crate) fn validate_preference(term: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    validate_term(term, false, path, errors);
}

fn validate_term(term: &Value, strict: bool, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let at_expressions = path.child("matchExpressions");
    for (index, expression) in items(term, &["matchExpressions"]).iter().enumerate() {
        validate_expression(expression, strict, &at_expressions.index(index), errors);
    }
    let at_fields = path.child("matchFields");
    for (index, field) in items(term, &["matchFields"]).iter().enumerate() {
        validate_field(field, &at_fields.index(index), errors);
    }
}

fn validate_expression(expression: &Value, strict: bool, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let (operator, values) = (text(expression, &["operator"]), items(expression, &["values"]));
    let at_values = path.child("values");
    match operator {
        "In" | "NotIn" if values.is_empty() => {
            let why = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(FieldError::required(&at_values, why));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(&at_values, why));
        }
        "Gt" | "Lt" if values.len() != 1 => {
            let why = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            errors.push(FieldError::required(&at_values, why));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => {
            let why = "not a valid selector operator";
            errors.push(FieldError::invalid(&path.child("operator"), other, why));
        }
    }
    let key = text(expression, &["key"]);
    invalid(&path.child("key"), key, qualified_name(key), errors);
    for (index, value) in values.iter().enumerate().filter(|_| strict) {
        let value = value.as_str().unwrap_or_default();
        invalid(&at_values.index(index), value, label_value(value), errors);
    }
}

fn validate_field(field: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    match text(field, &["operator"]) {
        "In" | "NotIn" => {
            if items(field, &["values"]).len() != 1 {
                let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                errors.push(FieldError::required(&path.child("values"), why));
            }
        }
        other => {
            let why = "not a valid selector operator";
            errors.push(FieldError::invalid(&path.child("operator"), other, why));
        }
    }
    let key = text(field, &["key"]);
    if key != "metadata.name" {
        errors.push(FieldError::invalid(&path.child("key"), key, "not a valid field selector key"));
        return;
    }
    let at_values = path.child("values");
    for (index, value) in items(field, &["values"]).iter().enumerate() {
        let value = value.as_str().unwrap_or_default();
        invalid(&at_values.index(index), value, dns1123_subdomain(value), errors);
    }
}
