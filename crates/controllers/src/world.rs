//! What all controllers of a process share: one informer a kind, and the answers to their own writes.

use crate::Instruments;
use crate::nodeipam::PodRange;
use crate::pod::{Pod, sharing};
use apimachinery::cidr::Cidr;
use client::kube::api::{Api, ApiResource, DynamicObject};
use client::kube::{Client, Resource};
use client::reflector::Selection;
use client::{Ambient, Informer, InformerOptions, ObjectKey, Reader};
use clock::Tasks;
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::SignedDuration;
use serde::de::DeserializeOwned;
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A kind that there are readers of: its type says all that has to be known.
pub trait Readable:
    Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static
{
}

impl<K> Readable for K where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static
{
}

/// What a reader of any kind can be told.
trait Absorb: Send + Sync {
    fn wrote(&self, object: DynamicObject);
    fn deleted(&self, key: ObjectKey, uid: String);
    fn ready(&self) -> BoxFuture<'_, ()>;
    fn as_any(&self) -> &dyn Any;
}

impl<K> Absorb for Reader<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    fn wrote(&self, object: DynamicObject) {
        match object.try_parse::<K>() {
            Ok(object) => Reader::wrote(self, object),
            Err(error) => tracing::warn!(%error, "an answer of the server does not read as its kind"),
        }
    }

    fn deleted(&self, key: ObjectKey, uid: String) {
        Reader::deleted(self, key, uid);
    }

    fn ready(&self) -> BoxFuture<'_, ()> {
        self.informer().ready().boxed()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[derive(Default)]
struct Readers {
    /// In the order in which they were asked for.
    by_type: Vec<(TypeId, Arc<dyn Absorb>)>,
    by_kind: HashMap<(String, String), Arc<dyn Absorb>>,
}

/// What whoever composes the plane decides for the controllers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The certificates (PEM) that clients in pods should trust the API server by; published in each namespace.
    pub root_ca: Option<String>,
    /// Who signs certificates for those who ask; nobody does without.
    pub signer: Option<Arc<pki::Signer>>,
    /// Who signs the tokens that are kept in Secrets; none are without.
    pub tokens: Option<Arc<pki::TokenSigner>>,
    /// The longest life of a certificate that is signed, and that of one whose request names none.
    pub certificate_life: SignedDuration,
    /// What is divided among nodes for their pods, one range a family; nothing is without.
    pub pod_ranges: Vec<PodRange>,
    /// Where Services have their addresses: no node gets any of it.
    pub service_ranges: Vec<Cidr>,
    /// How long after its last sign of life a node counts as unreachable.
    pub node_grace: Duration,
    /// As `node_grace`, for a node that has never said how it is.
    pub node_startup_grace: Duration,
    /// How long pods on a node that is gone are kept, lest it only comes back under its name.
    pub orphan_quarantine: Duration,
    /// How many ended pods are kept.
    pub terminated_pods: usize,
    /// Where they count what they do.
    pub instruments: Arc<Instruments>,
}

impl Default for Settings {
    /// Upstream's.
    fn default() -> Self {
        Self {
            root_ca: None,
            signer: None,
            tokens: None,
            certificate_life: SignedDuration::from_hours(365 * 24),
            pod_ranges: Vec::new(),
            service_ranges: Vec::new(),
            node_grace: Duration::from_secs(50),
            node_startup_grace: Duration::from_secs(60),
            orphan_quarantine: Duration::from_secs(40),
            terminated_pods: 12_500,
            instruments: Arc::default(),
        }
    }
}

/// The readers that controllers share. Clones share.
#[derive(Clone)]
pub struct World {
    settings: Arc<Settings>,
    client: Client,
    ambient: Ambient,
    tasks: Tasks,
    readers: Arc<Mutex<Readers>>,
}

impl World {
    /// Nothing is watched yet; watches are tasks of `tasks`.
    pub fn new(client: Client, ambient: Ambient, settings: Settings, tasks: Tasks) -> Self {
        let settings = Arc::new(settings);
        Self { settings, client, ambient, tasks, readers: Arc::default() }
    }

    /// What was decided for the controllers.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// The client of the controllers.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The clock and generator of the controllers.
    pub fn ambient(&self) -> &Ambient {
        &self.ambient
    }

    /// The owner of what the controllers start.
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// The reader of a kind; the first call starts its informer.
    pub fn reader<K: Readable>(&self) -> Reader<K> {
        self.reader_of(Api::all(self.client().clone()), Selection::default())
    }

    /// The reader of pods, in what controllers look at.
    pub fn pods(&self) -> Reader<Pod> {
        let options = || InformerOptions { trim: sharing(), ..InformerOptions::default() };
        self.reader_with(Api::all(self.client().clone()), options)
    }

    /// The reader of a part of a kind; of one kind all ask for the same part.
    pub fn reader_of<K: Readable>(&self, api: Api<K>, selection: Selection) -> Reader<K> {
        self.reader_with(api, || InformerOptions { selection, ..InformerOptions::default() })
    }

    fn reader_with<K: Readable>(
        &self,
        api: Api<K>,
        options: impl FnOnce() -> InformerOptions<K>,
    ) -> Reader<K> {
        let mut readers = self.readers();
        let known = readers.by_type.iter().find(|(type_id, _)| *type_id == TypeId::of::<K>());
        if let Some(reader) = known.and_then(|(_, any)| any.as_any().downcast_ref::<Reader<K>>()) {
            return reader.clone();
        }
        let reader = Reader::new(Informer::start(api, options(), &self.ambient, &self.tasks));
        let kind = (K::group(&()).into_owned(), K::kind(&()).into_owned());
        readers.by_kind.insert(kind, Arc::new(reader.clone()));
        readers.by_type.push((TypeId::of::<K>(), Arc::new(reader.clone())));
        reader
    }

    /// Returns once every informer asked for so far holds a complete list.
    pub async fn ready(&self) {
        let readers: Vec<_> = self.readers().by_type.iter().map(|(_, reader)| reader.clone()).collect();
        for reader in readers {
            reader.ready().await;
        }
    }

    /// Lays the server's answer over what is watched of its kind, if it is watched.
    pub(crate) fn wrote(&self, resource: &ApiResource, object: DynamicObject) {
        if let Some(reader) = self.watching(resource) {
            reader.wrote(object);
        }
    }

    /// Hides what the server confirmed to be gone.
    pub(crate) fn deleted(&self, resource: &ApiResource, key: ObjectKey, uid: String) {
        if let Some(reader) = self.watching(resource) {
            reader.deleted(key, uid);
        }
    }

    fn watching(&self, resource: &ApiResource) -> Option<Arc<dyn Absorb>> {
        self.readers().by_kind.get(&(resource.group.clone(), resource.kind.clone())).cloned()
    }

    fn readers(&self) -> MutexGuard<'_, Readers> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
