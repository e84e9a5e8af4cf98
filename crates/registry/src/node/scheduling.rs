//! To which nodes a RuntimeClass leads its pods.

use std::collections::BTreeSet;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::qualified_name;
use apimachinery::meta::validate_labels;
use serde_json::{Value, json};

use crate::checks::invalid;
use crate::tree::{at, items, text};

const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// What is wrong with the labels that nodes must have, and with the taints that pods then tolerate.
pub(super) fn validate(class: &Value, errors: &mut Vec<FieldError>) {
    let scheduling = Path::new("scheduling");
    if let Some(labels) = at(class, &["scheduling", "nodeSelector"]).and_then(Value::as_object) {
        validate_labels(labels, &scheduling.child("nodeSelector"), errors);
    }
    let path = scheduling.child("tolerations");
    let all = items(class, &["scheduling", "tolerations"]);
    for (index, toleration) in all.iter().enumerate() {
        validate_toleration(toleration, &path.index(index), errors);
    }
    let mut seen = BTreeSet::new();
    for (index, toleration) in all.iter().enumerate() {
        let of = |field| text(toleration, &[field]);
        if !seen.insert(["key", "operator", "value", "effect"].map(of)) {
            errors.push(FieldError::duplicate(&path.index(index), shown(toleration)));
        }
    }
}

fn validate_toleration(toleration: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let of = |field| text(toleration, &[field]);
    let (at_operator, at_effect) = (path.child("operator"), path.child("effect"));
    let (key, operator, value, effect) = (of("key"), of("operator"), of("value"), of("effect"));
    if !key.is_empty() {
        invalid(&path.child("key"), key, qualified_name(key), errors);
    }
    if key.is_empty() && operator != "Exists" {
        let why =
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errors.push(FieldError::invalid(&at_operator, operator, why));
    }
    if toleration.get("tolerationSeconds").is_some() && effect != "NoExecute" {
        let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        errors.push(FieldError::invalid(&at_effect, effect, why));
    }
    match operator {
        "Equal" | "" => {
            invalid(&at_operator, value, apimachinery::meta::names::label_value(value), errors);
        }
        "Exists" => {
            if !value.is_empty() {
                let why = "value must be empty when `operator` is 'Exists'";
                errors.push(FieldError::invalid(&at_operator, value, why));
            }
        }
        // Upstream names what a gate keeps shut to those who ask for it.
        gated @ ("Lt" | "Gt") => {
            errors.push(FieldError::not_supported(&at_operator, gated, &["Equal", "Exists", "Lt", "Gt"]));
        }
        other => errors.push(FieldError::not_supported(&at_operator, other, &["Equal", "Exists"])),
    }
    if !effect.is_empty() && !EFFECTS.contains(&effect) {
        errors.push(FieldError::not_supported(&at_effect, effect, EFFECTS));
    }
}

/// A toleration as upstream prints one.
fn shown(toleration: &Value) -> Value {
    let of = |field| text(toleration, &[field]);
    json!({
        "Key": of("key"), "Operator": of("operator"), "Value": of("value"), "Effect": of("effect"),
        "TolerationSeconds": toleration.get("tolerationSeconds"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused() {
        let check = |scheduling: Value, expected: &[&str]| {
            let mut errors = Vec::new();
            validate(&json!({"scheduling": scheduling}), &mut errors);
            let found: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
            assert_eq!(found, expected, "{scheduling}");
        };
        let exists = json!({"key": "a", "operator": "Exists"});
        check(json!({"nodeSelector": {"a": "b"}, "tolerations": [exists]}), &[]);
        check(json!({"nodeSelector": {"a": "Bad Value!"}}), &["scheduling.nodeSelector"]);
        check(json!({"tolerations": [exists, exists]}), &["scheduling.tolerations[1]"]);
        check(json!({"tolerations": [{"key": "a", "effect": "x"}]}), &["scheduling.tolerations[0].effect"]);
        check(json!({"tolerations": [{}]}), &["scheduling.tolerations[0].operator"]);
    }
}
