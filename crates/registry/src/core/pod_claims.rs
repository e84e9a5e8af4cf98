//! The devices that a pod claims: the claims that it names, and which of them its containers use.

use std::collections::BTreeSet;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta;
use apimachinery::meta::names::{dns1123_label, dns1123_subdomain};
use serde_json::Value;

use crate::checks::invalid;
use crate::tree::{at, items, text};

/// Checks `resourceClaims`; gives their names.
pub(crate) fn validate<'a>(
    spec: &'a Value,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) -> BTreeSet<&'a str> {
    let path = path.child("resourceClaims");
    let mut names = BTreeSet::new();
    for (index, claim) in items(spec, &["resourceClaims"]).iter().enumerate() {
        let path = path.index(index);
        let (name, at_name) = (text(claim, &["name"]), path.child("name"));
        if name.is_empty() {
            errors.push(FieldError::required(&at_name, ""));
        } else if names.insert(name) {
            invalid(&at_name, name, dns1123_label(name), errors);
        } else {
            errors.push(FieldError::duplicate(&at_name, name));
        }
        validate_source(claim, &path, errors);
    }
    names
}

/// Checks the names that claims will have which are made for a pod.
pub(crate) fn validate_made(pod: &Value, errors: &mut Vec<FieldError>) {
    let spec = Path::new("spec");
    let path = spec.child("resourceClaims");
    for (index, claim) in items(pod, &["spec", "resourceClaims"]).iter().enumerate() {
        let name = text(claim, &["name"]);
        if at(claim, &["resourceClaimTemplateName"]).is_some() && dns1123_label(name).is_empty() {
            let made = format!("{}-{name}", meta::name(pod));
            let faults = dns1123_subdomain(&made).into_iter();
            let faults = faults.map(|why| format!("final ResourceClaim name: {why}")).collect();
            invalid(&path.index(index).child("name"), &made, faults, errors);
        }
    }
}

/// A claim is there already, or is made of a template.
fn validate_source(claim: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let fields = ["resourceClaimName", "resourceClaimTemplateName"];
    let named = fields.map(|field| Some((field, at(claim, &[field])?.as_str()?)));
    let why = match named {
        [Some(_), Some(_)] => {
            Some("at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified")
        }
        [None, None] => Some("must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"),
        _ => None,
    };
    // So upstream shows it.
    let [by_name, by_template] = fields.map(|field| claim.get(field));
    let shown = || {
        serde_json::json!({
            "Name": text(claim, &["name"]), "ResourceClaimName": by_name, "ResourceClaimTemplateName": by_template,
        })
    };
    errors.extend(why.map(|why| FieldError::invalid(path, shown(), why)));
    for (field, name) in named.into_iter().flatten() {
        invalid(&path.child(field), name, dns1123_subdomain(name), errors);
    }
}

/// Checks what a container uses of the pod's claims: all of one, or single requests of it.
pub(crate) fn validate_container(
    container: &Value,
    of_pod: &BTreeSet<&str>,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    let resources = path.child("resources");
    let path = resources.child("claims");
    let mut used: BTreeSet<String> = BTreeSet::new();
    for (index, claim) in items(container, &["resources", "claims"]).iter().enumerate() {
        let path = path.index(index);
        let (name, request) = (text(claim, &["name"]), text(claim, &["request"]));
        if name.is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        if used.contains(name) {
            errors.push(FieldError::duplicate(&path, name));
        } else {
            let key = if request.is_empty() { name.to_owned() } else { format!("{name}/{request}") };
            if !request.is_empty() {
                invalid(&path.child("request"), request, dns1123_label(request), errors);
            }
            let part = format!("{name}/");
            if used.contains(&key) || (request.is_empty() && used.iter().any(|key| key.starts_with(&part))) {
                errors.push(FieldError::duplicate(&path, key.as_str()));
            }
            used.insert(key);
        }
        if !of_pod.contains(name) {
            errors.push(unknown(name, of_pod, &path));
        }
    }
}

fn unknown(name: &str, of_pod: &BTreeSet<&str>, path: &Path<'_>) -> FieldError {
    let mut error = FieldError::not_found(path, name);
    let known: Vec<&str> = of_pod.iter().copied().collect();
    error.detail = match known.as_slice() {
        [] => "must be one of the names in pod.spec.resourceClaims which is empty".to_owned(),
        known => format!("must be one of the names in pod.spec.resourceClaims: {}", known.join(", ")),
    };
    error
}

/// Checks which claims were made for a pod.
pub(crate) fn validate_statuses(pod: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let claims = items(pod, &["spec", "resourceClaims"]);
    let path = path.child("resourceClaimStatuses");
    let mut seen = BTreeSet::new();
    for (index, status) in items(pod, &["status", "resourceClaimStatuses"]).iter().enumerate() {
        let path = path.index(index);
        let (name, at_name) = (text(status, &["name"]), path.child("name"));
        if !claims.iter().any(|claim| text(claim, &["name"]) == name) {
            let why = "must match the name of an entry in `spec.resourceClaims`";
            errors.push(FieldError::invalid(&at_name, name, why));
        }
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&at_name, name));
        }
        if let Some(claim) = at(status, &["resourceClaimName"]).and_then(Value::as_str) {
            invalid(&at_name, claim, dns1123_subdomain(claim), errors);
        }
    }
}
