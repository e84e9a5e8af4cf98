//! May somebody do something? Asked of the same authorizer that decides on requests.

use apimachinery::field::{FieldError, Path};
use apimachinery::status::Status;
use auth::{Attributes, Authorizer, Decision, Resource, Target, UserInfo};
use serde_json::{Value, json};

use super::Asked;

/// May the caller?
pub(super) fn own(asked: &Asked<'_>) -> Result<Value, Status> {
    asked.sound(faults(asked, &[]))?;
    Ok(asked.with_status(decide(asked, asked.call.user)))
}

/// May that subject?
pub(super) fn of_subject(asked: &Asked<'_>) -> Result<Value, Status> {
    let subject = subject(asked);
    let mut errors = faults(asked, &[]);
    errors.extend(nobody(&subject));
    asked.sound(errors)?;
    Ok(asked.with_status(decide(asked, &subject)))
}

/// May that subject, in the namespace of the path?
pub(super) fn local(asked: &Asked<'_>) -> Result<Value, Status> {
    let subject = subject(asked);
    let mut errors = faults(asked, &["namespace"]);
    errors.extend(nobody(&subject));
    let spec = Path::new("spec");
    let given = asked.text("/spec/resourceAttributes/namespace");
    if has(asked, "resourceAttributes") && given != asked.namespace {
        let at = spec.child("resourceAttributes");
        errors.push(FieldError::invalid(&at.child("namespace"), given, "must match metadata.namespace"));
    }
    if has(asked, "nonResourceAttributes") {
        let why = "disallowed on this kind of request";
        errors.push(FieldError::invalid(&spec.child("nonResourceAttributes"), "", why));
    }
    asked.sound(errors)?;
    Ok(asked.with_status(decide(asked, &subject)))
}

fn has(asked: &Asked<'_>, name: &str) -> bool {
    asked.object["spec"].get(name).is_some_and(|value| !value.is_null())
}

/// What is wrong with any of these reviews. Their metadata says nothing beside these fields.
fn faults(asked: &Asked<'_>, metadata: &[&str]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Path::new("spec");
    match (has(asked, "resourceAttributes"), has(asked, "nonResourceAttributes")) {
        (true, true) => {
            let why = "cannot be specified in combination with resourceAttributes";
            errors.push(FieldError::invalid(&spec.child("nonResourceAttributes"), "", why));
        }
        (false, false) => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            errors.push(FieldError::invalid(&spec.child("resourceAttributes"), "", why));
        }
        _ => {}
    }
    for name in ["fieldSelector", "labelSelector"] {
        let attributes = &asked.object["spec"]["resourceAttributes"];
        if let Some(selector) = attributes.get(name).filter(|selector| !selector.is_null()) {
            errors.extend(selector_faults(selector, &spec.child("resourceAttributes").child(name)));
        }
    }
    let given = asked.object["metadata"].as_object().into_iter().flatten();
    if given.into_iter().any(|(name, _)| name != "managedFields" && !metadata.contains(&name.as_str())) {
        let why = if metadata.is_empty() { "must be empty" } else { "must be empty except for namespace" };
        errors.push(FieldError::invalid(&Path::new("metadata"), asked.object["metadata"].clone(), why));
    }
    errors
}

/// A selector is either text or a list of requirements.
fn selector_faults(selector: &Value, at: &Path<'_>) -> Option<FieldError> {
    let raw = selector.get("rawSelector").and_then(Value::as_str).unwrap_or_default();
    let requirements = selector.get("requirements").and_then(Value::as_array);
    match (raw.is_empty(), requirements.is_none_or(Vec::is_empty)) {
        (true, true) => {
            let why = format!("when {at} is specified, requirements or rawSelector is required");
            Some(FieldError::required(&at.child("requirements"), why))
        }
        (false, false) => {
            let why = "may not specified at the same time as requirements";
            Some(FieldError::invalid(&at.child("rawSelector"), raw, why))
        }
        _ => None,
    }
}

fn nobody(subject: &UserInfo) -> Option<FieldError> {
    let spec = Path::new("spec");
    let why = "at least one of user or group must be specified";
    let is_nobody = subject.name.is_empty() && subject.groups.is_empty();
    is_nobody.then(|| FieldError::invalid(&spec.child("user"), "", why))
}

fn subject(asked: &Asked<'_>) -> UserInfo {
    let words = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|word| Some(word.as_str()?.to_owned())).collect()
    };
    let spec = &asked.object["spec"];
    let extra = spec["extra"].as_object().into_iter().flatten();
    UserInfo {
        name: asked.text("/spec/user").to_owned(),
        uid: asked.text("/spec/uid").to_owned(),
        groups: words(&spec["groups"]),
        extra: extra.map(|(key, values)| (key.clone(), words(values))).collect(),
    }
}

fn decide(asked: &Asked<'_>, user: &UserInfo) -> Value {
    let path = asked.object.pointer("/spec/nonResourceAttributes").filter(|given| !given.is_null());
    let (verb, target) = if path.is_some() {
        (
            asked.text("/spec/nonResourceAttributes/verb"),
            Target::Path(asked.text("/spec/nonResourceAttributes/path")),
        )
    } else {
        let field = |name: &str| asked.text(&format!("/spec/resourceAttributes/{name}"));
        let target = Resource {
            group: field("group"),
            version: field("version"),
            resource: field("resource"),
            subresource: field("subresource"),
            namespace: field("namespace"),
            name: field("name"),
            field_selector: asked.text("/spec/resourceAttributes/fieldSelector/rawSelector"),
        };
        (field("verb"), Target::Resource(target))
    };
    match asked.server.authorization.authorize(&Attributes { user, verb, target }) {
        Decision::Allow(reason) if reason.is_empty() => json!({"allowed": true}),
        Decision::Allow(reason) => json!({"allowed": true, "reason": &*reason}),
        Decision::NoOpinion(reason) if reason.is_empty() => json!({"allowed": false}),
        Decision::NoOpinion(reason) => json!({"allowed": false, "reason": reason}),
    }
}
