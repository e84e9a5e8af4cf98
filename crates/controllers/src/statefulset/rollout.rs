//! One step of one StatefulSet: which pods to make, to take away and to replace now.

use super::claims::{self, Obstacle};
use super::identity::{
    INDEX_LABEL, NAME_LABEL, Ordinal, claimed_volumes, has_its_claims, is_labelled, is_ordered, new_pod,
    ordinal, pod_name, range, revision,
};
use super::status::{counted, is_available, is_ready, is_rolling, min_ready, write};
use super::{View, lacking};
use crate::history;
use crate::ownership::is_terminating;
use crate::percent::scaled;
use crate::plan::{Action, Announce, Lists, Patch, Plan, create, delete, patch, tell};
use crate::pod::{Phase, Pod};
use crate::pods::{available_at, is_finished};
use client::EventType;
use client::kube::{Resource, ResourceExt};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, RollingUpdateStatefulSetStrategy, StatefulSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::json;
use std::collections::BTreeMap;
use std::ops::ControlFlow::{self, Break, Continue};
use std::sync::Arc;

/// A template, and the name of the revision that keeps it.
struct Version {
    name: String,
    template: PodTemplateSpec,
}

impl Version {
    fn of(revision: &ControllerRevision) -> Option<Self> {
        Some(Self { name: revision.name_any(), template: history::template(revision)? })
    }
}

pub(super) struct Rollout<'a> {
    view: &'a View,
    set: &'a StatefulSet,
    current: Version,
    update: Version,
    now: Timestamp,
    /// The pods that are to be, by ordinal.
    replicas: BTreeMap<Ordinal, Arc<Pod>>,
    /// Those that are too many.
    condemned: BTreeMap<Ordinal, Arc<Pod>>,
    pub(super) plan: Plan<()>,
}

impl<'a> Rollout<'a> {
    /// Sorts the pods and says how many there are, before all else but what `plan` has, so that nothing which fails can keep
    /// that from being told.
    pub(super) fn new(
        view: &'a View,
        set: &'a StatefulSet,
        pods: Vec<Arc<Pod>>,
        revisions: &[Arc<ControllerRevision>],
        update: &ControllerRevision,
        now: Timestamp,
        mut plan: Plan<()>,
    ) -> Self {
        let template = || set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
        let wanted = || Version { name: update.name_any(), template: template() };
        let named = set.status.as_ref().and_then(|status| status.current_revision.as_deref());
        let current = revisions.iter().find(|revision| revision.metadata.name.as_deref() == named);
        // The first revision of all is what there is and what is wanted.
        let current = current.and_then(|current| Version::of(current)).unwrap_or_else(wanted);
        let update = wanted();
        plan.then(write(set, &counted(set, &pods, &current.name, &update.name, now)));
        let due = pods.iter().filter_map(|pod| available_at(pod, min_ready(set)));
        plan.look_again(due.filter(|at| *at > now).min());
        let ordinals = range(set);
        let pods = pods.into_iter().filter_map(|pod| Some((ordinal(set, &pod)?, pod)));
        let (replicas, condemned) = pods.partition(|(ordinal, _)| ordinals.contains(ordinal));
        Self { view, set, current, update, now, replicas, condemned, plan }
    }

    /// Pods that are to be come before those that are too many, and these before updates.
    pub(super) fn step(&mut self) {
        let filled = if is_ordered(self.set) { self.fill_in_order() } else { self.fill() };
        if filled.is_continue() && self.scale_down().is_continue() && is_rolling(self.set) {
            self.replace();
        }
    }

    fn fill_in_order(&mut self) -> ControlFlow<()> {
        let replicas = std::mem::take(&mut self.replicas);
        let mut step = Continue(());
        for ordinal in range(self.set) {
            step = match replicas.get(&ordinal) {
                Some(pod) => self.keep(ordinal, pod),
                None => {
                    self.make(&[ordinal]);
                    Break(())
                }
            };
            if step.is_break() {
                break;
            }
        }
        self.replicas = replicas;
        step
    }

    fn fill(&mut self) -> ControlFlow<()> {
        let replicas = std::mem::take(&mut self.replicas);
        for (ordinal, pod) in &replicas {
            let _ = self.keep(*ordinal, pod);
        }
        let missing: Vec<_> = lacking(self.set, |ordinal| replicas.contains_key(&ordinal)).collect();
        self.make(&missing);
        self.replicas = replicas;
        Continue(())
    }

