//! DaemonSets: one pod on each node that is fit for it.
//!
//! Which nodes are is decided here, by names, selectors, affinity and taints alone; each pod asks the scheduler for its one
//! node, so that room is the scheduler's business and two views of it never fight.

mod backoff;
mod nodes;
mod rolling;
mod status;
#[cfg(test)]
mod tests;

use crate::history::{self, HASH_LABEL, Versioned};
use crate::ownership::{
    Selecting, claim, is_terminating, owned_and_orphans, selector, wake_for_owned, wake_for_owners,
};
use crate::plan::{Announce, Plan, create, delete, patch, patch_status, tell};
use crate::pod::{Phase, Pod};
use crate::pods::{available_at, is_finished, ready_since};
use crate::{Controller, World};
use async_trait::async_trait;
use backoff::Backoff;
use client::kube::ResourceExt;
use client::kube::core::Selector;
use client::{Change, EventType, ObjectKey, Reader, WorkQueue};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, PodTemplateSpec};
use nodes::{Fit, Fitting, is_updated, new_pod, target};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// At most so many pods are made, and as many taken away, by one plan.
const BURST: usize = 250;

/// The controller; see the module.
pub struct DaemonSets {
    sets: Reader<DaemonSet>,
    nodes: Reader<Node>,
    pods: Reader<Pod>,
    revisions: Reader<ControllerRevision>,
}

/// What it looks at.
#[derive(Default)]
pub struct View {
    /// The set, unless it is gone.
    pub set: Option<Arc<DaemonSet>>,
    /// Every node.
    pub nodes: Vec<Arc<Node>>,
    /// The pods that it controls, and those that it may adopt.
    pub pods: Vec<Arc<Pod>>,
    /// The revisions that it controls, and those that it may adopt.
    pub revisions: Vec<Arc<ControllerRevision>>,
    /// What has the name that a revision of its present template would be given.
    pub namesake: Option<Arc<ControllerRevision>>,
}

/// How patient it is with the nodes on which its pods fail.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Memory {
    failing: Backoff,
}

impl Selecting for DaemonSet {
    fn selector(&self) -> Option<Selector> {
        selector(self.spec.as_ref().map(|spec| &spec.selector))
    }
}

impl Versioned for DaemonSet {
    const LABEL: &'static str = HASH_LABEL;

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref().map(|spec| &spec.template)
    }

    fn collisions(&self) -> Option<i32> {
        self.status.as_ref()?.collision_count
    }
}

#[async_trait]
impl Controller for DaemonSets {
    const NAME: &'static str = "daemonset-controller";
    type Key = ObjectKey;
    type View = View;
    type Memory = Memory;

    fn wire(world: &World, queue: &Arc<WorkQueue<ObjectKey>>) -> Self {
        let (sets, pods) = (world.reader::<DaemonSet>(), world.pods());
        let (nodes, revisions) = (world.reader::<Node>(), world.reader::<ControllerRevision>());
        wake_for_owners(queue, &sets);
        wake_for_owned(queue, &sets, &pods);
        wake_for_owned(queue, &sets, &revisions);
        let (add, all) = (queue.clone(), sets.clone());
        nodes.informer().on_change(move |change| wake_for_node(&add, &all, change));
        Self { sets, nodes, pods, revisions }
    }

    fn view(&self, key: &ObjectKey) -> View {
        let Some(set) = self.sets.get(key) else { return View::default() };
        let pods = owned_and_orphans(&self.pods, &*set);
        let revisions = owned_and_orphans(&self.revisions, &*set);
        let namesake = self.revisions.get(&ObjectKey::new(&key.namespace, history::name_of(&*set)));
        View { set: Some(set), nodes: self.nodes.list(), pods, revisions, namesake }
    }

    fn plan(_key: &ObjectKey, view: &View, memory: &Memory, now: Timestamp) -> Plan<Memory> {
        plan(view, memory, now)
    }
}

/// A node concerns the sets to which it is something else than it was. Most changes of nodes are signs of life.
fn wake_for_node(queue: &WorkQueue<ObjectKey>, all: &Reader<DaemonSet>, change: &Change<Node>) {
    let taints = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone());
    if let (Some(before), Some(after)) = (change.before(), change.after())
        && before.metadata.labels == after.metadata.labels
        && taints(before) == taints(after)
    {
        return;
    }
    for set in all.informer().store().list() {
        let fitting = Fitting::of(&set);
        let fit = |node: Option<&Arc<Node>>| node.map(|node| fitting.fit(node));
        if fit(change.before()) != fit(change.after()) {
            queue.add(ObjectKey::of(&*set));
        }
    }
}

