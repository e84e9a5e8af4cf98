//! Volumes and claims: which claim has which volume, and what becomes of a volume whose claim is gone.
//!
//! A binding stands on both sides, the volume's first: a volume that names a claim is nobody else's, and what was written on
//! one side alone is finished, or taken back, at the next look. Nothing is decided by one look at two objects: each write
//! names the version that it was planned for.

mod claim;
pub mod local;
mod matching;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
#[allow(clippy::module_inception)] // the other side of a claim
mod volume;

use crate::plan::Plan;
use crate::pod::Pod;
use crate::pods::node as node_of;
use crate::{Controller, World};
use async_trait::async_trait;
use client::kube::{Error, ResourceExt};
use client::{Api, Client, EventType, Index, ObjectKey, Reader, WorkQueue, by_namespace};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use std::fmt;
use std::sync::Arc;

const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
const OLD_PROVISIONER: &str = "volume.beta.kubernetes.io/storage-provisioner";
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const IS_DEFAULT: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A claim, and what it should have.
    Claim(ObjectKey),
    /// A volume, and whose it is.
    Volume(String),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(key) => write!(f, "claim {key}"),
            Self::Volume(name) => write!(f, "volume {name}"),
        }
    }
}

/// The controller; see the module.
pub struct Binder {
    claims: Reader<PersistentVolumeClaim>,
    volumes: Reader<PersistentVolume>,
    classes: Reader<StorageClass>,
    pods: Reader<Pod>,
    client: Client,
}

/// What it looks at.
#[derive(Default)]
pub struct View {
    /// The claim of the key, or that which the volume of the key names.
    pub claim: Option<Arc<PersistentVolumeClaim>>,
    /// The volume of the key, or that which the claim of the key names.
    pub volume: Option<Arc<PersistentVolume>>,
    /// The volumes that the claim could have by their class, or that name it.
    pub candidates: Vec<Arc<PersistentVolume>>,
    /// The claim's class.
    pub class: Option<Arc<StorageClass>>,
    /// All classes, for a claim that names none.
    pub classes: Vec<Arc<StorageClass>>,
    /// The pods that use the claim and have no node yet.
    pub waiting: Vec<String>,
}

/// What was told of a claim last: it is told once.
pub type Memory = Option<(&'static str, String)>;

/// The class that a claim asks for; empty: none.
fn class_of_claim(claim: &PersistentVolumeClaim) -> &str {
    let spec = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    claim.annotations().get(OLD_CLASS).map(String::as_str).or(spec).unwrap_or_default()
}

fn class_of_volume(volume: &PersistentVolume) -> &str {
    let spec = volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    volume.annotations().get(OLD_CLASS).map(String::as_str).or(spec).unwrap_or_default()
}

fn claim_ref(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

fn key_of_ref(reference: &ObjectReference) -> ObjectKey {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    ObjectKey::new(text(&reference.namespace), text(&reference.name))
}

/// The volume that a claim names; empty: none.
fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default()
}

fn is_complete(claim: &PersistentVolumeClaim) -> bool {
    claim.annotations().contains_key(BIND_COMPLETED)
}

fn phase_of(volume: &PersistentVolume) -> &str {
    volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// Whether the volume names this claim, by its UID where it says one.
fn is_bound_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    claim_ref(volume).is_some_and(|reference| {
        let uid = reference.uid.as_deref().unwrap_or_default();
        key_of_ref(reference) == ObjectKey::of(claim)
            && (uid.is_empty() || claim.uid().as_deref() == Some(uid))
    })
}

fn uses(pod: &Pod, claim: &str) -> bool {
    pod.spec.volumes.iter().any(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(source), _) => source.claim_name == claim,
        (None, Some(_)) => format!("{}-{}", pod.name_any(), volume.name) == claim,
        (None, None) => false,
    })
}

#[async_trait]
impl Controller for Binder {
    const NAME: &'static str = "persistentvolume-controller";
    type Key = Key;
    type View = View;
    type Memory = Memory;

