//! Events, in their legacy form, which is the stored one.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::cache::Field;
use crate::kind::Column;
use crate::strategy::{Builtin, Rules, Strategy};
use crate::table;
use crate::tree::{number, text};

struct Event;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("", "v1", "Event"),
        rules: rules(),
        fields: fields(),
        subresources: Vec::new(),
        scale: None,
        columns: columns(),
        strategy: Arc::new(Event),
    }
}

pub(crate) fn rules() -> Rules {
    Rules { create_on_update: true, expired: Some(expired), ..Rules::default() }
}

/// How long an event is kept after it happened last.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(1);

/// Whether an event in its stored form has outlived its time. What it says of the future does not keep it any longer.
fn expired(event: &Value, now: Timestamp) -> bool {
    let times: [&[&str]; 4] = [
        &["metadata", "creationTimestamp"],
        &["lastTimestamp"],
        &["eventTime"],
        &["series", "lastObservedTime"],
    ];
    let past = times.iter().filter_map(|path| apimachinery::time::parse(text(event, path)).ok());
    past.filter(|time| *time <= now).max().is_some_and(|last| now.duration_since(last) > KEPT_FOR)
}

fn fields() -> Vec<Field> {
    let of = |name: &str| {
        let path = format!("involvedObject.{name}");
        Field::at(&path).alias(&format!("regarding.{name}"))
    };
    let mut fields: Vec<Field> =
        ["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"].map(of).into();
    fields.push(Field::at("reason"));
    fields.push(Field::at("reportingComponent").alias("reportingController"));
    fields.push(Field::from("source", &["source.component", "reportingComponent"], ""));
    fields.push(Field::at("type"));
    fields
}

pub(crate) fn columns() -> Vec<Column> {
    Column::parse(&[
        "Last Seen",
        "Type",
        "Reason",
        "Object",
        "Subobject+",
        "Source+",
        "Message",
        "First Seen+",
        "Count+",
        "Name+",
    ])
}

impl Strategy for Event {
    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        check_namespace(object, "involvedObject", errors);
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        cells(object, now)
    }
}

/// An event lies in the namespace of what it is about, which `field` names.
pub(crate) fn check_namespace(event: &Value, field: &str, errors: &mut Vec<FieldError>) {
    let own = text(event, &["metadata", "namespace"]);
    let about = text(event, &[field, "namespace"]);
    // Events about cluster-scoped objects lie in the namespace `default`.
    if own != about && !(about.is_empty() && own == "default") {
        let path = Path::new(field);
        errors.push(FieldError::invalid(&path.child("namespace"), about, "does not match event.namespace"));
    }
}

/// A row of an event in its stored form.
pub(crate) fn cells(event: &Value, now: Timestamp) -> Vec<Value> {
    let time = |path: &[&str]| apimachinery::time::parse(text(event, path)).ok();
    let first = time(&["firstTimestamp"]).or_else(|| time(&["eventTime"]));
    let last = time(&["lastTimestamp"]).or(first);
    let series = event.get("series").is_some();
    let last = if series { time(&["series", "lastObservedTime"]).or(last) } else { last };
    let count = if series { number(event, &["series", "count"]) } else { number(event, &["count"]) };
    let kind = text(event, &["involvedObject", "kind"]).to_lowercase();
    let target = match text(event, &["involvedObject", "name"]) {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let (component, host) = match text(event, &["source", "component"]) {
        "" => (text(event, &["reportingComponent"]), text(event, &["reportingInstance"])),
        component => (component, text(event, &["source", "host"])),
    };
    let source = if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") };
    vec![
        table::since(last, now),
        text(event, &["type"]).into(),
        text(event, &["reason"]).into(),
        target.into(),
        text(event, &["involvedObject", "fieldPath"]).into(),
        source.into(),
        text(event, &["message"]).trim().into(),
        table::since(first, now),
        count.filter(|count| *count > 0).unwrap_or(1).into(),
        table::name(event),
    ]
}
