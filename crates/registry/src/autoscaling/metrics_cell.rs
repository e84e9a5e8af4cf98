//! What an autoscaler looks at, in one cell: what there is of what there should be.

use serde_json::Value;

use crate::table;
use crate::tree::{at, items, text};

/// How many metrics a cell shows.
const SHOWN: usize = 2;
const UNKNOWN: &str = "<unknown>";

/// The cell of an autoscaler in the form of `v2`.
pub(super) fn of(autoscaler: &Value) -> String {
    let specs = items(autoscaler, &["spec", "metrics"]);
    let statuses = items(autoscaler, &["status", "currentMetrics"]);
    if specs.is_empty() {
        return table::NONE.to_owned();
    }
    let all = specs.iter().enumerate().map(|(index, spec)| one(spec, statuses.get(index)));
    let shown = all.take(SHOWN).collect::<Vec<_>>().join(", ");
    match specs.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}

fn one(spec: &Value, status: Option<&Value>) -> String {
    let source = match text(spec, &["type"]) {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let target = |field: &str| at(spec, &[source, "target", field]).map(plain);
    let current = |field: &str| {
        let found = status.and_then(|status| at(status, &[source, "current", field]));
        found.map_or_else(|| UNKNOWN.to_owned(), plain)
    };
    let average = target("averageValue");
    if matches!(source, "resource" | "containerResource") {
        let name = text(spec, &[source, "name"]);
        if let Some(average) = average {
            return format!("{name}: {}/{average}", current("averageValue"));
        }
        let percent = |text: String| if text == UNKNOWN { text } else { format!("{text}%") };
        let target = target("averageUtilization").map_or_else(|| "<auto>".to_owned(), percent);
        return format!("{name}: {}/{target}", percent(current("averageUtilization")));
    }
    match average {
        Some(average) if source == "pods" => format!("{}/{average}", current("averageValue")),
        Some(average) => format!("{}/{average} (avg)", current("averageValue")),
        None => format!("{}/{}", current("value"), target("value").unwrap_or_default()),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
