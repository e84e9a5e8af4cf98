//! Who controls what: adoption of orphans that a selector matches, release of what it no longer matches.

use crate::plan::{Action, confirm, controller_of, patch};
use crate::world::Readable;
use client::kube::core::{Selector, SelectorExt};
use client::kube::{Resource, ResourceExt};
use client::{Change, Index, ObjectKey, Reader, WorkQueue, by_controller_uid, by_namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use serde_json::json;
use std::sync::Arc;

/// A kind whose objects control what their selector selects.
pub trait Selecting: Readable {
    /// `None` when it selects nothing that a controller may act on.
    fn selector(&self) -> Option<Selector>;
}

/// Has a queue told of owners that change.
pub(crate) fn wake_for_owners<O: Selecting>(queue: &Arc<WorkQueue<ObjectKey>>, owners: &Reader<O>) {
    owners.informer().index_by(by_namespace());
    let add = queue.clone();
    owners.informer().on_change(move |change| add.add(ObjectKey::of(&**change.object())));
}

/// Has a queue told of the owners of what changes, and of those that may adopt it; then [`owned`] and [`orphans`] find it.
pub(crate) fn wake_for_owned<O, K>(queue: &Arc<WorkQueue<ObjectKey>>, owners: &Reader<O>, owned: &Reader<K>)
where
    O: Selecting,
    K: Readable,
{
    owned.informer().index_by(by_controller_uid()).index_by(by_orphans());
    let (add, all) = (queue.clone(), owners.clone());
    owned.informer().on_change(move |change| wake(&add, &all, change));
}

/// What an owner controls.
pub(crate) fn owned<K: Readable>(of: &Reader<K>, owner: &impl Resource) -> Vec<Arc<K>> {
    of.by_index("controller-uid", owner.meta().uid.as_deref().unwrap_or_default())
}

/// What nobody controls in an owner's namespace.
pub(crate) fn orphans<K: Readable>(of: &Reader<K>, owner: &impl Resource) -> Vec<Arc<K>> {
    of.by_index("orphans-in", owner.meta().namespace.as_deref().unwrap_or_default())
}

/// What an owner controls, and what it might adopt.
pub(crate) fn owned_and_orphans<K: Readable>(of: &Reader<K>, owner: &impl Resource) -> Vec<Arc<K>> {
    let mut found = owned(of, owner);
    found.extend(orphans(of, owner));
    found
}

/// The objects of a namespace that nobody controls.
fn by_orphans<K: Resource>() -> Index<K> {
    Index::new("orphans-in", |object: &K| match controller_ref(object) {
        None => object.namespace().into_iter().collect(),
        Some(_) => Vec::new(),
    })
}

/// An object concerns its owner, its former owner, and, as an orphan, whoever may adopt it. Owners are indexed by namespace.
fn wake<O, K>(queue: &WorkQueue<ObjectKey>, owners: &Reader<O>, change: &Change<K>)
where
    O: Selecting,
    K: Resource,
{
    for object in change.before().into_iter().chain(change.after()) {
        if let Some(owner) = controller_ref(&**object).filter(|owner| owner.kind == O::kind(&())) {
            queue.add(ObjectKey::new(object.namespace().unwrap_or_default(), &owner.name));
        }
    }
    let Some(orphan) = change.after().filter(|object| controller_ref(&***object).is_none()) else { return };
    let relabelled = change.before().is_none_or(|before| {
        before.meta().labels != orphan.meta().labels || controller_ref(&**before).is_some()
    });
    if !relabelled {
        return;
    }
    for owner in owners.by_index("namespace", &orphan.namespace().unwrap_or_default()) {
        if owner.selector().is_some_and(|selector| selects(&selector, &**orphan)) {
            queue.add(ObjectKey::of(&*owner));
        }
    }
}

/// A workload's selector; `None` when it selects nothing that a controller may act on (absent, empty, or malformed).
pub(crate) fn selector(of: Option<&LabelSelector>) -> Option<Selector> {
    Selector::try_from(of?.clone()).ok().filter(|selector| !selector.selects_all())
}

/// Whether the selector selects the object.
pub(crate) fn selects<K: Resource>(selector: &Selector, object: &K) -> bool {
    selector.matches(object.labels())
}

/// The reference of an object's controlling owner.
pub(crate) fn controller_ref<K: Resource>(object: &K) -> Option<&OwnerReference> {
    object.meta().owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// Whether the object is being deleted.
pub(crate) fn is_terminating<K: Resource>(object: &K) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// What an owner owns among candidates, and what to do so that the references say so.
pub(crate) struct Claims<K> {
    pub(crate) owned: Vec<Arc<K>>,
    pub(crate) actions: Vec<Action>,
}

/// Sorts candidates: what the owner controls and its selector matches is owned; what it controls and no longer matches is
/// released; an orphan that matches and may still be adopted is adopted (and owned from the next look on, when the server
/// has agreed). An owner that is being deleted adopts nothing, and since it may be without our having heard, the server is
/// asked first.
pub(crate) fn claim<O, K>(owner: &O, selector: &Selector, candidates: &[Arc<K>]) -> Claims<K>
where
    O: Resource<DynamicType = ()>,
    K: Resource<DynamicType = ()>,
{
    claim_if(owner, |object| selects(selector, object), candidates)
}

/// The same, for an owner that asks for more than its selector does.
pub(crate) fn claim_if<O, K>(owner: &O, belongs: impl Fn(&K) -> bool, candidates: &[Arc<K>]) -> Claims<K>
where
    O: Resource<DynamicType = ()>,
    K: Resource<DynamicType = ()>,
{
    let mut claims = Claims { owned: Vec::new(), actions: Vec::new() };
    let mut adoptions = Vec::new();
    let uid = owner.meta().uid.as_deref();
    for object in candidates {
        let matches = belongs(object);
        match controller_ref(&**object) {
            Some(reference) if Some(reference.uid.as_str()) == uid => {
                if matches {
                    claims.owned.push(object.clone());
                } else if !is_terminating(owner) && !is_terminating(&**object) {
                    claims.actions.push(release(owner, &**object));
                }
            }
            None if matches && !is_terminating(owner) && !is_terminating(&**object) => {
                adoptions.push(adopt(owner, &**object));
            }
            _ => {}
        }
    }
    if !adoptions.is_empty() {
        claims.actions.push(confirm(owner));
        claims.actions.append(&mut adoptions);
    }
    claims
}

fn adopt<O: Resource<DynamicType = ()>, K: Resource<DynamicType = ()>>(owner: &O, object: &K) -> Action {
    let mut owners = object.owner_references().to_vec();
    owners.push(controller_of(owner));
    patch(object, json!({ "metadata": { "ownerReferences": owners } }))
}

fn release<O: Resource<DynamicType = ()>, K: Resource<DynamicType = ()>>(owner: &O, object: &K) -> Action {
    let uid = owner.meta().uid.as_deref();
    let left: Vec<_> = object.owner_references().iter().filter(|o| Some(o.uid.as_str()) != uid).collect();
    patch(object, json!({ "metadata": { "ownerReferences": left } }))
}
