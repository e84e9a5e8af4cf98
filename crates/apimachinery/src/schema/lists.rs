//! Lists that are sets or maps: no item twice.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{ListType, Ref, Schema};
use crate::field::{ErrorList, FieldError, Path};

/// What is wrong with a list as the set or map that it is.
pub(super) fn check(schema: &Schema, items: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen = HashSet::with_capacity(items.len());
    match schema.list_type {
        None | Some(ListType::Atomic) => {}
        Some(ListType::Set) => {
            for (index, item) in items.iter().enumerate() {
                // Canonical text: keys are sorted.
                if !seen.insert(item.to_string()) {
                    errors.push(FieldError::duplicate(&path.index(index), item.clone()));
                }
            }
        }
        Some(ListType::Map) => {
            for (index, item) in items.iter().enumerate() {
                let key = Value::Object(key_of(schema, item));
                if !seen.insert(key.to_string()) {
                    errors.push(FieldError::duplicate(&path.index(index), key));
                }
            }
        }
    }
}

/// The item of an older list that is the same one, by the list's keys.
pub(super) fn counterpart<'v>(schema: &Schema, old: &'v [Value], item: &Value) -> Option<&'v Value> {
    match schema.list_type {
        Some(ListType::Map) => {
            let key = key_of(schema, item);
            old.iter().find(|candidate| key_of(schema, candidate) == key)
        }
        _ => old.iter().find(|candidate| *candidate == item),
    }
}

/// The values of the list's keys; where an item has none, the default counts.
fn key_of(schema: &Schema, item: &Value) -> Map<String, Value> {
    let default =
        |name: &str| schema.items.as_ref().map(Ref::get)?.property(name)?.schema.get().default_value();
    let entries = schema.list_map_keys.iter().filter_map(|name| {
        let value = item.get(name.as_ref()).or_else(|| default(name))?;
        Some((name.clone().into_owned(), value.clone()))
    });
    entries.collect()
}
