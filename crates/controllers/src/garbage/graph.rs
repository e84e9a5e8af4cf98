//! Who owns whom, among all objects of all kinds: only metadata, and of that only what decides.

use super::Owner;
use client::ObjectKey;
use client::discovery::Served;
use client::kube::api::ObjectMeta;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

pub(super) const FOREGROUND: &str = "foregroundDeletion";
pub(super) const ORPHAN: &str = "orphan";
/// Owners known to be gone are remembered, so that a thousand dependents do not ask a thousand times.
const REMEMBERED: usize = 1_024;

/// A kind, whatever the version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct KindName {
    group: String,
    kind: String,
}

impl KindName {
    pub(super) fn of(kind: &Served) -> Self {
        Self { group: kind.resource.group.clone(), kind: kind.resource.kind.clone() }
    }

    /// The kind that an owner reference means, whatever the version it names.
    pub(super) fn meant_by(reference: &OwnerReference) -> Self {
        let group = reference.api_version.split_once('/').map_or("", |(group, _)| group);
        Self { group: group.to_owned(), kind: reference.kind.clone() }
    }
}

/// What an object is known by, wherever it is named here.
pub type Uid = Arc<str>;

/// An object, in what concerns ownership.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its kind.
    pub kind: Arc<Served>,
    /// Its name.
    pub key: ObjectKey,
    /// Itself.
    pub uid: Uid,
    /// The version that this was read from.
    pub resource_version: Option<String>,
    /// Its owners; the same for all that one owner made.
    pub owners: Arc<[OwnerReference]>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Everything that holds it.
    pub finalizers: Vec<String>,
}

impl Item {
    pub(super) fn of(kind: &Arc<Served>, meta: ObjectMeta) -> Option<Self> {
        Some(Self {
            kind: kind.clone(),
            key: ObjectKey::new(meta.namespace.unwrap_or_default(), meta.name?),
            uid: meta.uid?.into(),
            resource_version: meta.resource_version,
            owners: meta.owner_references.unwrap_or_default().into(),
            deleting: meta.deletion_timestamp.is_some(),
            finalizers: meta.finalizers.unwrap_or_default(),
        })
    }

    pub(super) fn is_held_by(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|held| held == finalizer)
    }

    /// Being deleted, and waiting for its dependents to go first.
    pub(super) fn waits(&self) -> bool {
        self.deleting && self.is_held_by(FOREGROUND)
    }

    /// Whether anything can ever have to be done about it. Of all others it is enough to know that they are there.
    fn matters(&self) -> bool {
        self.deleting || !self.owners.is_empty()
    }
}

/// The newest of what it was given, without doubles.
struct Lately<T> {
    known: HashSet<T>,
    order: VecDeque<T>,
}

impl<T> Default for Lately<T> {
    fn default() -> Self {
        Self { known: HashSet::new(), order: VecDeque::new() }
    }
}

impl<T: Clone + Eq + Hash> Lately<T> {
    fn insert(&mut self, value: T) {
        if self.known.insert(value.clone()) {
            self.order.push_back(value);
            if self.order.len() > REMEMBERED
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
            }
        }
    }
}

/// Where a reference looks for an owner: all of what it says, and the namespace that it says it from.
type Coordinates = (String, String, String, String, String);

fn coordinates(namespace: &str, reference: &OwnerReference) -> Coordinates {
    let OwnerReference { api_version, kind, name, uid, .. } = reference;
    (api_version.clone(), kind.clone(), namespace.to_owned(), name.clone(), uid.clone())
}

#[derive(Default)]
pub(super) struct Graph {
    /// The UID of every object, by its kind and its name: all that is kept of most.
    present: HashMap<KindName, HashMap<Box<str>, Uid>>,
    items: HashMap<Uid, Item>,
    dependents: HashMap<Box<str>, BTreeSet<Uid>>,
    /// Owners that were seen to go, by UID: nobody will ever have theirs again.
    seen_off: Lately<String>,
    /// Owners that the server did not find where a reference said they were. Another reference may know the same UID to be
    /// somewhere else, so this is believed of these coordinates alone.
    not_found: Lately<Coordinates>,
}

/// The name of an object among its kind.
pub(super) fn name_of(key: &ObjectKey) -> Box<str> {
    key.to_string().into()
}

impl Graph {
    pub(super) fn get(&self, uid: &str) -> Option<&Item> {
        self.items.get(uid)
    }

