//! StatefulSets: pods with names and claims of their own, made in order, replaced one after the other, taken away in reverse.
//!
//! There are never two pods of one ordinal: they would have one name, and a pod is made when the last one of its name is gone.

mod claims;
mod identity;
mod rollout;
mod status;
#[cfg(test)]
mod tests;

use crate::history::{self, Versioned};
use crate::ownership::{
    Selecting, claim, claim_if, is_terminating, orphans, owned, owned_and_orphans, selector, selects,
    wake_for_owned, wake_for_owners,
};
use crate::plan::{Plan, patch_status};
use crate::pod::Pod;
use crate::{Controller, World};
use async_trait::async_trait;
use client::kube::ResourceExt;
use client::kube::core::Selector;
use client::{Change, ObjectKey, Reader, WorkQueue};
use identity::{Ordinal, ordinal};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PodTemplateSpec};
use rollout::Rollout;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// At most so many pods are made by one plan.
const BURST: usize = 500;

/// The controller; see the module.
pub struct StatefulSets {
    sets: Reader<StatefulSet>,
    pods: Reader<Pod>,
    revisions: Reader<ControllerRevision>,
    claims: Reader<PersistentVolumeClaim>,
}

/// What it looks at.
#[derive(Default)]
pub struct View {
    /// The set, unless it is gone.
    pub set: Option<Arc<StatefulSet>>,
    /// The pods that it controls, and those that it may adopt.
    pub pods: Vec<Arc<Pod>>,
    /// The revisions that it controls, and those that it may adopt.
    pub revisions: Vec<Arc<ControllerRevision>>,
    /// What has the name that a revision of its present template would be given.
    pub namesake: Option<Arc<ControllerRevision>>,
    /// The claims of the pods that are there, and of those to be made next, by name.
    pub claims: BTreeMap<String, Arc<PersistentVolumeClaim>>,
}

impl Selecting for StatefulSet {
    fn selector(&self) -> Option<Selector> {
        selector(self.spec.as_ref().map(|spec| &spec.selector))
    }
}

impl Versioned for StatefulSet {
    const LABEL: &'static str = "controller.kubernetes.io/hash";

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref().map(|spec| &spec.template)
    }

    fn collisions(&self) -> Option<i32> {
        self.status.as_ref()?.collision_count
    }
}

#[async_trait]
impl Controller for StatefulSets {
    const NAME: &'static str = "statefulset-controller";
    type Key = ObjectKey;
    type View = View;
    type Memory = ();

    fn wire(world: &World, queue: &Arc<WorkQueue<ObjectKey>>) -> Self {
        let (sets, pods) = (world.reader::<StatefulSet>(), world.pods());
        let (revisions, claims) = (world.reader::<ControllerRevision>(), world.reader());
        wake_for_owners(queue, &sets);
        wake_for_owned(queue, &sets, &pods);
        wake_for_owned(queue, &sets, &revisions);
        let (add, all) = (queue.clone(), sets.clone());
        claims.informer().on_change(move |change| wake_user(&add, &all, change));
        Self { sets, pods, revisions, claims }
    }

    fn view(&self, key: &ObjectKey) -> View {
        let Some(set) = self.sets.get(key) else { return View::default() };
        let mut pods = orphans(&self.pods, &*set);
        pods.retain(|pod| ordinal(&set, pod).is_some());
        pods.extend(owned(&self.pods, &*set));
        let revisions = owned_and_orphans(&self.revisions, &*set);
        let namesake = self.revisions.get(&ObjectKey::new(&key.namespace, history::name_of(&*set)));
        let claims = self.claims(&set, &pods);
        View { set: Some(set), pods, revisions, namesake, claims }
    }

    fn plan(_key: &ObjectKey, view: &View, (): &(), now: Timestamp) -> Plan<()> {
        plan(view, now)
    }
}

impl StatefulSets {
    fn claims(&self, set: &StatefulSet, pods: &[Arc<Pod>]) -> BTreeMap<String, Arc<PersistentVolumeClaim>> {
        let namespace = set.namespace().unwrap_or_default();
        let mut ordinals: BTreeSet<Ordinal> = pods.iter().filter_map(|pod| ordinal(set, pod)).collect();
        let missing: Vec<_> = lacking(set, |at| ordinals.contains(&at)).collect();
        ordinals.extend(missing);
        let templates = claims::templates(set);
        let names = ordinals.iter().flat_map(|at| templates.iter().map(|one| claims::name(set, one, *at)));
        names
            .filter_map(|name| Some((name.clone(), self.claims.get(&ObjectKey::new(&namespace, name))?)))
            .collect()
    }
}

/// The ordinals that are to have a pod and have none, as many as one plan fills.
fn lacking(set: &StatefulSet, has: impl Fn(Ordinal) -> bool) -> impl Iterator<Item = Ordinal> {
    let most = if identity::is_ordered(set) { 1 } else { BURST };
    identity::range(set).filter(move |ordinal| !has(*ordinal)).take(most)
}

/// A claim concerns the set after which it is named: one that is gone may be missed, or may have been in the way.
fn wake_user(
    queue: &WorkQueue<ObjectKey>,
    all: &Reader<StatefulSet>,
    change: &Change<PersistentVolumeClaim>,
) {
    let claim = change.object();
    for set in all.by_index("namespace", &claim.namespace().unwrap_or_default()) {
        if claims::is_of(&set, &claim.name_any()) {
            queue.add(ObjectKey::of(&*set));
        }
    }
}

/// Decides what to do about one StatefulSet; pure.
pub fn plan(view: &View, now: Timestamp) -> Plan<()> {
    let mut plan = Plan::default();
    let Some(set) = view.set.as_deref() else { return plan };
    let Some(selector) = set.selector() else { return plan };
    let mut revisions = claim(set, &selector, &view.revisions);
    let pods = claim_if(set, |pod| selects(&selector, pod) && ordinal(set, pod).is_some(), &view.pods);
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
    // A set that goes has its counts kept right, and makes nothing.
    let stays = !is_terminating(set);
    plan.then(present.action.filter(|_| stays));
    let mut rollout = Rollout::new(view, set, pods.owned, &revisions.owned, &present.revision, now, plan);
    if stays {
        rollout.step();
        rollout.forget(&revisions.owned);
    }
    rollout.plan
}
