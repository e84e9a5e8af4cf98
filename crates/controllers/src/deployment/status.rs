//! What a Deployment says about itself, in upstream's words: `kubectl rollout status` reads them.

use super::sets::{Sets, available, bounds, replicas, size};
use crate::plan::Failure;
use client::kube::ResourceExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentStatus, ReplicaSetCondition, ReplicaSetStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub(super) const AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";

fn condition(kind: &str, status: &str, reason: &str, message: String, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

pub(super) fn get<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// Sets a condition, unless it is there with the same status and reason; its transition time moves only with its status.
pub(super) fn set(status: &mut DeploymentStatus, mut condition: DeploymentCondition) {
    if let Some(current) = get(status, &condition.type_) {
        if current.status == condition.status && current.reason == condition.reason {
            return;
        }
        if current.status == condition.status {
            condition.last_transition_time.clone_from(&current.last_transition_time);
        }
    }
    remove(status, &condition.type_);
    status.conditions.get_or_insert_default().push(condition);
}

fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != kind);
    }
}

fn nonzero(count: i32) -> Option<i32> {
    Some(count).filter(|count| *count != 0)
}

/// The counts, and whether the minimum is available; other conditions stay as they were.
pub(super) fn counted(deployment: &Deployment, sets: &Sets, now: Timestamp) -> DeploymentStatus {
    let before = deployment.status.clone().unwrap_or_default();
    let sum = |of: fn(&ReplicaSetStatus) -> i32| {
        sets.all().filter_map(|set| set.status.as_ref()).map(of).sum::<i32>()
    };
    let available_now = sets.all().map(|set| available(set)).sum::<i32>();
    let total: i32 = sets.all().map(|set| size(set)).sum();
    let updated = sets.new.as_ref().and_then(|set| set.status.as_ref()).map_or(0, |status| status.replicas);
    let terminating: Vec<i32> = sets
        .all()
        .filter_map(|set| set.status.as_ref())
        .filter_map(|status| status.terminating_replicas)
        .collect();
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: nonzero(sum(|status| status.replicas)),
        updated_replicas: nonzero(updated),
        ready_replicas: nonzero(sum(|status| status.ready_replicas.unwrap_or(0))),
        available_replicas: nonzero(available_now),
        unavailable_replicas: nonzero((total - available_now).max(0)),
        terminating_replicas: Some(terminating.iter().sum()).filter(|_| !terminating.is_empty()),
        collision_count: before.collision_count,
        conditions: before.conditions,
    };
    let enough = available_now >= replicas(deployment) - bounds(deployment).1;
    let (value, reason, message) = if enough {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set(&mut status, condition("Available", value, reason, message.to_owned(), now));
    status
}

/// Adds what the rollout itself has to say: whether it is complete, moves, or is stuck.
pub(super) fn progressed(
    deployment: &Deployment,
    sets: &Sets,
    status: &mut DeploymentStatus,
    now: Timestamp,
) {
    if !has_deadline(deployment) {
        remove(status, "Progressing");
        return;
    }
    let before = deployment.status.clone().unwrap_or_default();
    let current = get(&before, "Progressing").cloned();
    let was_complete = status.replicas == status.updated_replicas
        && current.as_ref().is_some_and(|current| current.reason.as_deref() == Some(AVAILABLE));
    if was_complete {
        return;
    }
    let subject = match &sets.new {
        Some(set) => format!("ReplicaSet \"{}\"", set.name_any()),
        None => format!("Deployment \"{}\"", deployment.name_any()),
    };
    if is_complete(deployment, status) {
        let message = format!("{subject} has successfully progressed.");
        set(status, condition("Progressing", "True", AVAILABLE, message, now));
    } else if moved(&before, status) {
        let message = format!("{subject} is progressing.");
        let mut moving = condition("Progressing", "True", "ReplicaSetUpdated", message, now);
        if let Some(current) = current.filter(|current| current.status == "True") {
            moving.last_transition_time = current.last_transition_time;
        }
        // Each move refreshes the update time, from which the deadline runs.
        remove(status, "Progressing");
        set(status, moving);
    } else if timed_out(deployment, status, now) {
        let message = format!("{subject} has timed out progressing.");
        set(status, condition("Progressing", "False", TIMED_OUT, message, now));
    }
}

/// Passes on what keeps a ReplicaSet from making or deleting pods.
pub(super) fn with_failures(sets: &Sets, status: &mut DeploymentStatus) {
    let failing = |set: &k8s_openapi::api::apps::v1::ReplicaSet| {
        let conditions = set.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let failed = |c: &&ReplicaSetCondition| c.type_ == "ReplicaFailure" && c.status == "True";
        conditions.into_iter().find(failed).cloned()
    };
    let failure = sets.new.iter().chain(sets.old.iter()).find_map(|set| failing(set));
    match failure {
        None => remove(status, "ReplicaFailure"),
        Some(failure) => set(
            status,
            DeploymentCondition {
                type_: failure.type_,
                status: failure.status,
                reason: failure.reason,
                message: failure.message,
                last_update_time: failure.last_transition_time.clone(),
                last_transition_time: failure.last_transition_time,
            },
        ),
    }
}

