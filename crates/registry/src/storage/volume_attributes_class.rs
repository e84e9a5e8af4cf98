//! VolumeAttributesClasses.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::{annotation, name};
use jiff::Timestamp;
use serde_json::Value;

use super::parameters;
use crate::checks::provisioner;
use crate::kind::Column;
use crate::strategy::{Builtin, Rules, Strategy};
use crate::table;
use crate::tree::text;

const IS_DEFAULT: &str = "volumeattributesclass.alpha.kubernetes.io/is-default-class";

struct VolumeAttributesClass;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("storage.k8s.io", "v1", "VolumeAttributesClass"),
        rules: Rules { shows_deleted: true, ..Rules::default() },
        fields: Vec::new(),
        subresources: Vec::new(),
        scale: None,
        columns: Column::parse(&["Name", "DriverName", "Age"]),
        strategy: Arc::new(VolumeAttributesClass),
    }
}

impl Strategy for VolumeAttributesClass {
    fn validate(&self, class: &Value, errors: &mut Vec<FieldError>) {
        provisioner(text(class, &["driverName"]), &Path::new("driverName"), errors);
        parameters::validate(class, false, errors);
    }

    fn validate_update(&self, class: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        for field in ["driverName", "parameters"] {
            parameters::kept(class, old, field, errors);
        }
        self.validate(class, errors);
    }

    fn cells(&self, class: &Value, now: Timestamp) -> Vec<Value> {
        let is_default = annotation(class, IS_DEFAULT) == Some("true");
        let shown = format!("{}{}", name(class), if is_default { " (default)" } else { "" });
        vec![shown.into(), text(class, &["driverName"]).into(), table::age(class, now)]
    }
}