    fn wire(world: &World, queue: &Arc<WorkQueue<Key>>) -> Self {
        let (claims, volumes) = (world.reader::<PersistentVolumeClaim>(), world.reader::<PersistentVolume>());
        let (classes, pods) = (world.reader::<StorageClass>(), world.pods());
        claims.informer().index_by(Index::new("waiting-for-class", |claim: &PersistentVolumeClaim| {
            let waits = !is_complete(claim);
            waits.then(|| class_of_claim(claim).to_owned()).into_iter().collect()
        }));
        volumes.informer().index_by(Index::new("class", |volume: &PersistentVolume| {
            vec![class_of_volume(volume).to_owned()]
        }));
        volumes.informer().index_by(Index::new("claim", |volume: &PersistentVolume| {
            claim_ref(volume).map(|reference| key_of_ref(reference).to_string()).into_iter().collect()
        }));
        pods.informer().index_by(by_namespace());
        let (add, all) = (queue.clone(), volumes.clone());
        claims.informer().on_change(move |change| {
            let key = ObjectKey::of(&**change.object());
            for volume in all.informer().store().by_index("claim", &key.to_string()) {
                add.add(Key::Volume(volume.name_any()));
            }
            add.add(Key::Claim(key));
        });
        let (add, all) = (queue.clone(), claims.clone());
        volumes.informer().on_change(move |change| {
            let volume = change.object();
            add.add(Key::Volume(volume.name_any()));
            let named =
                change.before().into_iter().chain(change.after()).filter_map(|volume| claim_ref(volume));
            named.for_each(|reference| add.add(Key::Claim(key_of_ref(reference))));
            for claim in all.informer().store().by_index("waiting-for-class", class_of_volume(volume)) {
                add.add(Key::Claim(ObjectKey::of(&*claim)));
            }
        });
        let (add, all) = (queue.clone(), claims.clone());
        classes.informer().on_change(move |change| {
            // The claims that wait for it, and those that may come to have it because they name none.
            for class in [change.object().name_any(), String::new()] {
                for claim in all.informer().store().by_index("waiting-for-class", &class) {
                    add.add(Key::Claim(ObjectKey::of(&*claim)));
                }
            }
        });
        Self { claims, volumes, classes, pods, client: world.client().clone() }
    }

    fn view(&self, key: &Key) -> View {
        let volume = |name: &str| self.volumes.get(&ObjectKey::cluster(name));
        match key {
            Key::Claim(key) => {
                let Some(claim) = self.claims.get(key) else { return View::default() };
                let mut view = View { volume: volume(volume_name(&claim)), ..View::default() };
                if !is_complete(&claim) && volume_name(&claim).is_empty() {
                    self.choices(key, &claim, &mut view);
                }
                View { claim: Some(claim), ..view }
            }
            Key::Volume(name) => {
                let Some(volume) = volume(name) else { return View::default() };
                let claim = claim_ref(&volume).and_then(|reference| self.claims.get(&key_of_ref(reference)));
                View { claim, volume: Some(volume), ..View::default() }
            }
        }
    }

    /// What is not heard of is not gone: before a volume is given up, the server is asked.
    async fn observe(&self, key: &Key, view: &mut View) -> Result<(), Error> {
        let (Key::Volume(_), Some(volume)) = (key, &view.volume) else { return Ok(()) };
        let Some(reference) = claim_ref(volume) else { return Ok(()) };
        let uid = reference.uid.as_deref().unwrap_or_default();
        let is_known = view.claim.as_ref().is_some_and(|claim| claim.uid().as_deref() == Some(uid));
        if uid.is_empty() || is_known {
            return Ok(());
        }
        let key = key_of_ref(reference);
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &key.namespace);
        view.claim = claims.get_opt(&key.name).await?.map(Arc::new);
        Ok(())
    }

    fn plan(key: &Key, view: &View, memory: &Memory, now: Timestamp) -> Plan<Memory> {
        let mut plan = Plan::default();
        match (key, &view.claim, &view.volume) {
            (Key::Claim(_), Some(claim), _) => claim::plan(claim, view, memory, &mut plan),
            (Key::Volume(_), _, Some(volume)) => volume::plan(volume, view.claim.as_deref(), now, &mut plan),
            _ => {}
        }
        plan
    }
}

impl Binder {
    fn choices(&self, key: &ObjectKey, claim: &PersistentVolumeClaim, view: &mut View) {
        let class = class_of_claim(claim);
        view.candidates = self.volumes.by_index("class", class);
        view.candidates.extend(self.volumes.by_index("claim", &key.to_string()));
        view.class = self.classes.get(&ObjectKey::cluster(class));
        if class.is_empty() {
            view.classes = self.classes.list();
        }
        let pods = self.pods.by_index("namespace", &key.namespace);
        let waits = |pod: &&Arc<Pod>| node_of(pod).is_empty() && uses(pod, &key.name);
        view.waiting = pods.iter().filter(waits).map(|pod| pod.name_any()).collect();
        view.waiting.sort();
    }
}

/// An event of a claim or volume.
type Event = (EventType, &'static str, String);
