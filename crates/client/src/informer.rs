//! Shared informers: one watch and one store for each kind that a role looks at.

use crate::reader::Answers;
use crate::reflector::{Selection, Sink, Whole, reflect};
use crate::store::{Objects, revision_of};
use crate::{Ambient, Index, ObjectKey, Store};
use clock::{Hashes, Tasks};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::SetOnce;

/// What happened to an object of a store.
#[derive(Debug)]
pub enum Change<K> {
    /// It was not there before.
    Added(Arc<K>),
    /// It has another version than before; it may even be another object of the same name.
    Updated {
        /// As it was.
        old: Arc<K>,
        /// As it is.
        new: Arc<K>,
    },
    /// It is gone. This is how it last looked; what happened in between may have been missed.
    Deleted(Arc<K>),
}

impl<K> Clone for Change<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Added(object) => Self::Added(object.clone()),
            Self::Updated { old, new } => Self::Updated { old: old.clone(), new: new.clone() },
            Self::Deleted(object) => Self::Deleted(object.clone()),
        }
    }
}

impl<K> Change<K> {
    /// The object as last heard of.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Self::Added(object) | Self::Updated { new: object, .. } | Self::Deleted(object) => object,
        }
    }

    /// What it was before, where it was.
    pub fn before(&self) -> Option<&Arc<K>> {
        match self {
            Self::Added(_) => None,
            Self::Updated { old, .. } | Self::Deleted(old) => Some(old),
        }
    }

    /// What it is now, where it is.
    pub fn after(&self) -> Option<&Arc<K>> {
        match self {
            Self::Added(object) | Self::Updated { new: object, .. } => Some(object),
            Self::Deleted(_) => None,
        }
    }
}

/// Which objects an informer holds, and how much of each.
pub struct InformerOptions<K> {
    /// Which to list and watch.
    pub selection: Selection,
    /// Applied to each object before it is stored. The default drops `metadata.managedFields`, which nobody reads and
    /// which is often the largest part. Of kinds that there are very many of, a role may watch a type of its own that reads
    /// no more than it looks at, and share here what many have in common ([`crate::Sharing`]).
    pub trim: Trim<K>,
}

/// See [`InformerOptions::trim`].
pub type Trim<K> = Box<dyn FnMut(&mut K) + Send>;

impl<K: Resource + 'static> Default for InformerOptions<K> {
    fn default() -> Self {
        Self {
            selection: Selection::default(),
            trim: Box::new(|object| object.meta_mut().managed_fields = None),
        }
    }
}

type Handler<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

struct Shared<K> {
    store: Arc<Store<K>>,
    answers: Answers<K>,
    handlers: Mutex<Vec<Handler<K>>>,
    ready: SetOnce<()>,
}

impl<K: Resource> Shared<K> {
    /// Changes the store and tells of it, under one lock, so that a handler that is just being added misses nothing and
    /// hears nothing twice.
    fn change(&self, change: impl FnOnce(&Store<K>) -> Option<Change<K>>) {
        let handlers = self.handlers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(change) = change(&self.store) {
            for handler in handlers.iter() {
                handler(&change);
            }
        }
    }
}

/// Keeps a [`Store`] equal to what the server holds of one kind, and tells of every change. A handle: clones share.
pub struct Informer<K> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<K> Informer<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// Starts listing and watching through `api` in a task of `tasks`.
    pub fn start(api: Api<K>, options: InformerOptions<K>, ambient: &Ambient, tasks: &Tasks) -> Self {
        let shared = Arc::new(Shared {
            store: Arc::new(Store::new(Hashes::new(&*ambient.random))),
            answers: Answers::default(),
            handlers: Mutex::default(),
            ready: SetOnce::new(),
        });
        let mut sink =
            Filler { shared: shared.clone(), trim: options.trim, lists: false, unlisted: Objects::default() };
        let ambient = ambient.clone();
        tasks.spawn("informer", async move {
            reflect(Whole(api), options.selection, &mut sink, &ambient).await;
        });
        Self { shared }
    }

    /// What is known.
    pub fn store(&self) -> &Arc<Store<K>> {
        &self.shared.store
    }

    /// What our own writes were answered.
    pub(crate) fn answers(&self) -> &Answers<K> {
        &self.shared.answers
    }

    /// Tells of a change of what is read over the store.
    pub(crate) fn tell(&self, change: &Change<K>) {
        self.shared.change(|_| Some(change.clone()));
    }

    /// Makes the store keep an index. Adding one twice, by name, changes nothing.
    pub fn index_by(&self, index: Index<K>) -> &Self {
        self.shared.store.add_index(index);
        self
    }

    /// Calls `handler` with every change from now on, after the store has taken it in, in order; first with what is there
    /// already, as added. The handler runs on the informer's task: it must not block (put a key into a queue).
    pub fn on_change(&self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) -> &Self {
        let mut handlers = self.shared.handlers.lock().unwrap_or_else(PoisonError::into_inner);
        for object in self.shared.store.list() {
            handler(&Change::Added(object));
        }
        handlers.push(Box::new(handler));
        self
    }

    /// Returns once the first complete list is in the store and has been told to the handlers.
    pub async fn ready(&self) {
        self.shared.ready.wait().await;
    }

    /// Whether [`Informer::ready`] would return at once.
    pub fn is_ready(&self) -> bool {
        self.shared.ready.initialized()
    }
}

