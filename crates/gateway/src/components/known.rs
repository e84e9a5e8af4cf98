//! The objects of a kind as far as they are known: the API's, or until it has answered, those kept on disk.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use client::{Informer, ObjectKey, WorkQueue};
use clock::Tasks;
use kube::Resource;
use serde::de::DeserializeOwned;

use super::Item;
use super::snapshot::Snapshot;

/// See the module.
pub(super) struct Known<K> {
    informer: Informer<K>,
    pub(super) snapshot: Snapshot,
    kept: Arc<BTreeMap<ObjectKey, Arc<K>>>,
}

impl<K> Known<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// Loads what was kept below `folder`.
    pub(super) async fn open(informer: Informer<K>, folder: &Path, kind: &str) -> std::io::Result<Self> {
        let snapshot = Snapshot::open(folder, kind).await?;
        let kept = Arc::new(snapshot.load().await);
        Ok(Self { informer, snapshot, kept })
    }

    /// The keys that were kept.
    pub(super) fn kept(&self) -> impl Iterator<Item = ObjectKey> {
        self.kept.keys().cloned()
    }

    /// Queues every key that was kept, then once the API has answered every key there was or is, then every change.
    pub(super) fn follow(&self, tasks: &Tasks, queue: &Arc<WorkQueue<Item>>, item: fn(ObjectKey) -> Item) {
        self.kept().for_each(|key| queue.add(item(key)));
        let changed = queue.clone();
        self.informer.on_change(move |change| changed.add(item(ObjectKey::of(&**change.object()))));
        // What was listed may have been looked at before the list was complete, while the kept objects still counted.
        let (informer, kept, queue) = (self.informer.clone(), self.kept.clone(), queue.clone());
        tasks.spawn("kept objects", async move {
            informer.ready().await;
            kept.keys().for_each(|key| queue.add(item(key.clone())));
            informer.store().list().iter().for_each(|object| queue.add(item(ObjectKey::of(&**object))));
        });
    }

    /// Whether the API has answered.
    pub(super) fn is_current(&self) -> bool {
        self.informer.is_ready()
    }

    pub(super) fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        if self.is_current() { self.informer.store().get(key) } else { self.kept.get(key).cloned() }
    }

    pub(super) fn list(&self) -> Vec<Arc<K>> {
        if self.is_current() { self.informer.store().list() } else { self.kept.values().cloned().collect() }
    }
}
