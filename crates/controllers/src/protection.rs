//! Finalizers that hold what is in use: one lets go when its object is deleted and nothing uses it any more. Three
//! controllers, as upstream's are, of one shape: claims are used by pods, volumes by the claims that they are bound to, and
//! classes of attributes by volumes and claims.

use crate::plan::{Plan, patch};
use crate::pod::Pod;
use crate::pods::node as node_of;
use crate::{Controller, World};
use client::kube::{Resource, ResourceExt};
use client::{ObjectKey, Reader, WorkQueue, by_namespace};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use serde_json::json;
use std::sync::Arc;

/// What a controller of these looks at.
pub struct View<K> {
    /// The object, unless it is gone.
    pub object: Option<Arc<K>>,
    /// Whether something needs it.
    pub is_used: bool,
}

/// Holds an object that stays, and lets go of one that is deleted and not used.
fn plan<K: Resource<DynamicType = ()>>(view: &View<K>, finalizer: &str) -> Plan<()> {
    let mut plan = Plan::default();
    let Some(object) = view.object.as_deref() else { return plan };
    let mut finalizers = object.finalizers().to_vec();
    let is_going = object.meta().deletion_timestamp.is_some();
    match finalizers.iter().position(|known| known == finalizer) {
        Some(at) if is_going && !view.is_used => {
            finalizers.remove(at);
        }
        None if !is_going => finalizers.push(finalizer.to_owned()),
        _ => return plan,
    }
    plan.then(patch(object, json!({ "metadata": { "finalizers": finalizers } })));
    plan
}

/// Claims, held by pods that have been placed.
pub struct Claims {
    claims: Reader<PersistentVolumeClaim>,
    pods: Reader<Pod>,
}

/// The names of the claims that a pod uses.
fn claims_of(pod: &Pod) -> impl Iterator<Item = String> + '_ {
    pod.spec.volumes.iter().filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some(claim.claim_name.clone()),
        (None, Some(_)) => Some(format!("{}-{}", pod.name_any(), volume.name)),
        (None, None) => None,
    })
}

/// A pod that has no node yet will find its claim gone, and wait.
fn is_placed(pod: &Pod) -> bool {
    !node_of(pod).is_empty()
}

impl Controller for Claims {
    const NAME: &'static str = "persistentvolumeclaim-protection-controller";
    type Key = ObjectKey;
    type View = View<PersistentVolumeClaim>;
    type Memory = ();

    fn wire(world: &World, queue: &Arc<WorkQueue<ObjectKey>>) -> Self {
        let (claims, pods) = (world.reader::<PersistentVolumeClaim>(), world.pods());
        pods.informer().index_by(by_namespace());
        let add = queue.clone();
        claims.informer().on_change(move |change| add.add(ObjectKey::of(&**change.object())));
        let add = queue.clone();
        pods.informer().on_change(move |change| {
            let pod = change.object();
            let namespace = pod.namespace().unwrap_or_default();
            if change.after().is_none() {
                claims_of(pod).for_each(|name| add.add(ObjectKey::new(&namespace, name)));
            }
        });
        Self { claims, pods }
    }

    fn view(&self, key: &ObjectKey) -> Self::View {
        let pods = self.pods.by_index("namespace", &key.namespace);
        let uses = |pod: &&Arc<Pod>| is_placed(pod) && claims_of(pod).any(|name| name == key.name);
        View { object: self.claims.get(key), is_used: pods.iter().any(|pod| uses(&pod)) }
    }

    fn plan(_: &ObjectKey, view: &Self::View, (): &(), _: Timestamp) -> Plan<()> {
        plan(view, "kubernetes.io/pvc-protection")
    }
}

/// Volumes, held while they are bound.
pub struct Volumes {
    volumes: Reader<PersistentVolume>,
}

impl Controller for Volumes {
    const NAME: &'static str = "persistentvolume-protection-controller";
    type Key = ObjectKey;
    type View = View<PersistentVolume>;
    type Memory = ();

    fn wire(world: &World, queue: &Arc<WorkQueue<ObjectKey>>) -> Self {
        let volumes = world.reader::<PersistentVolume>();
        let add = queue.clone();
        volumes.informer().on_change(move |change| add.add(ObjectKey::of(&**change.object())));
        Self { volumes }
    }

    fn view(&self, key: &ObjectKey) -> Self::View {
        let object = self.volumes.get(key);
        let phase = object.as_ref().and_then(|volume| volume.status.as_ref()?.phase.clone());
        View { is_used: phase.as_deref() == Some("Bound"), object }
    }

    fn plan(_: &ObjectKey, view: &Self::View, (): &(), _: Timestamp) -> Plan<()> {
        plan(view, "kubernetes.io/pv-protection")
    }
}

