//! JSON Patch (RFC 6902) with upstream's limits.

use serde_json::Value;

use super::PatchError;
use crate::json::{MAX_DEPTH, depth};

/// Most operations in one patch.
pub const MAX_OPERATIONS: usize = 10_000;
/// How many bytes the values that a patch copies may come to.
pub const MAX_COPIED_BYTES: usize = 3 << 20;

/// Applies the operations in order. When one fails, `target` is left as it was.
///
/// # Errors
/// When the patch is malformed, does not fit or grows the object too much.
pub fn apply(target: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let operations = patch.as_array().ok_or_else(|| malformed("a JSON patch is a list of operations"))?;
    if operations.len() > MAX_OPERATIONS {
        let message = format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        );
        return Err(PatchError::TooLarge(message));
    }
    let mut result = target.clone();
    let mut copied = 0;
    for operation in operations {
        step(&mut result, operation, &mut copied)?;
    }
    *target = result;
    Ok(())
}

fn malformed(message: impl Into<String>) -> PatchError {
    PatchError::Malformed(message.into())
}

fn step(root: &mut Value, operation: &Value, copied: &mut usize) -> Result<(), PatchError> {
    let text = |name: &str| operation.get(name).and_then(Value::as_str);
    let name = text("op").unwrap_or_default();
    let pointer = |key: &str| {
        let pointer = text(key).ok_or_else(|| malformed(format!("{name} operation has no {key}")))?;
        Pointer::parse(pointer)
    };
    let value = || operation.get("value").ok_or_else(|| malformed(format!("{name} operation has no value")));
    match name {
        "add" => {
            let (path, value) = (pointer("path")?, value()?);
            fits(&path, value)?;
            add(root, &path, value.clone())
        }
        "remove" => remove(root, &pointer("path")?, name).map(drop),
        "replace" => {
            let (path, value) = (pointer("path")?, value()?);
            fits(&path, value)?;
            *path.find_mut(root).ok_or_else(|| missing(name, &path))? = value.clone();
            Ok(())
        }
        "move" => {
            let (from, path) = (pointer("from")?, pointer("path")?);
            if path.is_below(&from) {
                return Err(PatchError::Unfit(format!("move operation into itself: {}", path.text)));
            }
            let value = remove(root, &from, name)?;
            fits(&path, &value)?;
            add(root, &path, value)
        }
        "copy" => {
            let (from, path) = (pointer("from")?, pointer("path")?);
            let value = from.find(root).ok_or_else(|| missing(name, &from))?;
            fits(&path, value)?;
            *copied += size(value);
            if *copied > MAX_COPIED_BYTES {
                let message = format!(
                    "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPIED_BYTES}"
                );
                return Err(PatchError::TooLarge(message));
            }
            let value = value.clone();
            add(root, &path, value)
        }
        "test" => {
            let path = pointer("path")?;
            // Upstream takes an absent value for null, on both sides.
            let expected = operation.get("value").unwrap_or(&Value::Null);
            let found = path.find(root).unwrap_or(&Value::Null);
            if same(found, expected) {
                Ok(())
            } else {
                let path = path.text;
                Err(PatchError::Unfit(format!("testing value {path} failed: test failed")))
            }
        }
        other => Err(PatchError::Unfit(format!("Unexpected kind: {other}"))),
    }
}

fn missing(operation: &str, path: &Pointer<'_>) -> PatchError {
    let path = path.text;
    PatchError::Unfit(format!(
        "{operation} operation does not apply: doc is missing path: {path}: missing value"
    ))
}

/// Whether the value may be put there. Every walk over a tree recurses, so its depth must stay small at every step.
fn fits(path: &Pointer<'_>, value: &Value) -> Result<(), PatchError> {
    if path.tokens.len() + depth(value) <= MAX_DEPTH {
        return Ok(());
    }
    Err(PatchError::TooLarge(format!("the patched object would be nested deeper than {MAX_DEPTH} levels")))
}

/// Roughly the bytes of the value's text.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => 2 + items.iter().map(|item| size(item) + 1).sum::<usize>(),
        Value::Object(map) => 2 + map.iter().map(|(name, value)| name.len() + size(value) + 4).sum::<usize>(),
    }
}

/// Equal as JSON: numbers by value.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            a == b || a.as_f64().zip(b.as_f64()).is_some_and(|(a, b)| a.total_cmp(&b).is_eq())
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

/// A JSON pointer (RFC 6901).
struct Pointer<'a> {
    text: &'a str,
    tokens: Vec<String>,
}

impl<'a> Pointer<'a> {
    fn parse(text: &'a str) -> Result<Self, PatchError> {
        if text.is_empty() {
            return Ok(Self { text, tokens: Vec::new() });
        }
        let inner =
            text.strip_prefix('/').ok_or_else(|| malformed(format!("invalid JSON pointer: {text}")))?;
        let tokens: Vec<String> = inner
            .split('/')
            .take(MAX_DEPTH + 1)
            .map(|token| token.replace("~1", "/").replace("~0", "~"))
            .collect();
        if tokens.len() > MAX_DEPTH {
            return Err(malformed(format!("a JSON pointer may have {MAX_DEPTH} parts at most")));
        }
        Ok(Self { text, tokens })
    }

