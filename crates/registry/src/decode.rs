//! From a client's tree to a proper object of a kind.

use apimachinery::gvk::GroupVersionKind;
use apimachinery::schema::strict_error;
use apimachinery::status::Status;
use serde_json::Value;

use crate::tree::{map, object, text};
use crate::{FieldValidation, Kind, RequestContext};

/// Checks apiVersion and kind, types and unknown fields, and fills in TypeMeta.
pub(crate) fn decode(cx: &RequestContext, kind: &Kind, body: &mut Value) -> Result<(), Status> {
    type_meta(&kind.gvk, body)?;
    let unknown = conform(kind, body)?;
    report(cx, &kind.gvk, &unknown)
}

/// The same for a kind that is sent to a subresource and never stored.
///
/// # Errors
/// As for any object that is written.
pub fn decode_sent(cx: &RequestContext, gvk: &GroupVersionKind, body: &mut Value) -> Result<(), Status> {
    type_meta(gvk, body)?;
    let Some(schema) = api::schemas::builtin().kind(gvk) else { return Err(Status::no_such_path()) };
    let done = schema.conform(body).map_err(|error| error.to_status(gvk))?;
    report(cx, gvk, &done.unknown)
}

/// Brings an object into the form of its kind. What the kind does not have goes silently.
pub(crate) fn conform_to(kind: &Kind, body: &mut Value) -> Result<(), Status> {
    type_meta(&kind.gvk, body)?;
    conform(kind, body).map(drop)
}

/// The same for a kind that is sent to a subresource and never stored.
pub(crate) fn conform_sent(gvk: &GroupVersionKind, body: &mut Value) -> Result<(), Status> {
    type_meta(gvk, body)?;
    let Some(schema) = api::schemas::builtin().kind(gvk) else { return Ok(()) };
    schema.conform(body).map(drop).map_err(|error| error.to_status(gvk))
}

/// Says what the client wrote that its kind does not have, in the way that the client wants to be told.
fn report(cx: &RequestContext, gvk: &GroupVersionKind, unknown: &[String]) -> Result<(), Status> {
    match cx.field_validation {
        FieldValidation::Ignore => {}
        FieldValidation::Strict => {
            if let Some(status) = strict_error(gvk, unknown, &cx.decode_errors) {
                return Err(status);
            }
        }
        FieldValidation::Warn => {
            for path in unknown {
                cx.warnings.add(format!("unknown field {}", apimachinery::field::quote(path)));
            }
            for path in &cx.decode_errors {
                cx.warnings.add(format!("duplicate field {}", apimachinery::field::quote(path)));
            }
        }
    }
    Ok(())
}

fn type_meta(gvk: &GroupVersionKind, body: &mut Value) -> Result<(), Status> {
    if !body.is_object() {
        return Err(Status::bad_request("the object provided is unrecognized (must be of type object)"));
    }
    let (api_version, kind) = (gvk.api_version(), &*gvk.kind);
    let given = (text(body, &["apiVersion"]), text(body, &["kind"]));
    if !given.0.is_empty() && given.0 != api_version {
        let message = format!(
            "the API version in the data ({}) does not match the expected API version ({api_version})",
            given.0
        );
        return Err(Status::bad_request(message));
    }
    if !given.1.is_empty() && given.1 != kind {
        let message = format!(
            "{} in version {:?} cannot be handled as a {}: no kind {:?} matches",
            given.1, gvk.version, kind, given.1
        );
        return Err(Status::bad_request(message));
    }
    let map = map(body);
    if map.get("apiVersion").is_none_or(|value| value != api_version.as_str()) {
        map.insert("apiVersion".into(), api_version.into());
    }
    if map.get("kind").is_none_or(|value| value != kind) {
        map.insert("kind".into(), kind.into());
    }
    Ok(())
}

fn conform(kind: &Kind, body: &mut Value) -> Result<Vec<String>, Status> {
    let Some(schema) = &kind.schema else { return Ok(Vec::new()) };
    let schema = schema.get();
    if !kind.custom {
        let done = schema.conform(body).map_err(|error| error.to_status(&kind.gvk))?;
        return Ok(done.unknown);
    }
    // The envelope is that of any object, whatever the custom schema says about it.
    let mut metadata = map(body).remove("metadata").unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    let mut unknown = crate::meta::conform(&mut metadata, &kind.gvk)?;
    unknown.extend(schema.prune(body));
    schema.prune_nulls(body);
    schema.apply_defaults(body);
    map(body).insert("metadata".into(), metadata);
    Ok(unknown)
}

/// Brings namespace and name of the request and of the object together.
pub(crate) fn place(
    kind: &Kind,
    namespace: &str,
    name: Option<&str>,
    body: &mut Value,
) -> Result<(), Status> {
    let given = text(body, &["metadata", "namespace"]);
    if kind.namespaced && given != namespace {
        if !given.is_empty() {
            let message =
                "the namespace of the provided object does not match the namespace sent on the request";
            return Err(Status::bad_request(message));
        }
        object(body, "metadata").insert("namespace".into(), namespace.into());
    } else if !kind.namespaced && !given.is_empty() {
        object(body, "metadata").remove("namespace");
    }
    let Some(name) = name else { return Ok(()) };
    let given = text(body, &["metadata", "name"]);
    if given.is_empty() {
        object(body, "metadata").insert("name".into(), name.into());
    } else if given != name {
        let message = format!("the name of the object ({given}) does not match the name on the URL ({name})");
        return Err(Status::bad_request(message));
    }
    Ok(())
}
