//! ReplicaSets: as many pods of one template as are wanted.

#[cfg(test)]
mod tests;
mod victims;

use crate::merge::difference;
use crate::ownership::{claim, controller_ref, is_terminating, selector, selects};
use crate::plan::{Announce, Attempt, Failure, Plan, controller_of, create, delete, patch_status};
use crate::pod::Pod;
use crate::pods::{available_at, is_active, is_finished, ready_since};
use crate::{Controller, World};
use async_trait::async_trait;
use client::kube::{Resource, ResourceExt};
use client::{Change, ObjectKey, Reader, WorkQueue, by_controller_uid, by_namespace};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use std::sync::Arc;

/// At most so many pods are made or taken away by one plan.
const BURST: usize = 500;

/// The controller; see the module.
pub struct ReplicaSets {
    sets: Reader<ReplicaSet>,
    pods: Reader<Pod>,
}

/// What it looks at.
pub struct View {
    /// The ReplicaSet, unless it is gone.
    pub set: Option<Arc<ReplicaSet>>,
    /// The pods that it controls.
    pub pods: Vec<Arc<Pod>>,
    /// The pods of its namespace that nobody controls.
    pub orphans: Vec<Arc<Pod>>,
    /// The pods of every ReplicaSet of the same owner, which serve the same.
    pub related: Vec<Arc<Pod>>,
}

/// Why pods could not be made or taken away the last time.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Memory {
    failure: Option<Failure>,
}

/// The pods of a namespace that nobody controls.
fn by_orphans() -> client::Index<Pod> {
    client::Index::new("orphans-in", |pod: &Pod| match controller_ref(pod) {
        None => pod.namespace().into_iter().collect(),
        Some(_) => Vec::new(),
    })
}

#[async_trait]
impl Controller for ReplicaSets {
    const NAME: &'static str = "replicaset-controller";
    type Key = ObjectKey;
    type View = View;
    type Memory = Memory;

    fn wire(world: &World, queue: &Arc<WorkQueue<ObjectKey>>) -> Self {
        let (sets, pods) = (world.reader::<ReplicaSet>(), world.pods());
        sets.informer().index_by(by_controller_uid()).index_by(by_namespace());
        pods.informer().index_by(by_controller_uid()).index_by(by_orphans());
        let add = queue.clone();
        sets.informer().on_change(move |change| add.add(ObjectKey::of(&**change.object())));
        let (add, all) = (queue.clone(), sets.clone());
        pods.informer().on_change(move |change| wake(&add, &all, change));
        Self { sets, pods }
    }

    fn view(&self, key: &ObjectKey) -> View {
        let Some(set) = self.sets.get(key) else {
            return View { set: None, pods: Vec::new(), orphans: Vec::new(), related: Vec::new() };
        };
        let uid = set.uid().unwrap_or_default();
        let pods = self.pods.by_index("controller-uid", &uid);
        let orphans = self.pods.by_index("orphans-in", &key.namespace);
        let wanted = usize::try_from(replicas(&set)).unwrap_or(0);
        let related = if pods.len() > wanted { self.related(&set) } else { Vec::new() };
        View { set: Some(set), pods, orphans, related }
    }

    fn plan(_key: &ObjectKey, view: &View, memory: &Memory, now: Timestamp) -> Plan<Memory> {
        plan(view, memory, now)
    }

    fn failed(memory: &mut Memory, failure: &Failure) {
        if failure.plural == "pods" && failure.attempt != Attempt::Update {
            memory.failure = Some(failure.clone());
        }
    }
}

