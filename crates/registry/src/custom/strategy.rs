//! The strategy of all custom resources: what their definition says.

use apimachinery::field::{FieldError, Path};
use apimachinery::schema::Ref;
use jiff::Timestamp;
use serde_json::Value;

use super::columns::Printer;
use crate::strategy::Strategy;
use crate::tree::map;

/// One version of a custom resource.
pub(super) struct Custom {
    pub(super) schema: Option<Ref>,
    pub(super) printers: Vec<Printer>,
}

impl Strategy for Custom {
    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        if let Some(schema) = &self.schema {
            errors.extend(schema.get().validate(object, None, &Path::empty()));
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        if let Some(schema) = &self.schema {
            errors.extend(schema.get().validate(object, Some(old), &Path::empty()));
        }
    }

    fn validate_status(&self, object: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        self.validate_update(object, old, errors);
    }

    /// What comes from another version is pruned and defaulted by this one's schema.
    fn restore(&self, object: &mut Value) {
        let Some(schema) = &self.schema else { return };
        let metadata = map(object).remove("metadata");
        schema.get().prune(object);
        schema.get().apply_defaults(object);
        if let Some(metadata) = metadata {
            map(object).insert("metadata".into(), metadata);
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let name = crate::table::name(object);
        std::iter::once(name).chain(self.printers.iter().map(|printer| printer.cell(object, now))).collect()
    }
}
