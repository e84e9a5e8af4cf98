//! Defaults and nulls of custom kinds.

use serde_json::Value;

use super::{Ref, Schema};

impl Schema {
    /// Fills in the defaults of absent fields, and of null ones that may not be null.
    pub fn apply_defaults(&self, tree: &mut Value) {
        match tree {
            Value::Object(map) => {
                for property in &self.properties {
                    let schema = property.schema.get();
                    let Some(default) = schema.default_value() else { continue };
                    match map.get_mut(property.name.as_ref()) {
                        None => {
                            map.insert(property.name.clone().into_owned(), default.clone());
                        }
                        Some(value) if value.is_null() && !schema.nullable => *value = default.clone(),
                        Some(_) => {}
                    }
                }
                for (name, value) in map.iter_mut() {
                    if let Some(property) = self.property(name) {
                        property.schema.get().apply_defaults(value);
                    } else if let Some(schema) = self.additional.as_ref().map(Ref::get) {
                        replace_null(schema, value);
                        schema.apply_defaults(value);
                    }
                }
            }
            Value::Array(items) => {
                if let Some(schema) = self.items.as_ref().map(Ref::get) {
                    for item in items {
                        replace_null(schema, item);
                        schema.apply_defaults(item);
                    }
                }
            }
            _ => {}
        }
    }

    /// Removes null fields that may not be null and have no default, as upstream does before it fills in defaults.
    pub fn prune_nulls(&self, tree: &mut Value) {
        match tree {
            Value::Object(map) => {
                let doomed = |schema: &Schema| !schema.nullable && schema.default_value().is_none();
                map.retain(|name, value| {
                    !value.is_null()
                        || self.property(name).is_none_or(|property| !doomed(property.schema.get()))
                });
                for (name, value) in map.iter_mut() {
                    if let Some(child) = self.child(name) {
                        child.prune_nulls(value);
                    }
                }
            }
            Value::Array(items) => {
                if let Some(schema) = self.items.as_ref().map(Ref::get) {
                    items.iter_mut().for_each(|item| schema.prune_nulls(item));
                }
            }
            _ => {}
        }
    }
}

fn replace_null(schema: &Schema, value: &mut Value) {
    if let (true, false, Some(default)) = (value.is_null(), schema.nullable, schema.default_value()) {
        *value = default.clone();
    }
}
