//! ReplicaSets, and the older kinds that are the same thing: as many pods of one template as are wanted.

#[cfg(test)]
mod tests;
mod victims;

use crate::merge::difference;
use crate::ownership::{
    Selecting, claim, controller_ref, is_terminating, orphans, owned, selector, wake_for_owned,
    wake_for_owners,
};
use crate::plan::{Announce, Attempt, Failure, Plan, create, delete, patch_status};
use crate::pod::Pod;
use crate::pods::{available_at, from_template, is_active, is_finished, ready_since};
use crate::{Controller, World};
use async_trait::async_trait;
use client::kube::ResourceExt;
use client::kube::core::Selector;
use client::{ObjectKey, Reader, WorkQueue, by_controller_uid};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::sync::Arc;

/// At most so many pods are made or taken away by one plan.
const BURST: usize = 500;

/// A kind whose objects are numbers of pods of one template.
pub trait Replicated: Selecting {
    /// The source of the events about them.
    const CONTROLLER: &'static str;

    /// How many pods are wanted.
    fn replicas(&self) -> i32;

    /// How long a pod must be ready to be available, in seconds.
    fn min_ready_seconds(&self) -> i32;

    /// What they are made after.
    fn template(&self) -> Option<&PodTemplateSpec>;

    /// What was last said of them, in the words of ReplicaSets.
    fn status(&self) -> Option<ReplicaSetStatus>;

    /// Takes out what this kind has no word for.
    fn sayable(status: ReplicaSetStatus) -> ReplicaSetStatus;
}

impl Selecting for ReplicaSet {
    fn selector(&self) -> Option<Selector> {
        selector(self.spec.as_ref().map(|spec| &spec.selector))
    }
}

impl Replicated for ReplicaSet {
    const CONTROLLER: &'static str = "replicaset-controller";

    fn replicas(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn status(&self) -> Option<ReplicaSetStatus> {
        self.status.clone()
    }

    fn sayable(status: ReplicaSetStatus) -> ReplicaSetStatus {
        status
    }
}

/// The controller of one such kind; see the module.
pub struct Replicas<K> {
    sets: Reader<K>,
    pods: Reader<Pod>,
}

/// The controller of ReplicaSets.
pub type ReplicaSets = Replicas<ReplicaSet>;

/// What it looks at.
pub struct View<K> {
    /// The set, unless it is gone.
    pub set: Option<Arc<K>>,
    /// The pods that it controls.
    pub pods: Vec<Arc<Pod>>,
    /// The pods of its namespace that nobody controls.
    pub orphans: Vec<Arc<Pod>>,
    /// The pods of every set of the same owner, which serve the same.
    pub related: Vec<Arc<Pod>>,
}

/// Why pods could not be made or taken away the last time.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Memory {
    failure: Option<Failure>,
}

#[async_trait]
impl<K: Replicated> Controller for Replicas<K> {
    const NAME: &'static str = K::CONTROLLER;
    type Key = ObjectKey;
    type View = View<K>;
    type Memory = Memory;

    fn wire(world: &World, queue: &Arc<WorkQueue<ObjectKey>>) -> Self {
        let (sets, pods) = (world.reader::<K>(), world.pods());
        sets.informer().index_by(by_controller_uid());
        wake_for_owners(queue, &sets);
        wake_for_owned(queue, &sets, &pods);
        Self { sets, pods }
    }

    fn view(&self, key: &ObjectKey) -> View<K> {
        let Some(set) = self.sets.get(key) else {
            return View { set: None, pods: Vec::new(), orphans: Vec::new(), related: Vec::new() };
        };
        let (pods, orphans) = (owned(&self.pods, &*set), orphans(&self.pods, &*set));
        let wanted = usize::try_from(set.replicas()).unwrap_or(0);
        let related = if pods.len() > wanted { self.related(&set) } else { Vec::new() };
        View { set: Some(set), pods, orphans, related }
    }

    fn plan(_key: &ObjectKey, view: &View<K>, memory: &Memory, now: Timestamp) -> Plan<Memory> {
        plan(view, memory, now)
    }

    fn failed(memory: &mut Memory, failure: &Failure) {
        if failure.plural == "pods" && failure.attempt != Attempt::Update {
            memory.failure = Some(failure.clone());
        }
    }
}

impl<K: Replicated> Replicas<K> {
    fn related(&self, set: &K) -> Vec<Arc<Pod>> {
        let siblings = match controller_ref(set) {
            Some(owner) => self.sets.by_index("controller-uid", &owner.uid),
            None => Vec::new(),
        };
        let own = set.uid();
        let others =
            siblings.iter().filter_map(|sibling| sibling.uid()).filter(|uid| Some(uid) != own.as_ref());
        own.iter().cloned().chain(others).flat_map(|uid| self.pods.by_index("controller-uid", &uid)).collect()
    }
}

