//! `/stats/summary`: what the node and its pods use, in one document.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::context::Context;
use crate::usage::{PodUsage, measure};

/// The document.
pub(super) async fn summary(cx: &Context) -> Value {
    let usage = measure(cx).await;
    let at = apimachinery::time::format(usage.at);
    let mut node = json!({ "nodeName": cx.node_name });
    if let Some(used) = usage.node {
        node["cpu"] = json!({ "time": at, "usageCoreNanoSeconds": used.cpu_nanoseconds });
        node["memory"] = json!({
            "time": at, "availableBytes": used.memory_available, "workingSetBytes": used.memory_working_set,
        });
    }
    let pods: Vec<Value> = usage.pods.iter().map(|pod| of_pod(pod, &at)).collect();
    json!({ "node": node, "pods": pods })
}

fn of_pod(used: &PodUsage, at: &str) -> Value {
    let containers: Vec<Value> = used
        .containers
        .iter()
        .map(|(run, stats)| {
            let at = time(stats.timestamp);
            json!({
                "name": run.metadata.name, "startTime": time(run.started_at),
                "cpu": { "time": at, "usageCoreNanoSeconds": stats.cpu_nanoseconds },
                "memory": { "time": at, "workingSetBytes": stats.memory_working_set },
            })
        })
        .collect();
    let began = used.pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    let mut pod = json!({
        "podRef": { "name": used.name(), "namespace": used.namespace(), "uid": used.uid() },
        "startTime": began.map(|began| apimachinery::time::format(began.0)),
        "containers": containers,
    });
    if let Some(whole) = used.whole {
        pod["cpu"] = json!({ "time": at, "usageCoreNanoSeconds": whole.cpu_nanoseconds });
        pod["memory"] = json!({ "time": at, "workingSetBytes": whole.memory_working_set });
        pod["process_stats"] = json!({ "process_count": whole.pids });
    }
    pod
}

fn time(nanoseconds: i64) -> String {
    let at = Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or(Timestamp::UNIX_EPOCH);
    apimachinery::time::format(at)
}
