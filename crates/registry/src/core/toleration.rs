//! What a pod says that it tolerates of nodes: its own, and what its RuntimeClass adds.

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::{label_value, qualified_name};
use serde_json::Value;

use crate::checks::{invalid, one_of};
use crate::tree::text;

const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// What is wrong with tolerations. `path` is that of their list.
pub(crate) fn validate(tolerations: &[Value], path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for (index, toleration) in tolerations.iter().enumerate() {
        let at = path.index(index);
        let (key, operator) = (text(toleration, &["key"]), text(toleration, &["operator"]));
        if !key.is_empty() {
            invalid(&at.child("key"), key, qualified_name(key), errors);
        }
        if key.is_empty() && operator != "Exists" {
            let why =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(FieldError::invalid(&at.child("operator"), operator, why));
        }
        validate_operator(operator, text(toleration, &["value"]), &at.child("operator"), errors);
        one_of(toleration, "effect", EFFECTS, &at, errors);
        if toleration.get("tolerationSeconds").is_some() && text(toleration, &["effect"]) != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(FieldError::invalid(&at.child("effect"), text(toleration, &["effect"]), why));
        }
    }
}

/// The operator of a toleration, and the value that it compares to.
fn validate_operator(operator: &str, value: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    const WORDS: &[&str] = &["Equal", "Exists", "Lt", "Gt"];
    match operator {
        "" | "Equal" => {
            let faults = label_value(value);
            if !faults.is_empty() {
                errors.push(FieldError::invalid(path, value, faults.join(";")));
            }
        }
        "Exists" if !value.is_empty() => {
            let why = "value must be empty when `operator` is 'Exists'";
            errors.push(FieldError::invalid(path, value, why));
        }
        "Exists" => {}
        // Known words, but of a feature that is not on.
        "Lt" | "Gt" => errors.push(FieldError::not_supported(path, operator, WORDS)),
        other => errors.push(FieldError::not_supported(path, other, &WORDS[..2])),
    }
}
