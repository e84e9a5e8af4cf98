//! What there is when nothing goes wrong any more and there was time enough: all that was asked for, and nothing else.

use serde_json::Value;

use super::history::{controller, uid};
use super::pods::{condition, is_active, is_ready, is_terminating};
use super::{History, Key, budgets, daemons, number, text};

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
            "statefulsets" => stateful(history, key, object),
            "daemonsets" => daemon(history, object),
            "jobs" => job(history, object),
            "cronjobs" => cron(history, object),
            "poddisruptionbudgets" => budgets::is_right(history, &key.namespace, object),
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
    if is_active(pod) && condition(pod, "DisruptionTarget") == "True" {
        return Err("about to be disrupted, and nothing comes of it".to_owned());
    }
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

/// Pods 0 and up, all of the present template.
fn stateful(history: &History, key: &Key, set: &Value) -> Result<(), String> {
    let (wanted, generation) = (number(set, "/spec/replicas"), number(set, "/metadata/generation"));
    same("observedGeneration", number(set, "/status/observedGeneration"), generation)?;
    same("the number of pods", count(history.controlled("pods", uid(set)).count()), wanted)?;
    for ordinal in 0..wanted {
        let pod = Key { plural: "pods".to_owned(), name: format!("{}-{ordinal}", key.name), ..key.clone() };
        let is_its_own = history.objects.get(&pod).and_then(|pod| controller(pod));
        if is_its_own.is_none_or(|(_, owner)| owner != uid(set)) {
            return Err(format!("there is no pod {ordinal}"));
        }
    }
    for status in ["replicas", "readyReplicas", "availableReplicas", "updatedReplicas", "currentReplicas"] {
        same(status, number(set, &format!("/status/{status}")), wanted)?;
    }
    match text(set, "/status/currentRevision") == text(set, "/status/updateRevision") {
        true => Ok(()),
        false => Err("it has two revisions".to_owned()),
    }
}

/// One pod a node, of the present template.
fn daemon(history: &History, set: &Value) -> Result<(), String> {
    let generation = number(set, "/metadata/generation");
    same("observedGeneration", number(set, "/status/observedGeneration"), generation)?;
    let nodes: Vec<_> = history.all("nodes").map(|(key, _)| &key.name).collect();
    let pods: Vec<_> = history.controlled("pods", uid(set)).collect();
    for node in &nodes {
        let there = pods.iter().filter(|pod| daemons::target(pod) == **node).count();
        same(&format!("the number of pods on {node}"), count(there), 1)?;
    }
    for status in [
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "updatedNumberScheduled",
        "numberReady",
        "numberAvailable",
    ] {
        same(status, number(set, &format!("/status/{status}")), count(nodes.len()))?;
    }
    same("numberMisscheduled", number(set, "/status/numberMisscheduled"), 0)
}

/// It has ended, all its pods have, and each of them was counted.
fn job(history: &History, job: &Value) -> Result<(), String> {
    let is_complete = condition(job, "Complete") == "True";
    if !is_complete && condition(job, "Failed") != "True" {
        return Err("has not ended".to_owned());
    }
    same("active", number(job, "/status/active"), 0)?;
    let uncounted = ["succeeded", "failed"].map(|what| format!("/status/uncountedTerminatedPods/{what}"));
    if uncounted.iter().any(|list| job.pointer(list).is_some()) {
        return Err("ends of pods are noted and not counted".to_owned());
    }
    let is_held = |pod: &&std::sync::Arc<Value>| pod.pointer("/metadata/finalizers").is_some();
    same(
        "the number of pods it holds",
        count(history.controlled("pods", uid(job)).filter(is_held).count()),
        0,
    )?;
    if !is_complete {
        return Ok(());
    }
    let (succeeded, completions) = (number(job, "/status/succeeded"), number(job, "/spec/completions"));
    match succeeded >= completions {
        true => Ok(()),
        false => Err(format!("complete, and {succeeded} of {completions} have succeeded")),
    }
}

/// Nothing of it runs, and no more is kept than it says.
fn cron(history: &History, cron: &Value) -> Result<(), String> {
    let active = cron.pointer("/status/active").and_then(Value::as_array).map_or(0, Vec::len);
    same("active", count(active), 0)?;
    for (end, limit) in [("Complete", "successfulJobsHistoryLimit"), ("Failed", "failedJobsHistoryLimit")] {
        let limit = number(cron, &format!("/spec/{limit}"));
        let kept = history.controlled("jobs", uid(cron)).filter(|job| condition(job, end) == "True").count();
        if count(kept) > limit {
            return Err(format!("{kept} Jobs are kept that are {end}, more than {limit}"));
        }
    }
    Ok(())
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
