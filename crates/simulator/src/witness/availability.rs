//! A rollout takes away no pod that must be available.

use super::pods::{is_active, is_ready, is_terminating};
use super::{Change, History};
use crate::witness::history::uid;

/// What else befalls pods meanwhile is not the rollout's doing, and it may not have heard of it.
pub fn no_fewer_than_must_be(history: &History, change: &Change) -> Result<(), String> {
    let Some(before) = change.before.as_ref().filter(|_| change.key.plural == "pods") else { return Ok(()) };
    let was_there = is_active(before) && history.was_known_to_be_ready(before, change.at);
    let is_there = change.after.as_ref().is_some_and(|after| is_active(after));
    if !was_there || is_there || !history.is_taken_by_its_set(change) {
        return Ok(());
    }
    let Some(deployment) = history.deployment_of(before).filter(|deployment| !is_terminating(deployment))
    else {
        return Ok(());
    };
    if history.is_meddled_with(uid(deployment), change.at) {
        return Ok(());
    }
    let left: usize = history
        .controlled("replicasets", uid(deployment))
        .map(|set| history.controlled("pods", uid(set)).filter(|pod| is_active(pod) && is_ready(pod)).count())
        .sum();
    let Some(bounds) = history.widest_bounds(uid(deployment), change.at) else { return Ok(()) };
    let excused = history.losses(uid(deployment), change.at);
    if i64::try_from(left + excused).unwrap_or(i64::MAX) < bounds.least {
        return Err(format!(
            "a rollout leaves {left} pods available, and {excused} were lost otherwise, where {} must be",
            bounds.least
        ));
    }
    Ok(())
}
