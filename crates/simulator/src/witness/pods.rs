//! What pods are like.

use serde_json::Value;

use super::text;

/// Whether it is being deleted.
pub fn is_terminating(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some()
}

/// Whether it is to go on.
pub fn is_active(pod: &Value) -> bool {
    !is_terminating(pod) && !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}

/// Whether it serves.
pub fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready") == "True"
}

/// The status of a condition; empty when there is none of that type.
pub fn condition<'a>(object: &'a Value, kind: &str) -> &'a str {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let found = conditions.into_iter().flatten().find(|condition| condition["type"] == kind);
    found.map(|condition| text(condition, "/status")).unwrap_or_default()
}
