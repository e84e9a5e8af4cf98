//! CronJobs: Jobs at times.

mod schedule;
#[cfg(test)]
mod tests;

use crate::job::end::ended;
use crate::merge::difference;
use crate::ownership::{controller_ref, is_terminating};
use crate::plan::{Announce, Create, Delete, Plan, controller_of, create, delete, patch_status, tell};
use crate::{Controller, World};
use client::kube::api::PropagationPolicy;
use client::kube::{Resource, ResourceExt};
use client::{Change, EventType, ObjectKey, Reader, WorkQueue, by_controller_uid};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use schedule::Schedule;
use std::collections::BTreeSet;
use std::sync::Arc;

/// When a Job was to start, as written on it.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// So many missed times are told of.
const MANY: usize = 100;

/// The controller; see the module.
pub struct CronJobs {
    crons: Reader<CronJob>,
    jobs: Reader<Job>,
}

/// What it looks at.
pub struct View {
    /// The CronJob, unless it is gone.
    pub cron: Option<Arc<CronJob>>,
    /// The Jobs that it controls.
    pub jobs: Vec<Arc<Job>>,
}

/// What was told already.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Memory {
    /// The UIDs of Jobs that somebody else made for it.
    unexpected: BTreeSet<String>,
    /// The time that was missed last.
    missed: Option<Timestamp>,
}

impl Controller for CronJobs {
    const NAME: &'static str = "cronjob-controller";
    type Key = ObjectKey;
    type View = View;
    type Memory = Memory;

    fn wire(world: &World, queue: &Arc<WorkQueue<ObjectKey>>) -> Self {
        let (crons, jobs) = (world.reader::<CronJob>(), world.reader::<Job>());
        jobs.informer().index_by(by_controller_uid());
        let add = queue.clone();
        crons.informer().on_change(move |change| add.add(ObjectKey::of(&**change.object())));
        let add = queue.clone();
        jobs.informer().on_change(move |change| wake(&add, change));
        Self { crons, jobs }
    }

    fn view(&self, key: &ObjectKey) -> View {
        let cron = self.crons.get(key);
        let uid = cron.as_ref().and_then(|cron| cron.uid());
        let jobs = uid.map(|uid| self.jobs.by_index("controller-uid", &uid)).unwrap_or_default();
        View { cron, jobs }
    }

    fn plan(_key: &ObjectKey, view: &View, memory: &Memory, now: Timestamp) -> Plan<Memory> {
        plan(view, memory, now)
    }
}

fn wake(queue: &WorkQueue<ObjectKey>, change: &Change<Job>) {
    for job in change.before().into_iter().chain(change.after()) {
        if let Some(owner) = controller_ref(&**job).filter(|owner| owner.kind == "CronJob") {
            queue.add(ObjectKey::new(job.namespace().unwrap_or_default(), &owner.name));
        }
    }
}

/// Decides what to do about one CronJob; pure.
pub fn plan(view: &View, memory: &Memory, now: Timestamp) -> Plan<Memory> {
    let mut plan = Plan::default();
    let Some(cron) = view.cron.as_deref() else { return plan };
    let spec = &cron.spec;
    let mut status = cron.status.clone().unwrap_or_default();
    let mut told = Memory { missed: memory.missed, ..Memory::default() };
    follow(cron, &view.jobs, &mut status, memory, &mut told, &mut plan);
    if !is_terminating(cron) {
        start(cron, spec, &view.jobs, &mut status, &mut told, &mut plan, now);
    }
    write(cron, status, &mut plan);
    forget(cron, spec, &view.jobs, &mut plan);
    plan.memory = Some(told).filter(|told| *told != Memory::default());
    plan
}

