//! HorizontalPodAutoscalers of `autoscaling/v1`: one number for the CPU, and annotations for all else.

use std::sync::Arc;

use apimachinery::field::FieldError;
use apimachinery::meta;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{horizontal_pod_autoscaler as v2, metrics_v1, validation};
use crate::strategy::{Builtin, Strategy};
use crate::tree::{at, copy, default, items, map, number, object, text};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const STATUSES: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
/// Fields of a behavior, here and in its annotation: upstream writes its internal form there.
const DIRECTIONS: [(&str, &str); 2] = [("scaleUp", "ScaleUp"), ("scaleDown", "ScaleDown")];
const RULES: [(&str, &str); 4] = [
    ("stabilizationWindowSeconds", "StabilizationWindowSeconds"),
    ("selectPolicy", "SelectPolicy"),
    ("policies", "Policies"),
    ("tolerance", "Tolerance"),
];
const POLICY: [(&str, &str); 3] = [("type", "Type"), ("value", "Value"), ("periodSeconds", "PeriodSeconds")];

struct HorizontalPodAutoscaler;

pub(crate) fn builtin() -> Builtin {
    v2::of_version("v1", Arc::new(HorizontalPodAutoscaler))
}

impl HorizontalPodAutoscaler {
    fn stored(&self, autoscaler: &Value) -> Value {
        let mut stored = autoscaler.clone();
        self.store_form(&mut stored);
        stored
    }
}

impl Strategy for HorizontalPodAutoscaler {
    fn default(&self, autoscaler: &mut Value) {
        object(autoscaler, "spec");
        if let Some(spec) = autoscaler.get_mut("spec") {
            default(spec, "minReplicas", 1);
        }
    }

    fn prepare_create(&self, autoscaler: &mut Value) {
        for annotation in [STATUSES, CONDITIONS] {
            remove_annotation(autoscaler, annotation);
        }
        map(autoscaler).insert("status".into(), json!({"currentReplicas": 0, "desiredReplicas": 0}));
    }

    /// What the annotations say of the status stays as it was.
    fn prepare_update(&self, autoscaler: &mut Value, old: &Value) {
        let mut stored = self.stored(autoscaler);
        copy(&mut stored, &self.stored(old), "status");
        self.restore(&mut stored);
        *autoscaler = stored;
    }

    /// What the annotations say of the spec stays as it was.
    fn prepare_status(&self, autoscaler: &mut Value, old: &Value, _now: Timestamp) {
        let mut stored = self.stored(autoscaler);
        copy(&mut stored, &self.stored(old), "spec");
        self.restore(&mut stored);
        *autoscaler = stored;
    }

    fn validate(&self, autoscaler: &Value, errors: &mut Vec<FieldError>) {
        validation::validate(&self.stored(autoscaler), None, errors);
    }

    fn validate_update(&self, autoscaler: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        validation::validate(&self.stored(autoscaler), Some(&self.stored(old)), errors);
    }

    fn validate_status(&self, autoscaler: &Value, _old: &Value, errors: &mut Vec<FieldError>) {
        v2::validate_status(autoscaler, errors);
    }

    fn converts(&self) -> bool {
        true
    }

    fn store_form(&self, autoscaler: &mut Value) {
        store_spec(autoscaler);
        store_status(autoscaler);
        for annotation in [METRICS, STATUSES, BEHAVIOR, CONDITIONS] {
            remove_annotation(autoscaler, annotation);
        }
    }

    fn restore(&self, autoscaler: &mut Value) {
        // Those that are written below are the only ones that say anything.
        for annotation in [METRICS, STATUSES, BEHAVIOR, CONDITIONS] {
            remove_annotation(autoscaler, annotation);
        }
        restore_spec(autoscaler);
        restore_status(autoscaler);
    }

    fn cells(&self, autoscaler: &Value, now: Timestamp) -> Vec<Value> {
        v2::cells(&self.stored(autoscaler), now)
    }
}

fn remove_annotation(autoscaler: &mut Value, name: &str) {
    if meta::annotation(autoscaler, name).is_none() {
        return;
    }
    let annotations = meta::annotations_mut(autoscaler);
    annotations.remove(name);
    if annotations.is_empty() {
        object(autoscaler, "metadata").remove("annotations");
    }
}

fn annotate(autoscaler: &mut Value, name: &str, value: &Value) {
    meta::annotations_mut(autoscaler).insert(name.to_owned(), value.to_string().into());
}

/// What an annotation says, if it can be read.
fn annotated(autoscaler: &Value, name: &str) -> Option<Value> {
    serde_json::from_str(meta::annotation(autoscaler, name)?).ok()
}

fn annotated_list(autoscaler: &Value, name: &str) -> Option<Vec<Value>> {
    match annotated(autoscaler, name)? {
        Value::Array(items) => Some(items),
        _ => None,
    }
}

fn store_spec(autoscaler: &mut Value) {
    let mut metrics: Vec<Value> =
        annotated_list(autoscaler, METRICS).unwrap_or_default().iter().map(metrics_v1::to_spec).collect();
    let behavior = annotated(autoscaler, BEHAVIOR).and_then(|behavior| behavior_from(&behavior));
    object(autoscaler, "spec");
    let Some(spec) = autoscaler.get_mut("spec") else { return };
    if let Some(utilization) = map(spec).remove("targetCPUUtilizationPercentage") {
        metrics.push(v2::cpu(utilization));
    }
    map(spec).insert("metrics".into(), metrics.into());
    v2::default_metrics(spec);
    if let Some(behavior) = behavior {
        map(spec).insert("behavior".into(), behavior);
    }
}