/// Decides what to do about one DaemonSet; pure.
pub fn plan(view: &View, memory: &Memory, now: Timestamp) -> Plan<Memory> {
    let mut plan = Plan { memory: Some(memory.clone()), ..Plan::default() };
    let Some(set) = view.set.as_deref() else { return Plan::default() };
    let Some(selector) = set.selector() else {
        let message = "This daemon set is selecting all pods. A non-empty selector is required.";
        plan.then(tell(set, EventType::Warning, "SelectingAll", message));
        return plan;
    };
    if is_terminating(set) {
        // Its history may be gone before its pods are: nothing can be said of them any more.
        return plan;
    }
    let mut revisions = claim(set, &selector, &view.revisions);
    let pods = claim(set, &selector, &view.pods);
    plan.actions.append(&mut revisions.actions);
    plan.actions.extend(pods.actions);
    if !plan.actions.is_empty() {
        // Look again when the server has agreed on who owns what.
        return plan;
    }
    history::sort(&mut revisions.owned);
    let Some(present) = history::present(set, &revisions.owned, view.namesake.as_deref()) else {
        let collisions = set.collisions().unwrap_or(0).saturating_add(1);
        plan.then(patch_status(set, json!({ "collisionCount": collisions })));
        return plan;
    };
    plan.then(present.action);
    let mut daemon = Daemon::new(view, set, pods.owned, &present.revision, now, plan);
    if present.same.is_empty() {
        daemon.step();
        daemon.forget(&revisions.owned, &present.revision);
    } else {
        daemon.merge(&present.same);
    }
    daemon.plan
}

/// One step of one DaemonSet, in the making.
struct Daemon<'a> {
    set: &'a DaemonSet,
    pods: Vec<Arc<Pod>>,
    hash: String,
    now: Timestamp,
    /// What each node is to the set.
    nodes: BTreeMap<&'a str, Fit>,
    /// The pods of each node, also of those that are gone.
    on: BTreeMap<String, Vec<Arc<Pod>>>,
    /// Names of nodes to make a pod for.
    make: Vec<String>,
    take: Vec<Arc<Pod>>,
    plan: Plan<Memory>,
}

impl<'a> Daemon<'a> {
    fn new(
        view: &'a View,
        set: &'a DaemonSet,
        pods: Vec<Arc<Pod>>,
        revision: &ControllerRevision,
        now: Timestamp,
        plan: Plan<Memory>,
    ) -> Self {
        let fitting = Fitting::of(set);
        let name = |node: &'a Arc<Node>| node.metadata.name.as_deref().unwrap_or_default();
        let nodes = view.nodes.iter().map(|node| (name(node), fitting.fit(node))).collect();
        let mut on: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
        // Of one that has ended and is being deleted nothing is left to be done.
        for pod in pods.iter().filter(|pod| !(is_finished(pod) && is_terminating(&***pod))) {
            if let Some(node) = target(pod) {
                on.entry(node.to_owned()).or_default().push(pod.clone());
            }
        }
        on.values_mut().for_each(|pods| pods.sort_by_key(|pod| age(pod)));
        let hash = revision.labels().get(HASH_LABEL).cloned().unwrap_or_else(|| revision.name_any());
        Self { set, pods, hash, now, nodes, on, make: Vec::new(), take: Vec::new(), plan }
    }

    /// The counts first, so that nothing which fails can keep them from being told; then the nodes' needs, and an update only
    /// when these are met.
    fn step(&mut self) {
        self.plan.then(status::write(self.set, &self.counted()));
        let min_ready = self.min_ready();
        let due = self.pods.iter().filter_map(|pod| available_at(pod, min_ready));
        self.plan.look_again(due.filter(|at| *at > self.now).min());
        self.manage();
        if self.make.is_empty() && self.take.is_empty() {
            self.roll();
        }
        for node in self.make.iter().take(BURST) {
            let mut create = create(&new_pod(self.set, &self.hash, node));
            create.announce = Some(Announce::created(self.set));
            self.plan.then(create);
        }
        for pod in self.take.iter().take(BURST) {
            let mut delete = delete(&**pod);
            delete.announce = Some(Announce::deleted(self.set));
            self.plan.then(delete);
        }
    }

    fn min_ready(&self) -> i32 {
        self.set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        available_at(pod, self.min_ready()).is_some_and(|at| at <= self.now)
    }

    fn is_updated(&self, pod: &Pod) -> bool {
        is_updated(self.set, pod, &self.hash)
    }

