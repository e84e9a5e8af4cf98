//! What a claim asks for: requests, constraints over them, and configuration.

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::dns1123_subdomain;
use serde_json::Value;

use super::names::Requests;
use super::{lists, names, opaque, selector, taints};
use crate::checks::invalid;
use crate::tree::{at, default_text, items, items_mut, map, number, object, text};

/// Most requests of a claim, and most devices that it is given.
pub(super) const MAX_REQUESTS: usize = 32;
const MAX_ALTERNATIVES: usize = 8;
const MAX_CONSTRAINTS: usize = 32;
const MODES: [&str; 2] = ["All", "ExactCount"];

/// Fills in what the spec leaves out.
pub(super) fn default(spec: &mut Value) {
    object(spec, "devices");
    for request in items_mut(spec, &["devices", "requests"]) {
        if let Some(exactly) = request.get_mut("exactly").filter(|exactly| exactly.is_object()) {
            default_request(exactly);
        }
        items_mut(request, &["firstAvailable"]).iter_mut().for_each(default_request);
    }
}

fn default_request(request: &mut Value) {
    default_text(request, "allocationMode", "ExactCount");
    let counts = text(request, &["allocationMode"]) == "ExactCount";
    if counts && number(request, &["count"]).unwrap_or_default() == 0 {
        map(request).insert("count".to_owned(), 1.into());
    }
    taints::default_tolerations(request);
}

/// Checks a new spec.
pub(super) fn validate(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let devices = spec.get("devices").unwrap_or(&Value::Null);
    let path = path.child("devices");
    let requests = Requests::of(devices);
    let list = items(devices, &["requests"]);
    lists::set(list, MAX_REQUESTS, &path.child("requests"), errors, lists::by("name"), validate_request);
    let list = items(devices, &["constraints"]);
    lists::each(list, MAX_CONSTRAINTS, &path.child("constraints"), errors, |constraint, path, errors| {
        validate_constraint(constraint, &requests, path, errors);
    });
    let list = items(devices, &["config"]);
    lists::each(list, opaque::MAX_CONFIGURATIONS, &path.child("config"), errors, |config, path, errors| {
        requests.references(config, path, errors);
        opaque::validate(config, false, path, errors);
    });
}

fn validate_request(request: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    names::label(text(request, &["name"]), &path.child("name"), errors);
    let alternatives = items(request, &["firstAvailable"]);
    match (request.get("exactly").filter(|exactly| !exactly.is_null()), alternatives) {
        (None, []) => {
            let why = "exactly one of `exactly` or `firstAvailable` is required";
            errors.push(FieldError::required(path, why));
        }
        (Some(_), [_, ..]) => {
            let why = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
            errors.push(FieldError::invalid(path, Value::Null, why));
        }
        (Some(exactly), []) => validate_details(exactly, &path.child("exactly"), errors),
        (None, alternatives) => {
            let path = path.child("firstAvailable");
            let check = |alternative: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>| {
                names::label(text(alternative, &["name"]), &path.child("name"), errors);
                validate_details(alternative, path, errors);
            };
            lists::set(alternatives, MAX_ALTERNATIVES, &path, errors, lists::by("name"), check);
        }
    }
}

fn validate_details(request: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let (class, at_class) = (text(request, &["deviceClassName"]), path.child("deviceClassName"));
    if class.is_empty() {
        errors.push(FieldError::required(&at_class, ""));
    } else {
        invalid(&at_class, class, dns1123_subdomain(class), errors);
    }
    selector::validate_all(items(request, &["selectors"]), false, &path.child("selectors"), errors);
    let count = number(request, &["count"]).unwrap_or_default();
    let at_count = path.child("count");
    match text(request, &["allocationMode"]) {
        "All" if count != 0 => {
            let why = "must not be specified when allocationMode is 'All'";
            errors.push(FieldError::invalid(&at_count, count, why));
        }
        "ExactCount" if count <= 0 => {
            errors.push(FieldError::invalid(&at_count, count, "must be greater than zero"));
        }
        "All" | "ExactCount" => {}
        other => errors.push(FieldError::not_supported(&path.child("allocationMode"), other, &MODES)),
    }
    taints::validate_tolerations(request, path, errors);
}

fn validate_constraint(
    constraint: &Value,
    requests: &Requests<'_>,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    requests.references(constraint, path, errors);
    let attribute = |field| at(constraint, &[field]).and_then(Value::as_str);
    let named = ["matchAttribute", "distinctAttribute"]
        .into_iter()
        .find_map(|field| Some((field, attribute(field)?)));
    match named {
        Some((field, name)) => names::fully_qualified(name, &path.child(field), errors),
        None => {
            // Upstream says so of none as well.
            let why = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are \
                       set";
            errors.push(FieldError::required(path, why));
        }
    }
}