    fn is_below(&self, other: &Self) -> bool {
        self.tokens.len() > other.tokens.len() && self.tokens.starts_with(&other.tokens)
    }

    fn find<'v>(&self, root: &'v Value) -> Option<&'v Value> {
        self.tokens.iter().try_fold(root, |value, token| match value {
            Value::Object(map) => map.get(token),
            Value::Array(items) => items.get(index(token)?),
            _ => None,
        })
    }

    fn find_mut<'v>(&self, root: &'v mut Value) -> Option<&'v mut Value> {
        descend(root, &self.tokens)
    }

    /// What holds the target, and the target's name in it.
    fn holder<'v>(&self, root: &'v mut Value) -> Option<(&'v mut Value, &str)> {
        let (last, way) = self.tokens.split_last()?;
        Some((descend(root, way)?, last))
    }
}

fn descend<'v>(root: &'v mut Value, tokens: &[String]) -> Option<&'v mut Value> {
    tokens.iter().try_fold(root, |value, token| match value {
        Value::Object(map) => map.get_mut(token),
        Value::Array(items) => items.get_mut(index(token)?),
        _ => None,
    })
}

/// A list index: digits without leading zeros.
fn index(token: &str) -> Option<usize> {
    let plain = token == "0" || (!token.starts_with('0') && token.bytes().all(|b| b.is_ascii_digit()));
    if plain { token.parse().ok() } else { None }
}

fn add(root: &mut Value, path: &Pointer<'_>, value: Value) -> Result<(), PatchError> {
    if path.tokens.is_empty() {
        *root = value;
        return Ok(());
    }
    let (holder, last) = path.holder(root).ok_or_else(|| missing("add", path))?;
    match holder {
        Value::Object(map) => {
            map.insert(last.to_owned(), value);
            Ok(())
        }
        Value::Array(items) => {
            let at = if last == "-" { Some(items.len()) } else { index(last) };
            let at = at.filter(|at| *at <= items.len()).ok_or_else(|| missing("add", path))?;
            items.insert(at, value);
            Ok(())
        }
        _ => Err(missing("add", path)),
    }
}

