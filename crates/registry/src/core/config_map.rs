//! ConfigMaps.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names;
use jiff::Timestamp;
use serde_json::Value;

use crate::kind::Column;
use crate::strategy::{Builtin, Rules, Strategy};
use crate::table;
use crate::tree::{at, entries, is_true};

/// Most bytes that one may hold, as of a Secret.
pub(crate) const MAX_BYTES: usize = 1 << 20;

struct ConfigMap;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("", "v1", "ConfigMap"),
        rules: Rules::default(),
        fields: Vec::new(),
        subresources: Vec::new(),
        scale: None,
        columns: Column::parse(&["Name", "Data:integer", "Age:date"]),
        strategy: Arc::new(ConfigMap),
    }
}

impl Strategy for ConfigMap {
    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let mut total = 0;
        for field in ["data", "binaryData"] {
            let path = Path::new(field);
            for (key, value) in entries(object, &[field]) {
                for why in names::config_key(key) {
                    errors.push(FieldError::invalid(&path.key(key), key.as_str(), why));
                }
                if field == "data" && at(object, &["binaryData", key]).is_some() {
                    let why = "duplicate of key present in binaryData";
                    errors.push(FieldError::invalid(&path.key(key), key.as_str(), why));
                }
                let text = value.as_str().map_or(0, str::len);
                total += if field == "data" { text } else { text / 4 * 3 };
            }
        }
        if total > MAX_BYTES {
            errors.push(FieldError::too_long(&Path::empty(), MAX_BYTES));
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        unchanged_if_immutable(object, old, &["data", "binaryData"], errors);
        self.validate(object, errors);
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let count = entries(object, &["data"]).count() + entries(object, &["binaryData"]).count();
        vec![table::name(object), count.into(), table::age(object, now)]
    }
}

/// What `immutable: true` forbids.
pub(crate) fn unchanged_if_immutable(
    object: &Value,
    old: &Value,
    fields: &[&str],
    errors: &mut Vec<FieldError>,
) {
    if !is_true(old, &["immutable"]) {
        return;
    }
    let why = "field is immutable when `immutable` is set";
    if !is_true(object, &["immutable"]) {
        errors.push(FieldError::forbidden(&Path::new("immutable"), why));
    }
    for field in fields {
        if object.get(*field) != old.get(*field) {
            errors.push(FieldError::forbidden(&Path::new(field), why));
        }
    }
}
