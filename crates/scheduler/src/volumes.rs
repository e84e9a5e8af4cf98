//! What is known of storage: claims, volumes, classes, drivers, and what of it decisions under way have promised.

use crate::event::Storage;
use crate::pod::{ClaimKey, PodFacts};
use crate::snapshot::count;
use apimachinery::quantity::Quantity;
use client::kube::ResourceExt;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSINodeDriver, CSIStorageCapacity, StorageClass};
use k8s_openapi::apimachinery::pkg::api::resource;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The node that a claim's volume should be made for.
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// What becomes of a pod's claims on the node that was chosen.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct VolumePlan {
    /// Volumes that there are, and the claims that get them.
    pub(crate) bind: Vec<(String, ClaimKey)>,
    /// Claims for which volumes are to be made.
    pub(crate) provision: Vec<ClaimKey>,
}

impl VolumePlan {
    pub(crate) fn is_empty(&self) -> bool {
        self.bind.is_empty() && self.provision.is_empty()
    }

    /// All its claims.
    pub(crate) fn claims(&self) -> impl Iterator<Item = &ClaimKey> {
        self.bind.iter().map(|(_, claim)| claim).chain(&self.provision)
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Volumes {
    claims: BTreeMap<ClaimKey, Arc<PersistentVolumeClaim>>,
    volumes: BTreeMap<String, Arc<PersistentVolume>>,
    classes: BTreeMap<String, Arc<StorageClass>>,
    /// Whether a driver says how much room it has.
    tell_capacity: BTreeMap<String, bool>,
    /// How many volumes of a driver a node takes, by node and driver.
    limits: BTreeMap<String, BTreeMap<String, usize>>,
    capacities: BTreeMap<ClaimKey, CSIStorageCapacity>,
    /// Volumes that a decision under way gives to a claim.
    promised: BTreeMap<String, ClaimKey>,
    /// Claims for which a decision under way chose a node.
    chosen: BTreeMap<ClaimKey, Arc<str>>,
    /// How many placed pods use a claim.
    users: BTreeMap<ClaimKey, u32>,
}

/// A kind of which the scheduler keeps all.
pub(crate) trait Kept: Sized {
    /// What its changes are.
    const STORAGE: Storage;
    /// Takes in an object, by namespace and name, as it is, or that it is gone.
    fn keep(volumes: &mut Volumes, key: &ClaimKey, now: Option<Self>);
}

fn set<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, key: &K, now: Option<V>) {
    match now {
        Some(now) => drop(map.insert(key.clone(), now)),
        None => drop(map.remove(key)),
    }
}

impl Kept for PersistentVolumeClaim {
    const STORAGE: Storage = Storage::Claim;

    fn keep(volumes: &mut Volumes, key: &ClaimKey, now: Option<Self>) {
        set(&mut volumes.claims, key, now.map(Arc::new));
    }
}

impl Kept for PersistentVolume {
    const STORAGE: Storage = Storage::Volume;

    fn keep(volumes: &mut Volumes, key: &ClaimKey, now: Option<Self>) {
        set(&mut volumes.volumes, &key.1, now.map(Arc::new));
    }
}

impl Kept for StorageClass {
    const STORAGE: Storage = Storage::Class;

    fn keep(volumes: &mut Volumes, key: &ClaimKey, now: Option<Self>) {
        set(&mut volumes.classes, &key.1, now.map(Arc::new));
    }
}

impl Kept for CSIDriver {
    const STORAGE: Storage = Storage::Driver;

    fn keep(volumes: &mut Volumes, key: &ClaimKey, now: Option<Self>) {
        let capacity = now.map(|driver| driver.spec.storage_capacity == Some(true));
        set(&mut volumes.tell_capacity, &key.1, capacity);
    }
}

impl Kept for CSINode {
    const STORAGE: Storage = Storage::Node;

    fn keep(volumes: &mut Volumes, key: &ClaimKey, now: Option<Self>) {
        let limit = |driver: CSINodeDriver| {
            let count = driver.allocatable?.count?;
            Some((driver.name, usize::try_from(count).ok()?))
        };
        let limits = now.map(|node| node.spec.drivers.into_iter().filter_map(limit).collect());
        set(&mut volumes.limits, &key.1, limits);
    }
}

impl Kept for CSIStorageCapacity {
    const STORAGE: Storage = Storage::Capacity;

    fn keep(volumes: &mut Volumes, key: &ClaimKey, now: Option<Self>) {
        set(&mut volumes.capacities, key, now);
    }
}

/// An amount in whole units.
pub(crate) fn amount(quantity: Option<&resource::Quantity>) -> i64 {
    quantity.and_then(|quantity| quantity.0.parse::<Quantity>().ok()).map_or(0, |quantity| quantity.value())
}

impl Volumes {
    /// A claim.
    pub(crate) fn claim(&self, key: &ClaimKey) -> Option<&Arc<PersistentVolumeClaim>> {
        self.claims.get(key)
    }

