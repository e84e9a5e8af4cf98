//! The garbage collector: what is owned goes with its owners, in the manner that the deletion asked for.

mod graph;
mod monitors;
#[cfg(test)]
mod tests;

use crate::plan::{Action, Delete, Patch, Plan};
use crate::{Controller, World};
use async_trait::async_trait;
use client::discovery::Served;
use client::kube::api::{Api, DynamicObject, PropagationPolicy};
use client::kube::{Client, Error};
use client::write::is_not_found;
use client::{ObjectKey, WorkQueue};
use graph::{FOREGROUND, ORPHAN};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use monitors::Shared;
use serde_json::{Value, json};
use std::sync::Arc;

pub use graph::Item;

/// The controller; see the module. Keys are UIDs.
pub struct GarbageCollector {
    shared: Arc<Shared>,
    client: Client,
}

/// What is known of an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// It is there.
    Solid,
    /// It is there, being deleted, and waits for its dependents to go first.
    Waiting,
    /// It is not there.
    Gone,
    /// No watch has shown it: the server must be asked.
    Unseen,
    /// The server serves no such kind (now), so nobody can say.
    Unknowable,
}

/// What it looks at.
#[derive(Default)]
pub struct View {
    /// The object.
    pub item: Option<Item>,
    /// Its owners, and what is known of them.
    pub owners: Vec<(OwnerReference, Owner)>,
    /// What it owns.
    pub dependents: Vec<Item>,
}

#[async_trait]
impl Controller for GarbageCollector {
    const NAME: &'static str = "garbage-collector-controller";
    type Key = String;
    type View = View;
    type Memory = ();

    fn wire(world: &World, queue: &Arc<WorkQueue<String>>) -> Self {
        let shared = Shared::new(queue.clone());
        let keep = monitors::keep(
            shared.clone(),
            world.client().clone(),
            world.ambient().clone(),
            world.tasks().clone(),
        );
        world.tasks().spawn("garbage-monitors", keep);
        Self { shared, client: world.client().clone() }
    }

    async fn ready(&self) {
        self.shared.complete().await;
    }

    fn view(&self, uid: &String) -> View {
        let graph = self.shared.graph();
        let Some(item) = graph.get(uid).cloned() else { return View::default() };
        let state = |reference: &OwnerReference| match graph.get(&reference.uid) {
            // An owner in another namespace does not count; the server is asked, and will not find it in this one.
            Some(owner) if !owner.key.namespace.is_empty() && owner.key.namespace != item.key.namespace => {
                Owner::Unseen
            }
            Some(owner) if owner.waits() => Owner::Waiting,
            Some(_) => Owner::Solid,
            None if graph.is_known_absent(&reference.uid) => Owner::Gone,
            None => Owner::Unseen,
        };
        let owners = item.owners.iter().map(|owner| (owner.clone(), state(owner))).collect();
        let dependents = graph.dependents(uid).cloned().collect();
        View { item: Some(item), owners, dependents }
    }

    async fn observe(&self, _uid: &String, view: &mut View) -> Result<(), Error> {
        let Some(item) = view.item.as_ref().filter(|item| !item.deleting) else { return Ok(()) };
        let namespace = item.key.namespace.clone();
        for (reference, owner) in view.owners.iter_mut().filter(|(_, owner)| *owner == Owner::Unseen) {
            *owner = match self.shared.kind(&reference.api_version, &reference.kind) {
                None => Owner::Unknowable,
                Some(kind) => self.ask(&kind, &namespace, reference).await?,
            };
        }
        Ok(())
    }

    fn plan(_uid: &String, view: &View, (): &(), now: Timestamp) -> Plan<()> {
        plan(view, now)
    }
}

impl GarbageCollector {
    async fn ask(&self, kind: &Served, namespace: &str, reference: &OwnerReference) -> Result<Owner, Error> {
        let client = self.client.clone();
        let api: Api<DynamicObject> = match kind.namespaced {
            // Something without a namespace cannot be owned by something in one.
            true if namespace.is_empty() => return Ok(Owner::Gone),
            true => Api::namespaced_with(client, namespace, &kind.resource),
            false => Api::all_with(client, &kind.resource),
        };
        match api.get_metadata(&reference.name).await {
            Ok(found) if found.metadata.uid.as_ref() == Some(&reference.uid) => {
                let finalizers = found.metadata.finalizers.unwrap_or_default();
                let waits =
                    found.metadata.deletion_timestamp.is_some() && finalizers.iter().any(|f| f == FOREGROUND);
                Ok(if waits { Owner::Waiting } else { Owner::Solid })
            }
            Ok(_) => Ok(self.gone(&reference.uid)),
            Err(error) if is_not_found(&error) => Ok(self.gone(&reference.uid)),
            Err(error) => Err(error),
        }
    }

