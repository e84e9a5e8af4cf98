//! What a plan is made of: values that say what to write, and nothing that writes.

use client::{EventType, ObjectKey};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use kube::api::{ApiResource, PropagationPolicy};
use serde::Serialize;
use serde_json::{Value, json};
use std::borrow::Cow;

/// What a controller wants done about one key, when to look again by itself, and what to remember until then.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan<M> {
    /// In order. A failure ends the plan, or what it does to that object; the key is looked at again.
    pub actions: Vec<Action>,
    /// Whether actions on different objects have nothing to do with each other, so that the failure of one leaves the others.
    pub independent: bool,
    /// The next time that something changes by the clock alone.
    pub requeue_at: Option<Timestamp>,
    /// Handed to the next plan for this key; `None` forgets.
    pub memory: Option<M>,
}

impl<M> Default for Plan<M> {
    fn default() -> Self {
        Self { actions: Vec::new(), independent: false, requeue_at: None, memory: None }
    }
}

impl<M> Plan<M> {
    /// A plan of actions that have nothing to do with each other, unless they are on the same object.
    pub fn independent() -> Self {
        Self { independent: true, ..Self::default() }
    }

    /// Do this too.
    pub fn then(&mut self, action: impl Into<Option<Action>>) {
        self.actions.extend(action.into());
    }

    /// Look again at this time, or earlier if something asked for that.
    pub fn look_again(&mut self, at: impl Into<Option<Timestamp>>) {
        if let Some(at) = at.into() {
            self.requeue_at = Some(self.requeue_at.map_or(at, |earlier| earlier.min(at)));
        }
    }
}

/// One write. Runs of creates of a kind are sent in batches of growing size, so that what fails for one fails for few; runs
/// of deletes are sent together; all else goes one after the other.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make an object.
    Create(Create),
    /// Change an object.
    Patch(Patch),
    /// Take an object away. That it is gone already is success.
    Delete(Delete),
    /// Take away every object of a kind in a namespace.
    DeleteAll {
        /// The kind.
        resource: ApiResource,
        /// The namespace.
        namespace: String,
    },
    /// Replace `spec.finalizers` of a namespace through its `finalize` subresource.
    Finalize {
        /// The whole namespace, with the finalizers that are left.
        namespace: Box<k8s_openapi::api::core::v1::Namespace>,
    },
    /// Ask the server itself, past everything that is cached, whether an object is there, is the same, and is not being
    /// deleted. If not, the plan ends here: it was made on old facts.
    Confirm {
        /// The kind.
        resource: ApiResource,
        /// Which.
        key: ObjectKey,
        /// Not another of the same name.
        uid: Option<String>,
    },
    /// Tell people.
    Tell {
        /// Of what.
        regarding: Box<ObjectReference>,
        /// How serious.
        kind: EventType,
        /// For machines.
        reason: &'static str,
        /// For people.
        message: String,
    },
}

/// See [`Action::Create`].
#[derive(Debug, Clone, PartialEq)]
pub struct Create {
    /// The kind.
    pub resource: ApiResource,
    /// The namespace; empty for a cluster-scoped object.
    pub namespace: String,
    /// The object.
    pub object: Value,
    /// What to tell about the outcome.
    pub announce: Option<Announce>,
    /// Whether an object of the same name is as good.
    pub unless_exists: bool,
}

/// See [`Action::Patch`].
#[derive(Debug, Clone, PartialEq)]
pub struct Patch {
    /// The kind.
    pub resource: ApiResource,
    /// Which.
    pub key: ObjectKey,
    /// `status`, or nothing for the object itself.
    pub subresource: Option<&'static str>,
    /// The patch. One that is not idempotent names the UID and resourceVersion that it was planned for.
    pub body: Value,
    /// How lists are merged.
    pub lists: Lists,
}

/// What a patch does with lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lists {
    /// It names all that is to be in them: a JSON merge patch.
    Replaced,
    /// It names elements that are to be in them, by their keys, and others stay: a strategic merge patch, of kinds that are
    /// built in.
    ByKey,
}

/// See [`Action::Delete`].
#[derive(Debug, Clone, PartialEq)]
pub struct Delete {
    /// The kind.
    pub resource: ApiResource,
    /// Which.
    pub key: ObjectKey,
    /// Not another of the same name.
    pub uid: Option<String>,
    /// Not after it was changed.
    pub resource_version: Option<String>,
    /// What becomes of its dependents; the server's default otherwise.
    pub propagation: Option<PropagationPolicy>,
    /// At once, without grace (for pods whose node is gone).
    pub immediately: bool,
    /// What to tell about the outcome.
    pub announce: Option<Announce>,
}

/// The event that tells how a write of one object for another went. The name of the object stands for `{}` in the `done`
/// words, or follows them; the error follows the `failed` words.
#[derive(Debug, Clone, PartialEq)]
pub struct Announce {
    /// For whom the write was.
    pub regarding: Box<ObjectReference>,
    /// Reason and words when it worked.
    pub done: (&'static str, Cow<'static, str>),
    /// Reason and words when it did not.
    pub failed: (&'static str, Cow<'static, str>),
}

