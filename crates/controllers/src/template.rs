//! Pod templates: whether two are the same, and a short name for one.

use clock::SUFFIX_ALPHABET;
use serde::Serialize;
use serde_json::Value;

/// What a template says. An empty list and none mean the same, whichever the server chose to keep.
pub(crate) fn pruned(template: &impl Serialize) -> Value {
    fn prune(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.values_mut().for_each(prune);
                // An empty object is not nothing: `emptyDir: {}` is a volume, and no `emptyDir` is none.
                map.retain(|_, value| !(value.is_null() || value.as_array().is_some_and(Vec::is_empty)));
            }
            Value::Array(items) => items.iter_mut().for_each(prune),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(template).unwrap_or_default();
    prune(&mut value);
    value
}

/// A short name for what a template says: the same for the same, another after each collision.
pub(crate) fn hash(said: &Value, collisions: Option<i32>) -> String {
    let mut hash: u32 = 0x811c_9dc5;
    let mut feed = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    };
    feed(said.to_string().as_bytes());
    if let Some(collisions) = collisions {
        feed(&collisions.to_le_bytes());
    }
    let letter = |digit: u8| char::from(SUFFIX_ALPHABET[usize::from(digit) % SUFFIX_ALPHABET.len()]);
    hash.to_string().bytes().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_empty_list_is_as_good_as_none_and_an_empty_object_is_not() {
        let containers = |more: Value| pruned(&json!({ "spec": { "containers": [], "volumes": more } }));
        assert_eq!(containers(json!([])), containers(Value::Null));
        let volume = |source: Value| containers(json!([{ "name": "v", "emptyDir": source }]));
        assert_ne!(volume(json!({})), volume(Value::Null));
    }

    #[test]
    fn names_follow_what_is_said_and_collisions() {
        let plain = hash(&json!({ "a": 1 }), None);
        assert_ne!(plain, hash(&json!({ "a": 1 }), Some(1)));
        assert_ne!(plain, hash(&json!({ "a": 2 }), None));
        assert!(plain.bytes().all(|letter| SUFFIX_ALPHABET.contains(&letter)));
    }
}
