//! Reading and editing the metadata of an object as it lies in its tree.

pub mod names;
mod validate;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::gvk::{GroupVersionError, GroupVersionKind};
use crate::time;
pub use validate::{
    MAX_ANNOTATION_BYTES, NameRule, validate, validate_annotations, validate_labels, validate_update,
};

/// An owner of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnerReference<'a> {
    /// Its apiVersion.
    pub api_version: &'a str,
    /// Its kind.
    pub kind: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its uid.
    pub uid: &'a str,
    /// Whether it is the one that manages the object.
    pub controller: bool,
    /// Whether it may not go before the object does.
    pub block_owner_deletion: bool,
}

macro_rules! text_fields {
    ($($(#[$doc:meta])* $get:ident = $key:literal;)*) => {
        $(
            $(#[$doc])*
            pub fn $get(object: &Value) -> &str {
                text(object, $key)
            }
        )*
    };
}

text_fields! {
    /// `metadata.name`, or empty.
    name = "name";
    /// `metadata.generateName`, or empty.
    generate_name = "generateName";
    /// `metadata.namespace`, or empty.
    namespace = "namespace";
    /// `metadata.uid`, or empty.
    uid = "uid";
    /// `metadata.resourceVersion`, or empty.
    resource_version = "resourceVersion";
    /// `metadata.creationTimestamp` as text, or empty.
    creation_timestamp_text = "creationTimestamp";
    /// `metadata.deletionTimestamp` as text, or empty.
    deletion_timestamp_text = "deletionTimestamp";
}

/// `metadata`, if the object has any.
pub fn metadata(object: &Value) -> Option<&Map<String, Value>> {
    object.get("metadata")?.as_object()
}

/// `metadata`, made where the object has none. Anything else that stands in its place is replaced.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    let root = as_object(object);
    as_object(root.entry("metadata").or_insert_with(|| Value::Object(Map::new())))
}

fn as_object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("it has just been made an object"),
    }
}

fn field<'a>(object: &'a Value, key: &str) -> Option<&'a Value> {
    metadata(object)?.get(key)
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    field(object, key).and_then(Value::as_str).unwrap_or_default()
}

/// `apiVersion`, or empty.
pub fn api_version(object: &Value) -> &str {
    object.get("apiVersion").and_then(Value::as_str).unwrap_or_default()
}

/// `kind`, or empty.
pub fn kind(object: &Value) -> &str {
    object.get("kind").and_then(Value::as_str).unwrap_or_default()
}

/// The object's group, version and kind.
///
/// # Errors
/// When `apiVersion` is malformed.
pub fn gvk(object: &Value) -> Result<GroupVersionKind, GroupVersionError> {
    GroupVersionKind::parse(api_version(object), kind(object))
}

/// `namespace/name`, or `name` without a namespace.
pub fn key(object: &Value) -> String {
    match (namespace(object), name(object)) {
        ("", name) => name.to_owned(),
        (namespace, name) => format!("{namespace}/{name}"),
    }
}

/// `metadata.labels`, if there are any.
pub fn labels(object: &Value) -> Option<&Map<String, Value>> {
    field(object, "labels")?.as_object()
}

/// One label.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    labels(object)?.get(key)?.as_str()
}

/// `metadata.labels`, made where there are none.
pub fn labels_mut(object: &mut Value) -> &mut Map<String, Value> {
    child_mut(object, "labels")
}

/// `metadata.annotations`, if there are any.
pub fn annotations(object: &Value) -> Option<&Map<String, Value>> {
    field(object, "annotations")?.as_object()
}

/// One annotation.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    annotations(object)?.get(key)?.as_str()
}

/// `metadata.annotations`, made where there are none.
pub fn annotations_mut(object: &mut Value) -> &mut Map<String, Value> {
    child_mut(object, "annotations")
}

fn child_mut<'a>(object: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    as_object(metadata_mut(object).entry(key).or_insert_with(|| Value::Object(Map::new())))
}

/// `metadata.finalizers`.
pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    list(object, "finalizers").iter().filter_map(Value::as_str)
}

/// Whether something still has to be done before the object may go.
pub fn has_finalizers(object: &Value) -> bool {
    finalizers(object).next().is_some()
}

