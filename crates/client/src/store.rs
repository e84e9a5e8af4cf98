//! What an informer knows: the objects of one kind by name, with secondary indexes.

use crate::{Change, ObjectKey};
use kube::{Resource, ResourceExt};
use std::collections::{BTreeSet, HashMap};
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

struct Indexed<K> {
    index: Index<K>,
    keys: HashMap<String, BTreeSet<ObjectKey>>,
}

impl<K> Indexed<K> {
    fn insert(&mut self, key: &ObjectKey, object: &K) {
        for value in (self.index.values)(object) {
            self.keys.entry(value).or_default().insert(key.clone());
        }
    }

    fn remove(&mut self, key: &ObjectKey, object: &K) {
        for value in (self.index.values)(object) {
            if let Some(keys) = self.keys.get_mut(&value) {
                keys.remove(key);
                if keys.is_empty() {
                    self.keys.remove(&value);
                }
            }
        }
    }
}

struct Contents<K> {
    objects: HashMap<ObjectKey, Arc<K>>,
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

impl<K> Default for Store<K> {
    fn default() -> Self {
        Self { contents: RwLock::new(Contents { objects: HashMap::new(), indexes: Vec::new(), reached: 0 }) }
    }
}

impl<K: Resource> Store<K> {
    /// The object of that name.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.read().objects.get(key).cloned()
    }

    /// Every object, in no order.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.read().objects.values().cloned().collect()
    }

    /// The objects that an index holds under a value, ordered by key. Empty when the store has no such index.
    pub fn by_index(&self, index: &str, value: &str) -> Vec<Arc<K>> {
        self.by_index_as_of(index, value).0
    }

    /// Whether an object that need not be in the store would be found under a value of an index.
    pub(crate) fn would_index(&self, index: &str, value: &str, object: &K) -> bool {
        let contents = self.read();
        contents.index(index).is_some_and(|indexed| (indexed.index.values)(object).iter().any(|v| v == value))
    }

    pub(crate) fn get_as_of(&self, key: &ObjectKey) -> (Option<Arc<K>>, u64) {
        let contents = self.read();
        (contents.objects.get(key).cloned(), contents.reached)
    }

    pub(crate) fn list_as_of(&self) -> (Vec<Arc<K>>, u64) {
        let contents = self.read();
        (contents.objects.values().cloned().collect(), contents.reached)
    }

    pub(crate) fn by_index_as_of(&self, index: &str, value: &str) -> (Vec<Arc<K>>, u64) {
        let contents = self.read();
        let keys = contents.index(index).and_then(|indexed| indexed.keys.get(value)).into_iter().flatten();
        (keys.filter_map(|key| contents.objects.get(key).cloned()).collect(), contents.reached)
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
        let mut indexed = Indexed { index, keys: HashMap::new() };
        for (key, object) in &contents.objects {
            indexed.insert(key, object);
        }
        contents.indexes.push(indexed);
    }

    /// Takes in an object; `None` when it is the version that is already here.
    pub(crate) fn apply(&self, object: K) -> Option<Change<K>> {
        let key = ObjectKey::of(&object);
        let object = Arc::new(object);
        let mut contents = self.write();
        let Contents { objects, indexes, .. } = &mut *contents;
        let before = objects.insert(key.clone(), object.clone());
        if let Some(before) = &before {
            for indexed in indexes.iter_mut() {
                indexed.remove(&key, before);
            }
        }
        for indexed in indexes.iter_mut() {
            indexed.insert(&key, &object);
        }
        match before {
            None => Some(Change::Added(object)),
            Some(old)
                if old.meta().resource_version == object.meta().resource_version
                    && same_uid(&*old, &*object) =>
            {
                None
            }
            Some(old) => Some(Change::Updated { old, new: object }),
        }
    }

    /// Forgets an object.
    pub(crate) fn remove(&self, key: &ObjectKey) -> Option<Change<K>> {
        let mut contents = self.write();
        let before = contents.objects.remove(key)?;
        for indexed in &mut contents.indexes {
            indexed.remove(key, &before);
        }
        Some(Change::Deleted(before))
    }

    /// The keys that a complete list did not mention.
    pub(crate) fn keys_not_in(&self, listed: &std::collections::HashSet<ObjectKey>) -> Vec<ObjectKey> {
        self.read().objects.keys().filter(|key| !listed.contains(key)).cloned().collect()
    }
}

/// A resourceVersion as a number. They are opaque by name, but ordered decimal numbers by the API's own documentation; a
/// server that hands out others is served with what its watch says alone.
pub(crate) fn revision(version: &str) -> u64 {
    version.parse().unwrap_or(0)
}

fn same_uid<K: Resource>(a: &K, b: &K) -> bool {
    a.meta().uid == b.meta().uid
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
        let store = Store::default();
        store.add_index(by_label("app"));
        assert!(matches!(store.apply(object("a", "x", "web", 1)), Some(Change::Added(_))));
        store.apply(object("b", "x", "web", 2));
        store.add_index(by_namespace());
        assert_eq!(names(&store.by_index("app", "web")), ["a", "b"]);
        assert!(matches!(store.apply(object("a", "x", "db", 3)), Some(Change::Updated { .. })));
        assert_eq!(names(&store.by_index("app", "web")), ["b"]);
        assert_eq!(names(&store.by_index("app", "db")), ["a"]);
        assert_eq!(names(&store.by_index("namespace", "x")), ["a", "b"]);
        assert!(matches!(store.remove(&ObjectKey::new("x", "a")), Some(Change::Deleted(_))));
        assert!(store.by_index("app", "db").is_empty());
        assert!(store.remove(&ObjectKey::new("x", "a")).is_none());
    }

    #[test]
    fn the_same_version_again_is_no_change() {
        let store = Store::default();
        store.apply(object("a", "x", "web", 1));
        assert!(store.apply(object("a", "x", "web", 1)).is_none());
        assert_eq!(store.len(), 1);
    }
}