    /// Makes pods, each with its claims before it; one that would get a claim which is on its way out waits.
    fn make(&mut self, ordinals: &[Ordinal]) {
        let mut pods = Vec::new();
        for ordinal in ordinals {
            let name = pod_name(self.set, *ordinal);
            match claims::obstacle(self.set, self.view, *ordinal) {
                Some(Obstacle::Stale) => continue,
                Some(Obstacle::Going(claim)) => {
                    let owner = self.set.name_any();
                    let message = format!(
                        "create Pod {name} in StatefulSet {owner} failed error: pvc {claim} is being deleted"
                    );
                    self.plan.then(tell(self.set, EventType::Warning, "FailedCreate", message));
                    continue;
                }
                None => {}
            }
            self.plan
                .actions
                .extend(claims::missing(self.set, self.view, *ordinal).into_iter().map(Action::Create));
            let version = if self.is_held_back(*ordinal) { &self.current } else { &self.update };
            let pod = new_pod(self.set, version.template.clone(), &version.name, *ordinal);
            let mut create = create(&pod);
            create.announce = Some(self.announce("create", "SuccessfulCreate", "FailedCreate", &name));
            pods.push(Action::Create(create));
        }
        self.plan.actions.append(&mut pods);
    }

    /// Whether an update leaves that ordinal as it was.
    fn is_held_back(&self, ordinal: Ordinal) -> bool {
        let start = range(self.set).start;
        match self.rolling() {
            Some(rolling) => ordinal < start + Ordinal::from(rolling.partition.unwrap_or(0)),
            None if is_rolling(self.set) => {
                let status = self.set.status.as_ref();
                let count = status.and_then(|status| status.current_replicas).unwrap_or(0);
                ordinal < start + Ordinal::from(count)
            }
            None => false,
        }
    }

