//! ReplicaSets.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{selector_is_readable, selector_is_unchanged};
use crate::cache::Field;
use crate::core::template;
use crate::kind::Column;
use crate::strategy::{Builtin, Generation, Rules, Scale, Strategy};
use crate::table;
use crate::tree::{default, number, object};

struct ReplicaSet;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("apps", "v1", "ReplicaSet"),
        rules: Rules { generation: Generation::Spec, status: true, ..Rules::default() },
        fields: vec![Field::from("status.replicas", &["status.replicas"], "0")],
        subresources: vec![table::scale(), table::status("ReplicaSet")],
        scale: Some(Scale::of_workload()),
        columns: Column::parse(&[
            "Name",
            "Desired:integer",
            "Current:integer",
            "Ready:integer",
            "Age",
            "Containers+",
            "Images+",
            "Selector+",
        ]),
        strategy: Arc::new(ReplicaSet),
    }
}

impl Strategy for ReplicaSet {
    fn default(&self, set: &mut Value) {
        object(set, "spec");
        if let Some(spec) = set.get_mut("spec") {
            object(spec, "template");
        }
        template::default(set);
        if let Some(spec) = set.get_mut("spec") {
            default(spec, "replicas", 1);
        }
    }

    fn prepare_create(&self, set: &mut Value) {
        object(set, "status").insert("replicas".into(), json!(0));
    }

    fn validate(&self, set: &Value, errors: &mut Vec<FieldError>) {
        let spec = Path::new("spec");
        for field in ["replicas", "minReadySeconds"] {
            template::not_negative(set, &["spec", field], &spec.child(field), errors);
        }
        template::validate(set, errors);
        selector_is_readable(set, "invalid label selector", errors);
    }

    fn validate_update(&self, set: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        self.validate(set, errors);
        selector_is_unchanged(set, old, errors);
    }

    fn validate_status(&self, set: &Value, _old: &Value, errors: &mut Vec<FieldError>) {
        let status = Path::new("status");
        let all = number(set, &["status", "replicas"]).unwrap_or_default();
        for field in ["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas"] {
            template::not_negative(set, &["status", field], &status.child(field), errors);
            let count = number(set, &["status", field]).unwrap_or_default();
            if count > all {
                errors.push(FieldError::invalid(
                    &status.child(field),
                    count,
                    "cannot be greater than status.replicas",
                ));
            }
        }
    }

    fn warnings(&self, set: &Value) -> Vec<String> {
        template::name_warning(set).into_iter().chain(template::spec_warnings(set)).collect()
    }

    fn cells(&self, set: &Value, now: Timestamp) -> Vec<Value> {
        let count = |path: &[&str]| Value::from(number(set, path).unwrap_or_default());
        let mut cells = vec![
            table::name(set),
            count(&["spec", "replicas"]),
            count(&["status", "replicas"]),
            count(&["status", "readyReplicas"]),
            table::age(set, now),
        ];
        cells.extend(template::wide_cells(set));
        cells
    }
}
