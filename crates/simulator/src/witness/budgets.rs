//! Evictions keep to disruption budgets.

use std::collections::BTreeSet;

use serde_json::Value;

use super::pods::{is_active, is_ready};
use super::{Change, History, number, text};

/// An eviction of a pod that serves leaves as many as each budget over it asks for. Pods that were lately lost in another way
/// do not count against it: who keeps the budget may not have heard.
pub fn respected_by_evictions(history: &History, change: &Change) -> Result<(), String> {
    let Some(before) = change.before.as_ref().filter(|_| change.is_eviction()) else { return Ok(()) };
    let still = change.after.as_ref().is_some_and(|after| is_active(after));
    if !is_active(before) || !is_ready(before) || still {
        return Ok(());
    }
    for (key, budget) in history.all("poddisruptionbudgets") {
        if key.namespace != change.key.namespace || !covers(budget, before) {
            continue;
        }
        let all = || pods(history, &key.namespace, budget);
        let left = all().filter(|pod| is_active(pod) && is_ready(pod)).count();
        let excused = history.lost_otherwise(change.at, |pod| covers(budget, pod));
        let workloads: BTreeSet<_> =
            all().chain([&**before]).filter_map(|pod| history.workload(pod)).collect();
        let expected = workloads.iter().map(|workload| history.fewest_replicas(workload, change.at)).sum();
        let least = least(budget, expected);
        if i64::try_from(left + excused).unwrap_or(i64::MAX) < least {
            return Err(format!(
                "an eviction leaves {left} pods, and {excused} were lost otherwise, where {} wants {least}",
                key.name
            ));
        }
    }
    Ok(())
}

/// The pods under a budget.
pub fn pods<'a>(
    history: &'a History,
    namespace: &'a str,
    budget: &'a Value,
) -> impl Iterator<Item = &'a Value> {
    let there =
        history.all("pods").filter(move |(key, pod)| key.namespace == namespace && covers(budget, pod));
    there.map(|(_, pod)| &**pod)
}

/// How many pods a budget asks for, of so many that are expected.
pub fn least(budget: &Value, expected: i64) -> i64 {
    let of = |value: &Value| match value {
        // Upwards, as both are rounded.
        Value::String(percent) => {
            let percent: i64 = percent.trim_end_matches('%').parse().unwrap_or(0);
            (percent * expected + 99).div_euclid(100)
        }
        value => value.as_i64().unwrap_or(0),
    };
    let available = budget.pointer("/spec/minAvailable").map(of);
    let unavailable = budget.pointer("/spec/maxUnavailable").map(of);
    available.or(unavailable.map(|unavailable| (expected - unavailable).max(0))).unwrap_or(0)
}

/// Whether a budget is over a pod.
pub fn covers(budget: &Value, pod: &Value) -> bool {
    let labels = budget.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
    labels.is_some_and(|labels| labels.iter().all(|(name, value)| pod["metadata"]["labels"][name] == *value))
}

/// What a budget says of itself once all is settled.
pub fn is_right(history: &History, namespace: &str, budget: &Value) -> Result<(), String> {
    let there: Vec<_> = pods(history, namespace, budget).collect();
    let healthy = there.iter().filter(|pod| is_active(pod) && is_ready(pod)).count();
    let workloads: BTreeSet<_> = there.iter().filter_map(|pod| history.workload(pod)).collect();
    let expected = match budget.pointer("/spec/minAvailable").is_some_and(Value::is_i64) {
        true => there.len() as i64,
        false => workloads.iter().filter_map(|workload| history.replicas(workload)).sum(),
    };
    let (healthy, least) = (i64::try_from(healthy).unwrap_or(i64::MAX), least(budget, expected));
    let is_orphaned = there.iter().any(|pod| history.workload(pod).is_none());
    let allowed = if expected > 0 { (healthy - least).max(0) } else { 0 };
    for (what, wanted) in
        [("currentHealthy", healthy), ("desiredHealthy", least), ("disruptionsAllowed", allowed)]
    {
        let said = number(budget, &format!("/status/{what}"));
        if said != wanted && !is_orphaned {
            return Err(format!("{what} is {said}, not {wanted}, of {expected}"));
        }
    }
    let generation = number(budget, "/metadata/generation");
    match number(budget, "/status/observedGeneration") == generation || is_orphaned {
        true => Ok(()),
        false => Err(format!("{} is not counted since it was changed", text(budget, "/metadata/name"))),
    }
}
