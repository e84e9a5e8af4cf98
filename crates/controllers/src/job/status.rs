//! What a Job's status should say.

use super::end::{Target, condition};
use super::pods::is_tracked;
use super::tally::{Ending, Note, Tally, count};
use crate::pod::Pod;
use crate::pods::{is_active, ready_since};
use client::EventType;
use client::kube::ResourceExt;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{JobStatus, UncountedTerminatedPods};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeSet;
use std::sync::Arc;

/// At most so many pods are noted and not counted: a status stays small.
const NOTED: usize = 500;

/// A status, and what is to be told of how it changed.
pub(super) struct Written {
    pub(super) status: JobStatus,
    pub(super) events: Vec<(EventType, &'static str, String)>,
}

/// What the status should say of a Job that goes on or is to end; `settled` are the pods whose ends it may note.
pub(super) fn write(
    tally: &Tally<'_>,
    settled: &[Arc<Pod>],
    target: Option<&Target>,
    now: Timestamp,
) -> Written {
    let mut written = Written { status: tally.status.clone(), events: Vec::new() };
    let status = &mut written.status;
    counts(tally, status);
    note(tally, settled, target.map(|target| target.ending), status);
    if status.start_time.is_none() && !tally.is_suspended() {
        status.start_time = Some(Time(now));
    }
    match target {
        Some(target) if !target.is_told => set(status, target.announcement(), target, now),
        Some(target) if is_over(tally, status) => end(tally, target, &mut written, now),
        None if tally.job.metadata.deletion_timestamp.is_none() => suspend(tally, &mut written, now),
        _ => {}
    }
    written
}

/// Counts what runs, and what was noted and has been let go of.
fn counts(tally: &Tally<'_>, status: &mut JobStatus) {
    let number = |count: usize| Some(i32::try_from(count).unwrap_or(i32::MAX));
    let some = |count: usize| number(count).filter(|count| *count > 0);
    let held: BTreeSet<String> =
        tally.pods.iter().filter(|pod| is_tracked(pod)).filter_map(|pod| pod.uid()).collect();
    let noted = status.uncounted_terminated_pods.get_or_insert_with(UncountedTerminatedPods::default);
    let let_go = |uids: &mut Option<Vec<String>>| {
        let before = uids.as_ref().map_or(0, Vec::len);
        uids.iter_mut().for_each(|uids| uids.retain(|uid| held.contains(uid)));
        let let_go = before - uids.as_ref().map_or(0, Vec::len);
        *uids = uids.take().filter(|uids| !uids.is_empty());
        let_go
    };
    let (succeeded, failed) = (let_go(&mut noted.succeeded), let_go(&mut noted.failed));
    status.succeeded = match tally.is_indexed() {
        true => some(tally.completed.count()),
        false => some(count(status.succeeded) + succeeded),
    };
    status.failed = some(count(status.failed) + failed);
    if tally.is_indexed() {
        status.completed_indexes = Some(tally.completed.to_string()).filter(|text| !text.is_empty());
        status.failed_indexes = tally.failed_indexes.as_ref().map(ToString::to_string);
    }
    status.active = some(tally.active().count());
    status.ready = number(tally.active().filter(|pod| ready_since(pod).is_some()).count());
    status.terminating = number(tally.ending().count());
}

fn note(tally: &Tally<'_>, settled: &[Arc<Pod>], ending: Option<Ending>, status: &mut JobStatus) {
    let Some(noted) = &mut status.uncounted_terminated_pods else { return };
    let length = |uids: &Option<Vec<String>>| uids.as_ref().map_or(0, Vec::len);
    let mut room = NOTED.saturating_sub(length(&noted.succeeded) + length(&noted.failed));
    for pod in settled.iter().filter(|pod| !tally.is_noted(pod)) {
        let uids = match tally.note(pod, ending) {
            Note::Succeeded => &mut noted.succeeded,
            Note::Failed => &mut noted.failed,
            Note::Index(_) | Note::Nothing => continue,
        };
        if room == 0 {
            return;
        }
        room -= 1;
        uids.get_or_insert_with(Vec::new).extend(pod.uid());
    }
}

/// Whether nothing is left to wait for.
fn is_over(tally: &Tally<'_>, status: &JobStatus) -> bool {
    let empty = |uids: &Option<Vec<String>>| uids.as_ref().is_none_or(Vec::is_empty);
    let is_counted = status
        .uncounted_terminated_pods
        .as_ref()
        .is_none_or(|noted| empty(&noted.succeeded) && empty(&noted.failed));
    let is_held = |pod: &Pod| is_tracked(pod) || is_active(pod);
    is_counted && !tally.pods.iter().any(|pod| is_held(pod)) && tally.ending().next().is_none()
}

fn end(tally: &Tally<'_>, target: &Target, written: &mut Written, now: Timestamp) {
    let status = &mut written.status;
    set(status, target.end(), target, now);
    status.start_time.get_or_insert(Time(now));
    if target.ending == Ending::Failure {
        return written.events.push((EventType::Warning, target.event(), target.message.clone()));
    }
    status.completion_time = Some(Time(now));
    if tally.spec.completions.is_some() && count(status.succeeded) > tally.completions() as usize {
        let why = "Too many succeeded pods running after completion count reached";
        written.events.push((EventType::Warning, "TooManySucceededPods", why.to_owned()));
    }
    written.events.push((EventType::Normal, "Completed", "Job completed".to_owned()));
}

fn set(status: &mut JobStatus, kind: &str, target: &Target, now: Timestamp) {
    let conditions = status.conditions.get_or_insert_with(Vec::new);
    conditions.retain(|condition| condition.type_ != kind);
    conditions.push(target.condition(kind, now));
}

/// Says that the Job is suspended, or no longer: it starts anew then.
fn suspend(tally: &Tally<'_>, written: &mut Written, now: Timestamp) {
    let status = &mut written.status;
    let conditions = status.conditions.get_or_insert_with(Vec::new);
    let before = conditions.iter().position(|condition| condition.type_ == "Suspended");
    let was = before.is_some_and(|at| conditions[at].status == "True");
    let is = tally.is_suspended();
    if was == is {
        return;
    }
    let (reason, event, message) = match is {
        true => ("JobSuspended", "Suspended", "Job suspended"),
        false => ("JobResumed", "Resumed", "Job resumed"),
    };
    let condition = condition("Suspended", is, reason, message, now);
    match before {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
    if !is {
        status.start_time = Some(Time(now));
    }
    written.events.push((EventType::Normal, event, message.to_owned()));
}
