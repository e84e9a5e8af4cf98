//! A pod's state in a few words, as everybody reads it from the STATUS column.

use jiff::Timestamp;
use serde_json::Value;

use crate::tree::{at, is_true, items, number, text};

/// Ready and all containers, the reason, restarts and when the last was.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) ready: usize,
    pub(crate) total: usize,
    pub(crate) reason: String,
    pub(crate) restarts: i64,
    pub(crate) last_restart: Option<Timestamp>,
}

/// Sums a pod up.
pub(crate) fn summary(pod: &Value) -> Summary {
    let sidecars =
        items(pod, &["spec", "initContainers"]).iter().filter(|container| restarts_always(container));
    let mut sum = Summary {
        total: items(pod, &["spec", "containers"]).len() + sidecars.count(),
        reason: match text(pod, &["status", "reason"]) {
            "" => text(pod, &["status", "phase"]).to_owned(),
            reason => reason.to_owned(),
        },
        ..Summary::default()
    };
    if condition(pod, "PodScheduled").is_some_and(|found| text(found, &["reason"]) == "SchedulingGated") {
        sum.reason = "SchedulingGated".to_owned();
    }
    let of_sidecars = init_containers(pod, &mut sum);
    let initialised = condition(pod, "Initialized").is_some_and(|found| text(found, &["status"]) == "True");
    if !of_sidecars.initialising || initialised {
        sum.restarts = of_sidecars.restarts;
        sum.last_restart = of_sidecars.last_restart;
        containers(pod, &mut sum);
    }
    if at(pod, &["metadata", "deletionTimestamp"]).is_some() {
        let ended = matches!(text(pod, &["status", "phase"]), "Failed" | "Succeeded");
        if text(pod, &["status", "reason"]) == "NodeLost" {
            sum.reason = "Unknown".to_owned();
        } else if !ended {
            sum.reason = "Terminating".to_owned();
        }
    }
    sum
}

