//! Deployments: one ReplicaSet for each version of a pod template, and a way from one to the next.

mod sets;
mod sizes;
mod status;
#[cfg(test)]
mod tests;

use crate::merge::difference;
use crate::ownership::{claim, controller_ref, is_terminating, selector, selects};
use crate::plan::{Attempt, Failure, Plan, annotate, create, delete, patch, patch_status, tell};
use crate::pod::Pod;
use crate::pods::is_finished;
use crate::{Controller, World};
use async_trait::async_trait;
use client::kube::ResourceExt;
use client::{EventType, ObjectKey, Reader, WorkQueue, by_controller_uid, by_namespace};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use serde_json::{Value, json};
use sets::{Sets, replicas, size};
use sizes::Resize;
use std::sync::Arc;

/// The controller; see the module.
pub struct Deployments {
    deployments: Reader<Deployment>,
    sets: Reader<ReplicaSet>,
    pods: Reader<Pod>,
}

/// What it looks at.
pub struct View {
    /// The Deployment, unless it is gone.
    pub deployment: Option<Arc<Deployment>>,
    /// Every ReplicaSet of its namespace: its own, those to adopt, and those that have a name which it may want.
    pub sets: Vec<Arc<ReplicaSet>>,
    /// Whether pods of ReplicaSets that are not the newest may still run, by the UID of their ReplicaSet.
    pub running: std::collections::BTreeSet<String>,
}

/// Why the last attempt to make the new ReplicaSet failed.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Memory {
    creation: Option<Failure>,
}

#[async_trait]
impl Controller for Deployments {
    const NAME: &'static str = "deployment-controller";
    type Key = ObjectKey;
    type View = View;
    type Memory = Memory;

    fn wire(world: &World, queue: &Arc<WorkQueue<ObjectKey>>) -> Self {
        let (deployments, sets, pods) =
            (world.reader::<Deployment>(), world.reader::<ReplicaSet>(), world.pods());
        deployments.informer().index_by(by_namespace());
        sets.informer().index_by(by_namespace());
        pods.informer().index_by(by_controller_uid());
        let add = queue.clone();
        deployments.informer().on_change(move |change| add.add(ObjectKey::of(&**change.object())));
        let (add, all) = (queue.clone(), deployments.clone());
        sets.informer().on_change(move |change| wake(&add, &all, change));
        let (add, all) = (queue.clone(), sets.clone());
        pods.informer().on_change(move |change| {
            // Only Recreate looks at pods, and only waits for their end.
            let pod = change.object();
            if change.after().is_none_or(|pod| is_finished(pod)) {
                let set = controller_ref(&**pod).and_then(|owner| {
                    all.get(&ObjectKey::new(pod.namespace().unwrap_or_default(), &owner.name))
                });
                set.iter().for_each(|set| wake_owner(&add, set));
            }
        });
        Self { deployments, sets, pods }
    }

    fn view(&self, key: &ObjectKey) -> View {
        let deployment = self.deployments.get(key);
        let sets = match deployment {
            Some(_) => self.sets.by_index("namespace", &key.namespace),
            None => Vec::new(),
        };
        let uid = deployment.as_ref().and_then(|deployment| deployment.uid());
        let owned = sets
            .iter()
            .filter(|set| uid.is_some() && controller_ref(&***set).map(|owner| &owner.uid) == uid.as_ref());
        let rolling = deployment.as_ref().is_none_or(|deployment| sets::is_rolling(deployment));
        let running =
            if rolling { Default::default() } else { owned.filter_map(|set| self.runs(set)).collect() };
        View { deployment, sets, running }
    }

    fn plan(_key: &ObjectKey, view: &View, memory: &Memory, now: Timestamp) -> Plan<Memory> {
        plan(view, memory, now)
    }

    fn failed(memory: &mut Memory, failure: &Failure) {
        if failure.attempt == Attempt::Create {
            memory.creation = Some(failure.clone());
        }
    }
}

impl Deployments {
    fn runs(&self, set: &ReplicaSet) -> Option<String> {
        let uid = set.uid()?;
        let pods = self.pods.by_index("controller-uid", &uid);
        pods.iter().any(|pod| !is_finished(pod)).then_some(uid)
    }
}

fn wake_owner(queue: &WorkQueue<ObjectKey>, set: &ReplicaSet) {
    if let Some(owner) = controller_ref(set).filter(|owner| owner.kind == "Deployment") {
        queue.add(ObjectKey::new(set.namespace().unwrap_or_default(), &owner.name));
    }
}

