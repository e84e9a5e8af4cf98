//! Whether a Job is to end, and how. A Job that is to end says so first (`FailureTarget`, `SuccessCriteriaMet`), and has ended
//! (`Failed`, `Complete`) once nothing of it runs any more and all is counted.

use super::pods::is_tracked;
use super::policy::{Verdict, met};
use super::tally::{Ending, Tally, count};
use crate::pod::Phase;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Why Jobs fail.
const FAILURES: [&str; 5] = [
    "PodFailurePolicy",
    "BackoffLimitExceeded",
    "DeadlineExceeded",
    "MaxFailedIndexesExceeded",
    "FailedIndexes",
];

/// How a Job is to end, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) ending: Ending,
    pub(super) reason: String,
    pub(super) message: String,
    /// Whether the status that is stored says so.
    pub(super) is_told: bool,
}

impl Target {
    fn new(ending: Ending, reason: &str, message: impl Into<String>) -> Self {
        Self { ending, reason: reason.to_owned(), message: message.into(), is_told: false }
    }

    fn failure(reason: &str, message: impl Into<String>) -> Option<Self> {
        Some(Self::new(Ending::Failure, reason, message))
    }

    /// The condition by which the Job says that it is to end so.
    pub(super) fn announcement(&self) -> &'static str {
        match self.ending {
            Ending::Success => "SuccessCriteriaMet",
            Ending::Failure => "FailureTarget",
        }
    }

    /// The reason of the event that tells of a failure: upstream's, or a word for those that somebody else wrote.
    pub(super) fn event(&self) -> &'static str {
        FAILURES.into_iter().find(|known| *known == self.reason).unwrap_or("Failed")
    }

    /// The condition by which the Job has ended.
    pub(super) fn end(&self) -> &'static str {
        match self.ending {
            Ending::Success => "Complete",
            Ending::Failure => "Failed",
        }
    }

    pub(super) fn condition(&self, kind: &str, now: Timestamp) -> JobCondition {
        condition(kind, true, &self.reason, &self.message, now)
    }
}

pub(super) fn condition(
    kind: &str,
    holds: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> JobCondition {
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    JobCondition {
        type_: kind.to_owned(),
        status: if holds { "True" } else { "False" }.to_owned(),
        reason: text(reason),
        message: text(message),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

/// The condition of that type, if it holds.
pub(super) fn holding<'a>(job: &'a Job, kind: &str) -> Option<&'a JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind && condition.status == "True")
}

/// The condition by which a Job has ended.
pub(crate) fn ended(job: &Job) -> Option<&JobCondition> {
    holding(job, "Complete").or_else(|| holding(job, "Failed"))
}

/// How the Job is to end, if it is.
pub(super) fn target(tally: &Tally<'_>, now: Timestamp) -> Option<Target> {
    told(tally.job)
        .or_else(|| by_policy(tally))
        .or_else(|| by_limit(tally))
        .or_else(|| by_deadline(tally, now))
        .or_else(|| by_indexes(tally))
        .or_else(|| {
            let rule = met(tally.spec.success_policy.as_ref(), tally.completions(), &tally.completed)?;
            Some(Target::new(Ending::Success, "SuccessPolicy", rule))
        })
}

/// Once it is told, nothing changes it.
fn told(job: &Job) -> Option<Target> {
    let kinds = [(Ending::Success, "SuccessCriteriaMet"), (Ending::Failure, "FailureTarget")];
    kinds.into_iter().find_map(|(ending, kind)| {
        let condition = holding(job, kind)?;
        let (reason, message) = (condition.reason.clone(), condition.message.clone());
        let (reason, message) = (reason.unwrap_or_default(), message.unwrap_or_default());
        Some(Target { ending, reason, message, is_told: true })
    })
}

fn by_policy(tally: &Tally<'_>) -> Option<Target> {
    tally.spec.pod_failure_policy.as_ref()?;
    let mut failed = tally.pods.iter().filter(|pod| tally.has_failed(pod) && is_tracked(pod));
    failed.find_map(|pod| match tally.verdict(pod) {
        Verdict::FailsJob(why) => Target::failure("PodFailurePolicy", why),
        _ => None,
    })
}

fn by_limit(tally: &Tally<'_>) -> Option<Target> {
    let limit = tally.spec.backoff_limit.map_or(6, |limit| count(Some(limit)));
    if tally.failed() > limit || restarted_too_often(tally, limit) {
        return Target::failure("BackoffLimitExceeded", "Job has reached the specified backoff limit");
    }
    None
}

/// Containers that are started again in their pods have failed each time.
fn restarted_too_often(tally: &Tally<'_>, limit: usize) -> bool {
    let policy = tally.spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
    if policy != Some("OnFailure") {
        return false;
    }
    let runs = tally.pods.iter().filter(|pod| matches!(pod.status.phase, Phase::Pending | Phase::Running));
    let restarts: usize = runs.map(|pod| count(Some(pod.status.all_restarts))).sum();
    restarts > 0 && restarts >= limit
}

/// When the Job has run long enough.
pub(super) fn deadline(tally: &Tally<'_>, now: Timestamp) -> Option<Timestamp> {
    let seconds = tally.spec.active_deadline_seconds.filter(|_| !tally.is_suspended())?;
    let start = tally.status.start_time.as_ref().map_or(now, |start| start.0);
    start.checked_add(SignedDuration::from_secs(seconds)).ok()
}

fn by_deadline(tally: &Tally<'_>, now: Timestamp) -> Option<Target> {
    tally.status.start_time.as_ref()?;
    if holding(tally.job, "Suspended").is_some() {
        // It is just being resumed, and starts anew.
        return None;
    }
    deadline(tally, now).filter(|deadline| *deadline <= now)?;
    Target::failure("DeadlineExceeded", "Job was active longer than specified deadline")
}

fn by_indexes(tally: &Tally<'_>) -> Option<Target> {
    let failed = tally.failed_indexes.as_ref()?.count();
    if tally.spec.max_failed_indexes.is_some_and(|most| failed > count(Some(most))) {
        let why = "Job has exceeded the specified maximal number of failed indexes";
        return Target::failure("MaxFailedIndexesExceeded", why);
    }
    let all = tally.completions() as usize;
    if failed > 0 && failed + tally.completed.count() >= all {
        return Target::failure("FailedIndexes", "Job has failed indexes");
    }
    None
}

/// A Job that is to succeed, because as many pods have as it takes, and none is left.
pub(super) fn completed(tally: &Tally<'_>) -> Option<Target> {
    let succeeded = tally.succeeded();
    let is_enough = match tally.spec.completions {
        None => succeeded > 0,
        Some(_) => succeeded >= tally.completions() as usize,
    };
    if !is_enough || tally.active().next().is_some() {
        return None;
    }
    Some(Target::new(Ending::Success, "CompletionsReached", "Reached expected number of succeeded pods"))
}