fn store_status(autoscaler: &mut Value) {
    if autoscaler.get("status").is_none() {
        return;
    }
    let metrics = annotated_list(autoscaler, STATUSES);
    let conditions = annotated_list(autoscaler, CONDITIONS).filter(|conditions| !conditions.is_empty());
    let status = object(autoscaler, "status");
    let utilization = status.remove("currentCPUUtilizationPercentage");
    let metrics = match (metrics, utilization) {
        // They say more than the number does.
        (Some(metrics), _) => metrics.iter().map(metrics_v1::to_status).collect(),
        (None, Some(utilization)) => {
            let current = json!({"averageUtilization": utilization, "averageValue": "0"});
            vec![json!({"type": "Resource", "resource": {"name": "cpu", "current": current}})]
        }
        (None, None) => Vec::new(),
    };
    let metrics = if metrics.is_empty() { Value::Null } else { metrics.into() };
    status.insert("currentMetrics".into(), metrics);
    if status.get("currentReplicas").and_then(Value::as_i64) == Some(0) {
        status.remove("currentReplicas");
    }
    if let Some(conditions) = conditions {
        status.insert("conditions".into(), conditions.into());
    }
}

/// Whether it is the metric that has a field of its own.
fn is_cpu(metric: &Value) -> bool {
    text(metric, &["type"]) == "Resource"
        && text(metric, &["resource", "name"]) == "cpu"
        && at(metric, &["resource", "target", "averageUtilization"]).is_some()
}

fn restore_spec(autoscaler: &mut Value) {
    let metrics = items(autoscaler, &["spec", "metrics"]);
    let cpu = metrics.iter().find(|metric| is_cpu(metric));
    let utilization =
        cpu.and_then(|metric| at(metric, &["resource", "target", "averageUtilization"])).cloned();
    let others: Vec<Value> =
        metrics.iter().filter(|metric| !is_cpu(metric)).map(metrics_v1::from_spec).collect();
    let spec = object(autoscaler, "spec");
    spec.remove("metrics");
    let behavior = spec.remove("behavior");
    if let Some(utilization) = utilization {
        spec.insert("targetCPUUtilizationPercentage".into(), utilization);
    }
    if !others.is_empty() {
        annotate(autoscaler, METRICS, &others.into());
    }
    if let Some(behavior) = behavior {
        annotate(autoscaler, BEHAVIOR, &behavior_to(&behavior));
    }
}

fn restore_status(autoscaler: &mut Value) {
    if autoscaler.get("status").is_none() {
        return;
    }
    let metrics = items(autoscaler, &["status", "currentMetrics"]);
    let utilization = metrics
        .iter()
        .filter(|metric| text(metric, &["resource", "name"]) == "cpu")
        .filter_map(|metric| number(metric, &["resource", "current", "averageUtilization"]))
        .next_back();
    let statuses: Vec<Value> = metrics.iter().map(metrics_v1::from_status).collect();
    let status = object(autoscaler, "status");
    status.remove("currentMetrics");
    let conditions = status.remove("conditions");
    status.entry("currentReplicas").or_insert_with(|| 0.into());
    status.entry("desiredReplicas").or_insert_with(|| 0.into());
    if let Some(utilization) = utilization {
        status.insert("currentCPUUtilizationPercentage".into(), utilization.into());
    }
    if !statuses.is_empty() {
        annotate(autoscaler, STATUSES, &statuses.into());
    }
    let some = conditions.filter(|some| some.as_array().is_some_and(|some| !some.is_empty()));
    if let Some(conditions) = some {
        annotate(autoscaler, CONDITIONS, &conditions);
    }
}

/// The internal form, in which what is absent is null.
fn behavior_to(behavior: &Value) -> Value {
    rename(behavior, &DIRECTIONS, |rules| {
        rename(rules, &RULES, |value| match value {
            Value::Array(policies) => {
                policies.iter().map(|policy| rename(policy, &POLICY, Value::clone)).collect()
            }
            other => other.clone(),
        })
    })
}

fn rename(object: &Value, names: &[(&str, &str)], inner: impl Fn(&Value) -> Value) -> Value {
    let value = |name: &str| object.get(name).map_or(Value::Null, &inner);
    names.iter().map(|(here, there)| ((*there).to_owned(), value(here))).collect::<Map<_, _>>().into()
}

fn behavior_from(behavior: &Value) -> Option<Value> {
    let behavior = take(behavior, &DIRECTIONS, |rules| {
        take(rules, &RULES, |value| match value {
            Value::Array(policies) => {
                policies.iter().map(|policy| take(policy, &POLICY, Value::clone)).collect()
            }
            other => other.clone(),
        })
    });
    Some(behavior).filter(|behavior| behavior.as_object().is_some_and(|found| !found.is_empty()))
}

fn take(object: &Value, names: &[(&str, &str)], inner: impl Fn(&Value) -> Value) -> Value {
    let found = |name: &str| object.get(name).filter(|value| !value.is_null()).map(&inner);
    let named = names.iter().filter_map(|(here, there)| Some(((*here).to_owned(), found(there)?)));
    named.collect::<Map<_, _>>().into()
}
