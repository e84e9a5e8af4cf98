//! DaemonSets.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta;
use apimachinery::selector::Selector;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{rolling, selector_is_unchanged};
use crate::core::template;
use crate::kind::Column;
use crate::strategy::{Builtin, Generation, Rules, Strategy};
use crate::table;
use crate::tree::{at, at_mut, default, default_text, map, number, object, same, text};

/// How often the template has changed, counted in an annotation that clients of earlier versions wait for.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";
const COUNTS: [&str; 9] = [
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "observedGeneration",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
    "collisionCount",
];

struct DaemonSet;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("apps", "v1", "DaemonSet"),
        rules: Rules { generation: Generation::Spec, status: true, ..Rules::default() },
        fields: Vec::new(),
        subresources: vec![table::status("DaemonSet")],
        scale: None,
        columns: Column::parse(&[
            "Name",
            "Desired:integer",
            "Current:integer",
            "Ready:integer",
            "Up-to-date:integer",
            "Available:integer",
            "Node Selector",
            "Age",
            "Containers+",
            "Images+",
            "Selector+",
        ]),
        strategy: Arc::new(DaemonSet),
    }
}

impl Strategy for DaemonSet {
    fn warnings(&self, set: &Value) -> Vec<String> {
        template::spec_warnings(set)
    }

    fn default(&self, set: &mut Value) {
        object(set, "spec");
        if let Some(spec) = set.get_mut("spec") {
            object(spec, "template");
            default(spec, "revisionHistoryLimit", 10);
            object(spec, "updateStrategy");
        }
        template::default(set);
        let Some(strategy) = at_mut(set, &["spec", "updateStrategy"]) else { return };
        default_text(strategy, "type", "RollingUpdate");
        if text(strategy, &["type"]) == "RollingUpdate" {
            object(strategy, "rollingUpdate");
            if let Some(update) = strategy.get_mut("rollingUpdate") {
                default(update, "maxUnavailable", 1);
                default(update, "maxSurge", 0);
            }
        }
    }

    fn prepare_create(&self, set: &mut Value) {
        let given = template_generation(set);
        set_template_generation(set, given.max(1));
        let none = ["currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady"];
        let status = none.into_iter().map(|field| (field.to_owned(), json!(0))).collect();
        map(set).insert("status".into(), Value::Object(status));
    }

    fn prepare_update(&self, set: &mut Value, old: &Value) {
        let template = |set| at(set, &["spec", "template"]);
        let changed = !same(template(set), template(old));
        set_template_generation(set, template_generation(old) + i64::from(changed));
    }

    fn validate(&self, set: &Value, errors: &mut Vec<FieldError>) {
        validate_pods(set, errors);
        let spec = Path::new("spec");
        template::not_negative(set, &["spec", "minReadySeconds"], &spec.child("minReadySeconds"), errors);
        validate_strategy(set, &spec.child("updateStrategy"), errors);
        let field = "revisionHistoryLimit";
        template::not_negative(set, &["spec", field], &spec.child(field), errors);
    }

    fn validate_update(&self, set: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        self.validate(set, errors);
        selector_is_unchanged(set, old, errors);
    }

    fn validate_status(&self, set: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        template::counts(set, &COUNTS, errors);
        template::collisions_grow(set, old, errors);
    }

    fn cells(&self, set: &Value, now: Timestamp) -> Vec<Value> {
        let count = |field: &str| Value::from(number(set, &["status", field]).unwrap_or_default());
        let mut cells = vec![
            table::name(set),
            count("desiredNumberScheduled"),
            count("currentNumberScheduled"),
            count("numberReady"),
            count("updatedNumberScheduled"),
            count("numberAvailable"),
            template::labels_cell(at(set, &["spec", "template", "spec", "nodeSelector"])),
            table::age(set, now),
        ];
        cells.extend(template::wide_cells(set));
        cells
    }
}

fn template_generation(set: &Value) -> i64 {
    let count = meta::annotation(set, TEMPLATE_GENERATION).and_then(|text| text.parse().ok());
    count.unwrap_or_default()
}

fn set_template_generation(set: &mut Value, generation: i64) {
    meta::annotations_mut(set).insert(TEMPLATE_GENERATION.into(), generation.to_string().into());
}

fn validate_pods(set: &Value, errors: &mut Vec<FieldError>) {
    let spec = Path::new("spec");
    let (path, at_selector) = (spec.child("template"), spec.child("selector"));
    let template = at(set, &["spec", "template"]).unwrap_or(&Value::Null);
    // An absent selector holds for nothing, and so not for the template.
    let given = at(set, &["spec", "selector"]).unwrap_or(&Value::Null);
    match Selector::from_object(given, &at_selector) {
        Ok(selector) => {
            template::is_selected(&selector, template, &path, errors);
            if selector.is_empty() {
                let why = "empty selector is invalid for daemonset";
                errors.push(FieldError::invalid(&at_selector, given.clone(), why));
            }
        }
        Err(found) => errors.extend(found),
    }
    template::validate_template(template, &path, errors);
    template::runs_always(template, &path, errors);
    if at(template, &["spec", "activeDeadlineSeconds"]).is_some() {
        let pod = path.child("spec");
        let why = "activeDeadlineSeconds in DaemonSet is not Supported";
        errors.push(FieldError::forbidden(&pod.child("activeDeadlineSeconds"), why));
    }
}

fn validate_strategy(set: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let strategy = at(set, &["spec", "updateStrategy"]).unwrap_or(&Value::Null);
    match text(strategy, &["type"]) {
        "OnDelete" => {}
        "RollingUpdate" => match strategy.get("rollingUpdate") {
            Some(update) => validate_rolling(update, &path.child("rollingUpdate"), errors),
            None => errors.push(FieldError::required(&path.child("rollingUpdate"), "")),
        },
        _ => errors.push(FieldError::not_supported(
            path,
            rolling::shown(text(strategy, &["type"]), strategy.get("rollingUpdate")),
            &["RollingUpdate", "OnDelete"],
        )),
    }
}

/// A node's old pod goes before the new one comes, or after: one of both.
fn validate_rolling(update: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let zero = json!(0);
    let given = |field: &str| update.get(field).unwrap_or(&zero);
    let (unavailable, surge) = (given("maxUnavailable"), given("maxSurge"));
    let (at_unavailable, at_surge) = (path.child("maxUnavailable"), path.child("maxSurge"));
    rolling::validate(unavailable, &at_unavailable, errors);
    rolling::validate(surge, &at_surge, errors);
    rolling::at_most_all(unavailable, &at_unavailable, errors);
    rolling::at_most_all(surge, &at_surge, errors);
    match (rolling::amount(unavailable) != 0, rolling::amount(surge) != 0) {
        (true, true) => {
            let why = "may not be set when maxUnavailable is non-zero";
            errors.push(FieldError::invalid(&at_surge, surge.clone(), why));
        }
        (false, false) => {
            errors.push(FieldError::required(&at_unavailable, "cannot be 0 when maxSurge is 0"));
        }
        _ => {}
    }
}
