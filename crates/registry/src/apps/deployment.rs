//! Deployments.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{rolling, selector_is_readable, selector_is_unchanged};
use crate::core::template;
use crate::kind::Column;
use crate::strategy::{Builtin, Generation, Rules, Scale, Strategy};
use crate::table;
use crate::tree::{at, at_mut, default, default_text, number, object, text};

struct Deployment;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("apps", "v1", "Deployment"),
        rules: Rules { generation: Generation::SpecAndAnnotations, status: true, ..Rules::default() },
        fields: Vec::new(),
        subresources: vec![table::scale(), table::status("Deployment")],
        scale: Some(Scale::of_workload()),
        columns: Column::parse(&[
            "Name",
            "Ready",
            "Up-to-date",
            "Available",
            "Age",
            "Containers+",
            "Images+",
            "Selector+",
        ]),
        strategy: Arc::new(Deployment),
    }
}

impl Strategy for Deployment {
    fn default(&self, deployment: &mut Value) {
        object(deployment, "spec");
        if let Some(spec) = deployment.get_mut("spec") {
            object(spec, "template");
        }
        template::default(deployment);
        let Some(spec) = deployment.get_mut("spec") else { return };
        default(spec, "replicas", 1);
        default(spec, "revisionHistoryLimit", 10);
        default(spec, "progressDeadlineSeconds", 600);
        object(spec, "strategy");
        let Some(strategy) = spec.get_mut("strategy") else { return };
        default_text(strategy, "type", "RollingUpdate");
        if text(strategy, &["type"]) == "RollingUpdate" {
            object(strategy, "rollingUpdate");
            if let Some(rolling) = at_mut(strategy, &["rollingUpdate"]) {
                default(rolling, "maxSurge", "25%");
                default(rolling, "maxUnavailable", "25%");
            }
        }
    }

    fn validate(&self, deployment: &Value, errors: &mut Vec<FieldError>) {
        let spec = Path::new("spec");
        for field in ["replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
            template::not_negative(deployment, &["spec", field], &spec.child(field), errors);
        }
        template::validate(deployment, errors);
        selector_is_readable(deployment, "invalid label selector", errors);
        validate_strategy(deployment, &spec.child("strategy"), errors);
        let ready = number(deployment, &["spec", "minReadySeconds"]).unwrap_or_default();
        let deadline = number(deployment, &["spec", "progressDeadlineSeconds"]);
        if let Some(deadline) = deadline.filter(|deadline| *deadline <= ready) {
            let why = "must be greater than minReadySeconds";
            errors.push(FieldError::invalid(&spec.child("progressDeadlineSeconds"), deadline, why));
        }
    }

    fn validate_update(&self, deployment: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        self.validate(deployment, errors);
        selector_is_unchanged(deployment, old, errors);
    }

    fn validate_status(&self, deployment: &Value, _old: &Value, errors: &mut Vec<FieldError>) {
        let status = Path::new("status");
        for field in
            ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas"]
        {
            template::not_negative(deployment, &["status", field], &status.child(field), errors);
        }
    }

    fn warnings(&self, deployment: &Value) -> Vec<String> {
        template::name_warning(deployment).into_iter().chain(template::spec_warnings(deployment)).collect()
    }

    fn cells(&self, deployment: &Value, now: Timestamp) -> Vec<Value> {
        let count = |field: &str| number(deployment, &["status", field]).unwrap_or_default();
        let wanted = number(deployment, &["spec", "replicas"]).unwrap_or_default();
        let mut cells = vec![
            table::name(deployment),
            format!("{}/{wanted}", count("readyReplicas")).into(),
            count("updatedReplicas").into(),
            count("availableReplicas").into(),
            table::age(deployment, now),
        ];
        cells.extend(template::wide_cells(deployment));
        cells
    }
}

fn validate_strategy(deployment: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let rolling = at(deployment, &["spec", "strategy", "rollingUpdate"]);
    match text(deployment, &["spec", "strategy", "type"]) {
        "Recreate" => {
            if rolling.is_some() {
                let why = "may not be specified when strategy `type` is 'Recreate'";
                errors.push(FieldError::forbidden(&path.child("rollingUpdate"), why));
            }
        }
        "RollingUpdate" => match rolling {
            None => {
                let why = "this should be defaulted and never be nil";
                errors.push(FieldError::required(&path.child("rollingUpdate"), why));
            }
            Some(rolling) => validate_rolling(rolling, &path.child("rollingUpdate"), errors),
        },
        other => {
            let given = rolling::shown(other, rolling);
            errors.push(FieldError::not_supported(path, given, &["Recreate", "RollingUpdate"]));
        }
    }
}

fn validate_rolling(update: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let zero = json!(0);
    let given = |field: &str| update.get(field).unwrap_or(&zero);
    let (unavailable, surge) = (given("maxUnavailable"), given("maxSurge"));
    let at_unavailable = path.child("maxUnavailable");
    rolling::validate(unavailable, &at_unavailable, errors);
    rolling::validate(surge, &path.child("maxSurge"), errors);
    if rolling::amount(unavailable) == 0 && rolling::amount(surge) == 0 {
        let why = "may not be 0 when `maxSurge` is 0";
        errors.push(FieldError::invalid(&at_unavailable, unavailable.clone(), why));
    }
    rolling::at_most_all(unavailable, &at_unavailable, errors);
}
