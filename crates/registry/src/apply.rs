//! Server-side apply: a configuration merged into an object, or an object made of one.

use std::sync::Arc;

use apimachinery::gvk::GroupVersionKind;
use apimachinery::managed::{self, ApplyError};
use apimachinery::status::{Cause, Status};
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::managing::{self, Writing};
use crate::modify::{Change, Target};
use crate::tree::{at, text};
use crate::{Kind, Object, Part, Registry, RequestContext, Updated, decode};

/// A configuration that a client wants to be part of an object.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// What it says of the object.
    pub config: Value,
    /// Take over what others manage.
    pub force: bool,
}

impl Registry {
    pub(crate) async fn write_applied(
        &self,
        cx: &RequestContext,
        kind: &Arc<Kind>,
        namespace: &str,
        name: &str,
        part: Part,
        configuration: &Configuration,
    ) -> Result<Updated, Status> {
        check(&kind.gvk, &configuration.config)?;
        self.fresh().await?;
        if part == Part::Whole && self.item(kind, namespace, name).is_err() {
            match self.create_applied(cx, kind, namespace, name, configuration).await {
                // Somebody else was faster.
                Err(status) if status.is_already_exists() => {}
                done => return done.map(|object| Updated { object, created: true }),
            }
        }
        let conditional = !text(&configuration.config, &["metadata", "resourceVersion"]).is_empty();
        let target = Target { kind, namespace, name, part, conditional, applied: true };
        self.modify_by(cx, target, Applying { registry: self, cx, target, configuration }).await
    }

    async fn create_applied(
        &self,
        cx: &RequestContext,
        kind: &Arc<Kind>,
        namespace: &str,
        name: &str,
        configuration: &Configuration,
    ) -> Result<Object, Status> {
        let uid = text(&configuration.config, &["metadata", "uid"]);
        if !uid.is_empty() {
            let why = format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            );
            return Err(Status::conflict(&kind.resource.name, name, why));
        }
        let nothing = json!({"apiVersion": kind.api_version(), "kind": kind.kind});
        let mut body = self.applied(cx, kind, Part::Whole, &nothing, configuration).await?;
        decode::place(kind, namespace, Some(name), &mut body)?;
        self.write_applied_new(cx, kind, namespace, body).await
    }

    /// The object with the configuration in it, and its managers.
    async fn applied(
        &self,
        cx: &RequestContext,
        kind: &Kind,
        part: Part,
        old: &Value,
        Configuration { config, force }: &Configuration,
    ) -> Result<Value, Status> {
        let writing = Writing::new(cx, self, kind, part);
        let failed = |error| status_of(kind, config, error);
        let entries = writing.known(managing::entries_of(old));
        let merged = writing.writer().merge(old, entries, config).map_err(failed)?;
        let others = writing.others(merged.versions(), old, &merged.object).await?;
        let done = writing.writer().settle(old, merged, config, *force, &others.seen());
        let done = done.map_err(failed)?;
        let mut new = done.object;
        managing::put(&mut new, managed::encode(done.entries));
        Ok(new)
    }
}

/// A configuration on its way into an object.
struct Applying<'a> {
    registry: &'a Registry,
    cx: &'a RequestContext,
    target: Target<'a>,
    configuration: &'a Configuration,
}

#[async_trait]
impl Change for Applying<'_> {
    async fn of(&self, old: &Value) -> Result<Value, Status> {
        let Target { kind, namespace, name, part, .. } = self.target;
        let mut new = self.registry.applied(self.cx, kind, part, old, self.configuration).await?;
        decode::decode(self.cx, kind, &mut new)?;
        decode::place(kind, namespace, Some(name), &mut new)?;
        Ok(new)
    }
}

/// Whether the configuration is of that kind, and leaves to the server what is the server's.
pub(crate) fn check(gvk: &GroupVersionKind, config: &Value) -> Result<(), Status> {
    let (api_version, kind) = (text(config, &["apiVersion"]), text(config, &["kind"]));
    if (api_version, kind) != (gvk.api_version().as_str(), &*gvk.kind) {
        let api_version = if api_version.is_empty() { "/" } else { api_version };
        return Err(Status::bad_request(format!("invalid object type: {api_version}, Kind={kind}")));
    }
    if at(config, &["metadata", "managedFields"]).is_some_and(|managed| !managed.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    Ok(())
}

fn status_of(kind: &Kind, config: &Value, error: ApplyError) -> Status {
    match error {
        ApplyError::Unfit(why) => {
            let (namespace, name) =
                (text(config, &["metadata", "namespace"]), text(config, &["metadata", "name"]));
            let what = format!("{namespace}/{name}; {kind:?}");
            Status::without_reason(format!("failed to create typed patch object ({what}): {why}"))
        }
        ApplyError::Conflicts(conflicts) => {
            let message = ApplyError::describe(&conflicts);
            let causes = conflicts.into_iter().map(|conflict| Cause {
                reason: "FieldManagerConflict".to_owned(),
                message: format!("conflict with {}", conflict.manager),
                field: conflict.path,
            });
            Status::apply_conflict(message, causes.collect())
        }
    }
}
