//! Runs that the runtime does not know and the pod's status tells of: those that ended before they began, and those that it
//! has forgotten. Its records end with a reboot of the machine, and so did all that ran.

use api::k8s::api::core::v1::{ContainerStateTerminated, ContainerStatus as Told, Pod};
use api::k8s::apimachinery::pkg::apis::meta::v1::Time;
use runtime::{
    ContainerMetadata, ContainerState, ContainerStatus, SandboxMetadata, SandboxState, SandboxStatus,
};

use super::config::Paths;
use super::containers;
use super::memory::Memory;
use super::operation::START_ERROR;

/// Why a run ended of which nobody knows how, and the code that it is said to have left: upstream's.
const STATUS_UNKNOWN: &str = "ContainerStatusUnknown";
const LOST: i32 = 137;

/// Has a new process of ours remember what an earlier one found out of a pod. Nothing more is done for one that `rests`.
pub(crate) fn take_over(
    memory: &mut Memory,
    pod: &Pod,
    paths: &Paths,
    sandboxes: &[SandboxStatus],
    rests: bool,
) {
    let of_pod = sandboxes.iter().filter(|sandbox| Some(&sandbox.metadata.uid) == pod.metadata.uid.as_ref());
    if let Some(newest) = of_pod.max_by_key(|sandbox| sandbox.metadata.attempt) {
        memory.recalled = unstarted(pod, paths, &newest.id).collect();
    } else if let Some((sandbox, runs)) = forgotten(pod, paths).filter(|_| !rests) {
        memory.forgotten = Some(sandbox);
        memory.recalled = runs;
    }
}

/// Runs of a sandbox's pod that ended before they began: a runtime never knows them.
fn unstarted<'a>(
    pod: &'a Pod,
    paths: &'a Paths,
    sandbox: &'a str,
) -> impl Iterator<Item = ContainerStatus> + 'a {
    recalled(pod, paths, sandbox).filter(|run| run.reason == START_ERROR)
}

/// What a runtime that knows nothing of a pod has forgotten of it: the sandbox, which is no more, and all runs.
fn forgotten(pod: &Pod, paths: &Paths) -> Option<(SandboxStatus, Vec<ContainerStatus>)> {
    let uid = pod.metadata.uid.as_deref()?;
    let id = format!("forgotten-{uid}");
    let runs: Vec<_> = recalled(pod, paths, &id).collect();
    let sandbox = SandboxStatus {
        id,
        metadata: SandboxMetadata {
            name: pod.metadata.name.clone().unwrap_or_default(),
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            uid: uid.to_owned(),
            attempt: 0,
        },
        state: SandboxState::NotReady,
        created_at: 0,
        ips: Vec::new(),
        labels: Default::default(),
        annotations: Default::default(),
    };
    (!runs.is_empty()).then_some((sandbox, runs))
}

/// All runs that a pod's status tells of, at most two of each container, as having been in one sandbox.
pub(crate) fn recalled<'a>(
    pod: &'a Pod,
    paths: &'a Paths,
    sandbox: &'a str,
) -> impl Iterator<Item = ContainerStatus> + 'a {
    let statuses = pod.status.iter().flat_map(containers::statuses);
    statuses.flat_map(move |told| {
        let newest = u32::try_from(told.restart_count).unwrap_or(0);
        let last = told.last_state.as_ref().and_then(|state| state.terminated.clone());
        let current = told.state.as_ref().and_then(|state| match &state.running {
            Some(running) => Some(lost(told, running.started_at.clone())),
            None => state.terminated.clone(),
        });
        let ends = match current {
            Some(current) => [Some((newest, current)), newest.checked_sub(1).zip(last)],
            // It waits for another run: the status counts that only when it begins.
            None => [last.map(|last| (newest, last)), None],
        };
        ends.into_iter().flatten().map(move |(attempt, end)| run(pod, paths, sandbox, told, attempt, end))
    })
}

fn lost(told: &Told, started_at: Option<Time>) -> ContainerStateTerminated {
    ContainerStateTerminated {
        container_id: told.container_id.clone(),
        exit_code: LOST,
        message: Some("The container was running when the node was restarted or lost its records".to_owned()),
        reason: Some(STATUS_UNKNOWN.to_owned()),
        started_at,
        ..ContainerStateTerminated::default()
    }
}