/// Sets `metadata.finalizers`; none removes the field.
pub fn set_finalizers<S: Into<String>>(object: &mut Value, finalizers: impl IntoIterator<Item = S>) {
    let items: Vec<Value> = finalizers.into_iter().map(|name| Value::String(name.into())).collect();
    set_list(object, "finalizers", items);
}

/// Adds a finalizer; false if it was there.
pub fn add_finalizer(object: &mut Value, name: &str) -> bool {
    if finalizers(object).any(|known| known == name) {
        return false;
    }
    let mut all: Vec<String> = finalizers(object).map(str::to_owned).collect();
    all.push(name.to_owned());
    set_finalizers(object, all);
    true
}

/// Takes a finalizer away; false if it was not there.
pub fn remove_finalizer(object: &mut Value, name: &str) -> bool {
    let all: Vec<String> = finalizers(object).map(str::to_owned).collect();
    let kept: Vec<String> = all.iter().filter(|known| *known != name).cloned().collect();
    let removed = kept.len() != all.len();
    if removed {
        set_finalizers(object, kept);
    }
    removed
}

fn list<'a>(object: &'a Value, key: &str) -> &'a [Value] {
    field(object, key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn set_list(object: &mut Value, key: &str, items: Vec<Value>) {
    let metadata = metadata_mut(object);
    if items.is_empty() {
        metadata.remove(key);
    } else {
        metadata.insert(key.to_owned(), Value::Array(items));
    }
}

/// `metadata.ownerReferences`.
pub fn owner_references(object: &Value) -> impl Iterator<Item = OwnerReference<'_>> {
    list(object, "ownerReferences").iter().map(|owner| {
        let text = |key: &str| owner.get(key).and_then(Value::as_str).unwrap_or_default();
        let flag = |key: &str| owner.get(key).and_then(Value::as_bool).unwrap_or_default();
        OwnerReference {
            api_version: text("apiVersion"),
            kind: text("kind"),
            name: text("name"),
            uid: text("uid"),
            controller: flag("controller"),
            block_owner_deletion: flag("blockOwnerDeletion"),
        }
    })
}

/// The owner that manages the object.
pub fn controller_of(object: &Value) -> Option<OwnerReference<'_>> {
    owner_references(object).find(|owner| owner.controller)
}

/// `metadata.generation`, or 0.
pub fn generation(object: &Value) -> i64 {
    field(object, "generation").and_then(Value::as_i64).unwrap_or_default()
}

/// Sets `metadata.generation`; 0 removes it.
pub fn set_generation(object: &mut Value, generation: i64) {
    set_number(object, "generation", (generation != 0).then_some(generation));
}

/// `metadata.deletionGracePeriodSeconds`.
pub fn deletion_grace_period(object: &Value) -> Option<i64> {
    field(object, "deletionGracePeriodSeconds")?.as_i64()
}

/// Sets or removes `metadata.deletionGracePeriodSeconds`.
pub fn set_deletion_grace_period(object: &mut Value, seconds: Option<i64>) {
    set_number(object, "deletionGracePeriodSeconds", seconds);
}

fn set_number(object: &mut Value, key: &str, value: Option<i64>) {
    let metadata = metadata_mut(object);
    match value {
        Some(value) => metadata.insert(key.to_owned(), Value::from(value)),
        None => metadata.remove(key),
    };
}

/// `metadata.creationTimestamp`.
pub fn creation_timestamp(object: &Value) -> Option<Timestamp> {
    time::parse(creation_timestamp_text(object)).ok()
}

/// `metadata.deletionTimestamp`.
pub fn deletion_timestamp(object: &Value) -> Option<Timestamp> {
    time::parse(deletion_timestamp_text(object)).ok()
}

/// Sets or removes `metadata.deletionTimestamp`.
pub fn set_deletion_timestamp(object: &mut Value, at: Option<Timestamp>) {
    let metadata = metadata_mut(object);
    match at {
        Some(at) => metadata.insert("deletionTimestamp".to_owned(), Value::String(time::format(at))),
        None => metadata.remove("deletionTimestamp"),
    };
}

/// Whether the object is on its way out.
pub fn is_deleting(object: &Value) -> bool {
    !deletion_timestamp_text(object).is_empty()
}
