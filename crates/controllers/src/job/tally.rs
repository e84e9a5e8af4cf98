//! What has become of a Job's pods: what its status has counted, what it has noted but not counted, and what it does not
//! know of yet.
//!
//! A pod's end passes three stations, so that it is counted once whatever crashes in between: its UID (or its index) is noted
//! in the status; then the pod is let go of, and may vanish; then what is noted and no longer held is counted, in one write.

use super::indexes::Indexes;
use super::pods::{index_of, is_ending, is_tracked};
use super::policy::{Verdict, judge};
use crate::ownership::is_terminating;
use crate::pod::{Phase, Pod};
use crate::pods::is_active;
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) struct Tally<'a> {
    pub(super) job: &'a Job,
    pub(super) spec: &'a JobSpec,
    pub(super) status: &'a JobStatus,
    pub(super) pods: &'a [Arc<Pod>],
    noted_succeeded: BTreeSet<&'a str>,
    noted_failed: BTreeSet<&'a str>,
    /// As the status says.
    pub(super) stored: Indexes,
    /// The indexes that have succeeded, if there are any.
    pub(super) completed: Indexes,
    /// Those that have failed for good, where failures are counted by index.
    pub(super) failed_indexes: Option<Indexes>,
}

/// How the status is to note a pod's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// Among those that succeeded.
    Succeeded,
    /// By its index.
    Index(u32),
    /// Among those that failed.
    Failed,
    /// Not at all.
    Nothing,
}

/// How a Job that ends does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Success,
    Failure,
}

impl<'a> Tally<'a> {
    pub(super) fn of(job: &'a Job, spec: &'a JobSpec, status: &'a JobStatus, pods: &'a [Arc<Pod>]) -> Self {
        let uncounted = status.uncounted_terminated_pods.as_ref();
        let noted = |uids: Option<&'a Vec<String>>| uids.into_iter().flatten().map(String::as_str).collect();
        let mut tally = Self {
            job,
            spec,
            status,
            pods,
            noted_succeeded: noted(uncounted.and_then(|noted| noted.succeeded.as_ref())),
            noted_failed: noted(uncounted.and_then(|noted| noted.failed.as_ref())),
            stored: Indexes::default(),
            completed: Indexes::default(),
            failed_indexes: None,
        };
        if tally.is_indexed() {
            tally.read_indexes();
        }
        tally
    }

    fn read_indexes(&mut self) {
        let parse = |text: Option<&String>| Indexes::parse(text.map_or("", |text| text), self.completions());
        let tracked = || self.pods.iter().filter(|pod| is_tracked(pod));
        let done =
            tracked().filter(|pod| pod.status.phase == Phase::Succeeded).filter_map(|pod| self.index(pod));
        let stored = parse(self.status.completed_indexes.as_ref());
        let completed = stored.with(done);
        let failed_indexes = self.spec.backoff_limit_per_index.map(|_| {
            let failed = tracked().filter(|pod| self.index_has_failed(pod)).filter_map(|pod| self.index(pod));
            let failed = failed.filter(|index| !completed.has(*index));
            parse(self.status.failed_indexes.as_ref()).with(failed)
        });
        (self.stored, self.completed, self.failed_indexes) = (stored, completed, failed_indexes);
    }

    pub(super) fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    pub(super) fn completions(&self) -> u32 {
        self.spec.completions.and_then(|count| u32::try_from(count).ok()).unwrap_or(0)
    }

    /// Whether a pod that is being deleted is only replaced, and only counted, when it has ended.
    pub(super) fn waits_for_end(&self) -> bool {
        self.spec.pod_replacement_policy.as_deref() == Some("Failed")
            || self.spec.pod_failure_policy.is_some()
    }

    pub(super) fn has_failed(&self, pod: &Pod) -> bool {
        let is_lost = is_terminating(pod) && pod.status.phase != Phase::Succeeded;
        pod.status.phase == Phase::Failed || (is_lost && !self.waits_for_end())
    }

    /// What the Job's policy makes of a pod that failed.
    pub(super) fn verdict(&self, pod: &Pod) -> Verdict {
        judge(self.spec.pod_failure_policy.as_ref(), pod)
    }

    fn index_has_failed(&self, pod: &Pod) -> bool {
        let limit = self.spec.backoff_limit_per_index.and_then(|limit| usize::try_from(limit).ok());
        self.has_failed(pod)
            && match self.verdict(pod) {
                Verdict::FailsIndex => true,
                Verdict::Ignored => false,
                Verdict::Counts | Verdict::FailsJob(_) => {
                    limit.is_some_and(|limit| super::pods::failures_before(pod).counted >= limit)
                }
            }
    }

    /// The pod's index, if there is such a one.
    pub(super) fn index(&self, pod: &Pod) -> Option<u32> {
        index_of(pod).filter(|index| *index < self.completions())
    }

    pub(super) fn active(&self) -> impl Iterator<Item = &'a Arc<Pod>> {
        self.pods.iter().filter(|pod| is_active(pod))
    }

    pub(super) fn ending(&self) -> impl Iterator<Item = &'a Arc<Pod>> {
        self.pods.iter().filter(|pod| is_ending(pod))
    }

    /// The pods whose ends the status has not noted.
    fn fresh(&self) -> impl Iterator<Item = &'a Arc<Pod>> {
        self.pods.iter().filter(|pod| {
            let counts = !self.is_indexed() || self.index(pod).is_some();
            is_tracked(pod) && counts && !self.is_noted(pod)
        })
    }

    /// How many have succeeded, counted or not.
    pub(super) fn succeeded(&self) -> usize {
        if self.is_indexed() {
            return self.completed.count();
        }
        let fresh = self.fresh().filter(|pod| pod.status.phase == Phase::Succeeded).count();
        count(self.status.succeeded) + self.noted_succeeded.len() + fresh
    }

    /// How many have failed, counted or not.
    pub(super) fn failed(&self) -> usize {
        let fresh = self.fresh().filter(|pod| self.has_failed(pod) && self.verdict(pod) != Verdict::Ignored);
        count(self.status.failed) + self.noted_failed.len() + fresh.count()
    }

    /// Whether the status that is stored knows of the pod's end.
    pub(super) fn is_noted(&self, pod: &Pod) -> bool {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        self.noted_succeeded.contains(uid) || self.noted_failed.contains(uid)
    }

    /// How the end of a pod is noted, in a Job that goes on or ends so.
    pub(super) fn note(&self, pod: &Pod, ending: Option<Ending>) -> Note {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        if pod.status.phase == Phase::Succeeded && !self.noted_failed.contains(uid) {
            return match self.is_indexed() {
                false => Note::Succeeded,
                true => self.index(pod).map_or(Note::Nothing, Note::Index),
            };
        }
        let has_failed = match ending {
            None => self.has_failed(pod),
            // Who is only told to stop because enough has succeeded has not failed.
            Some(Ending::Success) => pod.status.phase == Phase::Failed,
            Some(Ending::Failure) => true,
        };
        let counts = has_failed
            && (!self.is_indexed() || self.index(pod).is_some())
            && self.verdict(pod) != Verdict::Ignored;
        if counts || self.noted_failed.contains(uid) { Note::Failed } else { Note::Nothing }
    }
}

/// A count of a status.
pub(super) fn count(number: Option<i32>) -> usize {
    number.and_then(|number| usize::try_from(number).ok()).unwrap_or(0)
}