fn run(
    pod: &Pod,
    paths: &Paths,
    sandbox: &str,
    told: &Told,
    attempt: u32,
    end: ContainerStateTerminated,
) -> ContainerStatus {
    let nanoseconds = |at: Option<Time>| at.map_or(0, |at| i64::try_from(at.0.as_nanosecond()).unwrap_or(0));
    let metadata = &pod.metadata;
    let [namespace, name, uid] = [&metadata.namespace, &metadata.name, &metadata.uid]
        .map(|field| field.as_deref().unwrap_or_default());
    let unstarted = end.reason.as_deref() == Some(START_ERROR);
    let finished_at = nanoseconds(end.finished_at);
    let id = end.container_id.as_deref().and_then(|id| id.split_once("://")).map_or("", |(_, id)| id);
    ContainerStatus {
        id: id.to_owned(),
        sandbox_id: sandbox.to_owned(),
        metadata: ContainerMetadata { name: told.name.clone(), attempt },
        state: ContainerState::Exited,
        created_at: finished_at,
        started_at: if unstarted { 0 } else { nanoseconds(end.started_at) },
        finished_at,
        exit_code: end.exit_code,
        reason: end.reason.unwrap_or_default(),
        message: end.message.unwrap_or_default(),
        image: told.image.clone(),
        resources: Default::default(),
        image_id: String::new(),
        image_ref: told.image_id.clone(),
        mounted_images: Vec::new(),
        log_path: paths.log(namespace, name, uid).join(&told.name).join(format!("{attempt}.log")),
        labels: Default::default(),
        annotations: Default::default(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::json;

    use super::*;

    fn paths() -> Paths {
        Paths { pods: "/pods".into(), logs: "/logs".into() }
    }

    fn pod(statuses: serde_json::Value) -> Pod {
        let metadata = json!({ "namespace": "n", "name": "p", "uid": "u" });
        serde_json::from_value(json!({ "metadata": metadata, "status": { "containerStatuses": statuses } }))
            .unwrap()
    }

    fn told(restarts: u32, state: serde_json::Value, last: serde_json::Value) -> serde_json::Value {
        json!([{ "name": "c", "image": "i", "imageID": "i@d", "ready": false, "restartCount": restarts,
                 "containerID": "runc://now", "state": state, "lastState": last }])
    }

    /// Attempt, code, reason and log of each.
    fn ends(pod: &Pod) -> Vec<(u32, i32, String, PathBuf)> {
        let (paths, mut found) = (paths(), Vec::new());
        for run in recalled(pod, &paths, "s") {
            found.push((run.metadata.attempt, run.exit_code, run.reason, run.log_path));
        }
        found
    }

    #[test]
    fn what_ran_was_lost_and_what_had_ended_has_ended_so() {
        let log = |attempt: u32| PathBuf::from(format!("/logs/n_p_u/c/{attempt}.log"));
        let ended =
            json!({ "terminated": { "exitCode": 3, "reason": "Error", "containerID": "runc://then" } });
        let running = json!({ "running": { "startedAt": "2026-01-01T00:00:00Z" } });
        let error = |attempt| (attempt, 3, "Error".to_owned(), log(attempt));
        let lost = (2, LOST, STATUS_UNKNOWN.to_owned(), log(2));
        assert_eq!(ends(&pod(told(2, running, ended.clone()))), [lost, error(1)]);
        assert_eq!(ends(&pod(told(2, ended.clone(), ended.clone()))), [error(2), error(1)]);
        let waiting = json!({ "waiting": { "reason": "CrashLoopBackOff" } });
        assert_eq!(ends(&pod(told(2, waiting.clone(), ended))), [error(2)]);
        assert!(forgotten(&pod(told(0, waiting, json!({}))), &paths()).is_none());
    }

    #[test]
    fn a_run_that_never_began_is_known_by_its_reason() {
        let never = json!({ "terminated": { "exitCode": 128, "reason": START_ERROR, "message": "no such file",
                                            "containerID": "runc://u-c-0", "finishedAt": "2026-01-01T00:00:00Z" } });
        let (pod, paths) = (pod(told(0, never, json!({}))), paths());
        let found: Vec<_> = unstarted(&pod, &paths, "s").collect();
        let [run] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((run.id.as_str(), run.started_at, run.message.as_str()), ("u-c-0", 0, "no such file"));
        let lost = pod_running();
        assert_eq!(unstarted(&lost, &paths, "s").count(), 0);
        let (sandbox, runs) = forgotten(&lost, &paths).unwrap();
        assert_eq!(
            (runs[0].sandbox_id.as_str(), sandbox.state),
            (sandbox.id.as_str(), SandboxState::NotReady)
        );
    }

    fn pod_running() -> Pod {
        pod(told(0, json!({ "running": {} }), json!({})))
    }
}
