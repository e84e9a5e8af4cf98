//! Events under the names of `events.k8s.io/v1`; stored under those of the legacy group.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use jiff::Timestamp;
use serde_json::Value;

use crate::core::event;
use crate::strategy::{Builtin, Strategy};
use crate::tree::{map, text};

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
        for name in ["eventTime", "reportingController", "reportingInstance", "action", "reason"] {
            if text(object, &[name]).is_empty() {
                errors.push(FieldError::required(&Path::new(name), ""));
            }
        }
        let kind = text(object, &["type"]);
        if !["Normal", "Warning"].contains(&kind) {
            errors.push(FieldError::invalid(&Path::new("type"), kind, "has invalid value"));
        }
        event::check_namespace(object, "regarding", errors);
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        for name in
            ["eventTime", "reportingController", "reportingInstance", "action", "reason", "regarding", "note"]
        {
            if object.get(name) != old.get(name) {
                let given = object.get(name).cloned().unwrap_or_default();
                errors.push(FieldError::invalid(&Path::new(name), given, "field is immutable"));
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
        let mut stored = object.clone();
        self.store_form(&mut stored);
        event::cells(&stored, now)
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