impl ReplicaSets {
    fn related(&self, set: &ReplicaSet) -> Vec<Arc<Pod>> {
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

/// A pod concerns its owner, its former owner, and, as an orphan, whoever may adopt it.
fn wake(queue: &WorkQueue<ObjectKey>, all: &Reader<ReplicaSet>, change: &Change<Pod>) {
    for pod in change.before().into_iter().chain(change.after()) {
        if let Some(owner) = controller_ref(&**pod).filter(|owner| owner.kind == "ReplicaSet") {
            queue.add(ObjectKey::new(pod.namespace().unwrap_or_default(), &owner.name));
        }
    }
    let Some(orphan) = change.after().filter(|pod| controller_ref(&***pod).is_none()) else { return };
    let relabelled = change.before().is_none_or(|before| {
        before.metadata.labels != orphan.metadata.labels || controller_ref(&**before).is_some()
    });
    if !relabelled {
        return;
    }
    for set in all.by_index("namespace", &orphan.namespace().unwrap_or_default()) {
        let selector = selector(set.spec.as_ref().map(|spec| &spec.selector));
        if selector.is_some_and(|selector| selects(&selector, &**orphan)) {
            queue.add(ObjectKey::of(&*set));
        }
    }
}

fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// Decides what to do about one ReplicaSet; pure.
pub fn plan(view: &View, memory: &Memory, now: Timestamp) -> Plan<Memory> {
    let mut plan = Plan::default();
    let Some(set) = view.set.as_deref() else { return plan };
    let Some(selector) = selector(set.spec.as_ref().map(|spec| &spec.selector)) else { return plan };
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
    let wanted = usize::try_from(replicas(set)).unwrap_or(0);
    if active.len() < wanted {
        let missing = (wanted - active.len()).min(BURST);
        let pod = new_pod(set);
        for _ in 0..missing {
            plan.then(announced_create(set, &pod));
        }
    } else if active.len() > wanted {
        let surplus = (active.len() - wanted).min(BURST);
        victims::order(&mut active, &view.related, now);
        for pod in &active[..surplus] {
            plan.then(announced_delete(set, pod));
        }
    }
    plan
}

fn announced_create(set: &ReplicaSet, pod: &core::Pod) -> crate::plan::Create {
    let mut create = create(pod);
    create.announce = Some(Announce {
        regarding: Box::new(set.object_ref(&())),
        done: ("SuccessfulCreate", "Created pod: "),
        failed: ("FailedCreate", "Error creating: "),
    });
    create
}

fn announced_delete(set: &ReplicaSet, pod: &Pod) -> crate::plan::Delete {
    let mut delete = delete(pod);
    delete.announce = Some(Announce {
        regarding: Box::new(set.object_ref(&())),
        done: ("SuccessfulDelete", "Deleted pod: "),
        failed: ("FailedDelete", "Error deleting: "),
    });
    delete
}

fn new_pod(set: &ReplicaSet) -> core::Pod {
    let template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
    let given = template.metadata.unwrap_or_default();
    // Room for the random part within what a name may be.
    let mut prefix = format!("{}-", set.name_any());
    prefix.truncate(248);
    core::Pod {
        metadata: ObjectMeta {
            generate_name: Some(prefix),
            namespace: set.namespace(),
            labels: given.labels,
            annotations: given.annotations,
            finalizers: given.finalizers,
            owner_references: Some(vec![controller_of(set)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

/// Counts, and says what keeps the counts from being right.
fn status(
    set: &ReplicaSet,
    active: &[Arc<Pod>],
    terminating: usize,
    memory: &Memory,
    plan: &mut Plan<Memory>,
    now: Timestamp,
) {
    let spec = set.spec.as_ref();
    let min_ready = spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let template =
        spec.and_then(|spec| spec.template.as_ref()).and_then(|template| template.metadata.as_ref());
    let labels = template.and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
    let labelled = |pod: &Pod| labels.iter().all(|(name, value)| pod.labels().get(name) == Some(value));
    let count = |that: &dyn Fn(&Pod) -> bool| {
        i32::try_from(active.iter().filter(|pod| that(pod)).count()).ok().filter(|count| *count != 0)
    };
    let due = active.iter().filter_map(|pod| available_at(pod, min_ready));
    plan.look_again(due.filter(|at| *at > now).min());
    let before = set.status.clone().unwrap_or_default();
    let status = ReplicaSetStatus {
        replicas: i32::try_from(active.len()).unwrap_or(i32::MAX),
        fully_labeled_replicas: count(&labelled),
        ready_replicas: count(&|pod| ready_since(pod).is_some()),
        available_replicas: count(&|pod| available_at(pod, min_ready).is_some_and(|at| at <= now)),
        terminating_replicas: i32::try_from(terminating).ok(),
        observed_generation: set.metadata.generation,
        conditions: conditions(&before, memory, now),
    };
    if set.status.as_ref() != Some(&status) {
        let value = |status: &ReplicaSetStatus| serde_json::to_value(status).unwrap_or_default();
        let before = set.status.as_ref().map(value).unwrap_or_default();
        plan.then(patch_status(set, difference(&before, &value(&status))));
    }
}

fn conditions(
    before: &ReplicaSetStatus,
    memory: &Memory,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    const FAILURE: &str = "ReplicaFailure";
    let (current, mut others): (Vec<_>, Vec<_>) =
        before.conditions.iter().flatten().cloned().partition(|condition| condition.type_ == FAILURE);
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