    fn rolling(&self) -> Option<&'a RollingUpdateStatefulSetStrategy> {
        self.set.spec.as_ref()?.update_strategy.as_ref()?.rolling_update.as_ref()
    }

    /// Sees to a pod that is to be; whether those after it must wait for it.
    fn keep(&mut self, ordinal: Ordinal, pod: &Pod) -> ControlFlow<()> {
        if is_finished(pod) {
            // However it ended: the next of its name is made when it is gone.
            if !is_terminating(pod) {
                self.delete(pod);
            }
            return Break(());
        }
        if pod.status.phase == Phase::Pending && !is_terminating(pod) {
            let missing = claims::missing(self.set, self.view, ordinal);
            self.plan.actions.extend(missing.into_iter().map(Action::Create));
            self.retain(ordinal, pod);
        }
        let waits = is_terminating(pod) || !is_ready(pod) || !is_available(self.set, pod, self.now);
        if is_ordered(self.set) && waits {
            return Break(());
        }
        self.identify(ordinal, pod);
        if pod.status.phase != Phase::Pending {
            self.retain(ordinal, pod);
        }
        Continue(())
    }

    /// Gives a pod back the labels and claims by which it is itself.
    fn identify(&mut self, ordinal: Ordinal, pod: &Pod) {
        if !is_labelled(pod) {
            let labels = json!({ NAME_LABEL: pod.name_any(), INDEX_LABEL: ordinal.to_string() });
            self.plan.then(patch(pod, json!({ "metadata": { "labels": labels } })));
        }
        if !has_its_claims(self.set, pod, ordinal) {
            let missing = claims::missing(self.set, self.view, ordinal);
            self.plan.actions.extend(missing.into_iter().map(Action::Create));
            // The server refuses, for a pod's volumes stay; it is tried, as upstream does, so that this is seen to be wrong.
            let volumes = claimed_volumes(self.set, ordinal);
            let Action::Patch(change) = patch(pod, json!({ "spec": { "volumes": volumes } })) else { return };
            self.plan.then(Action::Patch(Patch { lists: Lists::ByKey, ..change }));
        }
    }

    fn retain(&mut self, ordinal: Ordinal, pod: &Pod) {
        let retention = claims::retain(self.set, self.view, pod, ordinal);
        for claim in retention.conflicts {
            let message = format!(
                "PersistentVolumeClaim {claim} has a conflicting OwnerReference that acts as a managing controller, \
                 the retention policy is ignored for this claim"
            );
            self.plan.then(tell(self.set, EventType::Warning, "ConflictingController", message));
        }
        self.plan.actions.extend(retention.actions);
    }

    /// Takes away what is too many, the highest first: in order one by one, each when those above it are gone.
    fn scale_down(&mut self) -> ControlFlow<()> {
        let condemned = std::mem::take(&mut self.condemned);
        for (ordinal, pod) in &condemned {
            self.retain(*ordinal, pod);
        }
        // Replicas are all available here, in order. One that is not may only go if no other is worse off.
        let first_unavailable = condemned.iter().find(|(_, pod)| self.is_unavailable(Some(pod)));
        let first_unavailable = first_unavailable.map(|(ordinal, _)| *ordinal);
        for (ordinal, pod) in condemned.iter().rev() {
            let may_go = !self.is_unavailable(Some(pod)) || first_unavailable == Some(*ordinal);
            if !is_terminating(&**pod) && (may_go || !is_ordered(self.set)) {
                self.delete(pod);
            }
            if is_ordered(self.set) {
                return Break(());
            }
        }
        Continue(())
    }

    fn is_unavailable(&self, pod: Option<&Arc<Pod>>) -> bool {
        pod.is_none_or(|pod| {
            is_terminating(&**pod) || !is_ready(pod) || !is_available(self.set, pod, self.now)
        })
    }

    fn is_old(&self, pod: &Pod) -> bool {
        revision(pod) != self.update.name
    }

    /// Takes away pods of earlier revisions, the highest first, as many as may be unavailable; they come back updated.
    fn replace(&mut self) {
        let all = range(self.set);
        let replicas = i32::try_from(all.end - all.start).unwrap_or(i32::MAX);
        let rolling = self.rolling();
        let partition = rolling.and_then(|rolling| rolling.partition).unwrap_or(0);
        let targets = (all.start + Ordinal::from(partition.max(0))).min(all.end)..all.end;
        let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
        let allowed = unavailable.map_or(1, |unavailable| scaled(unavailable, replicas, false)).max(1);
        let victims =
            if allowed == 1 { self.next_to_replace(targets) } else { self.to_replace(targets, allowed) };
        victims.iter().for_each(|pod| self.delete(pod));
    }

    /// The highest that is not updated, when all above it are and are available.
    fn next_to_replace(&self, targets: std::ops::Range<Ordinal>) -> Vec<Arc<Pod>> {
        for ordinal in targets.rev() {
            let pod = self.replicas.get(&ordinal);
            match pod.filter(|pod| self.is_old(pod) && !is_terminating(&***pod)) {
                Some(old) => return vec![old.clone()],
                None if self.is_unavailable(pod) => break,
                None => {}
            }
        }
        Vec::new()
    }

    /// As many as may still become unavailable. In parallel those that are not available anyway go first, and cost nothing:
    /// they may never get better.
    fn to_replace(&self, targets: std::ops::Range<Ordinal>, allowed: i32) -> Vec<Arc<Pod>> {
        let missing = range(self.set).end - range(self.set).start - self.replicas.len() as Ordinal;
        let down = self.replicas.values().filter(|pod| self.is_unavailable(Some(pod))).count();
        let left = usize::try_from(Ordinal::from(allowed) - missing - down as Ordinal).unwrap_or(0);
        let old = self.replicas.range(targets).rev().map(|(_, pod)| pod);
        let old = old.filter(|pod| self.is_old(pod) && !is_terminating(&***pod));
        if is_ordered(self.set) {
            return old.take(left).cloned().collect();
        }
        let (broken, good): (Vec<_>, Vec<_>) = old.cloned().partition(|pod| self.is_unavailable(Some(pod)));
        broken.into_iter().chain(good.into_iter().take(left)).collect()
    }

    fn delete(&mut self, pod: &Pod) {
        let mut delete = delete(pod);
        delete.announce = Some(self.announce("delete", "SuccessfulDelete", "FailedDelete", &pod.name_any()));
        self.plan.then(delete);
    }

    fn announce(&self, verb: &str, done: &'static str, failed: &'static str, pod: &str) -> Announce {
        let set = self.set.name_any();
        Announce {
            regarding: Box::new(self.set.object_ref(&())),
            done: (done, format!("{verb} Pod {{}} in StatefulSet {set} successful").into()),
            failed: (failed, format!("{verb} Pod {pod} in StatefulSet {set} failed error: ").into()),
        }
    }

    /// Takes away the oldest revisions that nothing is of, beyond those that the set wants kept.
    pub(super) fn forget(&mut self, revisions: &[Arc<ControllerRevision>]) {
        let limit = self.set.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
        let Ok(limit) = usize::try_from(limit) else { return };
        let pods = &self.view.pods;
        let is_live = |name: &str| {
            name == self.current.name
                || name == self.update.name
                || pods.iter().any(|pod| revision(pod) == name)
        };
        let past: Vec<_> = revisions.iter().filter(|revision| !is_live(&revision.name_any())).collect();
        let surplus = past.len().saturating_sub(limit);
        past.into_iter().take(surplus).for_each(|revision| self.plan.then(delete(&**revision)));
    }
}
