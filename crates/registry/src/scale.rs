//! `/scale`: one shape for everything that has replicas.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::gvk::{GroupKind, GroupVersionKind};
use apimachinery::selector::Selector;
use apimachinery::status::Status;
use serde_json::{Value, json};

use crate::admit::Attributes;
use crate::cache::Item;
use crate::modify::Target;
use crate::strategy::Scale;
use crate::tree::{at, copy, map, text};
use crate::{Configuration, Head, Kind, Object, Part, Patch, Registry, RequestContext, Updated};

const SCALE: GroupKind = GroupKind::of("autoscaling", "Scale");

impl Registry {
    /// The scale of an object.
    pub(crate) async fn scale_of(&self, kind: &Kind, item: &Item) -> Result<Object, Status> {
        let scale = scale(kind, &kind.tree(item).await?)?;
        let encoded = crate::encode::encode(&scale).map_err(Status::internal_error)?;
        Ok(Object {
            head: Head::new("autoscaling/v1", "Scale"),
            body: encoded.at(item.revision),
            revision: item.revision,
        })
    }

    pub(crate) async fn replace_scale(
        &self,
        cx: &RequestContext,
        kind: &Arc<Kind>,
        namespace: &str,
        name: &str,
        scale: Value,
    ) -> Result<Updated, Status> {
        let conditional = !text(&scale, &["metadata", "resourceVersion"]).is_empty();
        let target = Target { kind, namespace, name, part: Part::Scale, conditional, applied: false };
        self.change_scale(cx, target, |_| Ok(scale.clone())).await
    }

    pub(crate) async fn patch_scale(
        &self,
        cx: &RequestContext,
        kind: &Arc<Kind>,
        namespace: &str,
        name: &str,
        patch: &Patch,
    ) -> Result<Updated, Status> {
        let conditional = crate::patching::names_version(patch);
        let target = Target { kind, namespace, name, part: Part::Scale, conditional, applied: false };
        self.change_scale(cx, target, |scale| {
            // A scale has no list that strategic merge would treat in its own way.
            let patch = match patch {
                Patch::Strategic(patch) => &Patch::Merge(patch.clone()),
                other => other,
            };
            crate::patching::apply(kind, scale, patch)
        })
        .await
    }

    async fn change_scale(
        &self,
        cx: &RequestContext,
        target: Target<'_>,
        change: impl Fn(&Value) -> Result<Value, Status> + Send + Sync,
    ) -> Result<Updated, Status> {
        let kind = target.kind;
        let parts = parts(kind)?;
        let changed = self.modify(cx, target, |old| {
            let scale = change(&scale(kind, old)?)?;
            let replicas = checked_replicas(&scale, target.name)?;
            let mut new = old.clone();
            set(&mut new, &parts.spec_replicas, replicas.into());
            let version = text(&scale, &["metadata", "resourceVersion"]);
            if !version.is_empty() {
                crate::tree::object(&mut new, "metadata").insert("resourceVersion".into(), version.into());
            }
            Ok(new)
        });
        answer(kind, &changed.await?.object)
    }

    /// A scale's configuration is one of the object, of its replicas alone.
    pub(crate) async fn apply_scale(
        &self,
        cx: &RequestContext,
        kind: &Arc<Kind>,
        namespace: &str,
        name: &str,
        configuration: &Configuration,
    ) -> Result<Updated, Status> {
        let parts = parts(kind)?;
        crate::apply::check(&GroupVersionKind::of("autoscaling", "v1", "Scale"), &configuration.config)?;
        let mut config = json!({"apiVersion": kind.api_version(), "kind": kind.kind});
        copy(&mut config, &configuration.config, "metadata");
        if at(&configuration.config, &["spec", "replicas"]).is_some() {
            let replicas = checked_replicas(&configuration.config, name)?;
            set(&mut config, &parts.spec_replicas, replicas.into());
        }
        let configuration = Configuration { config, force: configuration.force };
        let applied = self.write_applied(cx, kind, namespace, name, Part::Scale, &configuration).await?;
        answer(kind, &applied.object)
    }
}

