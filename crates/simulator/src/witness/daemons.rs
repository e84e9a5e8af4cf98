//! DaemonSets have one pod a node, and one more where the next comes first.

use serde_json::Value;

use super::history::controller;
use super::pods::is_active;
use super::{Change, History, text};

/// The node that a pod is on, or is meant for.
pub fn target(pod: &Value) -> &str {
    const MEANT: &str = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0\
                         /matchFields/0/values/0";
    match text(pod, "/spec/nodeName") {
        "" => text(pod, MEANT),
        node => node,
    }
}

/// Where none comes before the other has gone, those that go count too, until they have ended.
pub fn one_a_node(history: &History, change: &Change) -> Result<(), String> {
    let Some(pod) = change.after.as_ref().filter(|_| change.key.plural == "pods" && change.is_new()) else {
        return Ok(());
    };
    let Some(("DaemonSet", set)) = controller(pod) else { return Ok(()) };
    if !change.is_by("controllers") || !change.by_leader {
        return Ok(());
    }
    let surges = history.surged_lately(set, change.at);
    let counts = |pod: &Value| match surges {
        true => is_active(pod),
        false => !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed"),
    };
    let node = target(pod);
    let there = history.accounted(set).filter(|pod| counts(pod) && target(pod) == node).count();
    let most = if surges { 2 } else { 1 };
    if there > most {
        return Err(format!("{there} pods of a daemon on {node}, where {most} may be"));
    }
    Ok(())
}
