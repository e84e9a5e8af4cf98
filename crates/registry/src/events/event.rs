//! Events under the names of `events.k8s.io/v1`; stored under those of the legacy group.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::NameRule;
use jiff::Timestamp;
use serde_json::Value;

use crate::checks::invalid;
use crate::core::event;
use crate::strategy::{Builtin, Strategy};
use crate::tree::{map, number, text};

/// A field's name here and in the stored form.
const NAMES: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

/// What no update changes, by the names of the stored form.
const FIXED: [&str; 13] = [
    "involvedObject",
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "type",
    "eventTime",
    "action",
    "related",
    "reportingComponent",
    "reportingInstance",
];

struct Event;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("events.k8s.io", "v1", "Event"),
        rules: event::rules(),
        fields: Vec::new(),
        subresources: Vec::new(),
        scale: None,
        columns: event::columns(),
        strategy: Arc::new(Event),
    }
}

impl Strategy for Event {
    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let stored = self.stored(object);
        event::check(&stored, "reportingController", errors);
        let (metadata, name) = (Path::new("metadata"), apimachinery::meta::name(object));
        if !name.is_empty() {
            invalid(&metadata.child("name"), name, NameRule::Subdomain.check(name), errors);
        }
        let (beginning, rule) = (apimachinery::meta::generate_name(object), NameRule::Subdomain);
        if !beginning.is_empty() {
            invalid(&metadata.child("generateName"), beginning, rule.check_prefix(beginning), errors);
        }
        check_series(&stored, errors);
        if text(&stored, &["eventTime"]).is_empty() {
            errors.push(FieldError::required(&Path::new("eventTime"), ""));
        }
        let kind = text(&stored, &["type"]);
        if !["Normal", "Warning"].contains(&kind) {
            let why = format!("has invalid value: {kind}");
            errors.push(FieldError::invalid(&Path::new("type"), "", why));
        }
        for name in ["firstTimestamp", "lastTimestamp", "count", "source"] {
            if said(&stored, name).is_some() {
                errors.push(FieldError::invalid(&Path::new(name), "", "needs to be unset"));
            }
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        let (new, old) = (self.stored(object), self.stored(old));
        event::check(&new, "reportingController", errors);
        if said(&new, "series") != said(&old, "series") {
            check_series(&new, errors);
        }
        for name in FIXED {
            if said(&new, name) != said(&old, name) {
                let given = new.get(name).cloned().unwrap_or_default();
                let shown = if name == "reportingComponent" { "reportingController" } else { name };
                errors.push(FieldError::invalid(&Path::new(shown), given, "field is immutable"));
            }
        }
    }

    fn converts(&self) -> bool {
        true
    }

    fn store_form(&self, object: &mut Value) {
        rename(object, NAMES.iter().copied());
    }

    fn restore(&self, object: &mut Value) {
        rename(object, NAMES.iter().map(|(here, there)| (*there, *here)));
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        event::cells(&self.stored(object), now)
    }
}

impl Event {
    /// Upstream, too, looks at the stored form, and names what is wrong by its fields.
    fn stored(&self, object: &Value) -> Value {
        let mut stored = object.clone();
        self.store_form(&mut stored);
        stored
    }
}

/// A field's value, if it says anything.
fn said<'a>(event: &'a Value, field: &str) -> Option<&'a Value> {
    event.get(field).filter(|value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Number(number) => number.as_i64() != Some(0),
        // Of a source only its words count.
        Value::Object(fields) => fields.values().any(|field| field.as_str() != Some("")),
        _ => true,
    })
}

/// A series is one from its second event on.
fn check_series(event: &Value, errors: &mut Vec<FieldError>) {
    let Some(series) = event.get("series").filter(|series| !series.is_null()) else { return };
    let path = Path::new("series");
    if number(series, &["count"]).unwrap_or_default() < 2 {
        errors.push(FieldError::invalid(&path.child("count"), "", "should be at least 2"));
    }
    if text(series, &["lastObservedTime"]).is_empty() {
        errors.push(FieldError::required(&path.child("lastObservedTime"), ""));
    }
}

fn rename<'a>(object: &mut Value, names: impl Iterator<Item = (&'a str, &'a str)>) {
    let object = map(object);
    for (from, to) in names {
        if let Some(value) = object.remove(from) {
            object.insert(to.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event() -> Value {
        json!({
            "metadata": {"name": "e", "namespace": "d"}, "eventTime": "2026-01-01T00:00:00.000000Z", "action": "A",
            "reportingController": "a.b/c", "reportingInstance": "x", "reason": "R", "type": "Normal",
            "regarding": {"namespace": "d"},
        })
    }

    fn words(errors: &[FieldError]) -> String {
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn what_a_new_event_must_say() {
        let check = |field: &str, value: Value, expected: &str| {
            let mut event = event();
            event[field] = value;
            let mut errors = Vec::new();
            Event.validate(&event, &mut errors);
            assert_eq!(words(&errors), expected, "{field}");
        };
        check("note", json!("n"), "");
        check("deprecatedSource", json!({}), "");
        check("deprecatedSource", json!({"host": "h"}), "source: Invalid value: \"\": needs to be unset");
        check("deprecatedCount", json!(1), "count: Invalid value: \"\": needs to be unset");
        check("type", json!("T"), "type: Invalid value: \"\": has invalid value: T");
        check(
            "series",
            json!({}),
            "series.count: Invalid value: \"\": should be at least 2; series.lastObservedTime: Required value",
        );
        check("action", json!(""), "action: Required value");
        check(
            "regarding",
            json!({}),
            "involvedObject.namespace: Invalid value: \"\": does not match event.namespace",
        );
    }

    #[test]
    fn what_no_update_changes() {
        let check = |field: &str, value: Value, expected: &str| {
            let (old, mut new) = (event(), event());
            new[field] = value;
            let mut errors = Vec::new();
            Event.validate_update(&new, &old, &mut errors);
            assert_eq!(words(&errors), expected, "{field}");
        };
        check("series", json!({"count": 2, "lastObservedTime": "2026-01-01T00:00:00.000000Z"}), "");
        check("deprecatedSource", json!({}), "");
        check("note", json!("n"), "message: Invalid value: \"n\": field is immutable");
        check(
            "reportingController",
            json!("d"),
            "reportingController: Invalid value: \"d\": field is immutable",
        );
    }
}
