//! Jobs: pods that run to their end, as often as is wanted.
//!
//! Begin with [`plan`]; what keeps each pod's end counted once is told in [`tally`].

mod backoff;
pub(crate) mod end;
mod indexes;
#[cfg(test)]
mod model;
mod pods;
mod policy;
mod sizing;
mod status;
mod tally;
#[cfg(test)]
mod tests;

use crate::merge::difference;
use crate::ownership::{
    Selecting, controller_ref, is_terminating, orphans, owned, selector, selects, wake_for_owned,
    wake_for_owners,
};
use crate::plan::{Plan, confirm, controller_of, patch, patch_status, tell};
use crate::pod::Pod;
use crate::pods::{is_active, is_finished};
use crate::{Controller, World};
use client::kube::ResourceExt;
use client::kube::core::Selector;
use client::{Index, ObjectKey, Reader, WorkQueue};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use pods::{announced_delete, is_tracked, untrack, untrack_unended};
use serde_json::json;
use std::sync::Arc;
use tally::{Note, Tally};

/// Holds a pod until its end is counted.
const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
/// Who manages Jobs that name nobody else.
const US: &str = "kubernetes.io/job-controller";

/// The controller; see the module.
pub struct Jobs {
    jobs: Reader<Job>,
    pods: Reader<Pod>,
}

/// What it looks at.
pub struct View {
    /// The Job, unless it is gone.
    pub job: Option<Arc<Job>>,
    /// The pods that it controls.
    pub pods: Vec<Arc<Pod>>,
    /// The pods of its namespace that nobody controls.
    pub orphans: Vec<Arc<Pod>>,
    /// Pods of another Job of its name, which is gone.
    pub strays: Vec<Arc<Pod>>,
}

/// The Job that a pod belongs to by name; of a pod that nobody controls and that is still held, the one that it came from.
fn job_of(pod: &Pod) -> Option<ObjectKey> {
    let namespace = pod.namespace().unwrap_or_default();
    match controller_ref(pod) {
        Some(owner) => (owner.kind == "Job").then(|| ObjectKey::new(namespace, &owner.name)),
        None if is_tracked(pod) => {
            let name = pod.labels().get(JOB_NAME).cloned().unwrap_or_default();
            Some(ObjectKey::new(namespace, name))
        }
        None => None,
    }
}

fn by_job() -> Index<Pod> {
    Index::new("job", |pod: &Pod| job_of(pod).iter().map(ToString::to_string).collect())
}

impl Selecting for Job {
    fn selector(&self) -> Option<Selector> {
        selector(self.spec.as_ref().and_then(|spec| spec.selector.as_ref()))
    }
}

impl Controller for Jobs {
    const NAME: &'static str = "job-controller";
    type Key = ObjectKey;
    type View = View;
    type Memory = ();

    fn wire(world: &World, queue: &Arc<WorkQueue<ObjectKey>>) -> Self {
        let (jobs, pods) = (world.reader::<Job>(), world.pods());
        wake_for_owners(queue, &jobs);
        wake_for_owned(queue, &jobs, &pods);
        pods.informer().index_by(by_job());
        let add = queue.clone();
        pods.informer().on_change(move |change| {
            let both = change.before().into_iter().chain(change.after());
            both.filter_map(|pod| job_of(pod)).for_each(|key| add.add(key));
        });
        Self { jobs, pods }
    }

    fn view(&self, key: &ObjectKey) -> View {
        let job = self.jobs.get(key);
        let uid = job.as_ref().and_then(|job| job.uid());
        let mut strays = self.pods.by_index("job", &key.to_string());
        strays.retain(|pod| uid.is_none() || controller_ref(&**pod).map(|owner| &owner.uid) != uid.as_ref());
        let (pods, orphans) = match &job {
            Some(job) => (owned(&self.pods, &**job), orphans(&self.pods, &**job)),
            None => (Vec::new(), Vec::new()),
        };
        View { job, pods, orphans, strays }
    }

    fn plan(_key: &ObjectKey, view: &View, (): &(), now: Timestamp) -> Plan<()> {
        plan(view, now)
    }
}

/// Decides what to do about one Job; pure. Its actions have nothing to do with each other but those on one object: none
/// depends on another that may not have happened.
pub fn plan(view: &View, now: Timestamp) -> Plan<()> {
    let mut plan = Plan::independent();
    let selector = view.job.as_deref().and_then(Selecting::selector);
    let adoptable = |pod: &Pod| {
        controller_ref(pod).is_none() && selector.as_ref().is_some_and(|selector| selects(selector, pod))
    };
    for stray in view.strays.iter().filter(|pod| is_tracked(pod) && !adoptable(pod)) {
        plan.then(untrack(stray));
    }
    let Some(job) = view.job.as_deref() else { return plan };
    if job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref()).is_some_and(|manager| manager != US) {
        return plan;
    }
    if end::ended(job).is_some() {
        view.pods.iter().filter(|pod| is_tracked(pod)).for_each(|pod| plan.then(untrack(pod)));
        return plan;
    }
    let Some(selector) = &selector else { return plan };
    let adopted = view.orphans.iter().filter(|pod| selects(selector, &***pod) && !is_terminating(&***pod));
    let adopted: Vec<_> = adopted.filter(|_| !is_terminating(job)).collect();
    if !adopted.is_empty() {
        // What is being adopted must be counted before anything is decided.
        plan.independent = false;
        plan.then(confirm(job));
        adopted.into_iter().for_each(|pod| plan.then(adopt(job, pod)));
        return plan;
    }
    let (owned, released): (Vec<_>, Vec<_>) =
        view.pods.iter().cloned().partition(|pod| selects(selector, &**pod) || is_terminating(job));
    released.iter().for_each(|pod| plan.then(release(job, pod)));
    run(job, &owned, now, &mut plan);
    plan
}