/// A ReplicaSet concerns its owner, its former owner, and, as an orphan, whoever may adopt it.
fn wake(queue: &WorkQueue<ObjectKey>, all: &Reader<Deployment>, change: &client::Change<ReplicaSet>) {
    for set in change.before().into_iter().chain(change.after()) {
        wake_owner(queue, set);
    }
    let Some(orphan) = change.after().filter(|set| controller_ref(&***set).is_none()) else { return };
    for deployment in all.by_index("namespace", &orphan.namespace().unwrap_or_default()) {
        let selector = selector(deployment.spec.as_ref().map(|spec| &spec.selector));
        if selector.is_some_and(|selector| selects(&selector, &**orphan)) {
            queue.add(ObjectKey::of(&*deployment));
        }
    }
}

/// Decides what to do about one Deployment; pure.
pub fn plan(view: &View, memory: &Memory, now: Timestamp) -> Plan<Memory> {
    let mut plan = Plan::default();
    let Some(deployment) = view.deployment.as_deref() else { return plan };
    let Some(selector) = selector(deployment.spec.as_ref().map(|spec| &spec.selector)) else {
        let message = "This deployment is selecting all pods. A non-empty selector is required.";
        plan.then(tell(deployment, EventType::Warning, "SelectingAll", message));
        return plan;
    };
    let claims = claim(deployment, &selector, &view.sets);
    if !claims.actions.is_empty() {
        // Look again when the server has agreed on who owns what.
        plan.actions = claims.actions;
        return plan;
    }
    let sets = Sets::sort(deployment, claims.owned);
    let status = status::counted(deployment, &sets, now);
    let mut rollout = Rollout { view, deployment, sets, memory, now, status, plan };
    if !is_terminating(deployment) {
        rollout.step();
    }
    rollout.finish()
}

/// One step of one Deployment, in the making.
struct Rollout<'a> {
    view: &'a View,
    deployment: &'a Deployment,
    sets: Sets,
    memory: &'a Memory,
    now: Timestamp,
    status: DeploymentStatus,
    plan: Plan<Memory>,
}

