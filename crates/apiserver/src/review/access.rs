//! May somebody do something? Asked of the same authorizer that decides on requests.

use apimachinery::field::{FieldError, Path};
use apimachinery::status::Status;
use auth::{Attributes, Authorizer, Decision, Resource, Target, UserInfo};
use serde_json::{Value, json};

use super::Asked;

/// May the caller?
pub(super) fn own(asked: &Asked<'_>) -> Result<Value, Status> {
    check_one_target(asked)?;
    Ok(asked.with_status(decide(asked, asked.call.user)))
}

/// May that subject?
pub(super) fn of_subject(asked: &Asked<'_>) -> Result<Value, Status> {
    check_one_target(asked)?;
    let subject = subject(asked)?;
    Ok(asked.with_status(decide(asked, &subject)))
}

/// May that subject, in the namespace of the path?
pub(super) fn local(asked: &Asked<'_>) -> Result<Value, Status> {
    let spec = Path::new("spec");
    let attributes = spec.child("resourceAttributes");
    if asked.object.pointer("/spec/nonResourceAttributes").is_some_and(|given| !given.is_null()) {
        let why = "disallowed on this kind of request";
        return Err(asked.invalid(vec![FieldError::invalid(&spec.child("nonResourceAttributes"), "", why)]));
    }
    let given = asked.text("/spec/resourceAttributes/namespace");
    if given != asked.namespace {
        let path = attributes.child("namespace");
        let why = "must match metadata.namespace";
        return Err(asked.invalid(vec![FieldError::invalid(&path, given, why)]));
    }
    of_subject(asked)
}

fn check_one_target(asked: &Asked<'_>) -> Result<(), Status> {
    let given = |name: &str| asked.object["spec"].get(name).is_some_and(|value| !value.is_null());
    let spec = Path::new("spec");
    let path = spec.child("nonResourceAttributes");
    match (given("resourceAttributes"), given("nonResourceAttributes")) {
        (true, true) => {
            let why = "cannot be specified in combination with resourceAttributes";
            Err(asked.invalid(vec![FieldError::invalid(&path, "", why)]))
        }
        (false, false) => {
            let path = spec.child("resourceAttributes");
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            Err(asked.invalid(vec![FieldError::invalid(&path, "", why)]))
        }
        _ => Ok(()),
    }
}

fn subject(asked: &Asked<'_>) -> Result<UserInfo, Status> {
    let words = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|word| Some(word.as_str()?.to_owned())).collect()
    };
    let spec = &asked.object["spec"];
    let extra = spec["extra"].as_object().into_iter().flatten();
    let user = UserInfo {
        name: asked.text("/spec/user").to_owned(),
        uid: asked.text("/spec/uid").to_owned(),
        groups: words(&spec["groups"]),
        extra: extra.map(|(key, values)| (key.clone(), words(values))).collect(),
    };
    if user.name.is_empty() && user.groups.is_empty() {
        let (spec, why) = (Path::new("spec"), "at least one of user or group must be specified");
        return Err(asked.invalid(vec![FieldError::invalid(&spec.child("user"), "", why)]));
    }
    Ok(user)
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
