//! Who owns whom, among all objects of all kinds: only metadata, and of that only what decides.

use client::ObjectKey;
use client::discovery::Served;
use client::kube::api::ObjectMeta;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

pub(super) const FOREGROUND: &str = "foregroundDeletion";
pub(super) const ORPHAN: &str = "orphan";
/// Owners known to be gone are remembered, so that a thousand dependents do not ask a thousand times.
const REMEMBERED: usize = 1_024;

/// An object, in what concerns ownership.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its kind.
    pub kind: Arc<Served>,
    /// Its name.
    pub key: ObjectKey,
    /// Itself.
    pub uid: String,
    /// The version that this was read from.
    pub resource_version: Option<String>,
    /// Its owners.
    pub owners: Vec<OwnerReference>,
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
            uid: meta.uid?,
            resource_version: meta.resource_version,
            owners: meta.owner_references.unwrap_or_default(),
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
}

#[derive(Default)]
pub(super) struct Graph {
    items: HashMap<String, Item>,
    dependents: HashMap<String, BTreeSet<String>>,
    absent: HashSet<String>,
    absent_order: VecDeque<String>,
}

impl Graph {
    pub(super) fn get(&self, uid: &str) -> Option<&Item> {
        self.items.get(uid)
    }

    pub(super) fn dependents(&self, uid: &str) -> impl Iterator<Item = &Item> {
        self.dependents.get(uid).into_iter().flatten().filter_map(|uid| self.items.get(uid))
    }

    pub(super) fn is_known_absent(&self, uid: &str) -> bool {
        self.absent.contains(uid)
    }

    pub(super) fn remember_absent(&mut self, uid: &str) {
        if !self.items.contains_key(uid) && self.absent.insert(uid.to_owned()) {
            self.absent_order.push_back(uid.to_owned());
            if self.absent_order.len() > REMEMBERED
                && let Some(oldest) = self.absent_order.pop_front()
            {
                self.absent.remove(&oldest);
            }
        }
    }

    /// Takes an object in; the UIDs to look at again.
    pub(super) fn set(&mut self, item: Item) -> Vec<String> {
        let uid = item.uid.clone();
        self.absent.remove(&uid);
        let before = self.items.get(&uid);
        let began_to_wait = item.waits() && !before.is_some_and(Item::waits);
        let mut wake = Vec::new();
        if !item.owners.is_empty() || item.deleting {
            wake.push(uid.clone());
        }
        if let Some(before) = before {
            for owner in before.owners.clone() {
                // A former owner may be waiting for just this reference to go.
                wake.push(owner.uid.clone());
                self.unlink(&owner.uid, &uid);
            }
        }
        for owner in &item.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
            wake.push(owner.uid.clone());
        }
        if began_to_wait {
            wake.extend(self.dependents.get(&uid).into_iter().flatten().cloned());
        }
        self.items.insert(uid, item);
        wake.retain(|uid| self.items.contains_key(uid));
        wake
    }

    /// An object is gone; the UIDs to look at again: what it owned, and who may have waited for it.
    pub(super) fn remove(&mut self, uid: &str) -> Vec<String> {
        let Some(item) = self.items.remove(uid) else { return Vec::new() };
        let mut wake: Vec<_> = self.dependents.get(uid).into_iter().flatten().cloned().collect();
        for owner in &item.owners {
            self.unlink(&owner.uid, uid);
            wake.push(owner.uid.clone());
        }
        self.remember_absent(uid);
        wake
    }

    /// The UIDs of the objects of a kind.
    pub(super) fn of_kind(&self, kind: &Served) -> Vec<String> {
        let same = |item: &&Item| item.kind.resource == kind.resource;
        self.items.values().filter(same).map(|item| item.uid.clone()).collect()
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
