//! Everything that is watched, and where it goes. No object is kept but in what the world makes of it.

use super::Scheduler;
use super::world::World;
use crate::pod::{Common, PodFacts};
use crate::selectors::Selects;
use client::kube::api::Api;
use client::kube::{Resource, ResourceExt};
use client::reflector::{Selection, Sink, Whole, reflect};
use clock::{Instant, Tasks};
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{
    Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController, Service,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use tokio::sync::watch;

type Key = (String, String);

/// Starts watching; each is told of once its first complete list has been taken in.
pub(super) fn everything(scheduler: &Arc<Scheduler>, tasks: &Tasks) -> Vec<watch::Receiver<bool>> {
    let node = |world: &mut World, key: &Key, node: Option<Node>, now| {
        world.node_changed(&key.1, node.as_ref(), now);
    };
    let namespace = |world: &mut World, key: &Key, is: Option<Namespace>, now| {
        let labels = is.map(|namespace| namespace.metadata.labels.unwrap_or_default());
        world.namespace_changed(&key.1, labels.as_ref(), now);
    };
    let budget = |world: &mut World, key: &Key, is: Option<PodDisruptionBudget>, _| {
        world.snapshot.budgets.set(key, is);
    };
    vec![
        follow(scheduler, tasks, node),
        follow(scheduler, tasks, namespace),
        follow(scheduler, tasks, budget),
        follow(scheduler, tasks, selects::<Service>),
        follow(scheduler, tasks, selects::<ReplicationController>),
        follow(scheduler, tasks, selects::<ReplicaSet>),
        follow(scheduler, tasks, selects::<StatefulSet>),
        follow(scheduler, tasks, World::storage_changed::<PersistentVolumeClaim>),
        follow(scheduler, tasks, World::storage_changed::<PersistentVolume>),
        follow(scheduler, tasks, World::storage_changed::<StorageClass>),
        follow(scheduler, tasks, World::storage_changed::<CSINode>),
        follow(scheduler, tasks, World::storage_changed::<CSIDriver>),
        follow(scheduler, tasks, World::storage_changed::<CSIStorageCapacity>),
        follow_pods(scheduler, tasks),
    ]
}

fn selects<K: Selects>(world: &mut World, key: &Key, is: Option<K>, _: Instant) {
    world.snapshot.selectors.set(key, is);
}

/// Where objects of a kind are read.
struct Feed<K> {
    scheduler: Arc<Scheduler>,
    take: fn(&mut World, &Key, Option<K>, Instant),
    known: BTreeSet<Key>,
    /// What was known before the list that is being applied, and has not been in it yet.
    unlisted: BTreeSet<Key>,
    listed: watch::Sender<bool>,
}

fn follow<K>(
    scheduler: &Arc<Scheduler>,
    tasks: &Tasks,
    take: fn(&mut World, &Key, Option<K>, Instant),
) -> watch::Receiver<bool>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let (listed, told) = watch::channel(false);
    let scheduler = scheduler.clone();
    let mut feed = Feed { scheduler, take, known: BTreeSet::new(), unlisted: BTreeSet::new(), listed };
    tasks.spawn("scheduler-watch", async move {
        let (api, ambient) = (Api::<K>::all(feed.scheduler.client.clone()), feed.scheduler.ambient.clone());
        reflect(Whole(api), Selection::default(), &mut feed, &ambient).await;
    });
    told
}

impl<K: Resource> Feed<K> {
    fn tell(&self, key: &Key, is: Option<K>) {
        self.scheduler.told(|world, now| (self.take)(world, key, is, now));
        self.scheduler.claims_changed.send_replace(());
    }
}

impl<K> Sink<K> for Feed<K>
where
    K: Resource<DynamicType = ()> + Send + 'static,
{
    fn listing(&mut self) {
        self.unlisted = self.known.clone();
    }

    fn apply(&mut self, mut object: K) {
        object.meta_mut().managed_fields = None;
        let key = (object.namespace().unwrap_or_default(), object.name_any());
        self.unlisted.remove(&key);
        self.tell(&key, Some(object));
        self.known.insert(key);
    }

    fn delete(&mut self, object: K) {
        let key = (object.namespace().unwrap_or_default(), object.name_any());
        self.known.remove(&key);
        self.tell(&key, None);
    }

    fn listed(&mut self) {
        for gone in std::mem::take(&mut self.unlisted) {
            self.known.remove(&gone);
            self.tell(&gone, None);
        }
        self.listed.send_replace(true);
    }
}

/// Where pods are read.
struct Pods {
    scheduler: Arc<Scheduler>,
    common: Common,
    /// The UIDs of what was known before the list that is being applied, and has not been in it yet.
    unlisted: BTreeSet<Arc<str>>,
    listed: watch::Sender<bool>,
}

fn follow_pods(scheduler: &Arc<Scheduler>, tasks: &Tasks) -> watch::Receiver<bool> {
    let (listed, told) = watch::channel(false);
    let mut pods =
        Pods { scheduler: scheduler.clone(), common: Common::default(), unlisted: BTreeSet::new(), listed };
    tasks.spawn("scheduler-pods", async move {
        let (api, ambient) = (Api::all(pods.scheduler.client.clone()), pods.scheduler.ambient.clone());
        reflect(Whole(api), Selection::default(), &mut pods, &ambient).await;
    });
    told
}

impl Sink<Pod> for Pods {
    fn listing(&mut self) {
        let world = self.scheduler.world();
        self.unlisted = world.snapshot.uids().chain(world.queue.uids()).cloned().collect();
    }

    fn apply(&mut self, pod: Pod) {
        let facts = self.common.share(PodFacts::of(&pod));
        self.unlisted.remove(&facts.uid);
        self.scheduler.told(|world, now| world.pod_changed(&pod, facts, now));
    }

    fn delete(&mut self, pod: Pod) {
        self.scheduler.told(|world, now| world.pod_gone(&pod.uid().unwrap_or_default(), now));
    }

    fn listed(&mut self) {
        // In an order that does not depend on a hash.
        let gone: BTreeSet<Arc<str>> = std::mem::take(&mut self.unlisted).into_iter().collect();
        for uid in gone {
            self.scheduler.told(|world, now| world.pod_gone(&uid, now));
        }
        self.listed.send_replace(true);
    }
}
