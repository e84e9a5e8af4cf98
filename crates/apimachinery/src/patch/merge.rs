//! JSON Merge Patch (RFC 7386).

use serde_json::{Map, Value};

/// Merges `patch` into `target`: objects entry by entry, null removes, anything else replaces.
pub fn apply(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (name, change) in patch {
        if change.is_null() {
            target.remove(name);
        } else if let Some(value) = target.get_mut(name) {
            apply(value, change);
        } else {
            let mut value = Value::Null;
            apply(&mut value, change);
            target.insert(name.clone(), value);
        }
    }
}

/// The patch that makes `to` out of `from`. Nulls inside objects of `to` are lost, as the format has no word for them.
pub fn diff(from: &Value, to: &Value) -> Value {
    let (Value::Object(from), Value::Object(to)) = (from, to) else { return to.clone() };
    let mut patch = Map::new();
    for (name, old) in from {
        match to.get(name) {
            None => {
                patch.insert(name.clone(), Value::Null);
            }
            Some(new) if new != old => {
                patch.insert(name.clone(), diff(old, new));
            }
            Some(_) => {}
        }
    }
    for (name, new) in to.iter().filter(|(name, _)| !from.contains_key(*name)) {
        patch.insert(name.clone(), new.clone());
    }
    Value::Object(patch)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::patch::tests::tree;

    #[test]
    fn examples_of_the_standard() {
        for (target, patch, expected) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!(["a"]), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
            (json!({"a": "foo"}), json!(null), json!(null)),
        ] {
            let mut found = target.clone();
            apply(&mut found, &patch);
            assert_eq!(found, expected, "{target} + {patch}");
        }
    }

    fn without_nulls(value: &mut Value) {
        if let Value::Object(map) = value {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(without_nulls);
        }
    }

    proptest! {
        #[test]
        fn a_difference_applied_gives_the_other(mut from in tree(), mut to in tree()) {
            without_nulls(&mut from);
            without_nulls(&mut to);
            let patch = diff(&from, &to);
            let mut found = from.clone();
            apply(&mut found, &patch);
            prop_assert_eq!(found, to);
        }
    }
}