/// Notes which Jobs run, and which have ended.
fn follow(
    cron: &CronJob,
    jobs: &[Arc<Job>],
    status: &mut CronJobStatus,
    memory: &Memory,
    told: &mut Memory,
    plan: &mut Plan<Memory>,
) {
    let mut active = status.active.take().unwrap_or_default();
    active.retain(|known| match jobs.iter().find(|job| job.uid() == known.uid) {
        Some(job) => {
            let Some(condition) = ended(job) else { return true };
            let message = format!("Saw completed job: {}, condition: {}", job.name_any(), condition.type_);
            plan.then(tell(cron, EventType::Normal, "SawCompletedJob", message));
            false
        }
        None => {
            let message = format!("Active job went missing: {}", known.name.as_deref().unwrap_or_default());
            plan.then(tell(cron, EventType::Normal, "MissingJob", message));
            false
        }
    });
    for job in jobs {
        let Some(uid) = job.uid() else { continue };
        if ended(job).is_some() || active.iter().any(|known| known.uid.as_ref() == Some(&uid)) {
            continue;
        }
        if job.annotations().contains_key(SCHEDULED) {
            active.push(reference(job));
            continue;
        }
        if !memory.unexpected.contains(&uid) {
            let name = job.name_any();
            let message = format!("Saw a job that the controller did not create or forgot: {name}");
            plan.then(tell(cron, EventType::Warning, "UnexpectedJob", message));
        }
        told.unexpected.insert(uid);
    }
    status.active = Some(active).filter(|active| !active.is_empty());
    let succeeded = jobs.iter().filter_map(|job| job.status.as_ref()?.completion_time.as_ref());
    let latest = succeeded.chain(status.last_successful_time.as_ref()).max().cloned();
    status.last_successful_time = latest;
}

fn reference(job: &Job) -> ObjectReference {
    job.object_ref(&())
}

/// Makes the Job whose time has come, if there is one and others do not stand in its way.
fn start(
    cron: &CronJob,
    spec: &CronJobSpec,
    jobs: &[Arc<Job>],
    status: &mut CronJobStatus,
    told: &mut Memory,
    plan: &mut Plan<Memory>,
    now: Timestamp,
) {
    let mut warn = |reason, message: String| plan.then(tell(cron, EventType::Warning, reason, message));
    let zone = match schedule::zone(spec.time_zone.as_deref().unwrap_or_default()) {
        Ok(zone) => zone,
        Err(error) => {
            let name = spec.time_zone.as_deref().unwrap_or_default();
            return warn("UnknownTimeZone", format!("invalid timeZone: {name:?}: {error}"));
        }
    };
    if spec.suspend == Some(true) {
        return;
    }
    let schedule = match Schedule::parse(&spec.schedule, zone) {
        Ok(schedule) => schedule,
        Err(error) => {
            let schedule = &spec.schedule;
            return warn("UnparseableSchedule", format!("unparseable schedule: {schedule:?} : {error}"));
        }
    };
    let due = last_missed(cron, spec, &schedule, now);
    let before = due.as_ref().map(|due| due.at).or_else(|| since(cron));
    let next = before.and_then(|before| schedule.next(before)).filter(|next| *next > now);
    plan.look_again(next.or_else(|| schedule.next(now)));
    let Some(due) = due else { return };
    let mut warn_once = |reason, message: String| {
        if told.missed != Some(due.at) {
            plan.then(tell(cron, EventType::Warning, reason, message));
        }
    };
    if due.are_many {
        let advice =
            "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        warn_once("TooManyMissedTimes", advice.to_owned());
    }
    if deadline(spec, due.at).is_some_and(|deadline| deadline < now) {
        warn_once("MissSchedule", format!("Missed scheduled time to start a job: {}", due.at));
        told.missed = Some(due.at);
        return;
    }
    told.missed = due.are_many.then_some(due.at);
    let job = new_job(cron, spec, due.at, &schedule);
    if jobs.iter().any(|known| known.metadata.name == job.metadata.name) {
        status.last_schedule_time = Some(Time(due.at));
        return;
    }
    let active = status.active.as_deref().unwrap_or_default();
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !active.is_empty() => {
            let why = "Not starting job because prior execution is running and concurrency policy is Forbid";
            return plan.then(tell(cron, EventType::Normal, "JobAlreadyActive", why));
        }
        Some("Replace") => {
            let is_active = |job: &&Arc<Job>| active.iter().any(|known| known.uid == job.uid());
            jobs.iter().filter(is_active).for_each(|job| plan.then(announced_delete(cron, job)));
            status.active = None;
        }
        _ => {}
    }
    plan.then(announced_create(cron, &job));
    status.last_schedule_time = Some(Time(due.at));
}

/// Until when the Job of a time may start.
fn deadline(spec: &CronJobSpec, at: Timestamp) -> Option<Timestamp> {
    at.checked_add(SignedDuration::from_secs(spec.starting_deadline_seconds?)).ok()
}

/// The last time that has come and that no Job was made for.
struct Due {
    at: Timestamp,
    are_many: bool,
}