fn remove(root: &mut Value, path: &Pointer<'_>, operation: &str) -> Result<Value, PatchError> {
    if path.tokens.is_empty() {
        return Ok(root.take());
    }
    let (holder, last) = path.holder(root).ok_or_else(|| missing(operation, path))?;
    match holder {
        Value::Object(map) => map.remove(last),
        Value::Array(items) => index(last).filter(|at| *at < items.len()).map(|at| items.remove(at)),
        _ => None,
    }
    .ok_or_else(|| missing(operation, path))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::patch::tests::tree;

    fn check(target: Value, patch: Value, expected: Value) {
        let mut found = target.clone();
        apply(&mut found, &patch).unwrap_or_else(|error| panic!("{target} + {patch}: {error}"));
        assert_eq!(found, expected, "{target} + {patch}");
    }

    fn refuse(target: Value, patch: Value, message: &str) {
        let mut found = target.clone();
        assert_eq!(apply(&mut found, &patch).unwrap_err().to_string(), message);
        assert_eq!(found, target, "a patch that fails changes nothing");
    }

    #[test]
    fn examples_of_the_standard() {
        check(
            json!({"foo": "bar"}),
            json!([{"op": "add", "path": "/baz", "value": "qux"}]),
            json!({"baz": "qux", "foo": "bar"}),
        );
        check(
            json!({"foo": ["bar", "baz"]}),
            json!([{"op": "add", "path": "/foo/1", "value": "qux"}]),
            json!({"foo": ["bar", "qux", "baz"]}),
        );
        check(
            json!({"foo": [1]}),
            json!([{"op": "add", "path": "/foo/-", "value": 2}]),
            json!({"foo": [1, 2]}),
        );
        check(json!({"baz": 1, "foo": 2}), json!([{"op": "remove", "path": "/baz"}]), json!({"foo": 2}));
        check(json!({"foo": [1, 2, 3]}), json!([{"op": "remove", "path": "/foo/1"}]), json!({"foo": [1, 3]}));
        check(json!({"foo": 1}), json!([{"op": "replace", "path": "/foo", "value": 2}]), json!({"foo": 2}));
        check(
            json!({"a": {"b": 1}, "c": {}}),
            json!([{"op": "move", "from": "/a/b", "path": "/c/d"}]),
            json!({"a": {}, "c": {"d": 1}}),
        );
        check(
            json!({"a": [1, 2, 3, 4]}),
            json!([{"op": "move", "from": "/a/1", "path": "/a/3"}]),
            json!({"a": [1, 3, 4, 2]}),
        );
        check(json!({"a": 1}), json!([{"op": "copy", "from": "/a", "path": "/b"}]), json!({"a": 1, "b": 1}));
        check(
            json!({"a": 1}),
            json!([{"op": "test", "path": "/a", "value": 1.0}, {"op": "add", "path": "/b", "value": null}]),
            json!({"a": 1, "b": null}),
        );
        check(
            json!({"a/b": 1, "c~d": 2}),
            json!([{"op": "remove", "path": "/a~1b"}, {"op": "remove", "path": "/c~0d"}]),
            json!({}),
        );
        check(json!({"a": 1}), json!([{"op": "replace", "path": "", "value": [1]}]), json!([1]));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let one = || json!({"a": {"b": 1}, "l": [1]});
        let unfit = |operation: &str, path: &str| {
            format!("{operation} operation does not apply: doc is missing path: {path}: missing value")
        };
        refuse(one(), json!([{"op": "remove", "path": "/x"}]), &unfit("remove", "/x"));
        refuse(one(), json!([{"op": "replace", "path": "/x/y", "value": 1}]), &unfit("replace", "/x/y"));
        refuse(one(), json!([{"op": "add", "path": "/l/2", "value": 1}]), &unfit("add", "/l/2"));
        refuse(one(), json!([{"op": "add", "path": "/l/01", "value": 1}]), &unfit("add", "/l/01"));
        refuse(
            one(),
            json!([{"op": "test", "path": "/a/b", "value": 2}]),
            "testing value /a/b failed: test failed",
        );
        refuse(
            one(),
            json!([{"op": "move", "from": "/a", "path": "/a/c"}]),
            "move operation into itself: /a/c",
        );
        refuse(one(), json!([{"op": "what", "path": "/a"}]), "Unexpected kind: what");
        refuse(one(), json!([{"op": "add", "path": "/z"}]), "add operation has no value");
        refuse(one(), json!([{"op": "add", "path": "z", "value": 1}]), "invalid JSON pointer: z");
        refuse(one(), json!({}), "a JSON patch is a list of operations");
        // All or nothing.
        refuse(
            one(),
            json!([{"op": "remove", "path": "/a"}, {"op": "remove", "path": "/a"}]),
            &unfit("remove", "/a"),
        );
    }

    #[test]
    fn patches_cannot_grow_an_object_without_end() {
        let mut target = json!({"a": "x".repeat(1000)});
        let operations: Vec<Value> =
            (0..40).map(|n| json!({"op": "copy", "from": "", "path": format!("/c{n}")})).collect();
        assert!(matches!(apply(&mut target, &Value::from(operations)), Err(PatchError::TooLarge(_))));
        let many = vec![json!({"op": "test", "path": "/b"}); MAX_OPERATIONS + 1];
        assert!(matches!(apply(&mut target, &Value::from(many)), Err(PatchError::TooLarge(_))));
    }

    #[test]
    fn patches_cannot_nest_an_object_without_end() {
        let message = format!("the patched object would be nested deeper than {MAX_DEPTH} levels");
        // Each copy puts all that there is below its own deepest object.
        let doubled = (0..10).map(|times| json!({"op": "copy", "from": "", "path": "/a".repeat(1 << times)}));
        refuse(json!({}), doubled.collect(), &message);
        let pointer = "/a".repeat(MAX_DEPTH + 1);
        refuse(
            json!({}),
            json!([{"op": "remove", "path": pointer}]),
            &format!("a JSON pointer may have {MAX_DEPTH} parts at most"),
        );
        let deepest = (1..MAX_DEPTH).fold(json!({}), |inner, _| json!({"a": inner}));
        for operation in ["add", "replace"] {
            let patch = json!([{"op": operation, "path": "/x", "value": deepest}]);
            refuse(json!({"x": {}}), patch, &message);
        }
        refuse(deepest.clone(), json!([{"op": "copy", "from": "", "path": "/x"}]), &message);
        let target = json!({"x": {}, "y": deepest["a"]});
        refuse(target, json!([{"op": "move", "from": "/y", "path": "/x/y"}]), &message);
        check(deepest.clone(), json!([{"op": "copy", "from": "/a", "path": "/b"}]), {
            let mut expected = deepest.clone();
            expected["b"] = deepest["a"].clone();
            expected
        });
    }

    proptest! {
        #[test]
        fn any_patch_is_applied_or_changes_nothing(
            target in tree(),
            operations in prop::collection::vec(
                ("add|remove|replace|move|copy|test|x", "(/[a-c0-2~-]{0,2}){0,3}", "(/[a-c0-2]{0,2}){0,3}", tree()), 0..4),
        ) {
            let patch: Vec<Value> = operations.into_iter()
                .map(|(op, path, from, value)| json!({"op": op, "path": path, "from": from, "value": value})).collect();
            let mut found = target.clone();
            if apply(&mut found, &Value::from(patch)).is_err() {
                prop_assert_eq!(found, target);
            }
        }

        #[test]
        fn what_was_added_can_be_removed(mut target in prop::collection::btree_map("[a-c]{1,2}", tree(), 0..3), value in tree()) {
            target.remove("new");
            let target = Value::Object(target.into_iter().collect());
            let mut found = target.clone();
            apply(&mut found, &json!([{"op": "add", "path": "/new", "value": value}, {"op": "test", "path": "/new", "value": value}])).unwrap();
            apply(&mut found, &json!([{"op": "remove", "path": "/new"}])).unwrap();
            prop_assert_eq!(found, target);
        }
    }
}
