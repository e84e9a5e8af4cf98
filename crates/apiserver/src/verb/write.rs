//! create, update, patch, and the binding and eviction of pods.

use std::sync::Arc;

use apimachinery::status::Status;
use http::StatusCode;
use registry::{Configuration, Part, Patch, RequestContext};
use serde_json::{Value, json};

use super::On;
use crate::incoming;
use crate::negotiate::{self, Syntax};
use crate::request_info::ResourceInfo;
use crate::respond::{self, Answer};
use crate::server::{ApiServer, Call};

/// A patch that applies.
const APPLY: &str = "application/apply-patch+yaml";

/// A new object.
pub(super) async fn create(on: On<'_>) -> Answer {
    let (context, body) = on.write("CreateOptions")?;
    let object = on.server.registry.create(&context, &on.kind, on.namespace, body).await?;
    on.object(StatusCode::CREATED, object, Part::Whole)
}

/// A pod's node.
pub(super) async fn bind(on: On<'_>) -> Answer {
    let (context, body) = on.write("CreateOptions")?;
    on.server.registry.bind(&context, on.namespace, on.name, body).await?;
    created(&on)
}

/// The same, where the body says which pod.
pub(super) async fn bind_named(server: &Arc<ApiServer>, call: Call<'_>, info: &ResourceInfo<'_>) -> Answer {
    if info.verb != "create" {
        return Err(super::not_supported(info));
    }
    if info.namespace.is_empty() || !info.name.is_empty() || !info.subresource.is_empty() {
        return Err(Status::no_such_path());
    }
    let kinds = server.registry.kinds();
    let kind = kinds.lookup("", "v1", "pods").ok_or_else(Status::no_such_path)?.clone();
    let form = negotiate::form(&call.parts.headers)?;
    let on = On { server, call, kind, namespace: &info.namespace, name: "", form };
    let (context, body) = on.write("CreateOptions")?;
    let name = body.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    if name.is_empty() {
        return Err(Status::bad_request("the binding names no pod"));
    }
    server.registry.bind(&context, on.namespace, &name, body).await?;
    created(&on)
}

/// A pod's end, if its budget allows it.
pub(super) async fn evict(on: On<'_>) -> Answer {
    let (mut context, body) = on.write("CreateOptions")?;
    let options = body.get("deleteOptions").filter(|options| !options.is_null()).cloned();
    let (options, dry_run) = on.call.query.delete_options(Some(options.unwrap_or_else(|| json!({}))))?;
    context.dry_run |= dry_run;
    on.server.registry.evict(&context, on.namespace, on.name, body, &options).await?;
    created(&on)
}

fn created(on: &On<'_>) -> Answer {
    let success =
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    respond::tree(StatusCode::CREATED, on.form.syntax, &success)
}

/// An object, or a part of it, as a whole.
pub(super) async fn update(on: On<'_>, part: Part) -> Answer {
    let (context, body) = on.write("UpdateOptions")?;
    let registry = &on.server.registry;
    let updated = registry.update(&context, &on.kind, on.namespace, on.name, part, body).await?;
    on.object(code_of(updated.created), updated.object, part)
}

/// A change to an object or a part of it.
pub(super) async fn patch(on: On<'_>, part: Part) -> Answer {
    let media_type = negotiate::content_type(&on.call.parts.headers);
    if media_type == APPLY {
        return apply(on, part).await;
    }
    let (options, _) = on.call.query.patch_options(false)?;
    let strategic = !on.kind.custom;
    let to_patch: fn(Value) -> Patch = match media_type {
        "application/json-patch+json" => Patch::Json,
        "application/merge-patch+json" => Patch::Merge,
        "application/strategic-merge-patch+json" if strategic => Patch::Strategic,
        _ => return Err(unknown_patch(strategic)),
    };
    let (body, errors) = incoming::decode(&on.call.body, Syntax::Json)?;
    let mut context = on.context(options);
    context.decode_errors = errors;
    let registry = &on.server.registry;
    let patched = registry.patch(&context, &on.kind, on.namespace, on.name, part, &to_patch(body)).await?;
    on.object(code_of(patched.created), patched.object, part)
}

/// A configuration that becomes part of an object, or a new one.
async fn apply(on: On<'_>, part: Part) -> Answer {
    let (options, force) = on.call.query.patch_options(true)?;
    let (config, errors) = incoming::decode(&on.call.body, Syntax::Yaml)?;
    if !config.is_object() {
        return Err(Status::bad_request("error decoding patch: it must be an object"));
    }
    let mut context = on.context(options);
    context.decode_errors = errors;
    let configuration = Configuration { config, force };
    let registry = &on.server.registry;
    let applied = registry.apply(&context, &on.kind, on.namespace, on.name, part, &configuration).await?;
    on.object(code_of(applied.created), applied.object, part)
}

fn code_of(created: bool) -> StatusCode {
    if created { StatusCode::CREATED } else { StatusCode::OK }
}

fn unknown_patch(strategic: bool) -> Status {
    let (json, merge) = ("application/json-patch+json", "application/merge-patch+json");
    match strategic {
        true => {
            Status::unsupported_media_type(&[json, merge, "application/strategic-merge-patch+json", APPLY])
        }
        false => Status::unsupported_media_type(&[json, merge, APPLY]),
    }
}

impl On<'_> {
    /// The context and the object of a create or update.
    pub(super) fn write(&self, options: &'static str) -> Result<(RequestContext, Value), Status> {
        let options = self.call.query.write_options(options)?;
        let syntax = negotiate::body_syntax(&self.call.parts.headers)?;
        let (body, errors) = incoming::decode(&self.call.body, syntax)?;
        let mut context = self.context(options);
        context.decode_errors = errors;
        Ok((context, body))
    }
}