    pub(super) fn dependents(&self, uid: &str) -> impl Iterator<Item = &Item> {
        self.dependents.get(uid).into_iter().flatten().filter_map(|uid| self.items.get(uid))
    }

    /// What is known of the owner that is meant by a reference in a namespace (none for a cluster-scoped owner).
    pub(super) fn owner(&self, namespace: &str, reference: &OwnerReference) -> Owner {
        let name = name_of(&ObjectKey::new(namespace, &reference.name));
        let there = self.present.get(&KindName::meant_by(reference)).and_then(|names| names.get(&name));
        if there.is_some_and(|uid| **uid == *reference.uid) {
            let waits = self.items.get(&*reference.uid).is_some_and(Item::waits);
            return if waits { Owner::Waiting } else { Owner::Solid };
        }
        if self.is_known_absent(namespace, reference) { Owner::Gone } else { Owner::Unseen }
    }

    pub(super) fn is_known_absent(&self, namespace: &str, reference: &OwnerReference) -> bool {
        self.seen_off.known.contains(&reference.uid)
            || self.not_found.known.contains(&coordinates(namespace, reference))
    }

    /// The server was asked for an owner at these coordinates, and has none.
    pub(super) fn remember_not_found(&mut self, namespace: &str, reference: &OwnerReference) {
        self.not_found.insert(coordinates(namespace, reference));
    }

    /// Takes an object in; the UIDs to look at again.
    pub(super) fn set(&mut self, item: Item) -> Vec<Uid> {
        let uid = item.uid.clone();
        let names = self.present.entry(KindName::of(&item.kind)).or_default();
        let mut wake = match names.insert(name_of(&item.key), uid.clone()) {
            Some(before) if before != uid => self.remove(&before),
            _ => Vec::new(),
        };
        let before = self.items.remove(&uid);
        let began_to_wait = item.waits() && !before.as_ref().is_some_and(Item::waits);
        for owner in before.iter().flat_map(|before| before.owners.iter()) {
            // A former owner may be waiting for just this reference to go.
            self.unlink(&owner.uid, &uid);
            wake.extend(self.known(&owner.uid));
        }
        for owner in item.owners.iter() {
            match self.dependents.get_mut(&*owner.uid) {
                Some(dependents) => dependents.insert(uid.clone()),
                None => self.dependents.entry(owner.uid.as_str().into()).or_default().insert(uid.clone()),
            };
            wake.extend(self.known(&owner.uid));
        }
        if began_to_wait {
            wake.extend(self.dependents.get(&*uid).into_iter().flatten().cloned());
        }
        if item.matters() {
            wake.push(uid.clone());
            self.items.insert(uid, item);
        }
        wake.retain(|uid| self.items.contains_key(uid));
        wake
    }

    /// The UID as it is held of an item.
    fn known(&self, uid: &str) -> Option<Uid> {
        self.items.get(uid).map(|item| item.uid.clone())
    }

    /// The object of this name is gone; the UIDs to look at again.
    pub(super) fn forget(&mut self, kind: &KindName, name: &str) -> Vec<Uid> {
        let names = self.present.get_mut(kind);
        let uid = names.and_then(|names| names.remove(name));
        uid.map(|uid| self.remove(&uid)).unwrap_or_default()
    }

    /// The names of all that is known of a kind.
    pub(super) fn names(&self, kind: &KindName) -> BTreeSet<Box<str>> {
        self.present.get(kind).into_iter().flat_map(|names| names.keys().cloned()).collect()
    }

    /// A kind is no longer served, which says nothing about its objects: they are out of sight, not gone. The UIDs to look
    /// at again.
    pub(super) fn lose_sight_of(&mut self, kind: &KindName) -> Vec<Uid> {
        let names = self.present.remove(kind).unwrap_or_default();
        let uids: BTreeSet<_> = names.into_values().collect();
        uids.iter().flat_map(|uid| self.take_out(uid)).collect()
    }

    fn remove(&mut self, uid: &str) -> Vec<Uid> {
        if self.dependents.contains_key(uid) {
            self.seen_off.insert(uid.to_owned());
        }
        self.take_out(uid)
    }

    /// What it owned, and who may have waited for it, have to be looked at again.
    fn take_out(&mut self, uid: &str) -> Vec<Uid> {
        let mut wake: Vec<_> = self.dependents.get(uid).into_iter().flatten().cloned().collect();
        for owner in self.items.remove(uid).iter().flat_map(|item| item.owners.iter()) {
            self.unlink(&owner.uid, uid);
            wake.extend(self.known(&owner.uid));
        }
        wake
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }
}
