//! Small steps on object trees that every strategy takes.

use serde_json::{Map, Value};

/// The value at a path of field names.
pub(crate) fn at<'a>(tree: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(tree, |value, name| value.get(*name))
}

/// The text at a path; empty if there is none.
pub(crate) fn text<'a>(tree: &'a Value, path: &[&str]) -> &'a str {
    at(tree, path).and_then(Value::as_str).unwrap_or_default()
}

/// The whole number at a path.
pub(crate) fn number(tree: &Value, path: &[&str]) -> Option<i64> {
    at(tree, path).and_then(Value::as_i64)
}

/// Whether true is at a path.
pub(crate) fn is_true(tree: &Value, path: &[&str]) -> bool {
    at(tree, path).and_then(Value::as_bool).unwrap_or_default()
}

/// The items of the list at a path; none if there is no list.
pub(crate) fn items<'a>(tree: &'a Value, path: &[&str]) -> &'a [Value] {
    at(tree, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The entries of the object at a path; none if there is no object.
pub(crate) fn entries<'a>(tree: &'a Value, path: &[&str]) -> impl Iterator<Item = (&'a String, &'a Value)> {
    at(tree, path).and_then(Value::as_object).into_iter().flatten()
}

/// The object at a name, made if it is absent or something else.
pub(crate) fn object<'a>(tree: &'a mut Value, name: &str) -> &'a mut Map<String, Value> {
    fill(map(tree).entry(name).or_insert_with(|| Value::Object(Map::new())))
}

/// The tree as an object; made one if it is something else.
pub(crate) fn map(tree: &mut Value) -> &mut Map<String, Value> {
    fill(tree)
}

fn fill(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        // Made an object two lines above; a static empty one would not be mutable.
        _ => unreachable!("just made an object"),
    }
}

/// The existing object at a path, to be changed.
pub(crate) fn at_mut<'a>(tree: &'a mut Value, path: &[&str]) -> Option<&'a mut Value> {
    path.iter().try_fold(tree, |value, name| value.get_mut(*name))
}

/// The items of the existing list at a path, to be changed.
pub(crate) fn items_mut<'a>(tree: &'a mut Value, path: &[&str]) -> &'a mut [Value] {
    at_mut(tree, path).and_then(Value::as_array_mut).map_or(&mut [], Vec::as_mut_slice)
}

/// Sets an absent field.
pub(crate) fn default(tree: &mut Value, name: &str, value: impl Into<Value>) {
    if let Value::Object(map) = tree
        && !map.contains_key(name)
    {
        map.insert(name.to_owned(), value.into());
    }
}

/// Sets an absent field, or one that holds empty text.
pub(crate) fn default_text(tree: &mut Value, name: &str, value: &str) {
    if let Value::Object(map) = tree
        && map.get(name).and_then(Value::as_str).is_none_or(str::is_empty)
    {
        map.insert(name.to_owned(), value.into());
    }
}

/// Makes the field `name` of `tree` what it is in `from`, absent if it is absent there.
pub(crate) fn copy(tree: &mut Value, from: &Value, name: &str) {
    match from.get(name) {
        Some(value) => {
            map(tree).insert(name.to_owned(), value.clone());
        }
        None => {
            map(tree).remove(name);
        }
    }
}

/// Takes fields of an object away that upstream has behind a gate which is shut, but for those that are there already.
pub(crate) fn shut(tree: &mut Value, old: Option<&Value>, holder: &[&str], names: &[&str]) {
    let kept = old.and_then(|old| at(old, holder));
    let Some(holder) = at_mut(tree, holder).and_then(Value::as_object_mut) else { return };
    for name in names {
        if kept.and_then(|kept| kept.get(name)).is_none() {
            holder.remove(*name);
        }
    }
}

/// Whether both say the same: an empty list says no more than an absent one.
pub(crate) fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    let says_nothing =
        |value: &Value| value.is_null() || value.as_array().is_some_and(|items| items.is_empty());
    match (a.filter(|a| !says_nothing(a)), b.filter(|b| !says_nothing(b))) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            a.iter().all(|(name, value)| same(Some(value), b.get(name)))
                && b.iter().all(|(name, value)| a.contains_key(name) || same(None, Some(value)))
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(Some(a), Some(b)))
        }
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_empty_list_is_no_list_but_an_empty_object_is_one() {
        let check = |a: Value, b: Value, expected: bool| {
            assert_eq!(same(Some(&a), Some(&b)), expected, "{a} {b}");
            assert_eq!(same(Some(&b), Some(&a)), expected, "{b} {a}");
        };
        check(json!({"a": [], "b": 1}), json!({"b": 1}), true);
        check(json!({"a": [{"c": []}]}), json!({"a": [{}]}), true);
        check(json!({"a": [1]}), json!({"a": [2]}), false);
        check(json!({"a": [1]}), json!({"a": [1, 2]}), false);
        check(json!({"emptyDir": {}}), json!({}), false);
        assert!(same(None, Some(&json!([]))));
    }
}
