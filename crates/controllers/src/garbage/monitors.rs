//! One metadata watch for each kind that the server serves, as kinds come and go.

use super::Owner;
use super::graph::{Graph, Item, KindName, Uid, name_of};
use client::discovery::{Served, served};
use client::kube::Client;
use client::kube::api::{Api, DynamicObject};
use client::reflector::{Metadata, MetadataOnly, Selection, Sink, reflect};
use client::{Ambient, ObjectKey, Sharing, WorkQueue};
use clock::Tasks;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// Kinds are asked for again this long after a CustomResourceDefinition changed: the server needs a moment to serve it.
const SETTLING: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(10)];
/// And this often anyway, for kinds that come from elsewhere (aggregated servers).
const REFRESH: Duration = Duration::from_secs(300);

/// Too many, too short-lived, and never owners.
fn is_ignored(kind: &Served) -> bool {
    kind.resource.kind == "Event"
}

/// What monitors and the controller share.
pub(super) struct Shared {
    graph: Mutex<Graph>,
    kinds: Mutex<BTreeMap<KindName, Arc<Served>>>,
    queue: Arc<WorkQueue<Uid>>,
    rediscover: Notify,
    complete: watch::Sender<bool>,
}

impl Shared {
    pub(super) fn new(queue: Arc<WorkQueue<Uid>>) -> Arc<Self> {
        Arc::new(Self {
            graph: Mutex::default(),
            kinds: Mutex::default(),
            queue,
            rediscover: Notify::new(),
            complete: watch::Sender::new(false),
        })
    }

    pub(super) fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kinds(&self) -> MutexGuard<'_, BTreeMap<KindName, Arc<Served>>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kind that an owner reference means, as it is served now.
    pub(super) fn kind(&self, reference: &OwnerReference) -> Option<Arc<Served>> {
        self.kinds().get(&KindName::meant_by(reference)).cloned()
    }

    /// What is known of an owner without asking the server.
    pub(super) fn owner(&self, graph: &Graph, item: &Item, reference: &OwnerReference) -> Owner {
        match self.kind(reference) {
            // Its last objects may have been seen to go before it went.
            None if !item.key.namespace.is_empty()
                && graph.is_known_absent(&item.key.namespace, reference) =>
            {
                Owner::Gone
            }
            None => Owner::Unseen,
            Some(kind) if kind.namespaced && item.key.namespace.is_empty() => Owner::Misplaced,
            Some(kind) => graph.owner(super::namespace_of_owner(&kind, item), reference),
        }
    }

    fn wake(&self, uids: Vec<Uid>) {
        uids.into_iter().for_each(|uid| self.queue.add(uid));
    }

    pub(super) async fn complete(&self) {
        // An error would mean that the sender is gone, and this holds it.
        let _ = self.complete.subscribe().wait_for(|complete| *complete).await;
    }
}

/// Keeps the monitors equal to what is served, for ever.
pub(super) async fn keep(shared: Arc<Shared>, client: Client, ambient: Ambient, tasks: Tasks) {
    let mut monitors = BTreeMap::new();
    let mut settling = SETTLING.iter();
    let mut backoff = client::Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
    loop {
        let mut wait = settling.next().copied().unwrap_or(REFRESH);
        match served(&client).await {
            Ok(kinds) => {
                backoff.reset();
                adjust(&shared, kinds, &mut monitors, &client, &ambient, &tasks).await;
                if !*shared.complete.borrow() {
                    for monitor in monitors.values_mut() {
                        // A kind that cannot be listed must not hold up all others.
                        let patience = ambient.clock.sleep(Duration::from_secs(10));
                        tokio::select! {
                            biased;
                            _ = monitor.listed.wait_for(|listed| *listed) => {}
                            () = patience => break,
                        }
                    }
                    shared.complete.send_replace(true);
                    settling = [].iter();
                    wait = REFRESH;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "garbage collection cannot tell which kinds there are");
                wait = backoff.next(ambient.random.u64());
            }
        }
        tokio::select! {
            biased;
            () = shared.rediscover.notified() => {
                settling = SETTLING.iter();
                ambient.clock.sleep(SETTLING[0]).await;
            }
            () = ambient.clock.sleep(wait) => {}
        }
    }
}

