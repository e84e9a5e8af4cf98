//! Kinds that are answered and never stored: may I, who am I, whose token is this; and where a pod runs.

mod access;
mod identity;
mod rules;

use std::sync::Arc;

use apimachinery::field::FieldError;
use apimachinery::gvk::{GroupKind, GroupVersionKind};
use apimachinery::schema::strict_error;
use apimachinery::status::Status;
use http::StatusCode;
use registry::FieldValidation;
use serde_json::{Value, json};

use crate::incoming;
use crate::negotiate;
use crate::request_info::ResourceInfo;
use crate::respond::{self, Answer};
use crate::server::{ApiServer, Call};

/// A kind that can only be created, and whose creation answers at once.
pub(crate) struct Review {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) namespaced: bool,
    /// The object with its status filled in; `None` for what is carried out rather than answered.
    answer: Option<Answering>,
}

/// Fills in the status of what was asked.
type Answering = fn(&Asked<'_>) -> Result<Value, Status>;

/// What a review is about.
pub(crate) struct Asked<'a> {
    pub(crate) server: &'a ApiServer,
    pub(crate) call: &'a Call<'a>,
    pub(crate) namespace: &'a str,
    pub(crate) object: Value,
}

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

const fn review(group: &'static str, kind: &'static str, plural: &'static str, answer: Answering) -> Review {
    Review { group, version: "v1", kind, plural, namespaced: false, answer: Some(answer) }
}

/// What a scheduler says of a pod, in upstream's form of old: the pod is named in the body.
pub(crate) const BINDING: Review =
    Review { group: "", version: "v1", kind: "Binding", plural: "bindings", namespaced: true, answer: None };

/// All of them, sorted by group and plural.
pub(crate) const REVIEWS: [Review; 7] = [
    BINDING,
    review(AUTHENTICATION, "SelfSubjectReview", "selfsubjectreviews", identity::own),
    review(AUTHENTICATION, "TokenReview", "tokenreviews", identity::of_token),
    Review {
        namespaced: true,
        ..review(AUTHORIZATION, "LocalSubjectAccessReview", "localsubjectaccessreviews", access::local)
    },
    review(AUTHORIZATION, "SelfSubjectAccessReview", "selfsubjectaccessreviews", access::own),
    review(AUTHORIZATION, "SelfSubjectRulesReview", "selfsubjectrulesreviews", rules::own),
    review(AUTHORIZATION, "SubjectAccessReview", "subjectaccessreviews", access::of_subject),
];

/// The review that the path names.
pub(crate) fn find(info: &ResourceInfo<'_>) -> Option<&'static Review> {
    REVIEWS.iter().find(|review| {
        review.group == info.group && review.version == info.version && review.plural == info.resource
    })
}

/// Answers it.
pub(crate) fn answer(
    server: &Arc<ApiServer>,
    call: &Call<'_>,
    info: &ResourceInfo<'_>,
    review: &Review,
) -> Answer {
    let misplaced = review.namespaced == info.namespace.is_empty();
    if misplaced || !info.subresource.is_empty() || !info.name.is_empty() {
        return Err(Status::no_such_path());
    }
    if info.verb != "create" {
        let resource = apimachinery::gvk::GroupResource::of(review.group, review.plural);
        return Err(Status::method_not_supported(&resource, info.verb));
    }
    let form = negotiate::form(&call.parts.headers)?;
    let syntax = negotiate::body_syntax(&call.parts.headers)?;
    let (mut object, _) = incoming::decode(&call.body, syntax)?;
    if !object.is_object() {
        return Err(Status::bad_request("the object provided is unrecognized (must be of type Object)"));
    }
    check_type(review, &mut object)?;
    conform(review, &mut object, call)?;
    let asked = Asked { server, call, namespace: &info.namespace, object };
    let answer = review.answer.ok_or_else(Status::no_such_path)?;
    respond::tree(StatusCode::CREATED, form.syntax, &answer(&asked)?)
}

/// The object may name its type; if so, it must be the path's.
fn check_type(review: &Review, object: &mut Value) -> Result<(), Status> {
    let version = format!("{}/{}", review.group, review.version);
    for (field, wanted) in [("apiVersion", version.as_str()), ("kind", review.kind)] {
        match object.get(field).and_then(Value::as_str).unwrap_or_default() {
            "" => object[field] = json!(wanted),
            given if given == wanted => {}
            given => {
                return Err(Status::bad_request(format!(
                    "the {field} in the data ({given}) does not match the expected {field} ({wanted})"
                )));
            }
        }
    }
    if object.get("metadata").is_none_or(Value::is_null) {
        object["metadata"] = json!({});
    }
    Ok(())
}

/// Types are those of the kind; unknown fields go, or are refused if the client wants that.
fn conform(review: &Review, object: &mut Value, call: &Call<'_>) -> Result<(), Status> {
    let gvk = GroupVersionKind::of(review.group, review.version, review.kind);
    let Some(schema) = api::schemas::builtin().kind(&gvk) else { return Ok(()) };
    let done = schema.conform(object).map_err(|error| error.to_status(&gvk))?;
    let options = call.query.write_options("CreateOptions")?;
    let refused = strict_error(&gvk, &done.unknown, &[]);
    refused.filter(|_| options.field_validation == FieldValidation::Strict).map_or(Ok(()), Err)
}

impl Asked<'_> {
    /// The object with this status.
    fn with_status(&self, status: Value) -> Value {
        let mut object = self.object.clone();
        object["status"] = status;
        object
    }

    /// Text at a place of the object.
    fn text(&self, pointer: &str) -> &str {
        self.object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// 422 about the object if anything is wrong with it.
    fn sound(&self, errors: Vec<FieldError>) -> Result<(), Status> {
        if errors.is_empty() {
            return Ok(());
        }
        let group = self.object["apiVersion"].as_str().and_then(|version| version.split_once('/'));
        let kind = self.object["kind"].as_str().unwrap_or_default().to_owned();
        let group = group.map(|(group, _)| group.to_owned()).unwrap_or_default();
        Err(Status::invalid(&GroupKind { group: group.into(), kind: kind.into() }, "", errors))
    }
}