impl Registry {
    /// Lets admission change the scale that a changed object has: it sees a Scale, not the object.
    pub(crate) async fn admit_scale(
        &self,
        cx: &RequestContext,
        attributes: Attributes<'_>,
        object: &mut Value,
    ) -> Result<(), Status> {
        let kind = attributes.kind;
        let old = attributes.old.map(|old| scale(kind, old)).transpose()?;
        let wanted = scale(kind, object)?;
        let mut admitted = wanted.clone();
        cx.admission.mutate(Attributes { old: old.as_ref(), ..attributes }, &mut admitted).await?;
        if admitted.get("spec") != wanted.get("spec") {
            let replicas = checked_replicas(&admitted, attributes.name)?;
            set(object, &parts(kind)?.spec_replicas, replicas.into());
        }
        Ok(())
    }

    /// Lets admission judge it.
    pub(crate) async fn judge_scale(
        &self,
        cx: &RequestContext,
        attributes: Attributes<'_>,
        object: &Value,
    ) -> Result<(), Status> {
        let old = attributes.old.map(|old| scale(attributes.kind, old)).transpose()?;
        let judged = scale(attributes.kind, object)?;
        cx.admission.validate(Attributes { old: old.as_ref(), ..attributes }, Some(&judged)).await
    }
}

fn answer(kind: &Kind, object: &Object) -> Result<Updated, Status> {
    let scale = scale(kind, &object.tree())?;
    let encoded = crate::encode::encode(&scale).map_err(Status::internal_error)?;
    let object = Object {
        head: Head::new("autoscaling/v1", "Scale"),
        body: encoded.at(object.revision),
        revision: object.revision,
    };
    Ok(Updated { object, created: false })
}

fn parts(kind: &Kind) -> Result<&Scale, Status> {
    kind.scale.as_ref().ok_or_else(Status::no_such_path)
}

fn checked_replicas(scale: &Value, name: &str) -> Result<i64, Status> {
    let replicas = match at(scale, &["spec", "replicas"]) {
        None | Some(Value::Null) => 0,
        Some(value) => value.as_i64().filter(|count| i32::try_from(*count).is_ok()).ok_or_else(|| {
            Status::bad_request(
                "Scale in version \"v1\" cannot be handled as a Scale: spec.replicas must be an int32",
            )
        })?,
    };
    if replicas < 0 {
        let spec = Path::new("spec");
        let why = "must be greater than or equal to 0";
        let error = FieldError::invalid(&spec.child("replicas"), replicas, why);
        return Err(Status::invalid(&SCALE, name, vec![error]));
    }
    Ok(replicas)
}

fn set(tree: &mut Value, path: &[String], value: Value) {
    let Some((last, parents)) = path.split_last() else { return };
    let mut place = tree;
    for name in parents {
        place = map(place).entry(name.clone()).or_insert_with(|| Value::Object(serde_json::Map::new()));
    }
    map(place).insert(last.clone(), value);
}

fn scale(kind: &Kind, object: &Value) -> Result<Value, Status> {
    let parts = parts(kind)?;
    let find = |path: &[String]| -> Option<&Value> {
        path.iter().try_fold(object, |value, name| value.get(name.as_str()))
    };
    let mut metadata = json!({});
    for name in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        copy(&mut metadata, object.get("metadata").unwrap_or(&Value::Null), name);
    }
    if let Some(managed) = crate::managing::of_scale(object, &parts.spec_replicas) {
        metadata["managedFields"] = managed;
    }
    let mut spec = json!({});
    if let Some(replicas) = find(&parts.spec_replicas) {
        spec["replicas"] = replicas.clone();
    }
    let mut status = json!({"replicas": find(&parts.status_replicas).cloned().unwrap_or(0.into())});
    match parts.selector.as_deref().and_then(find) {
        Some(Value::String(selector)) => status["selector"] = selector.clone().into(),
        // The plain map of a ReplicationController.
        Some(Value::Object(labels)) if labels.values().any(Value::is_string) => {
            status["selector"] = Selector::from_map(Some(labels)).to_string().into();
        }
        Some(selector) => {
            let path = Path::new("spec");
            if let Ok(selector) = Selector::from_object(selector, &path) {
                status["selector"] = selector.to_string().into();
            }
        }
        None => {}
    }
    Ok(
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": metadata, "spec": spec, "status": status}),
    )
}