impl Announce {
    /// What every workload controller says of the pods that it makes.
    pub fn created<K: Resource<DynamicType = ()>>(owner: &K) -> Self {
        Self {
            regarding: Box::new(owner.object_ref(&())),
            done: ("SuccessfulCreate", "Created pod: ".into()),
            failed: ("FailedCreate", "Error creating: ".into()),
        }
    }

    /// What every workload controller says of the pods that it takes away.
    pub fn deleted<K: Resource<DynamicType = ()>>(owner: &K) -> Self {
        Self {
            regarding: Box::new(owner.object_ref(&())),
            done: ("SuccessfulDelete", "Deleted pod: ".into()),
            failed: ("FailedDelete", "Error deleting: ".into()),
        }
    }
}

/// What went wrong with an action, as a later plan may want to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What was tried.
    pub attempt: Attempt,
    /// The plural of the kind.
    pub plural: String,
    /// The error, in words.
    pub message: String,
}

/// See [`Failure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// A create.
    Create,
    /// A patch or a replace.
    Update,
    /// A delete.
    Delete,
}

fn resource<K: Resource<DynamicType = ()>>() -> ApiResource {
    ApiResource::erase::<K>(&())
}

/// Creates `object`.
pub fn create<K: Resource<DynamicType = ()> + Serialize>(object: &K) -> Create {
    Create {
        resource: resource::<K>(),
        namespace: object.meta().namespace.clone().unwrap_or_default(),
        // What the API's own types serialise to cannot fail to be JSON.
        object: serde_json::to_value(object).unwrap_or_default(),
        announce: None,
        unless_exists: false,
    }
}

/// Patches `object` itself; refused by the server if it is no longer the version that the plan was made for.
pub fn patch<K: Resource<DynamicType = ()>>(object: &K, mut body: Value) -> Action {
    let meta = object.meta();
    body["metadata"]["uid"] = json!(meta.uid);
    body["metadata"]["resourceVersion"] = json!(meta.resource_version);
    Action::Patch(Patch {
        resource: resource::<K>(),
        key: ObjectKey::of(object),
        subresource: None,
        body,
        lists: Lists::Replaced,
    })
}

/// Annotates `object`, whatever its version, by way of its status: where annotations count for the generation, they do not
/// on that way.
pub fn annotate<K: Resource<DynamicType = ()>>(object: &K, annotations: Value) -> Action {
    let body = json!({ "metadata": { "uid": object.meta().uid, "annotations": annotations } });
    Action::Patch(Patch {
        resource: resource::<K>(),
        key: ObjectKey::of(object),
        subresource: Some("status"),
        body,
        lists: Lists::Replaced,
    })
}

/// Patches the status of `object`; refused by the server if it is no longer the version that the plan was made for.
pub fn patch_status<K: Resource<DynamicType = ()>>(object: &K, status: Value) -> Action {
    status_patch(object, status, Lists::Replaced)
}

/// As [`patch_status`], for a built-in kind: of lists only these elements change.
pub fn merge_status<K: Resource<DynamicType = ()>>(object: &K, status: Value) -> Action {
    status_patch(object, status, Lists::ByKey)
}

fn status_patch<K: Resource<DynamicType = ()>>(object: &K, status: Value, lists: Lists) -> Action {
    let meta = object.meta();
    let body = json!({
        "metadata": { "uid": meta.uid, "resourceVersion": meta.resource_version },
        "status": status,
    });
    let (resource, key) = (resource::<K>(), ObjectKey::of(object));
    Action::Patch(Patch { resource, key, subresource: Some("status"), body, lists })
}

/// Deletes `object`, not another of the same name.
pub fn delete<K: Resource<DynamicType = ()>>(object: &K) -> Delete {
    Delete {
        resource: resource::<K>(),
        key: ObjectKey::of(object),
        uid: object.meta().uid.clone(),
        resource_version: None,
        propagation: None,
        immediately: false,
        announce: None,
    }
}

/// Tells about `object`.
pub fn tell<K: Resource<DynamicType = ()>>(
    object: &K,
    kind: EventType,
    reason: &'static str,
    message: impl Into<String>,
) -> Action {
    Action::Tell { regarding: Box::new(object.object_ref(&())), kind, reason, message: message.into() }
}

/// Goes on only if `object` is still there, and to stay.
pub fn confirm<K: Resource<DynamicType = ()>>(object: &K) -> Action {
    Action::Confirm { resource: resource::<K>(), key: ObjectKey::of(object), uid: object.meta().uid.clone() }
}

/// The reference by which `owner` controls what it makes.
pub fn controller_of<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.meta().name.clone().unwrap_or_default(),
        uid: owner.meta().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

impl From<Create> for Option<Action> {
    fn from(create: Create) -> Self {
        Some(Action::Create(create))
    }
}

impl From<Delete> for Option<Action> {
    fn from(delete: Delete) -> Self {
        Some(Action::Delete(delete))
    }
}
