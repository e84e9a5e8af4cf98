//! What is wrong with how a definition converts between its versions.

use std::collections::BTreeSet;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::dns1035_label;
use serde_json::Value;

use crate::admissionregistration::client_config;
use crate::custom::REVIEWS;
use crate::tree::{at, items, text};

const STRATEGIES: &[&str] = &["None", "Webhook"];
const NOT_SET: &str = "should not be set when strategy is not set to Webhook";

pub(super) fn validate(conversion: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let strategy = text(conversion, &["strategy"]);
    if strategy.is_empty() {
        errors.push(FieldError::required(&path.child("strategy"), ""));
    } else if !STRATEGIES.contains(&strategy) {
        errors.push(FieldError::not_supported(&path.child("strategy"), strategy, STRATEGIES));
    }
    // Upstream checks its internal form, where these two lie beside the strategy.
    let (at_config, at_versions) =
        (path.child("webhookClientConfig"), path.child("conversionReviewVersions"));
    let config = at(conversion, &["webhook", "clientConfig"]);
    let versions = items(conversion, &["webhook", "conversionReviewVersions"]);
    if strategy != "Webhook" {
        if config.is_some() {
            errors.push(FieldError::forbidden(&at_config, NOT_SET));
        }
        if !versions.is_empty() {
            errors.push(FieldError::forbidden(&at_versions, NOT_SET));
        }
        return;
    }
    match config {
        None => errors.push(FieldError::required(&at_config, "required when strategy is set to Webhook")),
        Some(config) => client_config::validate(config, &at_config, errors),
    }
    validate_versions(versions, &at_versions, errors);
}

fn validate_versions(versions: &[Value], path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if versions.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, version) in versions.iter().enumerate() {
        let at_version = path.index(index);
        let version = version.as_str().unwrap_or_default();
        if !seen.insert(version) {
            errors.push(FieldError::invalid(&at_version, version, "duplicate version"));
            continue;
        }
        let faults = dns1035_label(version).into_iter();
        errors.extend(faults.map(|why| FieldError::invalid(&at_version, version, why)));
    }
    if !seen.iter().any(|version| REVIEWS.contains(version)) {
        let why = format!("must include at least one of {}", REVIEWS.join(", "));
        errors.push(FieldError::invalid(path, versions.to_vec(), why));
    }
}
