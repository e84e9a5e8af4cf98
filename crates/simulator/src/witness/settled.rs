//! What there is when nothing goes wrong any more and there was time enough: all that was asked for, and nothing else.

use serde_json::Value;

use super::history::{controller, uid};
use super::pods::{condition, is_active, is_ready, is_terminating};
use super::{History, Key, number, text};

/// What is not so.
pub fn missing(history: &History) -> Vec<String> {
    let mut missing = Vec::new();
    for (key, object) in &history.objects {
        let mut say =
            |what: String| missing.push(format!("{}/{}/{}: {what}", key.plural, key.namespace, key.name));
        if is_terminating(object) {
            say("still terminating".to_owned());
        }
        if let Some(orphan) = orphaned(history, object) {
            say(orphan);
        }
        let found = match &*key.plural {
            "pods" => pod(object),
            "replicasets" => set(history, object),
            "deployments" => deployment(history, object),
            "nodes" => node(object),
            "endpointslices" => slice(history, key, object),
            _ => Ok(()),
        };
        if let Err(what) = found {
            say(what);
        }
    }
    missing
}

/// A number in two places that should be the same.
fn same(what: &str, found: i64, wanted: i64) -> Result<(), String> {
    if found == wanted { Ok(()) } else { Err(format!("{what} is {found}, not {wanted}")) }
}

fn orphaned(history: &History, object: &Value) -> Option<String> {
    let owners = object.pointer("/metadata/ownerReferences")?.as_array()?;
    let is_owned = owners.is_empty() || owners.iter().any(|owner| history.has(text(owner, "/uid")));
    (!is_owned).then(|| "its owners are gone".to_owned())
}

fn node(node: &Value) -> Result<(), String> {
    if condition(node, "Ready") != "True" {
        return Err("not ready".to_owned());
    }
    let taints = node.pointer("/spec/taints").and_then(Value::as_array);
    match taints.into_iter().flatten().find(|taint| taint["effect"] == "NoExecute") {
        Some(taint) => Err(format!("tainted {}", text(taint, "/key"))),
        None => Ok(()),
    }
}

fn pod(pod: &Value) -> Result<(), String> {
    let phase = text(pod, "/status/phase");
    if text(pod, "/spec/restartPolicy") != "Always" {
        let is_over = matches!(phase, "Succeeded" | "Failed");
        return if is_over { Ok(()) } else { Err(format!("{phase}, and should end")) };
    }
    if phase == "Running" && is_ready(pod) { Ok(()) } else { Err(format!("{phase}, and not ready")) }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn set(history: &History, set: &Value) -> Result<(), String> {
    let wanted = number(set, "/spec/replicas");
    let there = history.controlled("pods", uid(set)).filter(|pod| is_active(pod)).count();
    same("the number of pods", count(there), wanted)?;
    for status in ["replicas", "readyReplicas", "availableReplicas"] {
        same(status, number(set, &format!("/status/{status}")), wanted)?;
    }
    same("observedGeneration", number(set, "/status/observedGeneration"), number(set, "/metadata/generation"))
}

fn deployment(history: &History, deployment: &Value) -> Result<(), String> {
    let wanted = number(deployment, "/spec/replicas");
    let generation = number(deployment, "/metadata/generation");
    same("observedGeneration", number(deployment, "/status/observedGeneration"), generation)?;
    let sets: Vec<_> = history.controlled("replicasets", uid(deployment)).collect();
    let total: i64 = sets.iter().map(|set| number(set, "/spec/replicas")).sum();
    for status in ["replicas", "readyReplicas", "availableReplicas"] {
        same(status, number(deployment, &format!("/status/{status}")), total)?;
    }
    if deployment.pointer("/spec/paused").and_then(Value::as_bool) == Some(true) {
        return Ok(());
    }
    same("the replicas of its sets", total, wanted)?;
    same("updatedReplicas", number(deployment, "/status/updatedReplicas"), wanted)?;
    let kept = sets.iter().filter(|set| number(set, "/spec/replicas") == 0).count();
    let limit = number(deployment, "/spec/revisionHistoryLimit") + i64::from(wanted == 0);
    if count(kept) > limit {
        return Err(format!("{kept} old sets are kept, more than {limit}"));
    }
    match (condition(deployment, "Available"), condition(deployment, "Progressing")) {
        ("True", "True") => Ok(()),
        (available, progressing) => Err(format!("Available is {available}, Progressing is {progressing}")),
    }
}

/// A Service's slices name the pods that serve it, and no others.
fn slice(history: &History, key: &Key, slice: &Value) -> Result<(), String> {
    let Some(("Service", service)) = controller(slice) else { return Ok(()) };
    let Some(service) = history.by_uid("services", service) else { return Ok(()) };
    let Some(wanted) = service.pointer("/spec/selector").and_then(Value::as_object) else { return Ok(()) };
    let selected = |pod: &Value| wanted.iter().all(|(name, value)| pod["metadata"]["labels"][name] == *value);
    let serving = history
        .all("pods")
        .filter(|(pod, object)| pod.namespace == key.namespace && selected(object))
        .filter(|(_, pod)| is_active(pod) && is_ready(pod))
        .count();
    let told = slice.pointer("/endpoints").and_then(Value::as_array);
    let told = told.into_iter().flatten().filter(|endpoint| endpoint["conditions"]["ready"] == true).count();
    same("the number of endpoints", count(told), count(serving))
}
