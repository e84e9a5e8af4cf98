//! Which pods go first when there are too many: upstream's order, so that people lose the pods that they expect to lose.

use crate::pod::{DELETION_COST, Phase, Pod};
use crate::pods::{is_active, node, ready_since};
use client::kube::ResourceExt;
use jiff::Timestamp;
use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::sync::Arc;

/// Orders the active `pods` so that those to delete first come first. `related` are the pods that serve the same, by which
/// crowded nodes are told.
pub(super) fn order(pods: &mut [Arc<Pod>], related: &[Arc<Pod>], now: Timestamp) {
    let mut crowd: HashMap<&str, usize> = HashMap::new();
    for pod in related.iter().filter(|pod| is_active(pod)) {
        *crowd.entry(node(pod)).or_default() += 1;
    }
    let crowd: HashMap<String, usize> =
        crowd.into_iter().map(|(node, count)| (node.to_owned(), count)).collect();
    pods.sort_by(|a, b| compare(a, b, &crowd, now));
}

fn compare(a: &Pod, b: &Pod, crowd: &HashMap<String, usize>, now: Timestamp) -> Ordering {
    let rank = |pod: &Pod| {
        let stage = match pod.status.phase {
            Phase::Running => 2,
            Phase::Unknown => 1,
            _ => 0,
        };
        let cost =
            pod.annotations().get(DELETION_COST).and_then(|cost| cost.parse::<i32>().ok()).unwrap_or(0);
        let neighbours = crowd.get(node(pod)).copied().unwrap_or(0);
        // Not placed, not running, not ready, cheap, on a crowded node.
        (!node(pod).is_empty(), stage, ready_since(pod).is_some(), cost, Reverse(neighbours))
    };
    rank(a)
        .cmp(&rank(b))
        .then_with(|| by_age(ready_since(a), ready_since(b), now))
        .then_with(|| b.status.restarts.cmp(&a.status.restarts))
        .then_with(|| by_age(created(a), created(b), now))
        .then_with(|| a.uid().cmp(&b.uid()))
}

/// The younger first, by orders of magnitude, so that repeated scaling does not always hit the same.
fn by_age(a: Option<Timestamp>, b: Option<Timestamp>, now: Timestamp) -> Ordering {
    let magnitude =
        |at: Timestamp| now.duration_since(at).as_secs().max(0).checked_ilog2().map_or(0, |log| log + 1);
    match (a, b) {
        (Some(a), Some(b)) => magnitude(a).cmp(&magnitude(b)),
        _ => Ordering::Equal,
    }
}

fn created(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|time| time.0)
}
