//! The garbage collector: what is owned goes with its owners, in the manner that the deletion asked for.

mod graph;
mod monitors;
#[cfg(test)]
mod tests;

use crate::plan::{Action, Delete, Lists, Patch, Plan};
use crate::{Controller, World};
use async_trait::async_trait;
use client::discovery::Served;
use client::kube::api::{Api, DynamicObject, PropagationPolicy};
use client::kube::{Client, Error};
use client::write::is_not_found;
use client::{EventType, ObjectKey, WorkQueue};
use graph::{FOREGROUND, ORPHAN};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use monitors::Shared;
use serde_json::{Value, json};
use std::sync::Arc;

pub use graph::{Item, Uid};

/// When to look again at what no watch tells of.
const AGAIN: SignedDuration = SignedDuration::from_secs(30);

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
    /// It lives in a namespace, and what names it does not: such a reference means nothing.
    Misplaced,
}

/// What it looks at.
#[derive(Default)]
pub struct View {
    /// The object.
    pub item: Option<Item>,
    /// Its owners, and what is known of them.
    pub owners: Vec<(OwnerReference, Owner)>,
    /// What it owns, where that is to be let go of.
    pub orphans: Vec<Item>,
    /// Whether it owns anything, where that must go before it.
    pub owns: bool,
    /// Whether something that it owns keeps it from going.
    pub blocked: bool,
    /// Whether something that it owns waits for what that owns.
    pub awaits: bool,
    /// Whether only the server's word says that an owner is there. A watch that begins after the owner's end will never tell
    /// of it.
    pub hearsay: bool,
}

impl View {
    /// What is owned is looked at only as far as it matters: it may be thousands, each change of which wakes the owner.
    fn new<'a, I>(item: Item, owners: Vec<(OwnerReference, Owner)>, dependents: impl Fn() -> I) -> Self
    where
        I: Iterator<Item = &'a Item>,
    {
        let mut view = Self { owners, ..Self::default() };
        if item.deleting && item.is_held_by(ORPHAN) {
            view.orphans = dependents().cloned().collect();
        } else if item.deleting {
            view.blocked = item.is_held_by(FOREGROUND) && dependents().any(|other| blocks(other, &item));
        } else if view.owners.iter().any(|(_, owner)| matches!(owner, Owner::Waiting | Owner::Unseen)) {
            view.owns = dependents().next().is_some();
            view.awaits = dependents().any(Item::waits);
        }
        Self { item: Some(item), ..view }
    }
}

#[async_trait]
impl Controller for GarbageCollector {
    const NAME: &'static str = "garbage-collector-controller";
    type Key = Uid;
    type View = View;
    type Memory = ();

    fn wire(world: &World, queue: &Arc<WorkQueue<Uid>>) -> Self {
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

    fn view(&self, uid: &Uid) -> View {
        let graph = self.shared.graph();
        let Some(item) = graph.get(uid).cloned() else { return View::default() };
        let owners = item.owners.iter().map(|owner| (owner.clone(), self.shared.owner(&graph, &item, owner)));
        let owners = owners.collect();
        View::new(item, owners, || graph.dependents(uid))
    }

    async fn observe(&self, _uid: &Uid, view: &mut View) -> Result<(), Error> {
        let Some(item) = view.item.as_ref().filter(|item| !item.deleting) else { return Ok(()) };
        for (reference, owner) in view.owners.iter_mut().filter(|(_, owner)| *owner == Owner::Unseen) {
            *owner = match self.shared.kind(reference) {
                None => Owner::Unknowable,
                Some(kind) => self.ask(&kind, namespace_of_owner(&kind, item), reference).await?,
            };
            view.hearsay |= matches!(owner, Owner::Solid | Owner::Waiting);
        }
        Ok(())
    }

    fn plan(_uid: &Uid, view: &View, (): &(), now: Timestamp) -> Plan<()> {
        plan(view, now)
    }
}

impl GarbageCollector {
    async fn ask(&self, kind: &Served, namespace: &str, reference: &OwnerReference) -> Result<Owner, Error> {
        let client = self.client.clone();
        let api: Api<DynamicObject> = match kind.namespaced {
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
            Err(error) if !is_not_found(&error) => Err(error),
            Ok(_) | Err(_) => {
                self.shared.graph().remember_not_found(namespace, reference);
                Ok(Owner::Gone)
            }
        }
    }
}

/// Where an item's owner of a kind must be: beside it, or in no namespace.
fn namespace_of_owner<'a>(kind: &Served, item: &'a Item) -> &'a str {
    if kind.namespaced { &item.key.namespace } else { "" }
}

