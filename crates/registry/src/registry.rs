//! The facade.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::status::Status;
use arc_swap::ArcSwap;
use clock::{Clock, Random, Tasks};
use serde_json::Value;
use store::Store;
use tokio::sync::{mpsc, watch};

use crate::cache::{Applied, Command, Pending};
use crate::race::Lines;
use crate::ranges::Ranges;
use crate::{
    AdmitAll, AskWebhook, Configuration, DeleteOptions, Kind, Kinds, List, ListOptions, NoWebhooks, Object,
    Part, Patch, RequestContext, Row, WatchStream,
};

/// How much of the past the cache keeps, and how far a watcher may fall behind.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Changes kept per resource, for watches that begin in the past.
    pub window_events: usize,
    /// Bytes of objects that those changes may hold.
    pub window_bytes: usize,
    /// Events that may wait for one watcher before it is cut off.
    pub watcher_queue: usize,
    /// Earlier states kept per resource for the later pages of lists.
    pub snapshots: usize,
    /// How long.
    pub snapshot_age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window_events: 4096,
            window_bytes: 16 << 20,
            watcher_queue: 4096,
            snapshots: 16,
            snapshot_age: Duration::from_secs(300),
        }
    }
}

/// What a registry is opened with.
#[derive(Clone)]
pub struct Options {
    /// Time for its own loops; requests bring theirs.
    pub clock: Arc<dyn Clock>,
    /// Randomness for uids and generated names.
    pub random: Arc<dyn Random>,
    /// Addresses that services get, as CIDR (`10.96.0.0/16`); behind a comma those of IPv6, if they get such as well.
    pub service_cidr: String,
    /// Ports that NodePort services get, both ends included.
    pub node_ports: (u16, u16),
    /// Others write to the store too: reads ask it how far it is.
    pub shared_store: bool,
    /// Bounds of the cache.
    pub limits: Limits,
    /// The way to webhooks that convert custom resources.
    pub webhooks: Arc<dyn AskWebhook>,
}

impl Options {
    /// The defaults of an upstream cluster.
    pub fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self {
            clock,
            random,
            service_cidr: "10.96.0.0/16".into(),
            node_ports: (30000, 32767),
            shared_store: false,
            limits: Limits::default(),
            webhooks: Arc::new(NoWebhooks),
        }
    }
}

/// What an update or patch left behind.
#[derive(Clone, Debug)]
pub struct Updated {
    /// The object afterwards.
    pub object: Object,
    /// It was not there before (201 rather than 200).
    pub created: bool,
}

/// What a delete left behind.
#[derive(Clone, Debug)]
pub struct Deleted {
    /// The object: its last state, or with its deletionTimestamp while it waits for finalizers or grace.
    pub object: Object,
    /// It is gone.
    pub gone: bool,
    /// The answer is the object, and not a `Status` of success with its uid.
    pub shown: bool,
    /// Its uid.
    pub uid: String,
}

/// All objects. See the crate's documentation.
pub struct Registry {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) options: Options,
    pub(crate) kinds: ArcSwap<Kinds>,
    pub(crate) kinds_changed: watch::Sender<u64>,
    pub(crate) applied: Arc<Applied>,
    pub(crate) pending: Arc<Pending>,
    pub(crate) feed: mpsc::Sender<Command>,
    pub(crate) ranges: Ranges,
    pub(crate) lines: Lines,
    pub(crate) tasks: Tasks,
}

impl Registry {
    /// Reads the store and follows it from then on, with all built-in kinds and those of stored
    /// CustomResourceDefinitions.
    pub async fn open(store: Arc<dyn Store>, options: Options) -> Result<Arc<Registry>, Status> {
        crate::opening::open(store, options).await
    }

    /// Ends its tasks and all watches.
    pub async fn close(&self) {
        self.tasks.stop().await;
    }

    /// What is served now.
    pub fn kinds(&self) -> Arc<Kinds> {
        self.kinds.load_full()
    }

    /// Told the new [`Kinds::generation`] at each change of what is served.
    pub fn kinds_changed(&self) -> watch::Receiver<u64> {
        self.kinds_changed.subscribe()
    }

    /// The newest revision that readers see.
    pub fn revision(&self) -> u64 {
        self.applied.revision()
    }

    /// Whether changes in the store reach readers now. While they do not, the registry keeps trying.
    pub fn is_following(&self) -> bool {
        self.applied.is_following()
    }

