//! StatefulSets in order: a pod is made when those before it serve, and updated when all others do.

use serde_json::Value;

use super::history::{controller, uid};
use super::pods::{is_active, is_ready, is_terminating};
use super::{Change, History, Key, text};

/// The ordered StatefulSet that controls a pod, and the pod's ordinal.
fn place<'a>(history: &'a History, pod: &Value) -> Option<(&'a Value, i64)> {
    let ("StatefulSet", set) = controller(pod)? else { return None };
    let set = history.by_uid("statefulsets", set)?;
    let is_ordered = text(set, "/spec/podManagementPolicy") != "Parallel";
    let ordinal = text(pod, "/metadata/name").rsplit('-').next()?.parse().ok()?;
    (is_ordered && !is_terminating(set)).then_some((set, ordinal))
}

/// Each pod before one that is made has lately been ready.
pub fn made_in_order(history: &History, change: &Change) -> Result<(), String> {
    let Some(pod) = change.after.as_ref().filter(|_| change.key.plural == "pods" && change.is_new()) else {
        return Ok(());
    };
    let Some((set, ordinal)) = place(history, pod) else { return Ok(()) };
    if !change.is_by("controllers") || !change.by_leader {
        return Ok(());
    }
    for before in 0..ordinal {
        let key = Key { name: format!("{}-{before}", text(set, "/metadata/name")), ..change.key.clone() };
        if !history.was_lately_ready(&key, change.at) {
            return Err(format!(
                "pod {ordinal} of an ordered set was made, and pod {before} has not been ready"
            ));
        }
    }
    Ok(())
}

/// The controller takes away a pod that serves and is wanted only when all others serve, but for those that were lost.
pub fn updated_one_after_the_other(history: &History, change: &Change) -> Result<(), String> {
    let Some(before) = change.before.as_ref().filter(|_| change.key.plural == "pods") else { return Ok(()) };
    let is_there = change.after.as_ref().is_some_and(|after| is_active(after));
    if !is_active(before) || !is_ready(before) || is_there || !history.is_taken_by_its_set(change) {
        return Ok(());
    }
    let Some((set, ordinal)) = place(history, before) else { return Ok(()) };
    let wanted = history.fewest_replicas(uid(set), change.at);
    if ordinal >= wanted {
        return Ok(());
    }
    let serves = |pod: &Value| is_active(pod) && is_ready(pod);
    let ordinals = history.controlled("pods", uid(set)).filter(|pod| serves(pod));
    let left = ordinals.filter(|pod| place(history, pod).is_some_and(|(_, other)| other < wanted)).count();
    let excused = history.losses(uid(set), change.at);
    match i64::try_from(left + excused).unwrap_or(i64::MAX) < wanted - 1 {
        true => Err(format!("an update leaves {left} pods, and {excused} were lost otherwise, of {wanted}")),
        false => Ok(()),
    }
}