struct Sidecars {
    initialising: bool,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

fn init_containers(pod: &Value, sum: &mut Summary) -> Sidecars {
    let specs = items(pod, &["spec", "initContainers"]);
    let mut sidecars = Sidecars { initialising: false, restarts: 0, last_restart: None };
    for (index, status) in items(pod, &["status", "initContainerStatuses"]).iter().enumerate() {
        let (restarts, last) = restarts_of(status);
        sum.restarts += restarts;
        sum.last_restart = sum.last_restart.max(last);
        let spec = specs.iter().find(|spec| text(spec, &["name"]) == text(status, &["name"]));
        let sidecar = spec.is_some_and(restarts_always);
        if sidecar {
            sidecars.restarts += restarts;
            sidecars.last_restart = sidecars.last_restart.max(last);
        }
        let exit = number(status, &["state", "terminated", "exitCode"]);
        let waiting = text(status, &["state", "waiting", "reason"]);
        if exit == Some(0) {
            continue;
        }
        if sidecar && is_true(status, &["started"]) {
            sum.ready += usize::from(is_true(status, &["ready"]));
            continue;
        }
        sum.reason = if at(status, &["state", "terminated"]).is_some() {
            format!("Init:{}", ended(status))
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{index}/{}", specs.len())
        };
        sidecars.initialising = true;
        break;
    }
    sidecars
}

fn containers(pod: &Value, sum: &mut Summary) {
    let mut running = false;
    for status in items(pod, &["status", "containerStatuses"]).iter().rev() {
        let (restarts, last) = restarts_of(status);
        sum.restarts += restarts;
        sum.last_restart = sum.last_restart.max(last);
        let waiting = text(status, &["state", "waiting", "reason"]);
        if !waiting.is_empty() {
            sum.reason = waiting.to_owned();
        } else if at(status, &["state", "terminated"]).is_some() {
            sum.reason = ended(status);
        } else if is_true(status, &["ready"]) && at(status, &["state", "running"]).is_some() {
            running = true;
            sum.ready += 1;
        }
    }
    if sum.reason == "Completed" && running {
        let ready = condition(pod, "Ready").is_some_and(|found| text(found, &["status"]) == "True");
        sum.reason = if ready { "Running" } else { "NotReady" }.to_owned();
    }
}

/// Why a container ended, in one word.
fn ended(status: &Value) -> String {
    let of = |field: &str| number(status, &["state", "terminated", field]).unwrap_or_default();
    match text(status, &["state", "terminated", "reason"]) {
        "" if of("signal") != 0 => format!("Signal:{}", of("signal")),
        "" => format!("ExitCode:{}", of("exitCode")),
        reason => reason.to_owned(),
    }
}

fn restarts_of(status: &Value) -> (i64, Option<Timestamp>) {
    let finished = text(status, &["lastState", "terminated", "finishedAt"]);
    (number(status, &["restartCount"]).unwrap_or_default(), apimachinery::time::parse(finished).ok())
}

fn restarts_always(container: &Value) -> bool {
    text(container, &["restartPolicy"]) == "Always"
}

/// The condition of that type.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    items(object, &["status", "conditions"]).iter().find(|found| text(found, &["type"]) == kind)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(mut pod: Value, ready: &str, reason: &str, restarts: i64) {
        if pod.get("spec").is_none() {
            pod["spec"] = json!({"containers": [{"name": "a"}]});
        }
        let sum = summary(&pod);
        assert_eq!(
            (format!("{}/{}", sum.ready, sum.total).as_str(), &*sum.reason, sum.restarts),
            (ready, reason, restarts)
        );
    }

    #[test]
    fn plain_states() {
        check(json!({"status": {"phase": "Pending"}}), "0/1", "Pending", 0);
        check(json!({"status": {"phase": "Failed", "reason": "Evicted"}}), "0/1", "Evicted", 0);
        let running = json!({"name": "a", "ready": true, "state": {"running": {}}, "restartCount": 2});
        check(json!({"status": {"phase": "Running", "containerStatuses": [running]}}), "1/1", "Running", 2);
        let crash =
            json!({"name": "a", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "restartCount": 3});
        check(
            json!({"status": {"phase": "Running", "containerStatuses": [crash]}}),
            "0/1",
            "CrashLoopBackOff",
            3,
        );
        let code = json!({"name": "a", "state": {"terminated": {"exitCode": 3}}});
        check(json!({"status": {"phase": "Failed", "containerStatuses": [code]}}), "0/1", "ExitCode:3", 0);
        let gated = json!([{"type": "PodScheduled", "reason": "SchedulingGated"}]);
        check(json!({"status": {"phase": "Pending", "conditions": gated}}), "0/1", "SchedulingGated", 0);
    }

    #[test]
    fn deletion_shows_until_the_end() {
        let gone = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        check(json!({"metadata": gone, "status": {"phase": "Running"}}), "0/1", "Terminating", 0);
        check(json!({"metadata": gone, "status": {"phase": "Succeeded"}}), "0/1", "Succeeded", 0);
        check(
            json!({"metadata": gone, "status": {"phase": "Running", "reason": "NodeLost"}}),
            "0/1",
            "Unknown",
            0,
        );
    }

    #[test]
    fn initialisation_and_sidecars() {
        let spec = json!({"containers": [{"name": "a"}],
            "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]});
        let waiting = json!([{"name": "i", "state": {"running": {}}}]);
        check(
            json!({"spec": spec, "status": {"phase": "Pending", "initContainerStatuses": waiting}}),
            "0/2",
            "Init:0/2",
            0,
        );
        let failed = json!([{"name": "i", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}, "restartCount": 4}]);
        check(
            json!({"spec": spec, "status": {"phase": "Pending", "initContainerStatuses": failed}}),
            "0/2",
            "Init:Error",
            4,
        );
        let done = json!([{"name": "i", "state": {"terminated": {"exitCode": 0}}, "restartCount": 4},
            {"name": "s", "started": true, "ready": true, "state": {"running": {}}, "restartCount": 1}]);
        let status = json!({"phase": "Running", "initContainerStatuses": done,
            "containerStatuses": [{"name": "a", "ready": true, "state": {"running": {}}}]});
        check(json!({"spec": spec, "status": status}), "2/2", "Running", 1);
    }
}
