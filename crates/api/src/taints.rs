//! Taints and tolerations: what a node's taint means for a pod.

use k8s_openapi::api::core::v1::{Taint, Toleration};

/// Whether a toleration covers a taint. An operator that is not known covers nothing.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let unset = |text: &Option<String>| text.as_ref().is_none_or(String::is_empty);
    let effect = unset(&toleration.effect) || toleration.effect.as_ref() == Some(&taint.effect);
    let key = unset(&toleration.key) || toleration.key.as_ref() == Some(&taint.key);
    let value = match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => {
            toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
        }
        "Exists" => true,
        _ => false,
    };
    effect && key && value
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    #[test]
    fn tolerations_cover_by_key_value_and_effect() {
        let taint: Taint = from_value(json!({ "key": "k", "value": "v", "effect": "NoExecute" })).unwrap();
        let check = |toleration: Value, expected: bool| {
            let parsed = from_value(toleration.clone()).unwrap();
            assert_eq!(tolerates(&parsed, &taint), expected, "{toleration}");
        };
        check(json!({ "operator": "Exists" }), true);
        check(json!({ "key": "k", "operator": "Exists" }), true);
        check(json!({ "key": "other", "operator": "Exists" }), false);
        check(json!({ "key": "k", "value": "v" }), true);
        check(json!({ "key": "k", "operator": "Equal", "value": "v", "effect": "NoExecute" }), true);
        check(json!({ "key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule" }), false);
        check(json!({ "key": "k", "value": "other" }), false);
        check(json!({ "key": "k", "value": "v", "operator": "Gt" }), false);
    }
}
