//! Keeps what is served equal to what the API says: Components and KeyValueStores in, a route table and bound stores out.
//!
//! One [`Controller`] looks at one key at a time. It never stands on the request path: compiling happens in the host's
//! child process, and the table is swapped when a component is ready. What is served stays so when the API goes away,
//! when a new version of a component turns out to be broken, and (from a [`snapshot`]) across a restart.

mod claiming;
mod compiling;
mod condition;
mod deploy;
mod known;
mod revisions;
mod settling;
mod slow;
mod snapshot;
mod stores;
mod translate;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use api::monoplane::v1alpha1::{Component, KeyValueStore, component_reason as reason};
use capabilities::Stores;
use client::{
    Ambient, Api, Client, EventRecorder, EventType, Informers, ObjectKey, Patch, PatchParams, WorkQueue,
};
use clock::Tasks;
use egress::Connector;
use k8s_openapi::NamespaceResourceScope;
use kube::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::request::Edge;
use crate::routing::claims::Kind;
use crate::secrets::Secrets;
use compiling::Compiled;
use condition::{Change, Readiness};
use deploy::Record;
use known::Known;
use revisions::Revisions;
use settling::Settling;
use slow::Slow;
use stores::{LOGINS, Login};

pub use translate::Maxima;

/// The keys that the controller works on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Item {
    Store(ObjectKey),
    Component(ObjectKey),
    /// An older revision of a component that unfinished invocations are pinned to.
    Revision(ObjectKey, String),
}

/// Keys in work at a time. What takes long is done elsewhere; a second worker keeps the rest moving while one writes.
const WORKERS: usize = 2;
/// Components that are compiled at a time, as far as this side goes: the host's compiler has its own limit.
const COMPILING: usize = 2;
/// Stores that are opened or asked at a time.
const BINDING: usize = 16;

/// How long components wait for the stores that were kept.
const STORES: Duration = Duration::from_secs(2);

/// What the controller needs.
pub(crate) struct Setup {
    pub(crate) client: Client,
    pub(crate) ambient: Ambient,
    pub(crate) events: EventRecorder,
    pub(crate) host: wasm::Host,
    pub(crate) stores: Arc<Stores>,
    pub(crate) egress: Connector,
    pub(crate) data_dir: PathBuf,
    pub(crate) allow_files: bool,
    pub(crate) maxima: Maxima,
}

/// How far a look at a key has come.
pub(super) enum Progress {
    Done,
    /// It is looked at again when what it waits for is there.
    UnderWay,
}

/// See the module.
pub(crate) struct Controller {
    setup: Setup,
    edge: Arc<Edge>,
    events: EventRecorder,
    queue: Arc<WorkQueue<Item>>,
    components: Known<Component>,
    stores: Known<KeyValueStore>,
    revisions: Revisions,
    /// What was kept on disk and has not been looked at: stores, and the components that may bind them.
    settling: [Settling; 2],
    /// Components that are being compiled.
    compiling: Slow<Compiled>,
    /// Stores that are being opened or asked.
    binding: Slow<Readiness, stores::Version>,
    /// What became of each component.
    records: Mutex<BTreeMap<ObjectKey, Record>>,
    /// What the Secrets say that stores name.
    logins: tokio::sync::Mutex<Secrets<Login>>,
    /// Whether each store can be used.
    usable: Mutex<BTreeMap<ObjectKey, bool>>,
}

/// Why a key has to be looked at again.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("API: {0}")]
    Api(Box<kube::Error>),
    #[error("{0}")]
    Files(#[from] std::io::Error),
    /// What is already said in the object's condition.
    #[error("not usable")]
    NotUsable,
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        Self::Api(Box::new(error))
    }
}

