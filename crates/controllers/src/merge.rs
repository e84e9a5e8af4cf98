//! JSON merge patches from what is to what should be.

use serde_json::{Map, Value};

/// The merge patch that turns `before` into `after`: what changed, and null for what is to go.
pub(crate) fn difference(before: &Value, after: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (before, after) else { return after.clone() };
    let mut patch = Map::new();
    for (name, value) in new {
        match old.get(name) {
            Some(same) if same == value => {}
            Some(other) => {
                patch.insert(name.clone(), difference(other, value));
            }
            None => {
                patch.insert(name.clone(), value.clone());
            }
        }
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    Value::Object(patch)
}

#[cfg(test)]
mod tests {
    use super::difference;
    use serde_json::json;

    #[test]
    fn names_what_changed_and_what_goes() {
        let before = json!({ "a": 1, "b": { "c": 2, "d": [1] }, "e": 3 });
        let after = json!({ "a": 1, "b": { "c": 2, "d": [2], "f": 4 } });
        let patch = difference(&before, &after);
        assert_eq!(patch, json!({ "b": { "d": [2], "f": 4 }, "e": null }));
        let mut applied = before;
        testkit::merge(&mut applied, &patch);
        assert_eq!(applied, after);
    }
}
