//! The strategy of all custom resources: what their definition says.

use apimachinery::field::{ErrorKind, FieldError, Path};
use apimachinery::schema::Ref;
use apimachinery::warnings::Warnings;
use jiff::Timestamp;
use serde_json::Value;

use super::columns::Printer;
use super::rules::RuleSet;
use crate::strategy::Strategy;
use crate::tree::map;

/// One version of a custom resource.
pub(super) struct Custom {
    pub(super) schema: Option<Ref>,
    /// Its rules in CEL, if it has any.
    pub(super) rules: Option<RuleSet>,
    pub(super) printers: Vec<Printer>,
}

/// Findings after which values may be of types or sizes that no rule was compiled for.
const BLOCKING: [ErrorKind; 5] = [
    ErrorKind::NotSupported,
    ErrorKind::Required,
    ErrorKind::TooLong,
    ErrorKind::TooMany,
    ErrorKind::TypeInvalid,
];

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

    fn validate_rules(
        &self,
        object: &Value,
        old: Option<&Value>,
        errors: &mut Vec<FieldError>,
        warnings: &Warnings,
    ) {
        let Some(rules) = &self.rules else { return };
        if errors.iter().any(|error| BLOCKING.contains(&error.kind)) {
            let detail = "some validation rules were not checked because the object was invalid; correct the existing \
                          errors to complete validation";
            let mut blocked = FieldError::invalid(&Path::empty(), Value::Null, detail);
            "<nil>".clone_into(&mut blocked.field);
            errors.push(blocked);
            return;
        }
        rules.check(object, old, errors, warnings);
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
