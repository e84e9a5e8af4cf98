//! What an informer knows: the objects of one kind by name, with secondary indexes.

use crate::{Change, ObjectKey};
use clock::Hashes;
use hashbrown::{Equivalent, HashSet};
use kube::{Resource, ResourceExt};
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

type Values<K> = Arc<dyn Fn(&K) -> Vec<String> + Send + Sync>;

/// A secondary index: a name, and the values under which an object is found.
pub struct Index<K> {
    name: &'static str,
    values: Values<K>,
}

impl<K> Clone for Index<K> {
    fn clone(&self) -> Self {
        Self { name: self.name, values: self.values.clone() }
    }
}

impl<K> Index<K> {
    /// An index of its own. Two indexes of one store with the same name are taken to be the same.
    pub fn new(name: &'static str, values: impl Fn(&K) -> Vec<String> + Send + Sync + 'static) -> Self {
        Self { name, values: Arc::new(values) }
    }

    /// The name to ask [`Store::by_index`] for.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

/// Objects by namespace.
pub fn by_namespace<K: Resource>() -> Index<K> {
    Index::new("namespace", |object: &K| object.meta().namespace.iter().cloned().collect())
}

/// Objects by the UID of their controlling owner.
pub fn by_controller_uid<K: Resource>() -> Index<K> {
    Index::new("controller-uid", |object: &K| {
        let owners = object.meta().owner_references.iter().flatten();
        owners.filter(|owner| owner.controller == Some(true)).map(|owner| owner.uid.clone()).collect()
    })
}

/// Objects by the value of one label; the index is named after the label.
pub fn by_label<K: Resource>(label: &'static str) -> Index<K> {
    Index::new(label, move |object: &K| object.labels().get(label).cloned().into_iter().collect())
}

/// An object among others, told apart by its name: it is its own key, so that no set of objects holds names beside them.
pub(crate) struct Held<K>(Arc<K>);

impl<K: Resource> Held<K> {
    /// As an [`ObjectKey`] is compared and hashed.
    fn name(&self) -> (&str, &str) {
        let meta = self.0.meta();
        (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
    }

    pub(crate) fn key(&self) -> ObjectKey {
        ObjectKey::of(&*self.0)
    }
}

impl<K> Clone for Held<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Resource> Hash for Held<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl<K: Resource> PartialEq for Held<K> {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl<K: Resource> Eq for Held<K> {}

impl<K: Resource> PartialOrd for Held<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Resource> Ord for Held<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name().cmp(&other.name())
    }
}

impl<K: Resource> Equivalent<Held<K>> for ObjectKey {
    fn equivalent(&self, held: &Held<K>) -> bool {
        (self.namespace.as_str(), self.name.as_str()) == held.name()
    }
}

/// Objects by name.
pub(crate) type Objects<K> = HashSet<Held<K>, Hashes>;

struct Indexed<K> {
    index: Index<K>,
    objects: HashMap<String, BTreeSet<Held<K>>>,
}

impl<K: Resource> Indexed<K> {
    fn insert(&mut self, held: &Held<K>) {
        for value in (self.index.values)(&held.0) {
            self.objects.entry(value).or_default().insert(held.clone());
        }
    }

    fn remove(&mut self, held: &Held<K>) {
        for value in (self.index.values)(&held.0) {
            if let Some(objects) = self.objects.get_mut(&value) {
                objects.remove(held);
                if objects.is_empty() {
                    self.objects.remove(&value);
                }
            }
        }
    }
}

struct Contents<K> {
    objects: Objects<K>,
    indexes: Vec<Indexed<K>>,
    reached: u64,
}

impl<K> Contents<K> {
    fn index(&self, name: &str) -> Option<&Indexed<K>> {
        let found = self.indexes.iter().find(|indexed| indexed.index.name == name);
        debug_assert!(found.is_some(), "no index {name}");
        found
    }
}

/// The objects of one kind as last heard from the server. Readers only; an [`crate::Informer`] fills it. Reads never
/// wait for I/O and hand out shared objects, not copies.
pub struct Store<K> {
    contents: RwLock<Contents<K>>,
}

impl<K: Resource> Store<K> {
    pub(crate) fn new(hashes: Hashes) -> Self {
        let objects = Objects::with_hasher(hashes);
        Self { contents: RwLock::new(Contents { objects, indexes: Vec::new(), reached: 0 }) }
    }

    /// The object of that name.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.read().objects.get(key).map(|held| held.0.clone())
    }

