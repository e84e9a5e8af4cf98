//! How large each ReplicaSet of a Deployment should be: the arithmetic of scaling and rolling, without objects around it.

use super::sets::{
    DESIRED, MAX, Sets, annotation, available, bounds, is_observed, is_rolling, replicas, size,
};
use client::kube::ResourceExt;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use std::sync::Arc;

/// A set and the size that it should have.
pub(super) type Resize = (Arc<ReplicaSet>, i32);

/// Whether the number of replicas was changed since the sets were last sized, which is to be followed before a rollout
/// goes on. Not where several sets have pods and none but the new is to keep them, because the strategy has become Recreate
/// amid a rolling update: there is nothing to share out, and upstream, which waits for it, waits for ever.
pub(super) fn is_scaling(deployment: &Deployment, sets: &Sets) -> bool {
    if !is_rolling(deployment) && active_or_latest(sets).is_none() {
        return false;
    }
    let wanted = i64::from(replicas(deployment));
    sets.all().any(|set| size(set) > 0 && annotation(set, DESIRED).is_some_and(|desired| desired != wanted))
}

/// Follows a change of the number of replicas, and nothing else: a lone set takes the number, a finished rollout empties
/// its old sets, and amid a rolling update the change is shared out in proportion, so that no version carries the risk
/// alone.
pub(super) fn scale(deployment: &Deployment, sets: &Sets) -> Vec<Resize> {
    let wanted = replicas(deployment);
    if let Some(only) = active_or_latest(sets) {
        return vec![(only.clone(), wanted)];
    }
    if is_saturated(deployment, sets.new.as_deref()) {
        return sets.old.iter().filter(|set| size(set) > 0).map(|set| (set.clone(), 0)).collect();
    }
    if !is_rolling(deployment) {
        return Vec::new();
    }
    proportional(deployment, sets)
}

/// The only set with pods, or the latest when none has any; `None` when several have.
fn active_or_latest(sets: &Sets) -> Option<&Arc<ReplicaSet>> {
    let mut active = sets.all().filter(|set| size(set) > 0);
    match (active.next(), active.next()) {
        (None, _) => sets.new.as_ref().or(sets.old.last()),
        (only, None) => only,
        _ => None,
    }
}

/// Whether the new set alone carries what is wanted.
fn is_saturated(deployment: &Deployment, new: Option<&ReplicaSet>) -> bool {
    let wanted = replicas(deployment);
    new.is_some_and(|new| {
        size(new) == wanted && annotation(new, DESIRED) == Some(i64::from(wanted)) && available(new) == wanted
    })
}

fn proportional(deployment: &Deployment, sets: &Sets) -> Vec<Resize> {
    let wanted = replicas(deployment);
    let (surge, _) = bounds(deployment);
    let mut active: Vec<_> = sets.all().filter(|set| size(set) > 0).cloned().collect();
    let total: i32 = active.iter().map(|set| size(set)).sum();
    let allowed = if wanted > 0 { wanted.saturating_add(surge) } else { 0 };
    let to_add = allowed - total;
    // The largest first; among equals, growth goes to newer sets and shrinking to older ones.
    active.sort_by_key(|set| set.creation_timestamp());
    if to_add > 0 {
        active.reverse();
    }
    active.sort_by_key(|set| std::cmp::Reverse(size(set)));
    let mut added = 0;
    let mut resizes: Vec<Resize> = Vec::with_capacity(active.len());
    for set in active {
        let share = if to_add == 0 || added == to_add { 0 } else { share(deployment, &set, to_add - added) };
        added += share;
        let target = size(&set) + share;
        resizes.push((set, target));
    }
    if let Some((_, target)) = resizes.first_mut() {
        *target = (*target + to_add - added).max(0);
    }
    resizes
}

/// The part of a change that falls to one set, no more than what is left of it.
fn share(deployment: &Deployment, set: &ReplicaSet, left: i32) -> i32 {
    let wanted = replicas(deployment);
    let current = size(set);
    let fraction = if wanted == 0 {
        -current
    } else {
        let whole = f64::from(wanted.saturating_add(bounds(deployment).0));
        let status = deployment.status.as_ref().and_then(|status| status.replicas).unwrap_or(wanted);
        // A set that was never annotated is measured against what the Deployment last counted.
        let measured = annotation(set, MAX).unwrap_or(i64::from(status)).max(1);
        (f64::from(current) * whole / measured as f64).round() as i32 - current
    };
    if left > 0 { fraction.min(left) } else { fraction.max(left) }
}

/// The size to which the new set may go now.
pub(super) fn next_new_size(deployment: &Deployment, new: i32, total: i32) -> i32 {
    let wanted = replicas(deployment);
    if !is_rolling(deployment) || new > wanted {
        return wanted;
    }
    let (surge, _) = bounds(deployment);
    let room = wanted.saturating_add(surge) - total;
    if room <= 0 { new } else { new + room.min(wanted - new) }
}

/// How far the old sets may shrink now: first by pods that are not available anyway, then by available ones, as long as
/// the minimum stays. What a set says of itself counts once it has seen its present size: one that was to shrink and now is
/// to grow may still be taking pods away that it says are available.
pub(super) fn shrink_old(deployment: &Deployment, sets: &Sets) -> Vec<Resize> {
    let Some(new) = sets.new.as_ref().filter(|_| sets.all().all(|set| is_observed(set))) else {
        return Vec::new();
    };
    let (_, unavailable) = bounds(deployment);
    let minimum = replicas(deployment) - unavailable;
    let total: i32 = sets.all().map(|set| size(set)).sum();
    let missing_new = (size(new) - available(new)).max(0);
    let mut budget = total - minimum - missing_new;
    if budget <= 0 {
        return Vec::new();
    }
    let mut sizes: Vec<i32> = sets.old.iter().map(|set| size(set)).collect();
    for (set, size) in sets.old.iter().zip(&mut sizes) {
        let cut = (*size - available(set)).clamp(0, budget);
        *size -= cut;
        budget -= cut;
    }
    let mut spare = (sets.all().map(|set| available(set)).sum::<i32>() - minimum).max(0).min(budget);
    for size in &mut sizes {
        let cut = (*size).min(spare);
        *size -= cut;
        spare -= cut;
    }
    sets.old.iter().cloned().zip(sizes).filter(|(set, target)| size(set) != *target).collect()
}

/// Recreate: nothing of the old may be left before the new begins.
pub(super) fn empty_old(sets: &Sets) -> Vec<Resize> {
    sets.old.iter().filter(|set| size(set) > 0).map(|set| (set.clone(), 0)).collect()
}