    fn gone(&self, uid: &str) -> Owner {
        self.shared.graph().remember_absent(uid);
        Owner::Gone
    }
}

/// Decides what to do about one object; pure.
pub fn plan(view: &View, now: Timestamp) -> Plan<()> {
    let mut plan = Plan::default();
    let Some(item) = &view.item else { return plan };
    if item.deleting {
        if item.is_held_by(ORPHAN) {
            // Let go of every dependent first, then of the object.
            plan.actions
                .extend(view.dependents.iter().map(|dependent| without_owners(dependent, &[&item.uid])));
            plan.then(without_finalizer(item, ORPHAN));
        } else if item.is_held_by(FOREGROUND)
            && !view.dependents.iter().any(|dependent| blocks(dependent, item))
        {
            plan.then(without_finalizer(item, FOREGROUND));
        }
        return plan;
    }
    let those = |wanted: Owner| {
        let matching = view.owners.iter().filter(move |(_, owner)| *owner == wanted);
        matching.map(|(reference, _)| reference.uid.as_str()).collect::<Vec<_>>()
    };
    if view.owners.iter().any(|(_, owner)| matches!(owner, Owner::Unknowable | Owner::Unseen)) {
        // Its kind may be served again: until somebody knows, nothing is deleted.
        plan.look_again(now.checked_add(SignedDuration::from_secs(30)).ok());
        return plan;
    }
    let (gone, waiting) = (those(Owner::Gone), those(Owner::Waiting));
    if !those(Owner::Solid).is_empty() {
        let drop: Vec<_> = gone.into_iter().chain(waiting).collect();
        if !drop.is_empty() {
            plan.then(without_owners(item, &drop));
        }
    } else if !waiting.is_empty() && !view.dependents.is_empty() {
        // Its owner waits for it, so it in turn waits for its own. A dependent that waits already would make a circle of
        // waiting: then this one no longer blocks.
        if view.dependents.iter().any(Item::waits) {
            plan.then(unblocking(item));
        }
        plan.then(delete(item, PropagationPolicy::Foreground));
    } else if !gone.is_empty() || !waiting.is_empty() {
        let policy = if item.is_held_by(ORPHAN) {
            PropagationPolicy::Orphan
        } else if item.is_held_by(FOREGROUND) {
            PropagationPolicy::Foreground
        } else {
            PropagationPolicy::Background
        };
        plan.then(delete(item, policy));
    }
    plan
}

fn blocks(dependent: &Item, owner: &Item) -> bool {
    dependent
        .owners
        .iter()
        .any(|reference| reference.uid == owner.uid && reference.block_owner_deletion == Some(true))
}

fn patch(item: &Item, metadata: Value) -> Action {
    let mut body = json!({ "metadata": metadata });
    body["metadata"]["uid"] = json!(item.uid);
    body["metadata"]["resourceVersion"] = json!(item.resource_version);
    let (resource, key) = (item.kind.resource.clone(), item.key.clone());
    Action::Patch(Patch { resource, key, subresource: None, body })
}

fn without_owners(item: &Item, uids: &[&str]) -> Action {
    let left: Vec<_> = item.owners.iter().filter(|owner| !uids.contains(&owner.uid.as_str())).collect();
    patch(item, json!({ "ownerReferences": left }))
}

fn without_finalizer(item: &Item, finalizer: &str) -> Action {
    let left: Vec<_> = item.finalizers.iter().filter(|held| *held != finalizer).collect();
    patch(item, json!({ "finalizers": left }))
}

fn unblocking(item: &Item) -> Action {
    let free = |owner: &OwnerReference| OwnerReference { block_owner_deletion: Some(false), ..owner.clone() };
    patch(item, json!({ "ownerReferences": item.owners.iter().map(free).collect::<Vec<_>>() }))
}

fn delete(item: &Item, policy: PropagationPolicy) -> Delete {
    Delete {
        resource: item.kind.resource.clone(),
        key: ObjectKey::clone(&item.key),
        uid: Some(item.uid.clone()),
        // Its owners may have changed since: then it must be thought over.
        resource_version: item.resource_version.clone().filter(|_| policy != PropagationPolicy::Foreground),
        propagation: Some(policy),
        immediately: false,
        announce: None,
    }
}