/// Decides what to do about one set; pure.
pub fn plan<K: Replicated>(view: &View<K>, memory: &Memory, now: Timestamp) -> Plan<Memory> {
    let mut plan = Plan::default();
    let Some(set) = view.set.as_deref() else { return plan };
    let Some(selector) = set.selector() else { return plan };
    let mut owned = claim(set, &selector, &view.pods);
    let adopted = claim(
        set,
        &selector,
        &view.orphans.iter().filter(|pod| !is_finished(pod)).cloned().collect::<Vec<_>>(),
    );
    plan.actions.append(&mut owned.actions);
    plan.actions.extend(adopted.actions);
    let (mut active, rest): (Vec<_>, Vec<_>) = owned.owned.into_iter().partition(|pod| is_active(pod));
    let terminating = rest.iter().filter(|pod| is_terminating(&***pod) && !is_finished(pod)).count();
    status(set, &active, terminating, memory, &mut plan, now);
    // What is being adopted must be counted before it is decided how many are missing.
    let adopting = plan
        .actions
        .iter()
        .any(|action| matches!(action, crate::plan::Action::Patch(p) if p.subresource.is_none()));
    if is_terminating(set) || adopting {
        return plan;
    }
    let wanted = usize::try_from(set.replicas()).unwrap_or(0);
    if active.len() < wanted {
        let missing = (wanted - active.len()).min(BURST);
        let mut create = create(&from_template(set, set.template().cloned().unwrap_or_default()));
        create.announce = Some(Announce::created(set));
        for _ in 0..missing {
            plan.then(create.clone());
        }
    } else if active.len() > wanted {
        let surplus = (active.len() - wanted).min(BURST);
        victims::order(&mut active, &view.related, now);
        for pod in &active[..surplus] {
            let mut delete = delete(&**pod);
            delete.announce = Some(Announce::deleted(set));
            plan.then(delete);
        }
    }
    plan
}

/// Counts, and says what keeps the counts from being right.
fn status<K: Replicated>(
    set: &K,
    active: &[Arc<Pod>],
    terminating: usize,
    memory: &Memory,
    plan: &mut Plan<Memory>,
    now: Timestamp,
) {
    let min_ready = set.min_ready_seconds();
    let template = set.template().and_then(|template| template.metadata.as_ref());
    let labels = template.and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
    let labelled = |pod: &Pod| labels.iter().all(|(name, value)| pod.labels().get(name) == Some(value));
    let count = |that: &dyn Fn(&Pod) -> bool| {
        i32::try_from(active.iter().filter(|pod| that(pod)).count()).ok().filter(|count| *count != 0)
    };
    let due = active.iter().filter_map(|pod| available_at(pod, min_ready));
    plan.look_again(due.filter(|at| *at > now).min());
    let before = set.status();
    let status = K::sayable(ReplicaSetStatus {
        replicas: i32::try_from(active.len()).unwrap_or(i32::MAX),
        fully_labeled_replicas: count(&labelled),
        ready_replicas: count(&|pod| ready_since(pod).is_some()),
        available_replicas: count(&|pod| available_at(pod, min_ready).is_some_and(|at| at <= now)),
        terminating_replicas: i32::try_from(terminating).ok(),
        observed_generation: set.meta().generation,
        conditions: conditions(before.as_ref(), memory, now),
    });
    if before.as_ref() != Some(&status) {
        let value = |status: &ReplicaSetStatus| serde_json::to_value(status).unwrap_or_default();
        let before = before.as_ref().map(value).unwrap_or_default();
        plan.then(patch_status(set, difference(&before, &value(&status))));
    }
}

fn conditions(
    before: Option<&ReplicaSetStatus>,
    memory: &Memory,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    const FAILURE: &str = "ReplicaFailure";
    let (current, mut others): (Vec<_>, Vec<_>) = before
        .and_then(|before| before.conditions.clone())
        .unwrap_or_default()
        .into_iter()
        .partition(|condition| condition.type_ == FAILURE);
    if let Some(failure) = &memory.failure {
        let reason = if failure.attempt == Attempt::Create { "FailedCreate" } else { "FailedDelete" };
        let same = current.into_iter().find(|condition| condition.reason.as_deref() == Some(reason));
        others.push(same.unwrap_or_else(|| ReplicaSetCondition {
            type_: FAILURE.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(failure.message.clone()),
            last_transition_time: Some(Time(now)),
        }));
    }
    Some(others).filter(|conditions| !conditions.is_empty())
}