impl Controller {
    /// Makes a controller of what is on disk, which does nothing yet.
    pub(crate) async fn open(setup: Setup, edge: Arc<Edge>, tasks: &Tasks) -> std::io::Result<Arc<Self>> {
        let informers = Informers::new(setup.client.clone(), setup.ambient.clone(), tasks.clone());
        let events = setup.events.clone();
        let folder = setup.data_dir.join("objects");
        let components = Known::open(informers.of::<Component>(), &folder, "components").await?;
        let stores = Known::open(informers.of::<KeyValueStore>(), &folder, "keyvaluestores").await?;
        let revisions = Revisions::open(&setup.data_dir).await?;
        let settling = [
            Settling::new(stores.kept().map(Item::Store)),
            Settling::new(components.kept().map(Item::Component)),
        ];
        let queue = WorkQueue::new(setup.ambient.clone());
        let changed = queue.clone();
        edge.board.tell(Kind::Component, move |claimant| {
            let key = ObjectKey::new(claimant.namespace.clone(), claimant.name.clone());
            changed.add(Item::Component(key));
        });
        let (client, ambient) = (setup.client.clone(), setup.ambient.clone());
        Ok(Arc::new_cyclic(|this: &Weak<Self>| Self {
            logins: tokio::sync::Mutex::new(Secrets::new(client, ambient, tasks.clone(), LOGINS, {
                let this = this.clone();
                move |secret| {
                    if let Some(this) = this.upgrade() {
                        this.look_at_stores_of(secret);
                    }
                }
            })),
            compiling: Slow::new(queue.clone(), tasks, COMPILING),
            binding: Slow::new(queue.clone(), tasks, BINDING),
            queue,
            setup,
            edge,
            events,
            components,
            stores,
            revisions,
            settling,
            records: Mutex::default(),
            usable: Mutex::default(),
        }))
    }

    /// Starts to work and to follow the API; the work is `tasks`'. Returns when everything that was kept has been looked
    /// at once, and so is served if it can be.
    pub(crate) async fn start(self: &Arc<Self>, tasks: &Tasks) {
        for _ in 0..WORKERS {
            let controller = self.clone();
            tasks.spawn("components", async move {
                while let Some(working) = controller.queue.next().await {
                    controller.work(working.key()).await;
                }
            });
        }
        // Stores first: the components that bind them then find them usable.
        self.stores.follow(tasks, &self.queue, Item::Store);
        tokio::select! {
            () = self.settling[0].settled() => {}
            // A store whose server does not answer may not hold up the components that do not need it.
            () = self.setup.ambient.clock.sleep(STORES) => {}
        }
        self.components.follow(tasks, &self.queue, Item::Component);
        self.settling[1].settled().await;
    }

    async fn work(&self, item: &Item) {
        let outcome = match item {
            Item::Store(key) => self.look_at_store(key).await,
            Item::Component(key) => self.look_at_component(key).await,
            Item::Revision(key, revision) => Ok(self.look_at_revision(key, revision).await),
        };
        if !matches!(outcome, Ok(Progress::UnderWay)) {
            self.settling.iter().for_each(|settling| settling.looked_at(item));
        }
        match outcome {
            Ok(_) => self.queue.forget(item),
            Err(failure) => {
                tracing::debug!(?item, %failure, "will be looked at again");
                self.queue.add_failed(item.clone());
            }
        }
    }

    /// Makes the object's status say so, and tells those who look at it what is new.
    async fn report<K>(
        &self,
        object: &K,
        change: Option<Change>,
        readiness: &Readiness,
    ) -> Result<(), Failure>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Serialize
            + std::fmt::Debug,
    {
        let Some(change) = change else { return Ok(()) };
        let meta = object.meta();
        let api: Api<K> =
            Api::namespaced(self.setup.client.clone(), meta.namespace.as_deref().unwrap_or_default());
        let name = meta.name.as_deref().unwrap_or_default();
        let params = PatchParams { field_manager: Some("monoplane-edge".into()), ..PatchParams::default() };
        match api.patch_status(name, &params, &Patch::Merge(&change.patch)).await {
            Ok(_) => {}
            // It is gone, which the informer will say.
            Err(error) if client::write::is_not_found(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        if change.news {
            let expected = readiness.ready || readiness.reason == reason::COMPILING;
            let kind = if expected { EventType::Normal } else { EventType::Warning };
            self.events.record(object, kind, readiness.reason, readiness.message.clone());
        }
        Ok(())
    }

    fn records(&self) -> std::sync::MutexGuard<'_, BTreeMap<ObjectKey, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn usable(&self) -> std::sync::MutexGuard<'_, BTreeMap<ObjectKey, bool>> {
        self.usable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
