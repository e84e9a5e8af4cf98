//! How long a Job waits after failures: 10 s, and twice as long after each further one, up to 10 minutes. It is read off the
//! pods that are there, so a restart forgets nothing.

use super::pods::failures_before;
use crate::pod::{Phase, Pod};
use client::kube::ResourceExt;
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;

const FIRST: SignedDuration = SignedDuration::from_secs(10);
const LONGEST: SignedDuration = SignedDuration::from_mins(10);

/// When the next pod may be made: the pods since the last one that succeeded have failed.
pub(super) fn due(pods: &[Arc<Pod>], failed: impl Fn(&Pod) -> bool) -> Option<Timestamp> {
    let ended_well = |pod: &&Arc<Pod>| pod.status.phase == Phase::Succeeded;
    let success = pods.iter().filter(ended_well).map(|pod| ended_at(pod)).max();
    let since = pods.iter().filter(|pod| failed(pod)).map(|pod| ended_at(pod));
    let since: Vec<_> = since.filter(|at| success.is_none_or(|success| *at > success)).collect();
    after(since.len(), *since.iter().max()?)
}

/// The same for one index, of which this pod was the last to fail.
pub(super) fn due_after(pod: &Pod) -> Option<Timestamp> {
    after(failures_before(pod).all().saturating_add(1), ended_at(pod))
}

fn after(failures: usize, last: Timestamp) -> Option<Timestamp> {
    let doublings = u32::try_from(failures.checked_sub(1)?).unwrap_or(u32::MAX).min(16);
    let wait = FIRST.checked_mul(1 << doublings).unwrap_or(LONGEST).min(LONGEST);
    last.checked_add(wait).ok()
}

/// When a pod ended, as well as can be told.
pub(super) fn ended_at(pod: &Pod) -> Timestamp {
    let grace = SignedDuration::from_secs(pod.metadata.deletion_grace_period_seconds.unwrap_or(0));
    let deleted = pod.metadata.deletion_timestamp.as_ref().and_then(|at| at.0.checked_sub(grace).ok());
    let created = pod.creation_timestamp().map(|at| at.0);
    let ended = pod.status.end.as_ref().and_then(|end| end.at);
    ended.or(deleted).or(created).unwrap_or(Timestamp::UNIX_EPOCH)
}
