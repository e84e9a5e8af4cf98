//! One metadata watch for each kind that the server serves, as kinds come and go.

use super::graph::{Graph, Item};
use client::discovery::{Served, served};
use client::kube::Client;
use client::kube::api::{Api, DynamicObject, PartialObjectMeta};
use client::reflector::{MetadataOnly, Selection, Sink, reflect};
use client::{Ambient, ObjectKey, WorkQueue};
use clock::Tasks;
use std::collections::{HashMap, HashSet};
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
    kinds: Mutex<HashMap<(String, String), Arc<Served>>>,
    queue: Arc<WorkQueue<String>>,
    rediscover: Notify,
    complete: watch::Sender<bool>,
}

impl Shared {
    pub(super) fn new(queue: Arc<WorkQueue<String>>) -> Arc<Self> {
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

    fn kinds(&self) -> MutexGuard<'_, HashMap<(String, String), Arc<Served>>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kind that an owner reference means, whatever the version it names.
    pub(super) fn kind(&self, api_version: &str, kind: &str) -> Option<Arc<Served>> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        self.kinds().get(&(group.to_owned(), kind.to_owned())).cloned()
    }

    fn wake(&self, uids: Vec<String>) {
        uids.into_iter().for_each(|uid| self.queue.add(uid));
    }

    pub(super) async fn complete(&self) {
        // An error would mean that the sender is gone, and this holds it.
        let _ = self.complete.subscribe().wait_for(|complete| *complete).await;
    }
}

/// Keeps the monitors equal to what is served, for ever.
pub(super) async fn keep(shared: Arc<Shared>, client: Client, ambient: Ambient, tasks: Tasks) {
    let mut monitors: HashMap<Arc<Served>, Monitor> = HashMap::new();
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
            () = shared.rediscover.notified() => {
                settling = SETTLING.iter();
                ambient.clock.sleep(SETTLING[0]).await;
            }
            () = ambient.clock.sleep(wait) => {}
        }
    }
}

struct Monitor {
    tasks: Tasks,
    listed: watch::Receiver<bool>,
}

async fn adjust(
    shared: &Arc<Shared>,
    kinds: Vec<Served>,
    monitors: &mut HashMap<Arc<Served>, Monitor>,
    client: &Client,
    ambient: &Ambient,
    tasks: &Tasks,
) {
    let kinds: HashSet<Arc<Served>> = kinds
        .into_iter()
        .filter(|kind| kind.supports(&["list", "watch", "delete"]) && !is_ignored(kind))
        .map(Arc::new)
        .collect();
    *shared.kinds() = kinds
        .iter()
        .map(|kind| ((kind.resource.group.clone(), kind.resource.kind.clone()), kind.clone()))
        .collect();
    let gone: Vec<_> = monitors.keys().filter(|kind| !kinds.contains(*kind)).cloned().collect();
    for kind in gone {
        if let Some(monitor) = monitors.remove(&kind) {
            monitor.tasks.stop().await;
        }
        let mut graph = shared.graph();
        let uids: Vec<_> = graph.of_kind(&kind).iter().flat_map(|uid| graph.remove(uid)).collect();
        drop(graph);
        shared.wake(uids);
    }
    for kind in kinds {
        monitors.entry(kind.clone()).or_insert_with(|| watch_kind(shared, kind, client, ambient, tasks));
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
    let mut sink =
        IntoGraph { shared: shared.clone(), kind, known: HashMap::new(), listed: sender, defines_kinds };
    let (own, ambient) = (tasks.child(), ambient.clone());
    own.spawn("garbage-monitor", async move {
        reflect(MetadataOnly(api), Selection::default(), &mut sink, &ambient).await;
    });
    Monitor { tasks: own, listed }
}

struct IntoGraph {
    shared: Arc<Shared>,
    kind: Arc<Served>,
    /// Which object has which name, to find out from a list what is gone, or is another of the same name.
    known: HashMap<ObjectKey, String>,
    listed: watch::Sender<bool>,
    defines_kinds: bool,
}

impl IntoGraph {
    fn forget(&self, uid: &str) {
        let wake = self.shared.graph().remove(uid);
        self.shared.wake(wake);
        self.told();
    }

    fn told(&self) {
        if self.defines_kinds {
            self.shared.rediscover.notify_one();
        }
    }
}

impl Sink<PartialObjectMeta<DynamicObject>> for IntoGraph {
    fn apply(&mut self, object: PartialObjectMeta<DynamicObject>) {
        let Some(item) = Item::of(&self.kind, object.metadata) else { return };
        if let Some(before) = self.known.insert(item.key.clone(), item.uid.clone())
            && before != item.uid
        {
            self.forget(&before);
        }
        let wake = self.shared.graph().set(item);
        self.shared.wake(wake);
        self.told();
    }

    fn delete(&mut self, object: PartialObjectMeta<DynamicObject>) {
        if let Some(uid) = self.known.remove(&ObjectKey::of(&object)) {
            self.forget(&uid);
        }
    }

    fn listed(&mut self, keys: HashSet<ObjectKey>) {
        let gone: Vec<_> = self.known.keys().filter(|key| !keys.contains(*key)).cloned().collect();
        for key in gone {
            if let Some(uid) = self.known.remove(&key) {
                self.forget(&uid);
            }
        }
        self.listed.send_replace(true);
    }
}
