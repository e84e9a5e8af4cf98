//! A registry in a temporary directory, and short ways to use it.

use std::sync::Arc;

use apimachinery::status::Status;
use clock::{SeededRandom, SystemClock};
use jiff::Timestamp;
use registry::{
    AdmitAll, DeleteOptions, Deleted, FieldValidation, Kind, List, ListOptions, Object, Options, Part, Patch,
    Registry, RequestContext, WatchStream,
};
use serde_json::{Value, json};
use store::Store;

pub(crate) struct World {
    pub(crate) registry: Arc<Registry>,
    pub(crate) store: Arc<dyn Store>,
    _directory: Option<tempfile::TempDir>,
}

pub(crate) fn now() -> Timestamp {
    "2026-11-22T10:00:00Z".parse().unwrap()
}

pub(crate) fn options() -> Options {
    Options::new(Arc::new(SystemClock::default()), Arc::new(SeededRandom::new(7)))
}

pub(crate) fn cx() -> RequestContext {
    RequestContext::new(now(), Arc::new(AdmitAll))
}

pub(crate) fn strict() -> RequestContext {
    RequestContext { field_validation: FieldValidation::Strict, ..cx() }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(options()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let disk = disk::Options::new(directory.path().join("store"));
        let store = store::Embedded::open(&disk, store::History::default()).unwrap();
        Self { _directory: Some(directory), ..Self::over(Arc::new(store), options).await }
    }

    /// A registry over this store.
    pub(crate) async fn over(store: Arc<dyn Store>, options: Options) -> Self {
        let registry = Registry::open(store.clone(), options).await.unwrap();
        Self { registry, store, _directory: None }
    }

    /// Another registry over the same store, as after a restart.
    pub(crate) async fn again(&self) -> World {
        self.registry.close().await;
        World::over(self.store.clone(), options()).await
    }

    /// `pods`, `deployments.apps` or `events.events.k8s.io`, in version `v1` unless it is `name@version`.
    pub(crate) fn kind(&self, resource: &str) -> Arc<Kind> {
        let (resource, version) = resource.split_once('@').unwrap_or((resource, "v1"));
        let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
        self.registry
            .kinds()
            .lookup(group, version, plural)
            .unwrap_or_else(|| panic!("no kind {resource}"))
            .clone()
    }

    pub(crate) async fn create(&self, resource: &str, body: Value) -> Result<Value, Status> {
        self.create_in(&cx(), resource, "default", body).await
    }

    pub(crate) async fn create_in(
        &self,
        cx: &RequestContext,
        resource: &str,
        namespace: &str,
        body: Value,
    ) -> Result<Value, Status> {
        let kind = self.kind(resource);
        let namespace = if kind.namespaced { namespace } else { "" };
        self.registry.create(cx, &kind, namespace, body).await.map(|object| object.tree())
    }

    pub(crate) async fn get(&self, resource: &str, name: &str) -> Result<Value, Status> {
        self.get_part(resource, name, Part::Whole).await
    }

    pub(crate) async fn get_part(&self, resource: &str, name: &str, part: Part) -> Result<Value, Status> {
        let kind = self.kind(resource);
        let namespace = if kind.namespaced { "default" } else { "" };
        self.registry.get(&kind, namespace, name, part).await.map(|object| object.tree())
    }

    pub(crate) async fn update(&self, resource: &str, body: Value) -> Result<Value, Status> {
        self.update_part(resource, Part::Whole, body).await
    }

    pub(crate) async fn update_part(&self, resource: &str, part: Part, body: Value) -> Result<Value, Status> {
        let kind = self.kind(resource);
        let namespace = if kind.namespaced { "default" } else { "" };
        let name = body["metadata"]["name"].as_str().unwrap().to_owned();
        let updated = self.registry.update(&cx(), &kind, namespace, &name, part, body).await;
        updated.map(|updated| updated.object.tree())
    }

    pub(crate) async fn patch(
        &self,
        resource: &str,
        name: &str,
        part: Part,
        patch: Patch,
    ) -> Result<Value, Status> {
        let kind = self.kind(resource);
        let namespace = if kind.namespaced { "default" } else { "" };
        let updated = self.registry.patch(&cx(), &kind, namespace, name, part, &patch).await;
        updated.map(|updated| updated.object.tree())
    }

    pub(crate) async fn merge(&self, resource: &str, name: &str, patch: Value) -> Result<Value, Status> {
        self.patch(resource, name, Part::Whole, Patch::Merge(patch)).await
    }

    pub(crate) async fn delete(&self, resource: &str, name: &str) -> Result<Deleted, Status> {
        self.delete_with(resource, name, DeleteOptions::default()).await
    }

    pub(crate) async fn delete_with(
        &self,
        resource: &str,
        name: &str,
        options: DeleteOptions,
    ) -> Result<Deleted, Status> {
        let kind = self.kind(resource);
        let namespace = if kind.namespaced { "default" } else { "" };
        self.registry.delete(&cx(), &kind, namespace, name, &options).await
    }

    pub(crate) async fn list(&self, resource: &str, options: ListOptions) -> Result<List, Status> {
        self.registry.list(&self.kind(resource), "default", &options).await
    }

    pub(crate) async fn watch(&self, resource: &str, options: ListOptions) -> Result<WatchStream, Status> {
        self.registry.watch(&self.kind(resource), "default", &options).await
    }

    /// One row of the resource's table, heading by heading.
    pub(crate) async fn row(&self, resource: &str, name: &str) -> Value {
        let kind = self.kind(resource);
        let namespace = if kind.namespaced { "default" } else { "" };
        let object = self.registry.get(&kind, namespace, name, Part::Whole).await.unwrap();
        let later = now().saturating_add(jiff::SignedDuration::from_secs(150)).unwrap();
        let rows = self.registry.rows(&kind, std::iter::once(object), later);
        let headings = kind.columns.iter().map(|column| column.name.clone());
        Value::Object(headings.zip(rows.into_iter().next().unwrap().cells).collect())
    }
}

/// What a refusal says about fields, without the object's name.
pub(crate) fn findings(refused: &Status) -> &str {
    assert_eq!(refused.code, 422, "{refused}");
    refused.message.split_once(" is invalid: ").expect("findings about fields").1
}

pub(crate) fn names(objects: impl Iterator<Item = Object>) -> Vec<String> {
    objects.map(|object| object.tree()["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

pub(crate) fn config_map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": value}})
}

pub(crate) fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "image": "registry.example/app:1"}]}})
}

/// Waits until a condition holds that another task brings about.
pub(crate) async fn until<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) {
    for _ in 0..2000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("did not happen within ten seconds");
}