struct Monitor {
    kind: Arc<Served>,
    tasks: Tasks,
    listed: watch::Receiver<bool>,
}

/// Makes the monitors those of the kinds that are served. A kind that is served in another way than before is watched in
/// that way, and what is known of its objects stays known until the new list says otherwise.
async fn adjust(
    shared: &Arc<Shared>,
    kinds: Vec<Served>,
    monitors: &mut BTreeMap<KindName, Monitor>,
    client: &Client,
    ambient: &Ambient,
    tasks: &Tasks,
) {
    let kinds: BTreeMap<KindName, Arc<Served>> = kinds
        .into_iter()
        .filter(|kind| kind.supports(&["list", "watch", "delete"]) && !is_ignored(kind))
        .map(|kind| (KindName::of(&kind), Arc::new(kind)))
        .collect();
    shared.kinds().clone_from(&kinds);
    let gone: Vec<_> = monitors.extract_if(.., |name, _| !kinds.contains_key(name)).collect();
    for (name, monitor) in gone {
        monitor.tasks.stop().await;
        let wake = shared.graph().lose_sight_of(&name);
        shared.wake(wake);
    }
    for (name, kind) in kinds {
        let same = |monitor: &Monitor| {
            monitor.kind.resource == kind.resource && monitor.kind.namespaced == kind.namespaced
        };
        if monitors.get(&name).is_some_and(same) {
            continue;
        }
        if let Some(monitor) = monitors.remove(&name) {
            monitor.tasks.stop().await;
        }
        monitors.insert(name, watch_kind(shared, kind, client, ambient, tasks));
    }
}

fn watch_kind(
    shared: &Arc<Shared>,
    kind: Arc<Served>,
    client: &Client,
    ambient: &Ambient,
    tasks: &Tasks,
) -> Monitor {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind.resource);
    let (sender, listed) = watch::channel(false);
    let defines_kinds = kind.resource.kind == "CustomResourceDefinition";
    let name = KindName::of(&kind);
    let mut sink = IntoGraph {
        shared: shared.clone(),
        kind: kind.clone(),
        name,
        unlisted: BTreeSet::new(),
        owners: Sharing::default(),
        listed: sender,
        defines_kinds,
    };
    let (own, ambient) = (tasks.child(), ambient.clone());
    own.spawn("garbage-monitor", async move {
        reflect(MetadataOnly(api), Selection::default(), &mut sink, &ambient).await;
    });
    Monitor { kind, tasks: own, listed }
}

struct IntoGraph {
    shared: Arc<Shared>,
    kind: Arc<Served>,
    name: KindName,
    /// The names of what was there before the list that is being applied, and has not been in it yet.
    unlisted: BTreeSet<Box<str>>,
    owners: Sharing<[OwnerReference]>,
    listed: watch::Sender<bool>,
    defines_kinds: bool,
}

impl IntoGraph {
    fn change(&self, change: impl FnOnce(&mut Graph) -> Vec<Uid>) {
        let wake = change(&mut self.shared.graph());
        self.shared.wake(wake);
        if self.defines_kinds {
            self.shared.rediscover.notify_one();
        }
    }
}

impl Sink<Metadata> for IntoGraph {
    fn listing(&mut self) {
        self.unlisted = self.shared.graph().names(&self.name);
    }

    fn apply(&mut self, object: Metadata) {
        if !self.unlisted.is_empty() {
            self.unlisted.remove(&name_of(&ObjectKey::of(&object)));
        }
        if let Some(mut item) = Item::of(&self.kind, object.metadata) {
            item.owners = self.owners.share(item.owners);
            self.change(|graph| graph.set(item));
        }
    }

    fn delete(&mut self, object: Metadata) {
        self.change(|graph| graph.forget(&self.name, &name_of(&ObjectKey::of(&object))));
    }

    fn listed(&mut self) {
        for gone in std::mem::take(&mut self.unlisted) {
            self.change(|graph| graph.forget(&self.name, &gone));
        }
        self.listed.send_replace(true);
    }
}
