//! To which nodes a RuntimeClass leads its pods.

use std::collections::BTreeSet;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::validate_labels;
use serde_json::{Value, json};

use crate::core::toleration;
use crate::tree::{at, items, text};

/// What is wrong with the labels that nodes must have, and with the taints that pods then tolerate.
pub(super) fn validate(class: &Value, errors: &mut Vec<FieldError>) {
    let scheduling = Path::new("scheduling");
    if let Some(labels) = at(class, &["scheduling", "nodeSelector"]).and_then(Value::as_object) {
        validate_labels(labels, &scheduling.child("nodeSelector"), errors);
    }
    let path = scheduling.child("tolerations");
    let all = items(class, &["scheduling", "tolerations"]);
    toleration::validate(all, &path, errors);
    let mut seen = BTreeSet::new();
    for (index, toleration) in all.iter().enumerate() {
        let of = |field| text(toleration, &[field]);
        if !seen.insert(["key", "operator", "value", "effect"].map(of)) {
            errors.push(FieldError::duplicate(&path.index(index), shown(toleration)));
        }
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
