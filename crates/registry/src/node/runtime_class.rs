//! RuntimeClasses.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::dns1123_label;
use jiff::Timestamp;
use serde_json::Value;

use super::scheduling;
use crate::checks::{invalid, quantity, required};
use crate::core::resource_names;
use crate::kind::Column;
use crate::strategy::{Builtin, Rules, Strategy};
use crate::table;
use crate::tree::{entries, text};

struct RuntimeClass;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("node.k8s.io", "v1", "RuntimeClass"),
        rules: Rules { unconditional_update: false, any_finalizer: true, ..Rules::default() },
        fields: Vec::new(),
        subresources: Vec::new(),
        scale: None,
        columns: Column::parse(&["Name", "Handler", "Age"]),
        strategy: Arc::new(RuntimeClass),
    }
}

impl Strategy for RuntimeClass {
    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        if required(object, "handler", &Path::empty(), errors) {
            let handler = text(object, &["handler"]);
            invalid(&Path::new("handler"), handler, dns1123_label(handler), errors);
        }
        validate_overhead(object, errors);
        scheduling::validate(object, errors);
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        let handler = text(object, &["handler"]);
        if handler != text(old, &["handler"]) {
            errors.push(FieldError::invalid(&Path::new("handler"), handler, "field is immutable"));
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![table::name(object), text(object, &["handler"]).into(), table::age(object, now)]
    }
}

/// What pods of the class take beside their containers. Upstream checks it as limits, and says so.
fn validate_overhead(object: &Value, errors: &mut Vec<FieldError>) {
    let overhead = Path::new("overhead");
    let limits = overhead.child("limits");
    for (name, amount) in entries(object, &["overhead", "podFixed"]) {
        let path = limits.key(name);
        resource_names::validate_of_containers(name, &path, errors);
        if let Some(amount) = quantity(amount) {
            resource_names::validate_amount(name, amount, &path, errors);
        }
    }
}