struct Filler<K> {
    shared: Arc<Shared<K>>,
    trim: Trim<K>,
    /// A list is in the order of names: of what happened before an object's revision, some may not have been told yet.
    lists: bool,
    /// What was there before the list that is being applied, and has not been in it yet.
    unlisted: Objects<K>,
}

impl<K: Resource> Filler<K> {
    /// The revision that is reached with an object. The store must know it at once with the object: who is woken by a change
    /// and finds that the store has not reached it takes an answer to an earlier write for newer, and is not woken again.
    fn reached_with(&self, object: &K) -> u64 {
        if self.lists { 0 } else { revision_of(object) }
    }
}

impl<K> Sink<K> for Filler<K>
where
    K: Resource + Send + Sync + 'static,
{
    fn listing(&mut self) {
        self.lists = true;
        self.unlisted = self.shared.store.objects();
    }

    fn apply(&mut self, mut object: K) {
        (self.trim)(&mut object);
        if !self.unlisted.is_empty() {
            self.unlisted.remove(&ObjectKey::of(&object));
        }
        let reached = self.reached_with(&object);
        self.shared.change(|store| store.apply(object, reached));
    }

    fn delete(&mut self, object: K) {
        let (key, reached) = (ObjectKey::of(&object), self.reached_with(&object));
        self.shared.change(|store| store.remove(&key, reached));
    }

    fn listed(&mut self) {
        for gone in std::mem::take(&mut self.unlisted) {
            self.shared.change(|store| store.remove(&gone.key(), 0));
        }
        self.lists = false;
        // An error says that it was before: this is a later list.
        let _ = self.shared.ready.set(());
    }

    fn reached(&mut self, version: &str) {
        if !self.lists {
            return self.shared.store.reach(version);
        }
        for gone in self.shared.answers.reach(&self.shared.store, version) {
            self.shared.change(|_| Some(Change::Deleted(gone)));
        }
    }
}

/// The informers of one role: at most one for each kind, started when first asked for, over all namespaces.
#[derive(Clone)]
pub struct Informers {
    client: Client,
    ambient: Ambient,
    tasks: Tasks,
    started: Arc<Mutex<HashMap<TypeId, Box<dyn Any + Send + Sync>>>>,
}

impl Informers {
    /// None yet. Their tasks will be tasks of `tasks`.
    pub fn new(client: Client, ambient: Ambient, tasks: Tasks) -> Self {
        Self { client, ambient, tasks, started: Arc::default() }
    }

    /// The client that they use.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Their clock and generator.
    pub fn ambient(&self) -> &Ambient {
        &self.ambient
    }

    /// The informer of a kind, whole and unselected.
    pub fn of<K>(&self) -> Informer<K>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        self.with(InformerOptions::default)
    }

    /// The informer of a kind; whoever asks first decides the options.
    pub fn with<K>(&self, options: impl FnOnce() -> InformerOptions<K>) -> Informer<K>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(informer) =
            started.get(&TypeId::of::<K>()).and_then(|any| any.downcast_ref::<Informer<K>>())
        {
            return informer.clone();
        }
        let informer = Informer::start(Api::all(self.client.clone()), options(), &self.ambient, &self.tasks);
        started.insert(TypeId::of::<K>(), Box::new(informer.clone()));
        informer
    }
}