impl Rollout<'_> {
    fn step(&mut self) {
        status::with_pause(self.deployment, &mut self.status, self.now);
        if !self.annotate_new() {
            if status::is_paused(self.deployment) || sizes::is_scaling(self.deployment, &self.sets) {
                self.resize(&sizes::scale(self.deployment, &self.sets));
            } else if sets::is_rolling(self.deployment) {
                self.roll();
            } else {
                self.recreate();
            }
        }
        if status::is_complete(self.deployment, &self.status) {
            self.clean_up();
        }
    }

    /// The new set grows while there is room; when it cannot, the old ones shrink.
    fn roll(&mut self) {
        match self.sets.new.clone() {
            None => self.make_new(),
            Some(new) => {
                let target = sizes::next_new_size(self.deployment, size(&new), self.total());
                let resizes = match target == size(&new) {
                    false => vec![(new, target)],
                    true => sizes::shrink_old(self.deployment, &self.sets),
                };
                self.resize(&resizes);
                self.progress();
            }
        }
    }

    /// Nothing old may run when the new set begins.
    fn recreate(&mut self) {
        let resizes = sizes::empty_old(&self.sets);
        let runs = |set: &Arc<ReplicaSet>| set.uid().is_some_and(|uid| self.view.running.contains(&uid));
        if !resizes.is_empty() || self.sets.old.iter().any(runs) {
            self.resize(&resizes);
            return self.progress();
        }
        match self.sets.new.clone() {
            None => self.make_new(),
            Some(new) => {
                self.resize(&[(new, replicas(self.deployment))]);
                self.progress();
            }
        }
    }

    fn total(&self) -> i32 {
        self.sets.all().map(|set| size(set)).sum()
    }

    fn progress(&mut self) {
        status::progressed(self.deployment, &self.sets, &mut self.status, self.now);
        status::with_failures(&self.sets, &mut self.status);
    }

    fn make_new(&mut self) {
        let Some(spec) = &self.deployment.spec else { return };
        let hash = sets::template_hash(&spec.template, self.status.collision_count);
        let name = format!("{}-{hash}", self.deployment.name_any());
        if sets::collides(self.view, &name) {
            // The name is another's: the count makes the next hash differ.
            self.status.collision_count = Some(self.status.collision_count.unwrap_or(0).saturating_add(1));
            return;
        }
        let size = sizes::next_new_size(self.deployment, 0, self.total());
        let Some(set) = sets::new_set(self.deployment, &name, &hash, size, &self.sets.old) else { return };
        if status::has_deadline(self.deployment) {
            let condition = match &self.memory.creation {
                Some(failure) => status::creation_failed(&name, failure, self.now),
                None => status::created(&name, self.now),
            };
            status::set(&mut self.status, condition);
        }
        let revision = set.annotations().get(sets::REVISION).cloned().unwrap_or_default();
        self.revise(&revision);
        self.plan.then(create(&set));
        if size > 0 {
            let message = format!("Scaled up replica set {name} from 0 to {size}");
            self.plan.then(tell(self.deployment, EventType::Normal, "ScalingReplicaSet", message));
        }
        status::with_failures(&self.sets, &mut self.status);
    }

    /// Records the number of the version that is being rolled out, for `kubectl rollout history`.
    fn revise(&mut self, revision: &str) {
        if self.deployment.annotations().get(sets::REVISION).map(String::as_str) != Some(revision) {
            self.plan.then(annotate(self.deployment, json!({ sets::REVISION: revision })));
        }
    }

    /// Keeps the new set's annotations, and its minReadySeconds, as the Deployment's are; true when they were not, and the
    /// rest of the step waits for the next look.
    fn annotate_new(&mut self) -> bool {
        let Some(new) = self.sets.new.clone() else { return false };
        let annotations = sets::new_annotations(self.deployment, new.annotations(), &self.sets.old);
        let revision = annotations.get(sets::REVISION).or(new.annotations().get(sets::REVISION)).cloned();
        revision.iter().for_each(|revision| self.revise(revision));
        if status::get(&self.status, "Progressing").is_none() && status::has_deadline(self.deployment) {
            status::set(&mut self.status, status::found(&new.name_any(), self.now));
        }
        let wanted = self.deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
        let current = new.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
        let mut body = json!({});
        if !annotations.is_empty() {
            body["metadata"]["annotations"] = json!(annotations);
        }
        if wanted != current {
            body["spec"]["minReadySeconds"] = json!(wanted);
        }
        let differs = body != json!({});
        if differs {
            self.plan.then(patch(&*new, body));
        }
        differs
    }

    /// Brings sets to their sizes, and has them remember the size of the whole.
    fn resize(&mut self, resizes: &[Resize]) {
        for (set, target) in resizes {
            let remembered = sets::size_annotations(self.deployment);
            let current = size(set);
            let forgot = remembered.iter().any(|(name, value)| set.annotations().get(name) != Some(value));
            if *target == current && !forgot {
                continue;
            }
            let annotations: Value =
                remembered.into_iter().map(|(name, value)| (name, json!(value))).collect();
            self.plan.then(patch(
                &**set,
                json!({ "metadata": { "annotations": annotations }, "spec": { "replicas": target } }),
            ));
            if *target != current {
                let way = if *target > current { "up" } else { "down" };
                let message =
                    format!("Scaled {way} replica set {} from {current} to {target}", set.name_any());
                self.plan.then(tell(self.deployment, EventType::Normal, "ScalingReplicaSet", message));
            }
        }
    }

    /// Forgets versions beyond the history that the Deployment wants kept.
    fn clean_up(&mut self) {
        let limit = self.deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
        let Ok(limit) = usize::try_from(limit) else { return };
        let mut old: Vec<_> = self.sets.old.iter().filter(|set| !is_terminating(&***set)).collect();
        old.sort_by_key(|set| sets::revision(set));
        let surplus = old.len().saturating_sub(limit);
        for set in old.into_iter().take(surplus) {
            let empty = size(set) == 0 && set.status.as_ref().is_none_or(|status| status.replicas == 0);
            if empty && sets::is_observed(set) {
                self.plan.then(delete(&**set));
            }
        }
    }

    /// Writes the status if it changed, before all else, so that nothing which fails can keep it from being told.
    fn finish(mut self) -> Plan<Memory> {
        self.plan.look_again(status::next_deadline(self.deployment, &self.status, self.now));
        if self.deployment.status.as_ref() != Some(&self.status) {
            let value = |status: &DeploymentStatus| serde_json::to_value(status).unwrap_or_default();
            let before = self.deployment.status.as_ref().map(value).unwrap_or_default();
            self.plan
                .actions
                .insert(0, patch_status(self.deployment, difference(&before, &value(&self.status))));
        }
        self.plan
    }
}
