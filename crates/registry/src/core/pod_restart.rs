//! What is wrong with a container's own restart policy, its rules, and what a resize does to it.

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use super::pod_spec::one_of;
use crate::tree::{items, text};

/// Upstream's numbers.
const MAX_RULES: usize = 20;
const MAX_CODES: usize = 255;

/// The action by which one container's end starts all of the pod's anew.
pub(crate) const ALL: &str = "RestartAllContainers";

/// Checks one container.
pub(crate) fn validate(
    container: &Value,
    list: &str,
    pod_policy: &str,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    one_of(container, "restartPolicy", &["Always", "Never", "OnFailure"], path, errors);
    validate_rules(container, list, path, errors);
    validate_resize(container, pod_policy, path, errors);
}

fn validate_rules(container: &Value, list: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let rules = items(container, &["restartPolicyRules"]);
    if rules.is_empty() {
        return;
    }
    let at = path.child("restartPolicyRules");
    match text(container, &["restartPolicy"]) {
        "" => {
            let why = "must specify restartPolicy when restart rules are used";
            errors.push(FieldError::required(&path.child("restartPolicy"), why));
        }
        "Always" if list == "initContainers" && rules.iter().any(|rule| text(rule, &["action"]) != ALL) => {
            let why = "restartPolicyRules are not allowed for init containers with restart policy Always";
            errors.push(FieldError::forbidden(&at, why));
        }
        _ => {}
    }
    if rules.len() > MAX_RULES {
        errors.push(FieldError::too_many(&at, rules.len(), MAX_RULES));
    }
    for (index, rule) in rules.iter().enumerate() {
        let at = at.index(index);
        match text(rule, &["action"]) {
            "" => errors.push(FieldError::required(&at.child("action"), "")),
            "Restart" | ALL => {}
            other => errors.push(FieldError::not_supported(&at.child("action"), other, &["Restart", ALL])),
        }
        let at_codes = at.child("exitCodes");
        if rule.get("exitCodes").is_none() {
            errors.push(FieldError::required(&at_codes, "must be specified"));
            continue;
        }
        match text(rule, &["exitCodes", "operator"]) {
            "In" | "NotIn" => {}
            "" => errors.push(FieldError::required(&at_codes.child("operator"), "must be specified")),
            other => {
                let error = FieldError::not_supported(&at_codes.child("operator"), other, &["In", "NotIn"]);
                errors.push(error);
            }
        }
        let values = items(rule, &["exitCodes", "values"]).len();
        if values > MAX_CODES {
            errors.push(FieldError::too_many(&at_codes.child("values"), values, MAX_CODES));
        }
    }
}

fn validate_resize(container: &Value, pod_policy: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let at = path.child("resizePolicy");
    let mut seen = std::collections::BTreeSet::new();
    for (index, policy) in items(container, &["resizePolicy"]).iter().enumerate() {
        let at = at.index(index);
        let (resource, restart) = (text(policy, &["resourceName"]), text(policy, &["restartPolicy"]));
        match resource {
            "cpu" | "memory" => {}
            "" => errors.push(FieldError::required(&at.child("resourceName"), "")),
            other => {
                let error = FieldError::not_supported(&at.child("resourceName"), other, &["cpu", "memory"]);
                errors.push(error);
            }
        }
        if !resource.is_empty() && !seen.insert(resource) {
            errors.push(FieldError::duplicate(&at, resource));
        }
        let known = ["NotRequired", "RestartContainer"];
        match restart {
            "" => errors.push(FieldError::required(&at.child("restartPolicy"), "")),
            other if !known.contains(&other) => {
                errors.push(FieldError::not_supported(&at.child("restartPolicy"), other, &known));
            }
            "RestartContainer" if pod_policy == "Never" => {
                let why = "must be 'NotRequired' when `restartPolicy` is 'Never'";
                errors.push(FieldError::invalid(&at.child("restartPolicy"), restart, why));
            }
            _ => {}
        }
    }
}
