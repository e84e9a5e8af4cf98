//! Lists that are sets or maps: no item twice.

use std::collections::{HashMap, HashSet};

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

/// Which items of an older list are the same as those of a newer one. Only the items of a list of type map have such
/// counterparts; other lists stayed as they were as a whole, or did not.
pub(super) struct Counterparts<'a> {
    schema: &'a Schema,
    by_key: HashMap<String, &'a Value>,
}

impl<'a> Counterparts<'a> {
    pub(super) fn new(schema: &'a Schema, old: &'a [Value]) -> Option<Self> {
        let by_key = || old.iter().map(|item| (key_text(schema, item), item)).collect();
        (schema.list_type == Some(ListType::Map)).then(|| Self { schema, by_key: by_key() })
    }

    /// The counterpart of an item.
    pub(super) fn of(&self, item: &Value) -> Option<&'a Value> {
        self.by_key.get(&key_text(self.schema, item)).copied()
    }
}

fn key_text(schema: &Schema, item: &Value) -> String {
    Value::Object(key_of(schema, item)).to_string()
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