    /// Sees to it that each node has what it should have.
    fn manage(&mut self) {
        let (nodes, on) = (std::mem::take(&mut self.nodes), std::mem::take(&mut self.on));
        for (node, fit) in &nodes {
            match (fit, on.get(*node)) {
                (Fit::Wanted, None) => self.make.push((*node).to_owned()),
                (Fit::Wanted | Fit::Borne, Some(pods)) => self.manage_node(node, *fit, pods),
                (Fit::Unfit, Some(pods)) => {
                    self.take.extend(pods.iter().filter(|pod| !is_terminating(&***pod)).cloned());
                }
                (_, None) => {}
            }
        }
        // Nobody else takes away a pod that waits for a node which is gone.
        let stranded = on.iter().filter(|(node, _)| !nodes.contains_key(node.as_str()));
        let stranded = stranded.flat_map(|(_, pods)| pods);
        let waits = |pod: &&Arc<Pod>| pod.spec.node_name.is_none() && !is_terminating(&***pod);
        self.take.extend(stranded.filter(waits).cloned());
        (self.nodes, self.on) = (nodes, on);
    }

    /// Takes away what has ended on a node, and what is one too many.
    fn manage_node(&mut self, node: &str, fit: Fit, pods: &[Arc<Pod>]) {
        let mut running = Vec::new();
        for pod in pods.iter().filter(|pod| !is_terminating(&***pod)) {
            match pod.status.phase {
                Phase::Failed => self.replace_failed(node, pod),
                Phase::Succeeded => {
                    let message = format!(
                        "Found succeeded daemon pod {} on node {node}, will try to delete it",
                        key(pod)
                    );
                    self.plan.then(tell(self.set, EventType::Normal, "SucceededDaemonPod", message));
                    self.take.push(pod.clone());
                }
                _ => running.push(pod.clone()),
            }
        }
        if !self.surges() {
            self.take.extend(running.into_iter().skip(1));
        } else if running.is_empty() && fit == Fit::Wanted {
            self.make.push(node.to_owned());
        } else if running.len() > 1 {
            self.settle_surge(running);
        }
    }

    /// A pod that failed makes way for another, unless the node has just had one that failed.
    fn replace_failed(&mut self, node: &str, pod: &Arc<Pod>) {
        let generation = self.set.metadata.generation.unwrap_or(0);
        let memory = self.plan.memory.get_or_insert_default();
        if let Some(until) = memory.failing.try_again(node, generation, self.now) {
            return self.plan.look_again(until);
        }
        let message = format!("Found failed daemon pod {} on node {node}, will try to kill it", key(pod));
        self.plan.then(tell(self.set, EventType::Warning, "FailedDaemonPod", message));
        self.take.push(pod.clone());
    }

    /// An old pod stays beside its successor as long as it is ready and the successor is not available.
    fn settle_surge(&mut self, running: Vec<Arc<Pod>>) {
        let is_new = |pod: &Arc<Pod>| pod.labels().get(HASH_LABEL) == Some(&self.hash);
        let (new, old): (Vec<_>, Vec<_>) = running.into_iter().partition(is_new);
        if let (Some(new), Some(old)) = (new.first(), old.first())
            && (ready_since(old).is_none() || self.is_available(new))
        {
            self.take.push(old.clone());
        }
        self.take.extend(new.into_iter().skip(1).chain(old.into_iter().skip(1)));
    }

    /// Pods of revisions that say the same as the present one are of the present one; then nobody needs the others. It comes
    /// before all else, or these pods would be taken for old ones.
    fn merge(&mut self, same: &[Arc<ControllerRevision>]) {
        let is_stray = |pod: &&Arc<Pod>| {
            let hash = pod.labels().get(HASH_LABEL);
            same.iter().any(|same| hash.is_some() && same.labels().get(HASH_LABEL) == hash)
        };
        let label = json!({ "metadata": { "labels": { HASH_LABEL: self.hash } } });
        let relabel = self.pods.iter().filter(is_stray).map(|pod| patch(&**pod, label.clone()));
        self.plan.actions.extend(relabel);
        same.iter().for_each(|same| self.plan.then(delete(&**same)));
    }

    /// Takes away the oldest revisions that no pod is of, beyond those that the set wants kept.
    fn forget(&mut self, revisions: &[Arc<ControllerRevision>], present: &ControllerRevision) {
        let limit = self.set.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
        let Ok(limit) = usize::try_from(limit) else { return };
        let past: Vec<_> =
            revisions.iter().filter(|past| past.metadata.name != present.metadata.name).collect();
        let surplus = past.len().saturating_sub(limit);
        let is_live = |revision: &ControllerRevision| {
            let hash = revision.labels().get(HASH_LABEL);
            hash.is_some() && self.pods.iter().any(|pod| pod.labels().get(HASH_LABEL) == hash)
        };
        let dead: Vec<_> = past.into_iter().filter(|revision| !is_live(revision)).take(surplus).collect();
        dead.into_iter().for_each(|revision| self.plan.then(delete(&**revision)));
    }
}

/// Of several pods of a node the first counts: one that has been placed, then the oldest.
fn age(pod: &Pod) -> (bool, Option<Timestamp>, String) {
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (pod.spec.node_name.is_none(), created, pod.name_any())
}

fn key(pod: &Pod) -> ObjectKey {
    ObjectKey::of(pod)
}
