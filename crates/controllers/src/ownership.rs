//! Who controls what: adoption of orphans that a selector matches, release of what it no longer matches.

use crate::plan::{Action, confirm, controller_of, patch};
use client::kube::core::{Selector, SelectorExt};
use client::kube::{Resource, ResourceExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use serde_json::json;
use std::sync::Arc;

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
    let mut claims = Claims { owned: Vec::new(), actions: Vec::new() };
    let mut adoptions = Vec::new();
    let uid = owner.meta().uid.as_deref();
    for object in candidates {
        let matches = selects(selector, &**object);
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