    /// Whether the store answers. One that is full does: it only takes no writes.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn health(&self) -> Result<(), String> {
        match self.store.health().await {
            Ok(()) | Err(store::Error::Full | store::Error::Waiting) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// A selectable field of an object, without decoding it; `None` if there is no such object or field.
    pub fn field(&self, kind: &Kind, namespace: &str, name: &str, field: &str) -> Option<String> {
        let index = kind.resource.fields.iter().position(|each| each.name == field)?;
        let item = self.item(kind, namespace, name).ok()?;
        item.extract.fields.get(index).map(|text| text.to_string())
    }

    /// An object as readers see it now, without waiting for anything; `None` if there is no such object, or a webhook would
    /// have to be asked for this version of it.
    pub fn known(&self, kind: &Kind, namespace: &str, name: &str) -> Option<Object> {
        self.item(kind, namespace, name).ok().and_then(|item| kind.object_now(&item))
    }

    /// How many objects there are of a kind.
    pub fn count(&self, kind: &Kind) -> u64 {
        kind.resource.hub.view().count("")
    }

    /// One object, or its scale.
    pub async fn get(
        &self,
        kind: &Arc<Kind>,
        namespace: &str,
        name: &str,
        part: Part,
    ) -> Result<Object, Status> {
        self.read_one(kind, namespace, name, part).await
    }

    /// The objects of a namespace; of all, where `namespace` is empty.
    pub async fn list(
        &self,
        kind: &Arc<Kind>,
        namespace: &str,
        options: &ListOptions,
    ) -> Result<List, Status> {
        self.read_list(kind, namespace, options).await
    }

    /// Changes of the objects of a namespace (of all, where `namespace` is empty) from `options.resource_version` on.
    pub async fn watch(
        &self,
        kind: &Arc<Kind>,
        namespace: &str,
        options: &ListOptions,
    ) -> Result<WatchStream, Status> {
        self.begin_watch(kind, namespace, options).await
    }

    /// Creates an object. `body` may name its kind and version; if it does, they must be `kind`'s.
    pub async fn create(
        &self,
        cx: &RequestContext,
        kind: &Arc<Kind>,
        namespace: &str,
        body: Value,
    ) -> Result<Object, Status> {
        self.write_new(cx, kind, namespace, body).await
    }

    /// Replaces an object or a part of it.
    pub async fn update(
        &self,
        cx: &RequestContext,
        kind: &Arc<Kind>,
        namespace: &str,
        name: &str,
        part: Part,
        body: Value,
    ) -> Result<Updated, Status> {
        self.write_over(cx, kind, namespace, name, part, body).await
    }

    /// Replaces an object or a part of it on the server's own account: what admission keeps books of. It passes no admission
    /// itself.
    pub async fn update_own(
        &self,
        kind: &Arc<Kind>,
        namespace: &str,
        name: &str,
        part: Part,
        body: Value,
    ) -> Result<Updated, Status> {
        self.write_over(&self.own_context(), kind, namespace, name, part, body).await
    }

    /// Patches an object or a part of it; tried again while others get in between, unless the patch names a
    /// resourceVersion.
    pub async fn patch(
        &self,
        cx: &RequestContext,
        kind: &Arc<Kind>,
        namespace: &str,
        name: &str,
        part: Part,
        patch: &Patch,
    ) -> Result<Updated, Status> {
        self.write_patch(cx, kind, namespace, name, part, patch).await
    }

    /// Merges a configuration into an object or a part of it for `cx.field_manager`, or makes an object of it
    /// (server-side apply).
    pub async fn apply(
        &self,
        cx: &RequestContext,
        kind: &Arc<Kind>,
        namespace: &str,
        name: &str,
        part: Part,
        configuration: &Configuration,
    ) -> Result<Updated, Status> {
        if part == Part::Scale {
            return self.apply_scale(cx, kind, namespace, name, configuration).await;
        }
        self.write_applied(cx, kind, namespace, name, part, configuration).await
    }

    /// Deletes an object, or marks it as being deleted.
    pub async fn delete(
        &self,
        cx: &RequestContext,
        kind: &Arc<Kind>,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, Status> {
        self.delete_one(cx, kind, namespace, name, options).await
    }

    /// Deletes what the list options select; gives what it deleted.
    pub async fn delete_collection(
        &self,
        cx: &RequestContext,
        kind: &Arc<Kind>,
        namespace: &str,
        list: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<List, Status> {
        self.delete_many(cx, kind, namespace, list, options).await
    }

    /// Binds a pod to the node that a `v1` Binding names (`POST …/pods/NAME/binding`). The answer is a `Status` of success.
    pub async fn bind(
        &self,
        cx: &RequestContext,
        namespace: &str,
        name: &str,
        binding: Value,
    ) -> Result<(), Status> {
        self.bind_pod(cx, namespace, name, binding).await
    }

    /// Evicts a pod, as a `policy/v1` Eviction asks (`POST …/pods/NAME/eviction`), unless its disruption budget keeps it.
    /// `options` are those of the deletion that it comes to. The answer is a `Status` of success.
    pub async fn evict(
        &self,
        cx: &RequestContext,
        namespace: &str,
        name: &str,
        eviction: Value,
        options: &DeleteOptions,
    ) -> Result<(), Status> {
        self.evict_pod(cx, namespace, name, eviction, options).await
    }

    /// The surroundings of the registry's own writes. They pass no admission: there is nobody to judge.
    pub(crate) fn own_context(&self) -> RequestContext {
        let mut own = RequestContext::new(self.options.clock.now(), Arc::new(AdmitAll));
        own.field_manager = "kube-apiserver".into();
        own
    }

    /// Objects as rows of a `meta.k8s.io/v1` Table, under [`Kind::columns`].
    pub fn rows(&self, kind: &Kind, objects: impl Iterator<Item = Object>, now: jiff::Timestamp) -> Vec<Row> {
        objects.map(|object| Row { cells: kind.strategy.cells(&object.tree(), now), object }).collect()
    }
}
