//! Small steps on object trees.

use auth::node::Referenced;
use serde_json::{Map, Value};

/// The value at a path of field names.
pub(crate) fn at<'a>(tree: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(tree, |value, name| value.get(*name))
}

/// The text at a path; empty if there is none.
pub(crate) fn text<'a>(tree: &'a Value, path: &[&str]) -> &'a str {
    at(tree, path).and_then(Value::as_str).unwrap_or_default()
}

/// The items of the list at a path; none if there is no list.
pub(crate) fn items<'a>(tree: &'a Value, path: &[&str]) -> &'a [Value] {
    at(tree, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The entries of the object at a path; none if there is no object.
pub(crate) fn entries<'a>(tree: &'a Value, path: &[&str]) -> impl Iterator<Item = (&'a String, &'a Value)> {
    at(tree, path).and_then(Value::as_object).into_iter().flatten()
}

/// Sets a field of `spec`. An object without one is left alone: its kind's validation refuses it.
pub(crate) fn set_spec(object: &mut Value, name: &str, value: impl Into<Value>) {
    if let Some(Value::Object(spec)) = object.get_mut("spec") {
        spec.insert(name.to_owned(), value.into());
    }
}

/// The list in `spec`, made if it is absent.
pub(crate) fn spec_list<'a>(object: &'a mut Value, name: &str) -> Option<&'a mut Vec<Value>> {
    let spec = object.get_mut("spec")?.as_object_mut()?;
    spec.entry(name).or_insert_with(|| Value::Array(Vec::new())).as_array_mut()
}

/// The map in `spec`, made if it is absent.
pub(crate) fn spec_map<'a>(object: &'a mut Value, name: &str) -> Option<&'a mut Map<String, Value>> {
    let spec = object.get_mut("spec")?.as_object_mut()?;
    spec.entry(name).or_insert_with(|| Value::Object(Map::new())).as_object_mut()
}

/// Whether the pod refers to an object of that kind.
pub(crate) fn refers_to(pod: &Value, kind: Referenced) -> bool {
    auth::node::references(pod).iter().any(|(found, _)| *found == kind)
}

/// Whether the pod stands for one that a kubelet runs from a file of its own.
pub(crate) fn is_mirror(pod: &Value) -> bool {
    apimachinery::meta::annotation(pod, "kubernetes.io/config.mirror").is_some()
}
