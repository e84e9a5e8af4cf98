//! What a store holds, with our own writes in flight laid over it.

use crate::store::revision_of;
use crate::{Change, Informer, ObjectKey, Store};
use kube::Resource;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

enum Written<K> {
    /// The server answered with this object; it counts until the store has caught up with its revision.
    Present { object: Arc<K>, revision: u64 },
    /// The server confirmed that this one is gone; it counts while the store still shows it.
    Gone { uid: String },
}

/// Reads one kind as of the last thing that happened, be it heard from the server's watch or answered to our own write.
///
/// A controller that creates a pod and looks again at once must see that pod, or it creates another. The server's answer
/// says at which revision the write happened, and the informer knows up to which revision it has heard: until it has
/// passed that one, the answer is newer. Nothing is guessed and nothing times out. Clones share.
///
/// Who acts on what it reads here is woken when that changes: of an object that was answered, and was gone before a list that
/// the store caught up by, the informer tells that it is deleted.
pub struct Reader<K> {
    informer: Informer<K>,
}

/// Answers that the store may not have caught up with.
pub(crate) struct Answers<K>(Mutex<Overlay<K>>);

impl<K> Default for Answers<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Resource> Answers<K> {
    fn lock(&self) -> MutexGuard<'_, Overlay<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store reaches the version of a list that is in it. Gives the objects that were answered before, and are not there.
    pub(crate) fn reach(&self, store: &Store<K>, version: &str) -> Vec<Arc<K>> {
        let mut written = self.lock();
        store.reach(version);
        let reached = store.reached();
        let mut gone = Vec::new();
        written.by_key.retain(|key, over| match over {
            Written::Present { object, revision } if *revision <= reached => {
                gone.extend(store.get(key).is_none().then(|| object.clone()));
                false
            }
            _ => true,
        });
        gone
    }
}

struct Overlay<K> {
    by_key: BTreeMap<ObjectKey, Written<K>>,
    /// When there are as many, those that the store has passed are thrown out: readers do that for what they read, and
    /// nobody may ever read these.
    sweep_at: usize,
}

/// Fewer are not worth looking through.
const FEW: usize = 64;

impl<K> Default for Overlay<K> {
    fn default() -> Self {
        Self { by_key: BTreeMap::new(), sweep_at: FEW }
    }
}

impl<K> Clone for Reader<K> {
    fn clone(&self) -> Self {
        Self { informer: self.informer.clone() }
    }
}

impl<K> Reader<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// Over an informer. All readers of one share what was written.
    pub fn new(informer: Informer<K>) -> Self {
        Self { informer }
    }

    /// The informer beneath.
    pub fn informer(&self) -> &Informer<K> {
        &self.informer
    }

    /// The server's answer to a create, an update, a patch, or a delete that has only begun.
    pub fn wrote(&self, object: K) {
        let (key, revision, object) = (ObjectKey::of(&object), revision_of(&object), Arc::new(object));
        let store = self.informer.store();
        let mut written = self.written();
        if revision > store.reached() {
            written.lay_over(store, key, Written::Present { object, revision });
        } else if store.get(&key).is_none() {
            // It is gone already, which a list that it is not in told nobody.
            drop(written);
            self.informer.tell(&Change::Deleted(object));
        }
    }

    /// The server confirmed that the object of this UID is gone.
    pub fn deleted(&self, key: ObjectKey, uid: String) {
        let store = self.informer.store();
        let shown = self.written().lay_over(store, key.clone(), Written::Gone { uid });
        if let Some(Written::Present { object, .. }) = shown
            && store.get(&key).is_none()
        {
            self.informer.tell(&Change::Deleted(object));
        }
    }

    /// How many answers are laid over the store.
    #[cfg(test)]
    fn laid_over(&self) -> usize {
        self.written().by_key.len()
    }

    /// The object of that name.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        let (stored, reached) = self.informer.store().get_as_of(key);
        let written = &mut self.written().by_key;
        match written.get(key) {
            None => stored,
            Some(over) => match over.over(stored.as_ref(), reached) {
                Some(object) => object,
                None => {
                    written.remove(key);
                    stored
                }
            },
        }
    }

    /// Every object, in no order.
    pub fn list(&self) -> Vec<Arc<K>> {
        let (stored, reached) = self.informer.store().list_as_of();
        self.overlaid(stored, reached, |_| true)
    }

    /// The objects that an index holds under a value.
    pub fn by_index(&self, index: &str, value: &str) -> Vec<Arc<K>> {
        let store = self.informer.store();
        let (stored, reached) = store.by_index_as_of(index, value);
        self.overlaid(stored, reached, |object| store.would_index(index, value, object))
    }

    fn written(&self) -> MutexGuard<'_, Overlay<K>> {
        self.informer.answers().lock()
    }

    fn overlaid(&self, mut stored: Vec<Arc<K>>, reached: u64, belongs: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let written = &mut self.written().by_key;
        if written.is_empty() {
            return stored;
        }
        let store = self.informer.store();
        written.retain(|key, over| over.over(store.get(key).as_ref(), reached).is_some());
        stored.retain(|object| !written.contains_key(&ObjectKey::of(&**object)));
        for over in written.values() {
            if let Written::Present { object, .. } = over
                && belongs(object)
            {
                stored.push(object.clone());
            }
        }
        stored
    }
}

impl<K: Resource> Overlay<K> {
    fn lay_over(&mut self, store: &Store<K>, key: ObjectKey, over: Written<K>) -> Option<Written<K>> {
        let before = self.by_key.insert(key, over);
        if self.by_key.len() >= self.sweep_at {
            let reached = store.reached();
            self.by_key.retain(|key, over| over.over(store.get(key).as_ref(), reached).is_some());
            self.sweep_at = FEW.max(2 * self.by_key.len());
        }
        before
    }
}

impl<K: Resource> Written<K> {
    /// What to show instead of what is stored; `None` when the store knows better by now.
    fn over(&self, stored: Option<&Arc<K>>, reached: u64) -> Option<Option<Arc<K>>> {
        match self {
            Self::Present { object, revision } => {
                // In the middle of a list the store may know a later version than all that it has reached.
                let known = stored.map_or(0, |stored| revision_of(&**stored)).max(reached);
                (*revision > known).then(|| Some(object.clone()))
            }
            Self::Gone { uid } => {
                let still_stored = stored.is_some_and(|stored| stored.meta().uid.as_ref() == Some(uid));
                still_stored.then_some(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ambient, Api, InformerOptions, transport};
    use bytes::Bytes;
    use clock::Tasks;
    use http_body_util::Empty;
    use k8s_openapi::api::core::v1::ConfigMap;
    use std::convert::Infallible;

    #[tokio::test]
    async fn answers_that_nobody_reads_do_not_pile_up() {
        let silent =
            tower::service_fn(|_| std::future::pending::<Result<http::Response<Empty<Bytes>>, Infallible>>());
        let (ambient, tasks) = (Ambient::system(), Tasks::default());
        let maps: Api<ConfigMap> = Api::all(transport::in_memory(silent));
        let reader = Reader::new(Informer::start(maps, InformerOptions::default(), &ambient, &tasks));
        for number in 0..10_000 {
            reader.deleted(ObjectKey::new("x", number.to_string()), number.to_string());
        }
        assert!(reader.laid_over() <= FEW, "{} are kept", reader.laid_over());
        tasks.stop().await;
    }
}