    /// A volume.
    pub(crate) fn volume(&self, name: &str) -> Option<&Arc<PersistentVolume>> {
        self.volumes.get(name)
    }

    /// All volumes, by name.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&String, &Arc<PersistentVolume>)> {
        self.volumes.iter()
    }

    /// The claim that a volume is promised to.
    pub(crate) fn promised_to(&self, volume: &str) -> Option<&ClaimKey> {
        self.promised.get(volume)
    }

    /// The node for which a claim's volume is to be made.
    pub(crate) fn node_of(&self, key: &ClaimKey) -> Option<&str> {
        let noted = || self.claims.get(key)?.annotations().get(SELECTED_NODE).map(String::as_str);
        self.chosen.get(key).map(|node| &**node).or_else(noted)
    }

    /// The volume that a claim is bound to, both sides knowing.
    pub(crate) fn bound(&self, claim: &PersistentVolumeClaim) -> Option<String> {
        let name = claim.spec.as_ref()?.volume_name.clone().filter(|name| !name.is_empty())?;
        claim.annotations().contains_key(BIND_COMPLETED).then_some(name)
    }

    /// The class of a claim that waits for a pod before it is bound.
    pub(crate) fn waits(&self, claim: &PersistentVolumeClaim) -> Option<&Arc<StorageClass>> {
        let spec = claim.spec.as_ref()?;
        if spec.volume_name.as_ref().is_some_and(|name| !name.is_empty()) {
            return None;
        }
        let class = self.classes.get(spec.storage_class_name.as_deref()?)?;
        (class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")).then_some(class)
    }

    /// Whether volumes of a class can be made on demand.
    pub(crate) fn makes(class: &StorageClass) -> bool {
        !class.provisioner.is_empty() && class.provisioner != NO_PROVISIONER
    }

    /// Capacities of a class, where its driver publishes them; none where room is not asked about.
    pub(crate) fn capacities<'a>(
        &'a self,
        class: &'a StorageClass,
    ) -> Option<impl Iterator<Item = &'a CSIStorageCapacity>> {
        self.tell_capacity.get(&class.provisioner).filter(|tells| **tells)?;
        let of_class = move |capacity: &&CSIStorageCapacity| {
            Some(&capacity.storage_class_name) == class.metadata.name.as_ref()
        };
        Some(self.capacities.values().filter(of_class))
    }

    /// How many volumes of each driver a node takes.
    pub(crate) fn limits(&self, node: &str) -> Option<&BTreeMap<String, usize>> {
        self.limits.get(node).filter(|limits| !limits.is_empty())
    }

    /// The driver behind a claim, and what is attached for it: claims of one volume are attached once.
    pub(crate) fn attached(&self, key: &ClaimKey) -> Option<(String, String)> {
        let claim = self.claims.get(key)?;
        let spec = claim.spec.as_ref()?;
        let volume = spec.volume_name.as_ref().and_then(|name| self.volumes.get(name));
        if let Some(csi) = volume.and_then(|volume| volume.spec.as_ref()?.csi.as_ref()) {
            return Some((csi.driver.clone(), csi.volume_handle.clone()));
        }
        let class = self.classes.get(spec.storage_class_name.as_deref()?)?;
        Some((class.provisioner.clone(), format!("{}/{}", key.0, key.1)))
    }

    /// A pod that uses its claims is placed, or no more.
    pub(crate) fn used(&mut self, facts: &PodFacts, sign: i64) {
        facts.claim_keys().for_each(|claim| count(&mut self.users, claim, sign));
    }

    /// How many placed pods use a claim.
    pub(crate) fn users(&self, key: &ClaimKey) -> u32 {
        self.users.get(key).copied().unwrap_or(0)
    }

    /// Holds what a decision gives away until it is carried out.
    pub(crate) fn promise(&mut self, plan: &VolumePlan, node: &Arc<str>) {
        for (volume, claim) in &plan.bind {
            self.promised.insert(volume.clone(), claim.clone());
        }
        for claim in &plan.provision {
            self.chosen.insert(claim.clone(), node.clone());
        }
    }

    /// It was carried out, or it was not: what the API says is what counts.
    pub(crate) fn release(&mut self, plan: &VolumePlan) {
        for (volume, _) in &plan.bind {
            self.promised.remove(volume);
        }
        for claim in &plan.provision {
            self.chosen.remove(claim);
        }
    }
}
