//! HorizontalPodAutoscalers of `autoscaling/v2`.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{metrics_cell, validation};
use crate::core::template;
use crate::kind::Column;
use crate::strategy::{Builtin, Rules, Strategy};
use crate::table;
use crate::tree::{at, default, items, map, number, object, text};

/// What share of its CPU a pod should use where nobody says otherwise, in percent.
const CPU_UTILIZATION: i64 = 80;

struct HorizontalPodAutoscaler;

pub(crate) fn builtin() -> Builtin {
    of_version("v2", Arc::new(HorizontalPodAutoscaler))
}

/// What both versions have in common.
pub(super) fn of_version(version: &'static str, strategy: Arc<dyn Strategy>) -> Builtin {
    Builtin {
        name: ("autoscaling", version, "HorizontalPodAutoscaler"),
        rules: Rules { status: true, ..Rules::default() },
        fields: Vec::new(),
        subresources: vec![table::status("HorizontalPodAutoscaler")],
        scale: None,
        columns: Column::parse(&["Name", "Reference", "Targets", "MinPods", "MaxPods", "Replicas", "Age"]),
        strategy,
    }
}

impl Strategy for HorizontalPodAutoscaler {
    fn default(&self, autoscaler: &mut Value) {
        object(autoscaler, "spec");
        let Some(spec) = autoscaler.get_mut("spec") else { return };
        default(spec, "minReplicas", 1);
        default_metrics(spec);
        if let Some(behavior) = spec.get_mut("behavior") {
            default_behavior(behavior);
        }
    }

    fn prepare_create(&self, autoscaler: &mut Value) {
        let status = json!({"desiredReplicas": 0, "currentMetrics": null});
        map(autoscaler).insert("status".into(), status);
    }

    fn validate(&self, autoscaler: &Value, errors: &mut Vec<FieldError>) {
        validation::validate(autoscaler, None, errors);
    }

    fn validate_update(&self, autoscaler: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        validation::validate(autoscaler, Some(old), errors);
    }

    fn validate_status(&self, autoscaler: &Value, _old: &Value, errors: &mut Vec<FieldError>) {
        validate_status(autoscaler, errors);
    }

    fn cells(&self, autoscaler: &Value, now: Timestamp) -> Vec<Value> {
        cells(autoscaler, now)
    }
}

pub(super) fn validate_status(autoscaler: &Value, errors: &mut Vec<FieldError>) {
    let status = Path::new("status");
    for field in ["currentReplicas", "desiredReplicas"] {
        template::not_negative(autoscaler, &["status", field], &status.child(field), errors);
    }
}

pub(super) fn cells(autoscaler: &Value, now: Timestamp) -> Vec<Value> {
    let target = |field: &str| text(autoscaler, &["spec", "scaleTargetRef", field]);
    let min = at(autoscaler, &["spec", "minReplicas"]).map(Value::to_string);
    vec![
        table::name(autoscaler),
        format!("{}/{}", target("kind"), target("name")).into(),
        metrics_cell::of(autoscaler).into(),
        min.unwrap_or_else(|| "<unset>".to_owned()).into(),
        number(autoscaler, &["spec", "maxReplicas"]).unwrap_or_default().into(),
        number(autoscaler, &["status", "currentReplicas"]).unwrap_or_default().into(),
        table::age(autoscaler, now),
    ]
}

/// An autoscaler that looks at nothing looks at the CPU.
pub(super) fn default_metrics(spec: &mut Value) {
    if items(spec, &["metrics"]).is_empty() {
        map(spec).insert("metrics".into(), json!([cpu(CPU_UTILIZATION)]));
    }
}

/// The metric of how much of their CPU pods use, in percent.
pub(super) fn cpu(utilization: impl Into<Value>) -> Value {
    let utilization = utilization.into();
    let target = json!({"type": "Utilization", "averageUtilization": utilization});
    json!({"type": "Resource", "resource": {"name": "cpu", "target": target}})
}

fn default_behavior(behavior: &mut Value) {
    let policy = |kind: &str, value: i64| json!({"type": kind, "value": value, "periodSeconds": 15});
    for (direction, policies) in [
        ("scaleUp", vec![policy("Pods", 4), policy("Percent", 100)]),
        ("scaleDown", vec![policy("Percent", 100)]),
    ] {
        object(behavior, direction);
        let Some(rules) = behavior.get_mut(direction) else { continue };
        default(rules, "selectPolicy", "Max");
        default(rules, "policies", policies);
        if direction == "scaleUp" {
            default(rules, "stabilizationWindowSeconds", 0);
        }
    }
}