/// Decides what to do about one object; pure.
pub fn plan(view: &View, now: Timestamp) -> Plan<()> {
    let mut plan = Plan::default();
    let Some(item) = &view.item else { return plan };
    if view.hearsay {
        plan.look_again(now.checked_add(AGAIN).ok());
    }
    if item.deleting {
        if item.is_held_by(ORPHAN) {
            // Let go of every dependent first, then of the object.
            plan.actions.extend(view.orphans.iter().map(|orphan| without_owners(orphan, &[&item.uid])));
            plan.then(without_finalizer(item, ORPHAN));
        } else if item.is_held_by(FOREGROUND) && !view.blocked {
            plan.then(without_finalizer(item, FOREGROUND));
        }
        return plan;
    }
    let those = |wanted: Owner| {
        let matching = view.owners.iter().filter(move |(_, owner)| *owner == wanted);
        matching.map(|(reference, _)| reference.uid.as_str()).collect::<Vec<_>>()
    };
    if let Some((reference, _)) = view.owners.iter().find(|(_, owner)| *owner == Owner::Misplaced) {
        // A mistake of whoever wrote it, which must not cost anybody the object.
        plan.then(misplaced(item, reference));
        return plan;
    }
    if view.owners.iter().any(|(_, owner)| matches!(owner, Owner::Unknowable | Owner::Unseen)) {
        // Its kind may be served again: until somebody knows, nothing is deleted.
        plan.look_again(now.checked_add(AGAIN).ok());
        return plan;
    }
    let (gone, waiting) = (those(Owner::Gone), those(Owner::Waiting));
    if !those(Owner::Solid).is_empty() {
        let drop: Vec<_> = gone.into_iter().chain(waiting).collect();
        if !drop.is_empty() {
            plan.then(without_owners(item, &drop));
        }
    } else if !waiting.is_empty() && view.owns {
        // Its owner waits for it, so it in turn waits for its own. A dependent that waits already would make a circle of
        // waiting: then this one no longer blocks.
        let blocks = item.owners.iter().any(|owner| owner.block_owner_deletion == Some(true));
        if blocks && view.awaits {
            // That makes another version of it, which is deleted on the next look.
            plan.then(unblocking(item));
        } else {
            plan.then(delete(item, PropagationPolicy::Foreground));
        }
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
        .any(|reference| *reference.uid == *owner.uid && reference.block_owner_deletion == Some(true))
}

fn patch(item: &Item, metadata: Value) -> Action {
    let mut body = json!({ "metadata": metadata });
    body["metadata"]["uid"] = json!(*item.uid);
    body["metadata"]["resourceVersion"] = json!(item.resource_version);
    let (resource, key) = (item.kind.resource.clone(), item.key.clone());
    Action::Patch(Patch { resource, key, subresource: None, body, lists: Lists::Replaced })
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

fn misplaced(item: &Item, reference: &OwnerReference) -> Action {
    let OwnerReference { api_version, kind, name, uid, .. } = reference;
    let regarding = Box::new(ObjectReference {
        api_version: Some(item.kind.resource.api_version.clone()),
        kind: Some(item.kind.resource.kind.clone()),
        name: Some(item.key.name.clone()),
        uid: Some(item.uid.to_string()),
        ..ObjectReference::default()
    });
    let message = format!(
        "ownerRef [{api_version}/{kind}, name: {name}, uid: {uid}] does not exist in namespace {:?}",
        item.key.namespace
    );
    Action::Tell { regarding, kind: EventType::Warning, reason: "OwnerRefInvalidNamespace", message }
}

fn delete(item: &Item, policy: PropagationPolicy) -> Delete {
    Delete {
        resource: item.kind.resource.clone(),
        key: ObjectKey::clone(&item.key),
        uid: Some(item.uid.to_string()),
        // Its owners may have changed since: then it must be thought over.
        resource_version: item.resource_version.clone(),
        propagation: Some(policy),
        immediately: false,
        announce: None,
    }
}