fn adopt(job: &Job, pod: &Pod) -> crate::plan::Action {
    let (mut owners, mut finalizers) = (pod.owner_references().to_vec(), pod.finalizers().to_vec());
    owners.push(controller_of(job));
    if !is_tracked(pod) {
        finalizers.push(FINALIZER.to_owned());
    }
    patch(pod, json!({ "metadata": { "ownerReferences": owners, "finalizers": finalizers } }))
}

fn release(job: &Job, pod: &Pod) -> crate::plan::Action {
    let owners: Vec<_> =
        pod.owner_references().iter().filter(|owner| Some(&owner.uid) != job.metadata.uid.as_ref()).collect();
    let finalizers: Vec<_> = pod.finalizers().iter().filter(|held| *held != FINALIZER).collect();
    patch(pod, json!({ "metadata": { "ownerReferences": owners, "finalizers": finalizers } }))
}

fn run(job: &Job, pods: &[Arc<Pod>], now: Timestamp, plan: &mut Plan<()>) {
    let (Some(spec), none) = (&job.spec, JobStatus::default()) else { return };
    let tally = Tally::of(job, spec, job.status.as_ref().unwrap_or(&none), pods);
    let replaced = sizing::replaced(&tally);
    let target = end::target(&tally, now);
    let mut change = sizing::Change::default();
    match &target {
        Some(_) => tally.active().for_each(|pod| plan.then(announced_delete(job, pod))),
        None if is_terminating(job) => {}
        None => change = sizing::change(&tally, &replaced, now),
    }
    let target = target.or_else(|| end::completed(&tally));
    let ending = target.as_ref().map(|target| target.ending);
    let is_kept = |pod: &Pod| replaced.values().any(|kept| kept.metadata.uid == pod.metadata.uid);
    let settled = pods.iter().filter(|pod| is_tracked(pod)).filter(|pod| {
        let is_lost = tally.has_failed(pod) && !is_kept(pod);
        let ends = ending.is_some() && !is_active(pod);
        is_terminating(job) || ends || is_lost || (is_finished(pod) && !tally.has_failed(pod))
    });
    let settled: Vec<_> = settled.cloned().collect();
    let written = status::write(&tally, &settled, target.as_ref(), now);
    if says_the_same(&tally, &written.status) {
        let is_noted = |pod: &Pod| match tally.note(pod, ending) {
            Note::Succeeded | Note::Failed => tally.is_noted(pod),
            Note::Index(index) => tally.stored.has(index),
            Note::Nothing => true,
        };
        // One that runs on, on its way out of a Job that ends, is not noted: were it to end well in this moment, that counts.
        let may_end = |pod: &Pod| !is_finished(pod) && tally.note(pod, ending) == Note::Nothing;
        let let_go = |pod: &Pod| if may_end(pod) { untrack_unended(pod) } else { untrack(pod) };
        settled.iter().filter(|pod| is_noted(pod)).for_each(|pod| plan.then(let_go(pod)));
    }
    write(job, &tally, written, plan);
    for pod in &change.surplus {
        // Its end, which is to come, counts for nothing.
        if is_tracked(pod) {
            plan.then(untrack_unended(pod));
        }
        plan.then(announced_delete(job, pod));
    }
    change.missing.into_iter().for_each(|create| plan.then(create));
    plan.look_again(change.due);
    if target.is_none() {
        plan.look_again(end::deadline(&tally, now));
    }
}

/// Whether the status that is stored already draws every conclusion that pods must not be let go of before.
fn says_the_same(tally: &Tally<'_>, status: &JobStatus) -> bool {
    tally.status.conditions.as_deref().unwrap_or_default() == status.conditions.as_deref().unwrap_or_default()
        && tally.status.failed_indexes == status.failed_indexes
}

fn write(job: &Job, tally: &Tally<'_>, written: status::Written, plan: &mut Plan<()>) {
    let value = |status: &JobStatus| serde_json::to_value(status).unwrap_or_default();
    let (before, after) = (value(tally.status), value(&written.status));
    if before == after {
        return;
    }
    plan.then(patch_status(job, difference(&before, &after)));
    for (kind, reason, message) in written.events {
        plan.then(tell(job, kind, reason, message));
    }
}
