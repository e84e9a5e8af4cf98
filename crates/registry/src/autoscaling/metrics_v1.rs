//! Metrics in the form of annotations of `autoscaling/v1`, and in that of `autoscaling/v2`.

use serde_json::{Map, Value, json};

use crate::tree::{at, text};

/// What quantities are that always have to be there.
const ZERO: &str = "0";

/// Where a field lies in the one form and in the other.
type Pair = (&'static str, &'static [&'static str]);

/// Fields of a source, by its name here: what it asks of metrics.
fn spec_fields(source: &str) -> &'static [Pair] {
    match source {
        "object" => &[
            ("target", &["describedObject"]),
            ("metricName", &["metric", "name"]),
            ("selector", &["metric", "selector"]),
            ("targetValue", &["target", "value"]),
            ("averageValue", &["target", "averageValue"]),
        ],
        "pods" => &[
            ("metricName", &["metric", "name"]),
            ("selector", &["metric", "selector"]),
            ("targetAverageValue", &["target", "averageValue"]),
        ],
        "external" => &[
            ("metricName", &["metric", "name"]),
            ("metricSelector", &["metric", "selector"]),
            ("targetValue", &["target", "value"]),
            ("targetAverageValue", &["target", "averageValue"]),
        ],
        _ => &[
            ("name", &["name"]),
            ("container", &["container"]),
            ("targetAverageUtilization", &["target", "averageUtilization"]),
            ("targetAverageValue", &["target", "averageValue"]),
        ],
    }
}

/// The same for what metrics are now.
fn status_fields(source: &str) -> &'static [Pair] {
    match source {
        "object" => &[
            ("target", &["describedObject"]),
            ("metricName", &["metric", "name"]),
            ("selector", &["metric", "selector"]),
            ("currentValue", &["current", "value"]),
            ("averageValue", &["current", "averageValue"]),
        ],
        "pods" => &[
            ("metricName", &["metric", "name"]),
            ("selector", &["metric", "selector"]),
            ("currentAverageValue", &["current", "averageValue"]),
        ],
        "external" => &[
            ("metricName", &["metric", "name"]),
            ("metricSelector", &["metric", "selector"]),
            ("currentValue", &["current", "value"]),
            ("currentAverageValue", &["current", "averageValue"]),
        ],
        _ => &[
            ("name", &["name"]),
            ("container", &["container"]),
            ("currentAverageUtilization", &["current", "averageUtilization"]),
            ("currentAverageValue", &["current", "averageValue"]),
        ],
    }
}

/// Quantities that the form of v1 always has.
fn always(source: &str, is_status: bool) -> Option<&'static str> {
    match (source, is_status) {
        ("object", false) => Some("targetValue"),
        ("pods", false) => Some("targetAverageValue"),
        ("object" | "external", true) => Some("currentValue"),
        ("pods" | "resource" | "containerResource", true) => Some("currentAverageValue"),
        _ => None,
    }
}

pub(super) fn from_spec(metric: &Value) -> Value {
    each_source(metric, |name, source| flatten(source, spec_fields(name), always(name, false)))
}

pub(super) fn from_status(metric: &Value) -> Value {
    each_source(metric, |name, source| flatten(source, status_fields(name), always(name, true)))
}

pub(super) fn to_spec(metric: &Value) -> Value {
    each_source(metric, |name, source| {
        let mut source = unfold(source, spec_fields(name));
        let has = |field: &str| at(&source, &["target", field]).is_some();
        let kind = match name {
            "object" | "external" if has("value") && !has("averageValue") => "Value",
            "resource" | "containerResource" if has("averageUtilization") => "Utilization",
            _ => "AverageValue",
        };
        if source.get("target").is_none() {
            source["target"] = json!({});
        }
        source["target"]["type"] = kind.into();
        source
    })
}

pub(super) fn to_status(metric: &Value) -> Value {
    each_source(metric, |name, source| {
        let mut source = unfold(source, status_fields(name));
        if let (Some(always), true) = (always(name, true), source.get("current").is_none()) {
            let field = if always == "currentValue" { "value" } else { "averageValue" };
            source["current"] = json!({field: ZERO});
        }
        source
    })
}

/// The metric with each of its sources in the other form.
fn each_source(metric: &Value, change: impl Fn(&str, &Value) -> Value) -> Value {
    let mut changed = Map::new();
    for (name, value) in metric.as_object().into_iter().flatten() {
        let value = if value.is_object() { change(name, value) } else { value.clone() };
        changed.insert(name.clone(), value);
    }
    changed.into()
}

fn flatten(source: &Value, fields: &[Pair], always: Option<&str>) -> Value {
    let mut flat = Map::new();
    for (here, there) in fields {
        if let Some(value) = at(source, there) {
            flat.insert((*here).to_owned(), value.clone());
        }
    }
    if let Some(always) = always {
        flat.entry(always).or_insert_with(|| ZERO.into());
    }
    flat.into()
}

fn unfold(source: &Value, fields: &[Pair]) -> Value {
    let mut full = json!({});
    for (here, there) in fields {
        let Some(value) = source.get(*here).filter(|value| !value.is_null()) else { continue };
        // A quantity that is there only because it always is says nothing.
        if text(source, &[*here]) == ZERO && *here == "targetValue" {
            continue;
        }
        match there {
            [only] => full[*only] = value.clone(),
            [outer, inner, ..] => {
                if full.get(*outer).is_none() {
                    full[*outer] = json!({});
                }
                full[*outer][*inner] = value.clone();
            }
            [] => {}
        }
    }
    full
}
