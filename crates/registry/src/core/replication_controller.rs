//! ReplicationControllers.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::selector::Selector;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::template;
use crate::cache::Field;
use crate::kind::Column;
use crate::strategy::{Builtin, Generation, Rules, Scale, Strategy};
use crate::table;
use crate::tree::{at, default, entries, map, number, object};

const COUNTS: [&str; 5] =
    ["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration"];

struct ReplicationController;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("", "v1", "ReplicationController"),
        rules: Rules { generation: Generation::Spec, status: true, orphans: true, ..Rules::default() },
        fields: vec![Field::from("status.replicas", &["status.replicas"], "0")],
        subresources: vec![table::scale(), table::status("ReplicationController")],
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
        strategy: Arc::new(ReplicationController),
    }
}

impl Strategy for ReplicationController {
    fn default(&self, controller: &mut Value) {
        let labels = at(controller, &["spec", "template", "metadata", "labels"]).cloned();
        template::default(controller);
        object(controller, "spec");
        let is_empty = |value: &Value, path: &[&str]| entries(value, path).next().is_none();
        if let Some(labels) = labels {
            if is_empty(controller, &["spec", "selector"]) {
                object(controller, "spec").insert("selector".into(), labels.clone());
            }
            if is_empty(controller, &["metadata", "labels"]) {
                object(controller, "metadata").insert("labels".into(), labels);
            }
        }
        if let Some(spec) = controller.get_mut("spec") {
            default(spec, "replicas", 1);
        }
    }

    fn prepare_create(&self, controller: &mut Value) {
        map(controller).insert("status".into(), json!({"replicas": 0}));
    }

    fn validate(&self, controller: &Value, errors: &mut Vec<FieldError>) {
        let spec = Path::new("spec");
        let not_negative = |field: &str, errors: &mut Vec<FieldError>| {
            template::not_negative(controller, &["spec", field], &spec.child(field), errors);
        };
        not_negative("minReadySeconds", errors);
        let selector = at(controller, &["spec", "selector"]).and_then(Value::as_object);
        if selector.is_none_or(serde_json::Map::is_empty) {
            errors.push(FieldError::required(&spec.child("selector"), ""));
        }
        not_negative("replicas", errors);
        let path = spec.child("template");
        let Some(template) = at(controller, &["spec", "template"]) else {
            errors.push(FieldError::required(&path, ""));
            return;
        };
        if selector.is_some_and(|selector| !selector.is_empty()) {
            template::is_selected(&Selector::from_map(selector), template, &path, errors);
        }
        template::validate_template(template, &path, errors);
        template::runs_always(template, &path, errors);
        if at(template, &["spec", "activeDeadlineSeconds"]).is_some() {
            let pod = path.child("spec");
            let why = "activeDeadlineSeconds in ReplicationController is not Supported";
            errors.push(FieldError::forbidden(&pod.child("activeDeadlineSeconds"), why));
        }
    }

    fn validate_status(&self, controller: &Value, _old: &Value, errors: &mut Vec<FieldError>) {
        template::counts(controller, &COUNTS, errors);
        let status = Path::new("status");
        let count = |field: &str| number(controller, &["status", field]).unwrap_or_default();
        let mut at_most = |field: &str, most: &str, why: &str| {
            if count(field) > count(most) {
                errors.push(FieldError::invalid(&status.child(field), count(field), why));
            }
        };
        for field in &COUNTS[1..4] {
            at_most(field, "replicas", "cannot be greater than status.replicas");
        }
        at_most("availableReplicas", "readyReplicas", "cannot be greater than readyReplicas");
    }

    fn warnings(&self, controller: &Value) -> Vec<String> {
        template::name_warning(controller).into_iter().chain(template::spec_warnings(controller)).collect()
    }

    fn cells(&self, controller: &Value, now: Timestamp) -> Vec<Value> {
        let count = |path: &[&str]| Value::from(number(controller, path).unwrap_or_default());
        let [names, images] = template::container_cells(at(controller, &["spec", "template"]));
        vec![
            table::name(controller),
            count(&["spec", "replicas"]),
            count(&["status", "replicas"]),
            count(&["status", "readyReplicas"]),
            table::age(controller, now),
            names,
            images,
            template::labels_cell(at(controller, &["spec", "selector"])),
        ]
    }
}