/// Says that it is paused, or no longer, so that a deadline does not count the pause.
pub(super) fn with_pause(deployment: &Deployment, status: &mut DeploymentStatus, now: Timestamp) {
    let reason = get(status, "Progressing").and_then(|current| current.reason.as_deref());
    if !has_deadline(deployment) || reason == Some(TIMED_OUT) {
        return;
    }
    let paused = is_paused(deployment);
    if paused && reason != Some(PAUSED) {
        set(status, condition("Progressing", "Unknown", PAUSED, "Deployment is paused".to_owned(), now));
    } else if !paused && reason == Some(PAUSED) {
        let message = "Deployment is resumed".to_owned();
        set(status, condition("Progressing", "Unknown", "DeploymentResumed", message, now));
    }
}

/// The new ReplicaSet could not be made.
pub(super) fn creation_failed(name: &str, failure: &Failure, now: Timestamp) -> DeploymentCondition {
    let message = format!("Failed to create new replica set \"{name}\": {}", failure.message);
    condition("Progressing", "False", "ReplicaSetCreateError", message, now)
}

/// The new ReplicaSet is being made.
pub(super) fn created(name: &str, now: Timestamp) -> DeploymentCondition {
    condition(
        "Progressing",
        "True",
        "NewReplicaSetCreated",
        format!("Created new replica set \"{name}\""),
        now,
    )
}

/// The new ReplicaSet was there already.
pub(super) fn found(name: &str, now: Timestamp) -> DeploymentCondition {
    condition("Progressing", "True", "FoundNewReplicaSet", format!("Found new replica set \"{name}\""), now)
}

pub(super) fn is_paused(deployment: &Deployment) -> bool {
    deployment.spec.as_ref().and_then(|spec| spec.paused).unwrap_or(false)
}

/// All that is wanted is there, new, and available.
pub(super) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = replicas(deployment);
    [status.updated_replicas, status.replicas, status.available_replicas]
        .iter()
        .all(|count| count.unwrap_or(0) == wanted)
        && status.observed_generation >= deployment.metadata.generation
}

fn moved(before: &DeploymentStatus, after: &DeploymentStatus) -> bool {
    let old = |status: &DeploymentStatus| status.replicas.unwrap_or(0) - status.updated_replicas.unwrap_or(0);
    after.updated_replicas.unwrap_or(0) > before.updated_replicas.unwrap_or(0)
        || old(after) < old(before)
        || after.ready_replicas.unwrap_or(0) > before.ready_replicas.unwrap_or(0)
        || after.available_replicas.unwrap_or(0) > before.available_replicas.unwrap_or(0)
}

fn deadline_seconds(deployment: &Deployment) -> Option<i32> {
    let seconds = deployment.spec.as_ref().and_then(|spec| spec.progress_deadline_seconds);
    seconds.filter(|seconds| *seconds != i32::MAX)
}

pub(super) fn has_deadline(deployment: &Deployment) -> bool {
    deadline_seconds(deployment).is_some()
}

fn timed_out(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> bool {
    let Some(current) = get(status, "Progressing") else { return false };
    match current.reason.as_deref() {
        Some(AVAILABLE) => false,
        Some(TIMED_OUT) => true,
        _ => !is_paused(deployment) && deadline(deployment, current).is_some_and(|deadline| deadline < now),
    }
}

fn deadline(deployment: &Deployment, progressing: &DeploymentCondition) -> Option<Timestamp> {
    let since = progressing.last_update_time.as_ref()?.0;
    since.checked_add(SignedDuration::from_secs(i64::from(deadline_seconds(deployment)?))).ok()
}

/// When a rollout that does not move should be looked at again, to say that it is stuck.
pub(super) fn next_deadline(
    deployment: &Deployment,
    status: &DeploymentStatus,
    now: Timestamp,
) -> Option<Timestamp> {
    let current = get(status, "Progressing")?;
    let settled = matches!(current.reason.as_deref(), Some(TIMED_OUT | AVAILABLE));
    if settled || is_paused(deployment) || is_complete(deployment, status) {
        return None;
    }
    let after = deadline(deployment, current)?.checked_add(SignedDuration::from_secs(1)).ok()?;
    // What has passed has been said, or waits for something that the clock does not bring.
    Some(after).filter(|after| *after > now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn only_a_rollout_that_may_yet_be_late_is_looked_at_by_the_clock() {
        let start: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let after = |seconds| start.checked_add(SignedDuration::from_secs(seconds)).unwrap();
        let deployment: Deployment = from_value(json!({
            "spec": { "replicas": 3, "progressDeadlineSeconds": 600, "selector": {}, "template": {} },
        }))
        .unwrap();
        // One of three pods is there, and nothing moves.
        let next = |reason: &str, now| {
            let condition = condition("Progressing", "True", reason, String::new(), start);
            let conditions = Some(vec![condition]);
            let status = DeploymentStatus { replicas: Some(1), conditions, ..DeploymentStatus::default() };
            next_deadline(&deployment, &status, now)
        };
        assert_eq!(next("ReplicaSetUpdated", start), Some(after(601)));
        assert_eq!(next("ReplicaSetUpdated", after(601)), None);
        assert_eq!(next(AVAILABLE, start), None, "it was complete, and is only degraded since");
        assert_eq!(next(TIMED_OUT, start), None);
    }
}