/// Classes of attributes, held by the volumes and claims that name them.
pub struct AttributesClasses {
    classes: Reader<VolumeAttributesClass>,
    claims: Reader<PersistentVolumeClaim>,
    volumes: Reader<PersistentVolume>,
}

/// The classes that a claim wants, has, or is on its way to.
fn classes_of_claim(claim: &PersistentVolumeClaim) -> impl Iterator<Item = &str> {
    let status = claim.status.as_ref();
    let wanted = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
    let current = status.and_then(|status| status.current_volume_attributes_class_name.as_deref());
    let target = status.and_then(|status| {
        status.modify_volume_status.as_ref()?.target_volume_attributes_class_name.as_deref()
    });
    [wanted, current, target].into_iter().flatten()
}

fn class_of_volume(volume: &PersistentVolume) -> Option<&str> {
    volume.spec.as_ref()?.volume_attributes_class_name.as_deref()
}

impl Controller for AttributesClasses {
    const NAME: &'static str = "volumeattributesclass-protection-controller";
    type Key = ObjectKey;
    type View = View<VolumeAttributesClass>;
    type Memory = ();

    fn wire(world: &World, queue: &Arc<WorkQueue<ObjectKey>>) -> Self {
        let classes = world.reader::<VolumeAttributesClass>();
        let (claims, volumes) = (world.reader::<PersistentVolumeClaim>(), world.reader::<PersistentVolume>());
        let add = queue.clone();
        classes.informer().on_change(move |change| add.add(ObjectKey::of(&**change.object())));
        let add = queue.clone();
        claims.informer().on_change(move |change| {
            let before = change.before().into_iter().flat_map(|claim| classes_of_claim(claim));
            before.for_each(|name| add.add(ObjectKey::cluster(name)));
        });
        let add = queue.clone();
        volumes.informer().on_change(move |change| {
            let before = change.before().and_then(|volume| class_of_volume(volume));
            before.into_iter().for_each(|name| add.add(ObjectKey::cluster(name)));
        });
        Self { classes, claims, volumes }
    }

    fn view(&self, key: &ObjectKey) -> Self::View {
        let object = self.classes.get(key);
        let is_going = object.as_ref().is_some_and(|class| class.metadata.deletion_timestamp.is_some());
        // Looked at only when it matters: there may be many volumes.
        let is_used = is_going
            && (self.volumes.list().iter().any(|volume| class_of_volume(volume) == Some(&*key.name))
                || self
                    .claims
                    .list()
                    .iter()
                    .any(|claim| classes_of_claim(claim).any(|name| name == key.name)));
        View { object, is_used }
    }

    fn plan(_: &ObjectKey, view: &Self::View, (): &(), _: Timestamp) -> Plan<()> {
        plan(view, "kubernetes.io/vac-protection")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Action;
    use serde_json::{Value, from_value};

    fn volume(finalizers: Value, deleted: bool) -> Option<Arc<PersistentVolume>> {
        let deleted = deleted.then_some("2026-01-01T00:00:00Z");
        let metadata = json!({ "name": "v", "finalizers": finalizers, "deletionTimestamp": deleted });
        Some(Arc::new(from_value(json!({ "metadata": metadata })).unwrap()))
    }

    fn written(finalizers: Value, deleted: bool, is_used: bool) -> Option<Value> {
        let view = View { object: volume(finalizers, deleted), is_used };
        let plan = plan(&view, "x/held");
        plan.actions.into_iter().next().map(|action| match action {
            Action::Patch(patch) => patch.body["metadata"]["finalizers"].clone(),
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn what_is_deleted_goes_when_nothing_uses_it() {
        let held = || json!(["x/other", "x/held"]);
        assert_eq!(written(held(), false, false), None);
        assert_eq!(written(held(), true, true), None);
        assert_eq!(written(held(), true, false), Some(json!(["x/other"])));
        assert_eq!(written(json!(["x/other"]), false, true), Some(held()));
        assert_eq!(written(json!(["x/other"]), true, true), None, "too late to hold it");
    }

    #[test]
    fn a_pod_uses_claims_of_its_own_name_too() {
        let spec = json!({ "containers": [], "volumes": [
            { "name": "a", "persistentVolumeClaim": { "claimName": "data" } },
            { "name": "b", "ephemeral": {} }, { "name": "c", "emptyDir": {} }
        ] });
        let pod: Pod = from_value(json!({ "metadata": { "name": "p" }, "spec": spec })).unwrap();
        assert_eq!(claims_of(&pod).collect::<Vec<_>>(), ["data", "p-b"]);
        assert!(!is_placed(&pod));
    }
}