/// From when on times count.
fn since(cron: &CronJob) -> Option<Timestamp> {
    let last = cron.status.as_ref().and_then(|status| status.last_schedule_time.as_ref());
    last.or(cron.metadata.creation_timestamp.as_ref()).map(|since| since.0)
}

fn last_missed(cron: &CronJob, spec: &CronJobSpec, schedule: &Schedule, now: Timestamp) -> Option<Due> {
    let since = since(cron)?;
    let window = spec.starting_deadline_seconds.map(SignedDuration::from_secs);
    let since = window.and_then(|window| now.checked_sub(window).ok()).map_or(since, |from| since.max(from));
    let times = |from: Timestamp| {
        std::iter::successors(schedule.next(from), |at| schedule.next(*at)).take_while(|at| *at <= now)
    };
    let missed = times(since).take(MANY + 1).count();
    if missed <= MANY {
        return Some(Due { at: times(since).last()?, are_many: false });
    }
    // Looks back from now, twice as far each time, so that years of minutes are not gone through.
    let mut back = SignedDuration::from_mins(1);
    loop {
        let from = now.checked_sub(back).ok().filter(|from| *from > since).unwrap_or(since);
        if let Some(at) = times(from).last() {
            return Some(Due { at, are_many: true });
        }
        back = back.checked_mul(2)?;
    }
}

fn new_job(cron: &CronJob, spec: &CronJobSpec, at: Timestamp, schedule: &Schedule) -> Job {
    let template = spec.job_template.clone();
    let given = template.metadata.unwrap_or_default();
    let mut annotations = given.annotations.unwrap_or_default();
    let local = at.to_zoned(schedule.zone().clone());
    annotations.insert(SCHEDULED.to_owned(), rfc3339(&local));
    Job {
        metadata: ObjectMeta {
            name: Some(format!("{}-{}", cron.name_any(), at.as_second().div_euclid(60))),
            namespace: cron.namespace(),
            labels: given.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controller_of(cron)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

/// As upstream writes it: with the offset of its zone, and `Z` where that is none.
fn rfc3339(at: &jiff::Zoned) -> String {
    if at.offset().is_zero() {
        return at.timestamp().to_string();
    }
    at.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

fn announced_create(cron: &CronJob, job: &Job) -> Create {
    let mut create = create(job);
    create.announce = Some(Announce {
        regarding: Box::new(cron.object_ref(&())),
        done: ("SuccessfulCreate", "Created job ".into()),
        failed: ("FailedCreate", "Error creating job: ".into()),
    });
    create
}

fn announced_delete(cron: &CronJob, job: &Job) -> Delete {
    let mut delete = delete(job);
    delete.propagation = Some(PropagationPolicy::Background);
    delete.announce = Some(Announce {
        regarding: Box::new(cron.object_ref(&())),
        done: ("SuccessfulDelete", "Deleted job ".into()),
        failed: ("FailedDelete", "Deleted job: ".into()),
    });
    delete
}

fn write(cron: &CronJob, status: CronJobStatus, plan: &mut Plan<Memory>) {
    let value = |status: &CronJobStatus| serde_json::to_value(status).unwrap_or_default();
    let before = value(cron.status.as_ref().unwrap_or(&CronJobStatus::default()));
    let after = value(&status);
    if before != after {
        plan.then(patch_status(cron, difference(&before, &after)));
    }
}

/// Takes away the oldest of the Jobs that have ended, where there are more than are to be kept.
fn forget(cron: &CronJob, spec: &CronJobSpec, jobs: &[Arc<Job>], plan: &mut Plan<Memory>) {
    let limits =
        [("Complete", spec.successful_jobs_history_limit), ("Failed", spec.failed_jobs_history_limit)];
    for (kind, limit) in limits {
        let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else { continue };
        let is_such = |job: &&Arc<Job>| ended(job).is_some_and(|condition| condition.type_ == kind);
        let mut all: Vec<_> = jobs.iter().filter(is_such).filter(|job| !is_terminating(&***job)).collect();
        all.sort_by_key(|job| {
            (job.status.as_ref().and_then(|status| Some(status.start_time.as_ref()?.0)), job.name_any())
        });
        let surplus = all.len().saturating_sub(limit);
        all.into_iter().take(surplus).for_each(|job| plan.then(announced_delete(cron, job)));
    }
}
