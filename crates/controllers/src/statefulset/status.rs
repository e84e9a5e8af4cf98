//! What a StatefulSet says about itself: `kubectl rollout status` reads it.

use super::identity::{range, revision};
use crate::merge::difference;
use crate::ownership::is_terminating;
use crate::plan::{Action, patch_status};
use crate::pod::{Phase, Pod};
use crate::pods::{available_at, ready_since};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use std::sync::Arc;

pub(super) fn min_ready(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
}

pub(super) fn is_ready(pod: &Pod) -> bool {
    pod.status.phase == Phase::Running && ready_since(pod).is_some()
}

pub(super) fn is_available(set: &StatefulSet, pod: &Pod, now: Timestamp) -> bool {
    available_at(pod, min_ready(set)).is_some_and(|at| at <= now)
}

pub(super) fn is_rolling(set: &StatefulSet) -> bool {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()).unwrap_or("RollingUpdate") == "RollingUpdate"
}

/// The counts, under the names of the revisions that pods are being moved from and to.
pub(super) fn counted(
    set: &StatefulSet,
    pods: &[Arc<Pod>],
    current: &str,
    update: &str,
    now: Timestamp,
) -> StatefulSetStatus {
    let count = |that: &dyn Fn(&Pod) -> bool| {
        i32::try_from(pods.iter().filter(|pod| that(pod)).count()).unwrap_or(i32::MAX)
    };
    let of = |name: &str| count(&|pod| !is_terminating(pod) && revision(pod) == name);
    let before = set.status.clone().unwrap_or_default();
    let mut status = StatefulSetStatus {
        observed_generation: set.metadata.generation,
        replicas: count(&|_| true),
        ready_replicas: Some(count(&is_ready)),
        available_replicas: Some(count(&|pod| is_ready(pod) && is_available(set, pod, now))),
        current_replicas: Some(of(current)),
        updated_replicas: Some(of(update)),
        current_revision: Some(current.to_owned()),
        update_revision: Some(update.to_owned()),
        collision_count: Some(before.collision_count.unwrap_or(0)),
        conditions: before.conditions,
    };
    let wanted = range(set);
    let wanted = i32::try_from(wanted.end - wanted.start).ok();
    let all = |count: Option<i32>| count == wanted;
    // An update is over when all pods are of it and ready.
    if is_rolling(set)
        && all(status.updated_replicas)
        && all(status.ready_replicas)
        && all(Some(status.replicas))
    {
        status.current_replicas = status.updated_replicas;
        status.current_revision.clone_from(&status.update_revision);
    }
    status
}

/// Writes a status that differs from what was said last.
pub(super) fn write(set: &StatefulSet, status: &StatefulSetStatus) -> Option<Action> {
    let value = |status: &StatefulSetStatus| {
        let mut value = serde_json::to_value(status).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            // What is not there counts nothing, as upstream has it, but for these three.
            let kept = ["replicas", "availableReplicas", "collisionCount"];
            fields.retain(|name, value| kept.contains(&name.as_str()) || *value != 0);
        }
        value
    };
    let before = set.status.as_ref().map(value).unwrap_or_default();
    let after = value(status);
    (before != after).then(|| patch_status(set, difference(&before, &after)))
}
