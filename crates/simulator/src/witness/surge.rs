//! Controllers make no more pods than are wanted, and want no more than they may.

use super::history::{controller, uid};
use super::pods::is_active;
use super::{Change, History, number};

/// A ReplicaSet never has more pods than it lately wanted; those left out that nobody answers for.
pub fn no_more_pods_than_wanted(history: &History, change: &Change) -> Result<(), String> {
    let Some(pod) = change.after.as_ref().filter(|_| change.key.plural == "pods" && change.is_new()) else {
        return Ok(());
    };
    let Some(("ReplicaSet", set)) = controller(pod) else { return Ok(()) };
    if !change.is_by("controllers") || !change.by_leader {
        return Ok(());
    }
    let there = history.accounted(set).filter(|pod| is_active(pod)).count();
    let most = history.most_replicas(set, change.at);
    if i64::try_from(there).unwrap_or(i64::MAX) > most {
        return Err(format!("{there} pods where at most {most} were wanted"));
    }
    Ok(())
}

/// The ReplicaSets of a Deployment never want more than its replicas and its surge.
pub fn no_more_wanted_than_may_be(history: &History, change: &Change) -> Result<(), String> {
    let Some(set) = change.after.as_ref().filter(|_| change.key.plural == "replicasets") else {
        return Ok(());
    };
    let before = change.before.as_ref().map_or(0, |before| number(before, "/spec/replicas"));
    let grew = number(set, "/spec/replicas") > before;
    let Some(("Deployment", deployment)) = controller(set) else { return Ok(()) };
    if !grew || !change.is_by("controllers") || !change.by_leader {
        return Ok(());
    }
    if history.is_meddled_with(deployment, change.at) {
        return Ok(());
    }
    let wanted: i64 =
        history.controlled("replicasets", deployment).map(|set| number(set, "/spec/replicas")).sum();
    match history.widest_bounds(deployment, change.at) {
        Some(bounds) if wanted > bounds.most => {
            Err(format!("ReplicaSets want {wanted} pods where {} are the most: {}", bounds.most, uid(set)))
        }
        _ => Ok(()),
    }
}
