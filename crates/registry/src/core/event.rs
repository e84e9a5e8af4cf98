//! Events, in their legacy form, which is the stored one.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::NameRule;
use apimachinery::meta::names::qualified_name;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::cache::Field;
use crate::checks::invalid;
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
    Rules { name: NameRule::PathSegment, create_on_update: true, expired: Some(expired), ..Rules::default() }
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
        check(object, "reportingComponent", errors);
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        cells(object, now)
    }
}

/// Longest reason, action and name of a reporter, in bytes.
const MAX_WORD: usize = 128;
/// Longest message, in bytes.
const MAX_MESSAGE: usize = 1024;

/// What is wrong with an event in its stored form; `reporter` is what the API in use calls its `reportingComponent`.
pub(crate) fn check(event: &Value, reporter: &str, errors: &mut Vec<FieldError>) {
    let own = text(event, &["metadata", "namespace"]);
    let about = text(event, &["involvedObject", "namespace"]);
    let is_new_style = !text(event, &["eventTime"]).is_empty();
    // Events about cluster-scoped objects lie in the namespace `default`.
    let fits = match about {
        "" => own == "default" || is_new_style && own == "kube-system",
        _ => is_new_style || own == about,
    };
    if !fits {
        let path = Path::new("involvedObject");
        errors.push(FieldError::invalid(&path.child("namespace"), about, "does not match event.namespace"));
    }
    if is_new_style {
        check_words(event, reporter, errors);
    }
}

/// What an event must say since it has an `eventTime`.
fn check_words(event: &Value, reporter: &str, errors: &mut Vec<FieldError>) {
    let (path, name) = (Path::new(reporter), text(event, &["reportingComponent"]));
    if name.is_empty() {
        errors.push(FieldError::required(&path, ""));
    }
    invalid(&path, name, qualified_name(name), errors);
    for (field, most) in [
        ("reportingInstance", MAX_WORD),
        ("action", MAX_WORD),
        ("reason", MAX_WORD),
        ("message", MAX_MESSAGE),
    ] {
        let (path, given) = (Path::new(field), text(event, &[field]));
        if given.is_empty() && field != "message" {
            errors.push(FieldError::required(&path, ""));
        }
        if given.len() > most {
            errors.push(FieldError::invalid(&path, "", format!("can have at most {most} characters")));
        }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_an_event_must_say() {
        let check = |namespace: &str, mut event: Value, expected: &str| {
            event["metadata"] = json!({"namespace": namespace});
            let mut errors = Vec::new();
            Event.validate(&event, &mut errors);
            let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(found.join("; "), expected, "{event}");
        };
        let strange = |about: &str| {
            format!("involvedObject.namespace: Invalid value: \"{about}\": does not match event.namespace")
        };
        check("default", json!({}), "");
        check("a", json!({}), &strange(""));
        check("a", json!({"involvedObject": {"namespace": "b"}}), &strange("b"));
        let new = |namespace: &str, action: &str| {
            json!({
                "eventTime": "2026-01-01T00:00:00.000000Z", "involvedObject": {"namespace": namespace},
                "reportingComponent": "a.b/c", "reportingInstance": "x", "action": action, "reason": "R",
            })
        };
        check("a", new("b", "A"), "");
        check("kube-system", new("", "A"), "");
        check("a", new("", "A"), &strange(""));
        check("a", new("a", ""), "action: Required value");
        check(
            "a",
            new("a", &"x".repeat(129)),
            "action: Invalid value: \"\": can have at most 128 characters",
        );
    }
}