    /// Every object, in no order.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.read().objects.iter().map(|held| held.0.clone()).collect()
    }

    /// The objects that an index holds under a value, ordered by key. Empty when the store has no such index.
    pub fn by_index(&self, index: &str, value: &str) -> Vec<Arc<K>> {
        self.by_index_as_of(index, value).0
    }

    /// How many objects an index holds under a value.
    pub fn count(&self, index: &str, value: &str) -> usize {
        let contents = self.read();
        contents.index(index).and_then(|indexed| indexed.objects.get(value)).map_or(0, BTreeSet::len)
    }

    /// Whether an object that need not be in the store would be found under a value of an index.
    pub(crate) fn would_index(&self, index: &str, value: &str, object: &K) -> bool {
        let contents = self.read();
        contents.index(index).is_some_and(|indexed| (indexed.index.values)(object).iter().any(|v| v == value))
    }

    pub(crate) fn get_as_of(&self, key: &ObjectKey) -> (Option<Arc<K>>, u64) {
        let contents = self.read();
        (contents.objects.get(key).map(|held| held.0.clone()), contents.reached)
    }

    pub(crate) fn list_as_of(&self) -> (Vec<Arc<K>>, u64) {
        let contents = self.read();
        (contents.objects.iter().map(|held| held.0.clone()).collect(), contents.reached)
    }

    pub(crate) fn by_index_as_of(&self, index: &str, value: &str) -> (Vec<Arc<K>>, u64) {
        let contents = self.read();
        let found =
            contents.index(index).and_then(|indexed| indexed.objects.get(value)).into_iter().flatten();
        (found.map(|held| held.0.clone()).collect(), contents.reached)
    }

    /// The revision up to which everything that happened to this kind is in here.
    pub fn reached(&self) -> u64 {
        self.read().reached
    }

    /// Everything up to a version is in here.
    pub(crate) fn reach(&self, version: &str) {
        let mut contents = self.write();
        contents.reached = contents.reached.max(revision(version));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.read().objects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn read(&self) -> RwLockReadGuard<'_, Contents<K>> {
        self.contents.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Contents<K>> {
        self.contents.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add_index(&self, index: Index<K>) {
        let mut contents = self.write();
        if contents.indexes.iter().any(|present| present.index.name == index.name) {
            return;
        }
        let mut indexed = Indexed { index, objects: HashMap::new() };
        contents.objects.iter().for_each(|held| indexed.insert(held));
        contents.indexes.push(indexed);
    }

    /// Takes in an object, with which a revision is reached; `None` when it is the version that is already here.
    pub(crate) fn apply(&self, object: K, reached: u64) -> Option<Change<K>> {
        let held = Held(Arc::new(object));
        let mut contents = self.write();
        contents.reached = contents.reached.max(reached);
        let Contents { objects, indexes, .. } = &mut *contents;
        let before = objects.replace(held.clone());
        for indexed in indexes.iter_mut() {
            if let Some(before) = &before {
                indexed.remove(before);
            }
            indexed.insert(&held);
        }
        let new = held.0;
        match before {
            None => Some(Change::Added(new)),
            Some(Held(old)) if is_same(&*old, &*new) => None,
            Some(Held(old)) => Some(Change::Updated { old, new }),
        }
    }

    /// Forgets an object, with which a revision is reached.
    pub(crate) fn remove(&self, key: &ObjectKey, reached: u64) -> Option<Change<K>> {
        let mut contents = self.write();
        contents.reached = contents.reached.max(reached);
        let before = contents.objects.take(key)?;
        for indexed in &mut contents.indexes {
            indexed.remove(&before);
        }
        Some(Change::Deleted(before.0))
    }

    /// All that is here now.
    pub(crate) fn objects(&self) -> Objects<K> {
        self.read().objects.clone()
    }
}

/// A resourceVersion as a number. They are opaque by name, but ordered decimal numbers by the API's own documentation; a
/// server that hands out others is served with what its watch says alone.
pub(crate) fn revision(version: &str) -> u64 {
    version.parse().unwrap_or(0)
}

/// The revision of an object's version.
pub(crate) fn revision_of<K: Resource>(object: &K) -> u64 {
    revision(object.meta().resource_version.as_deref().unwrap_or_default())
}

fn is_same<K: Resource>(a: &K, b: &K) -> bool {
    let (a, b) = (a.meta(), b.meta());
    a.resource_version == b.resource_version && a.uid == b.uid
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::ObjectMeta;

    fn object(name: &str, namespace: &str, app: &str, version: u32) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.into()),
                namespace: Some(namespace.into()),
                labels: Some([("app".to_owned(), app.to_owned())].into()),
                resource_version: Some(version.to_string()),
                ..Default::default()
            },
            ..Default::default()
        }
    }

    fn names(objects: &[Arc<ConfigMap>]) -> Vec<String> {
        objects.iter().map(|object| object.name_any()).collect()
    }

    #[test]
    fn indexes_follow_changes_and_removals() {
        let store = Store::new(Hashes::default());
        store.add_index(by_label("app"));
        assert!(matches!(store.apply(object("a", "x", "web", 1), 0), Some(Change::Added(_))));
        store.apply(object("b", "x", "web", 2), 0);
        store.add_index(by_namespace());
        assert_eq!(names(&store.by_index("app", "web")), ["a", "b"]);
        assert_eq!((store.count("app", "web"), store.count("app", "db")), (2, 0));
        assert!(matches!(store.apply(object("a", "x", "db", 3), 0), Some(Change::Updated { .. })));
        assert_eq!(names(&store.by_index("app", "web")), ["b"]);
        assert_eq!(names(&store.by_index("app", "db")), ["a"]);
        assert_eq!(names(&store.by_index("namespace", "x")), ["a", "b"]);
        assert!(matches!(store.remove(&ObjectKey::new("x", "a"), 0), Some(Change::Deleted(_))));
        assert!(store.by_index("app", "db").is_empty());
        assert!(store.remove(&ObjectKey::new("x", "a"), 0).is_none());
    }

    #[test]
    fn the_same_version_again_is_no_change() {
        let store = Store::new(Hashes::default());
        store.apply(object("a", "x", "web", 1), 0);
        assert!(store.apply(object("a", "x", "web", 1), 0).is_none());
        assert_eq!(store.len(), 1);
    }
}
