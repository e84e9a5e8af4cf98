//! What is wrong with an autoscaler, in the form of `v2`.

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::path_segment;
use apimachinery::quantity::Quantity;
use serde_json::Value;

use super::metrics_validation;
use crate::tree::{at, items, number, text};

const PERIOD_MAX: i64 = 1800;
const WINDOW_MAX: i64 = 3600;
const SELECT_POLICIES: [&str; 3] = ["Disabled", "Max", "Min"];
const POLICY_TYPES: [&str; 2] = ["Percent", "Pods"];

/// What an apiVersion of another object may be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Versions {
    /// One with a group.
    Grouped,
    /// Also of the legacy group.
    Any,
    /// Whatever it was before.
    Unchecked,
}

pub(super) fn validate(autoscaler: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let path = Path::new("spec");
    let spec = autoscaler.get("spec").unwrap_or(&Value::Null);
    let old = old.map(|old| old.get("spec").unwrap_or(&Value::Null));
    let min = number(spec, &["minReplicas"]);
    // None at all is a feature of its own; who had it keeps it.
    let least = i64::from(old.and_then(|old| number(old, &["minReplicas"])) != Some(0));
    if let Some(min) = min.filter(|min| *min < least) {
        let why = format!("must be greater than or equal to {least}");
        errors.push(FieldError::invalid(&path.child("minReplicas"), min, why));
    }
    let max = number(spec, &["maxReplicas"]).unwrap_or_default();
    let at_max = path.child("maxReplicas");
    match max {
        1.. => {}
        0 => errors.push(FieldError::required(&at_max, "must be set and greater than 0")),
        _ => errors.push(FieldError::invalid(&at_max, max, "must be greater than or equal to 1")),
    }
    if min.is_some_and(|min| max < min) {
        let why = "must be greater than or equal to `minReplicas`";
        errors.push(FieldError::invalid(&at_max, max, why));
    }
    let target = spec.get("scaleTargetRef").unwrap_or(&Value::Null);
    let versions = target_versions(target, old);
    reference(target, versions, &path.child("scaleTargetRef"), errors);
    let described = described_versions(old);
    metrics_validation::validate(spec, min, described, &path.child("metrics"), errors);
    let behavior = path.child("behavior");
    for direction in ["scaleUp", "scaleDown"] {
        if let Some(rules) = at(spec, &["behavior", direction]) {
            validate_rules(rules, &behavior.child(direction), errors);
        }
    }
}

/// The one kind without a group that can be scaled is the ReplicationController.
fn target_versions(target: &Value, old: Option<&Value>) -> Versions {
    let kind =
        |target: &Value| (text(target, &["apiVersion"]).to_owned(), text(target, &["kind"]).to_owned());
    let unchanged =
        old.is_some_and(|old| kind(old.get("scaleTargetRef").unwrap_or(&Value::Null)) == kind(target));
    match () {
        () if unchanged => Versions::Unchecked,
        () if text(target, &["kind"]) == "ReplicationController" => Versions::Any,
        () => Versions::Grouped,
    }
}

fn described_versions(old: Option<&Value>) -> Versions {
    let mut metrics = old.map(|old| items(old, &["metrics"])).unwrap_or_default().iter();
    let was_wrong = metrics.any(|metric| {
        check_version(text(metric, &["object", "describedObject", "apiVersion"]), Versions::Any).is_err()
    });
    if was_wrong { Versions::Unchecked } else { Versions::Any }
}

/// A reference to an object of any kind.
pub(super) fn reference(
    reference: &Value,
    versions: Versions,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    for field in ["kind", "name"] {
        let path = path.child(field);
        match text(reference, &[field]) {
            "" => errors.push(FieldError::required(&path, "")),
            given => {
                let faults = path_segment(given).into_iter();
                errors.extend(faults.map(|why| FieldError::invalid(&path, given, why)));
            }
        }
    }
    let version = text(reference, &["apiVersion"]);
    if let Err(why) = check_version(version, versions) {
        errors.push(FieldError::invalid(&path.child("apiVersion"), version, why));
    }
}

fn check_version(version: &str, versions: Versions) -> Result<(), String> {
    let slashes = version.matches('/').count();
    match versions {
        Versions::Unchecked => Ok(()),
        _ if slashes > 1 => Err(format!("unexpected GroupVersion string: {version}")),
        Versions::Grouped if slashes == 0 || version.starts_with('/') => {
            Err("apiVersion must specify API group".to_owned())
        }
        _ => Ok(()),
    }
}

fn validate_rules(rules: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if let Some(window) = number(rules, &["stabilizationWindowSeconds"]) {
        let path = path.child("stabilizationWindowSeconds");
        if window < 0 {
            let why = "must be greater than or equal to zero";
            errors.push(FieldError::invalid(&path, window, why));
        }
        if window > WINDOW_MAX {
            let why = format!("must be less than or equal to {WINDOW_MAX}");
            errors.push(FieldError::invalid(&path, window, why));
        }
    }
    if let Some(policy) = rules.get("selectPolicy").and_then(Value::as_str)
        && !SELECT_POLICIES.contains(&policy)
    {
        errors.push(FieldError::not_supported(&path.child("selectPolicy"), policy, &SELECT_POLICIES));
    }
    let at_policies = path.child("policies");
    let policies = items(rules, &["policies"]);
    if policies.is_empty() {
        errors.push(FieldError::required(&at_policies, "must specify at least one Policy"));
    }
    for (index, policy) in policies.iter().enumerate() {
        validate_policy(policy, &at_policies.index(index), errors);
    }
    let tolerance = text(rules, &["tolerance"]);
    if tolerance.parse::<Quantity>().is_ok_and(|amount| amount.signum() < 0) {
        let why = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(&path.child("tolerance"), tolerance, why));
    }
}

fn validate_policy(policy: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let kind = text(policy, &["type"]);
    if !POLICY_TYPES.contains(&kind) {
        errors.push(FieldError::not_supported(&path.child("type"), kind, &POLICY_TYPES));
    }
    for field in ["value", "periodSeconds"] {
        let given = number(policy, &[field]).unwrap_or_default();
        if given <= 0 {
            errors.push(FieldError::invalid(&path.child(field), given, "must be greater than zero"));
        }
    }
    let period = number(policy, &["periodSeconds"]).unwrap_or_default();
    if period > PERIOD_MAX {
        let why = format!("must be less than or equal to {PERIOD_MAX}");
        errors.push(FieldError::invalid(&path.child("periodSeconds"), period, why));
    }
}
