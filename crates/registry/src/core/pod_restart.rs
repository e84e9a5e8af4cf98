//! What is wrong with a container's own restart policy, its rules, and what a resize does to it.

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use crate::checks::supported;
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
    supported(container, "restartPolicy", &["Always", "Never", "OnFailure"], path, errors);
    validate_rules(container, list, path, errors);
    validate_resize(container, list, pod_policy, path, errors);
}

fn validate_rules(container: &Value, list: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let rules = items(container, &["restartPolicyRules"]);
    if rules.is_empty() {
        return;
    }
    let at = path.child("restartPolicyRules");
    if container.get("restartPolicy").is_none() {
        let why = "must specify restartPolicy when restart rules are used";
        errors.push(FieldError::required(&path.child("restartPolicy"), why));
        // Upstream looks no further at the rules of containers that run before the others.
        if list == "initContainers" {
            return;
        }
    }
    if rules.len() > MAX_RULES {
        errors.push(FieldError::too_many(&at, rules.len(), MAX_RULES));
    }
    for (index, rule) in rules.iter().enumerate() {
        let at = at.index(index);
        match text(rule, &["action"]) {
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

fn validate_resize(
    container: &Value,
    list: &str,
    pod_policy: &str,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    // Upstream's errors are about the list, but for the second of a kind.
    let path = path.child("resizePolicy");
    let mut seen = std::collections::BTreeSet::new();
    for (index, policy) in items(container, &["resizePolicy"]).iter().enumerate() {
        let (resource, restart) = (text(policy, &["resourceName"]), text(policy, &["restartPolicy"]));
        match resource {
            "cpu" | "memory" => {}
            "" => errors.push(FieldError::required(&path, "")),
            other => errors.push(FieldError::not_supported(&path, other, &["cpu", "memory"])),
        }
        if !seen.insert(resource) {
            errors.push(FieldError::duplicate(&path.index(index), resource));
        }
        let known = ["NotRequired", "RestartContainer"];
        match restart {
            "" => errors.push(FieldError::required(&path, "")),
            other if !known.contains(&other) => {
                errors.push(FieldError::not_supported(&path, other, &known));
            }
            _ => {}
        }
        if pod_policy == "Never" && restart != "NotRequired" {
            let why = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.push(FieldError::invalid(&path, restart, why));
        }
        if list == "initContainers"
            && restart == "RestartContainer"
            && text(container, &["restartPolicy"]) != "Always"
        {
            let at_one = path.index(index);
            let why = "must not be set to 'RestartContainer' for non-sidecar initContainers";
            errors.push(FieldError::invalid(&at_one.child("restartPolicy"), restart, why));
        }
    }
}
