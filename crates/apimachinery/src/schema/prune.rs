//! Fields that a schema does not know: finding and removing them.

use serde_json::Value;

use super::{MAX_REPORTED_FIELDS, Ref, Schema};
use crate::field::Path;

/// What an embedded resource has besides what its schema says.
const ENVELOPE: [&str; 3] = ["apiVersion", "kind", "metadata"];

impl Schema {
    /// The paths of fields that the schema does not know, at most [`MAX_REPORTED_FIELDS`], in order.
    pub fn unknown_fields(&self, tree: &Value) -> Vec<String> {
        let mut found = Vec::new();
        self.find_unknown(tree, &Path::empty(), false, &mut found);
        found
    }

    /// Removes fields that the schema does not know, and names them as [`Schema::unknown_fields`] does.
    pub fn prune(&self, tree: &mut Value) -> Vec<String> {
        let found = self.unknown_fields(tree);
        if !found.is_empty() {
            self.remove_unknown(tree, false);
        }
        found
    }

    /// Whether the field is there because the node is a whole object of its own.
    fn is_envelope(&self, name: &str) -> bool {
        self.embedded_resource && ENVELOPE.contains(&name)
    }

    fn find_unknown(&self, tree: &Value, path: &Path<'_>, inherited: bool, found: &mut Vec<String>) {
        let preserve = inherited || self.preserve_unknown;
        match tree {
            Value::Object(map) => {
                for (name, value) in map {
                    if let Some(child) = self.child(name) {
                        child.find_unknown(value, &path.child(name), false, found);
                    } else if !preserve && !self.is_envelope(name) {
                        if found.len() == MAX_REPORTED_FIELDS {
                            return;
                        }
                        found.push(path.child(name).to_string());
                    }
                }
            }
            Value::Array(items) => {
                if let Some(schema) = self.items.as_ref().map(Ref::get) {
                    for (index, item) in items.iter().enumerate() {
                        schema.find_unknown(item, &path.index(index), preserve, found);
                    }
                }
            }
            _ => {}
        }
    }

    fn remove_unknown(&self, tree: &mut Value, inherited: bool) {
        let preserve = inherited || self.preserve_unknown;
        match tree {
            Value::Object(map) => {
                if !preserve {
                    map.retain(|name, _| self.child(name).is_some() || self.is_envelope(name));
                }
                for (name, value) in map.iter_mut() {
                    if let Some(child) = self.child(name) {
                        child.remove_unknown(value, false);
                    }
                }
            }
            Value::Array(items) => {
                if let Some(schema) = self.items.as_ref().map(Ref::get) {
                    for item in items {
                        schema.remove_unknown(item, preserve);
                    }
                }
            }
            _ => {}
        }
    }
}
