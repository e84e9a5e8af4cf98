//! The APIServices of custom resources: there as long as their definitions are served, and as they should be. Those of what
//! parts of this process serve: there again whenever they are not, and otherwise as somebody may have changed them.
//!
//! Those of built-in groups are made at the start, and belong to whoever changes them from then on.

use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::meta;
use apimachinery::status::Status;
use jiff::Timestamp;
use registry::{AdmitAll, DeleteOptions, Kind, ListOptions, Part, Registry, RequestContext};
use serde_json::{Value, json};

use super::Extension;

/// Says that an APIService is kept as it should be; one without this label is somebody else's.
const AUTOMANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// Makes, changes and deletes what is not as it should be. What fails is tried again at the next change.
pub(super) async fn reconcile(
    registry: &Registry,
    kind: &Arc<Kind>,
    extensions: &[Extension],
    now: Timestamp,
) {
    let context = RequestContext::new(now, Arc::new(AdmitAll));
    let listed = registry.list(kind, "", &ListOptions::default()).await;
    let Ok(listed) = listed else { return };
    let stored: BTreeMap<String, Value> = listed
        .objects()
        .map(|object| object.tree())
        .map(|tree| (meta::name(&tree).to_owned(), tree))
        .collect();
    for step in plan(&wanted(registry), extensions, &stored) {
        let done: Result<(), Status> = match step {
            Step::Create(object) => registry.create(&context, kind, "", object).await.map(drop),
            Step::Update(name, object) => {
                registry.update(&context, kind, "", &name, Part::Whole, object).await.map(drop)
            }
            Step::Delete(name) => {
                registry.delete(&context, kind, "", &name, &DeleteOptions::default()).await.map(drop)
            }
        };
        match done {
            Err(status) if !status.is_conflict() && !status.is_not_found() && !status.is_already_exists() => {
                tracing::warn!(%status, "an APIService of a custom resource cannot be kept");
            }
            _ => {}
        }
    }
}

/// One for each version of each group that custom resources are served in.
fn wanted(registry: &Registry) -> BTreeMap<String, Value> {
    let kinds = registry.kinds();
    let custom = kinds.all().iter().filter(|kind| kind.custom);
    custom
        .map(|kind| {
            let name = format!("{}.{}", kind.version, kind.group);
            let spec = json!({
                "group": kind.group, "version": kind.version, "groupPriorityMinimum": 1000, "versionPriority": 100,
            });
            (name, spec)
        })
        .collect()
}

enum Step {
    Create(Value),
    Update(String, Value),
    Delete(String),
}

fn plan(
    wanted: &BTreeMap<String, Value>,
    extensions: &[Extension],
    stored: &BTreeMap<String, Value>,
) -> Vec<Step> {
    let is_kept = |object: &Value| meta::label(object, AUTOMANAGED) == Some("true");
    let create = |name: &str, automanaged: &str, spec: &Value| {
        let metadata = json!({"name": name, "labels": {AUTOMANAGED: automanaged}});
        Step::Create(json!({"metadata": metadata, "spec": spec}))
    };
    let missing = extensions.iter().filter(|extension| !stored.contains_key(&extension.name()));
    let missing = missing.map(|extension| create(&extension.name(), "onstart", &extension.spec()));
    let mut steps: Vec<Step> = missing.collect();
    for (name, spec) in wanted {
        match stored.get(name) {
            None => steps.push(create(name, "true", spec)),
            Some(known) if is_kept(known) && known["spec"] != *spec => {
                let mut object = known.clone();
                object["spec"] = spec.clone();
                steps.push(Step::Update(name.clone(), object));
            }
            Some(_) => {}
        }
    }
    let left = stored.iter().filter(|(name, object)| is_kept(object) && !wanted.contains_key(*name));
    steps.extend(left.map(|(name, _)| Step::Delete(name.clone())));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_kept_is_changed() {
        let spec =
            json!({"group": "g.io", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 100});
        let wanted: BTreeMap<String, Value> =
            ["v1.g.io", "v2.g.io", "v3.g.io"].map(|name| (name.to_owned(), spec.clone())).into();
        let object = |name: &str, label: &str, spec: &Value| {
            let object = json!({"metadata": {"name": name, "labels": {AUTOMANAGED: label}}, "spec": spec});
            (name.to_owned(), object)
        };
        let other =
            json!({"group": "g.io", "version": "v1", "groupPriorityMinimum": 5, "versionPriority": 5});
        let stored: BTreeMap<String, Value> = [
            object("v1.g.io", "true", &other),
            object("v2.g.io", "false", &other),
            object("v1.gone.io", "true", &spec),
            object("v1.apps", "onstart", &spec),
        ]
        .into();
        let extension =
            |group| Extension::new(group, "v1", |_| Box::pin(async { http::Response::default() }));
        let extensions = [extension("g.io"), extension("h.io")];
        let steps: Vec<String> = plan(&wanted, &extensions, &stored)
            .into_iter()
            .map(|step| match step {
                Step::Create(object) => format!("create {}", meta::name(&object)),
                Step::Update(name, object) => format!("update {name} {}", object["spec"]["versionPriority"]),
                Step::Delete(name) => format!("delete {name}"),
            })
            .collect();
        assert_eq!(steps, ["create v1.h.io", "update v1.g.io 100", "create v3.g.io", "delete v1.gone.io"]);
    }
}
