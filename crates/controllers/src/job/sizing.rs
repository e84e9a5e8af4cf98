//! How many pods a Job that goes on should have, and which.

use super::backoff;
use super::indexes::Indexes;
use super::pods::{
    Failures, announced_create, failures_before, give_index, index_of, is_tracked, new_pod, order,
};
use super::policy::Verdict;
use super::tally::{Tally, count};
use crate::plan::Create;
use crate::pod::Pod;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// At most so many pods are made or taken away by one plan.
const BURST: usize = 500;

/// What is to be done about the number of pods.
#[derive(Default)]
pub(super) struct Change {
    /// Pods to take away, which count for nothing.
    pub(super) surplus: Vec<Arc<Pod>>,
    /// Pods to make.
    pub(super) missing: Vec<Create>,
    /// When more may be made.
    pub(super) due: Option<Timestamp>,
}

/// Decides on the number of pods; `replaced` are the pods that failed last of their indexes.
pub(super) fn change(tally: &Tally<'_>, replaced: &BTreeMap<u32, Arc<Pod>>, now: Timestamp) -> Change {
    let active: Vec<_> = tally.active().cloned().collect();
    if tally.is_suspended() {
        return Change { surplus: active, ..Change::default() };
    }
    let succeeded = tally.succeeded();
    let parallelism = tally.spec.parallelism.map_or(1, |wanted| count(Some(wanted)));
    let wanted = match tally.spec.completions {
        // One has found that there is no more work: the others end by themselves.
        None if succeeded > 0 => active.len(),
        None => parallelism,
        Some(_) => (tally.completions() as usize).saturating_sub(succeeded).min(parallelism),
    };
    let surplus = surplus(tally, active.clone(), active.len().saturating_sub(wanted));
    if !surplus.is_empty() {
        return Change { surplus, ..Change::default() };
    }
    let ending = if tally.waits_for_end() { tally.ending().count() } else { 0 };
    let missing = wanted.saturating_sub(active.len() + ending).min(BURST);
    if missing == 0 {
        return Change::default();
    }
    if tally.spec.backoff_limit_per_index.is_none() {
        let due = backoff::due(tally.pods, |pod| tally.has_failed(pod));
        if let Some(due) = due.filter(|due| *due > now) {
            return Change { due: Some(due), ..Change::default() };
        }
    }
    make(tally, missing, replaced, now)
}

fn make(tally: &Tally<'_>, missing: usize, replaced: &BTreeMap<u32, Arc<Pod>>, now: Timestamp) -> Change {
    let pod = new_pod(tally.job);
    if !tally.is_indexed() {
        let missing = vec![announced_create(tally.job, &pod); missing];
        return Change { missing, ..Change::default() };
    }
    let mut change = Change::default();
    for index in pending(tally).missing(tally.completions(), missing) {
        let before = replaced.get(&index);
        if let Some(due) = before.and_then(|pod| backoff::due_after(pod)).filter(|due| *due > now) {
            change.due = Some(change.due.map_or(due, |earlier| earlier.min(due)));
            continue;
        }
        let counted = tally.spec.backoff_limit_per_index;
        let failures =
            counted.map(|_| before.map_or_else(Failures::default, |pod| failures_with(tally, pod)));
        let mut pod = pod.clone();
        give_index(&mut pod, tally.job, index, failures);
        change.missing.push(announced_create(tally.job, &pod));
    }
    change
}

/// The indexes that need no pod now.
fn pending(tally: &Tally<'_>) -> Indexes {
    let index = |pod: &Arc<Pod>| index_of(pod);
    let mut indexes = tally.completed.with(tally.active().filter_map(index));
    if tally.waits_for_end() {
        indexes = indexes.with(tally.ending().filter_map(index));
    }
    tally.failed_indexes.as_ref().map_or(indexes.clone(), |failed| indexes.and(failed))
}

/// How often its index has failed with this pod.
fn failures_with(tally: &Tally<'_>, pod: &Pod) -> Failures {
    let mut failures = failures_before(pod);
    let kind = match tally.verdict(pod) {
        Verdict::Ignored => &mut failures.ignored,
        _ => &mut failures.counted,
    };
    *kind = kind.saturating_add(1);
    failures
}

/// Pods of indexes that have another or do not exist, and as many more as are too many.
fn surplus(tally: &Tally<'_>, mut active: Vec<Arc<Pod>>, too_many: usize) -> Vec<Arc<Pod>> {
    order(&mut active);
    let mut surplus = Vec::new();
    if tally.is_indexed() {
        // The one that is farthest is kept.
        let mut taken = std::collections::BTreeSet::new();
        let keeps = |pod: &Arc<Pod>| tally.index(pod).is_some_and(|index| taken.insert(index));
        let mut kept: Vec<_> = active.iter().rev().map(keeps).collect();
        kept.reverse();
        let mut kept = kept.into_iter();
        active.retain(|pod| {
            let keep = kept.next().unwrap_or(true);
            if !keep {
                surplus.push(pod.clone());
            }
            keep
        });
    }
    let more = too_many.saturating_sub(surplus.len());
    surplus.extend(active.into_iter().take(more));
    surplus.truncate(BURST);
    surplus
}

/// Where failures count by index: the pod of each index that failed last, which is kept until another takes its place and
/// its count.
pub(super) fn replaced(tally: &Tally<'_>) -> BTreeMap<u32, Arc<Pod>> {
    let mut last: BTreeMap<u32, Arc<Pod>> = BTreeMap::new();
    let Some(failed) = &tally.failed_indexes else { return last };
    let settled = tally.completed.and(failed).with(tally.active().filter_map(|pod| index_of(pod)));
    let rank = |pod: &Pod| (failures_before(pod).all(), backoff::ended_at(pod));
    for pod in tally.pods.iter().filter(|pod| is_tracked(pod) && tally.has_failed(pod)) {
        let Some(index) = tally.index(pod).filter(|index| !settled.has(*index)) else { continue };
        let kept = last.entry(index).or_insert_with(|| pod.clone());
        if rank(kept) < rank(pod) {
            *kept = pod.clone();
        }
    }
    last
}
