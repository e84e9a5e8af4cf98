//! Evictions keep to disruption budgets.

use serde_json::Value;

use super::pods::{is_active, is_ready};
use super::{Change, History};

/// An eviction of a pod that serves leaves as many as each budget over it says must be, when it says a number.
pub fn respected_by_evictions(history: &History, change: &Change) -> Result<(), String> {
    let evicts = change.sent.as_ref().is_some_and(|sent| sent.path.ends_with("/eviction"));
    let Some(before) = change.before.as_ref().filter(|_| evicts && change.key.plural == "pods") else {
        return Ok(());
    };
    let still = change.after.as_ref().is_some_and(|after| is_active(after));
    if !is_active(before) || !is_ready(before) || still {
        return Ok(());
    }
    for (key, budget) in history.all("poddisruptionbudgets") {
        let Some(least) = budget.pointer("/spec/minAvailable").and_then(Value::as_u64) else { continue };
        let labels = budget.pointer("/spec/selector/matchLabels");
        if key.namespace != change.key.namespace || !selects(labels, before) {
            continue;
        }
        let left = history
            .all("pods")
            .filter(|(pod, _)| pod.namespace == key.namespace)
            .filter(|(_, pod)| selects(labels, pod) && is_active(pod) && is_ready(pod))
            .count();
        if (left as u64) < least {
            return Err(format!("an eviction leaves {left} pods where {} wants {least}", key.name));
        }
    }
    Ok(())
}

fn selects(labels: Option<&Value>, pod: &Value) -> bool {
    let labels = labels.and_then(Value::as_object);
    labels.is_some_and(|labels| labels.iter().all(|(name, value)| pod["metadata"]["labels"][name] == *value))
}
