//! RuntimeClasses.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::dns1123_label;
use jiff::Timestamp;
use serde_json::Value;

use crate::kind::Column;
use crate::strategy::{Builtin, Rules, Strategy};
use crate::table;
use crate::tree::text;

struct RuntimeClass;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("node.k8s.io", "v1", "RuntimeClass"),
        rules: Rules { unconditional_update: false, ..Rules::default() },
        fields: Vec::new(),
        subresources: Vec::new(),
        scale: None,
        columns: Column::parse(&["Name", "Handler", "Age"]),
        strategy: Arc::new(RuntimeClass),
    }
}

impl Strategy for RuntimeClass {
    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let handler = text(object, &["handler"]);
        for why in dns1123_label(handler) {
            errors.push(FieldError::invalid(&Path::new("handler"), handler, why));
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        let handler = text(object, &["handler"]);
        if handler != text(old, &["handler"]) {
            errors.push(FieldError::invalid(&Path::new("handler"), handler, "field is immutable"));
        }
        self.validate(object, errors);
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![table::name(object), text(object, &["handler"]).into(), table::age(object, now)]
    }
}
