//! DeviceClasses: what administrators offer of the devices that there are.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use jiff::Timestamp;
use serde_json::Value;

use super::{lists, opaque, selector};
use crate::core::resource_names::is_extended;
use crate::kind::Column;
use crate::strategy::{Builtin, Generation, Rules, Strategy};
use crate::table;
use crate::tree::{at, items, object, same};

struct DeviceClass;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("resource.k8s.io", "v1", "DeviceClass"),
        rules: Rules { generation: Generation::Spec, shows_deleted: true, ..Rules::default() },
        fields: Vec::new(),
        subresources: Vec::new(),
        scale: None,
        columns: Column::parse(&["Name", "Age"]),
        strategy: Arc::new(DeviceClass),
    }
}

impl Strategy for DeviceClass {
    fn default(&self, class: &mut Value) {
        object(class, "spec");
    }

    fn validate(&self, class: &Value, errors: &mut Vec<FieldError>) {
        validate(class, None, errors);
    }

    fn validate_update(&self, class: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        validate(class, Some(old), errors);
    }

    fn cells(&self, class: &Value, now: Timestamp) -> Vec<Value> {
        vec![table::name(class), table::age(class, now)]
    }
}

/// What stays as it was counts as good, though it might not be taken any more.
fn validate(class: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let path = Path::new("spec");
    let stored = |field| old.is_some_and(|old| same(at(class, &["spec", field]), at(old, &["spec", field])));
    let selectors = items(class, &["spec", "selectors"]);
    selector::validate_all(selectors, stored("selectors"), &path.child("selectors"), errors);
    let (config, is_stored) = (items(class, &["spec", "config"]), stored("config"));
    lists::each(config, opaque::MAX_CONFIGURATIONS, &path.child("config"), errors, |config, path, errors| {
        opaque::validate(config, is_stored, path, errors);
    });
    let name = at(class, &["spec", "extendedResourceName"]).and_then(Value::as_str);
    if let Some(name) = name.filter(|name| !is_extended(name)) {
        let why = "must be a valid extended resource name";
        errors.push(FieldError::invalid(&path.child("extendedResourceName"), name, why));
    }
}
