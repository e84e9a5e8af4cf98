//! Taints that say what a node's conditions mean for pods, and how long pods bear them.

use crate::pod::Pod;
use api::taints::tolerates;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub(crate) const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub(crate) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const NO_SCHEDULE: &str = "NoSchedule";
const NO_EXECUTE: &str = "NoExecute";

/// Condition, its value, and the taint that keeps new pods away while it has that value.
const BY_CONDITION: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// The taints that a node should have, given its conditions: those of others stay; ours are as the conditions say. A node
/// that is not ready also drives pods away (`evict`), unless no node at all is ready, when there is nowhere to go and the
/// fault is likelier our own.
pub(crate) fn wanted(node: &Node, conditions: &[NodeCondition], evict: bool, now: Timestamp) -> Vec<Taint> {
    let current = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let has = |kind: &str, value: &str| conditions.iter().any(|c| c.type_ == kind && c.status == value);
    let mut ours: Vec<(&str, &str)> = Vec::new();
    for (kind, value, key) in BY_CONDITION {
        if has(kind, value) {
            ours.push((key, NO_SCHEDULE));
            if kind == "Ready" && evict {
                ours.push((key, NO_EXECUTE));
            }
        }
    }
    if node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false) {
        ours.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    let managed = |taint: &Taint| {
        let key = taint.key.as_str();
        let scheduling = key == UNSCHEDULABLE || BY_CONDITION.iter().any(|(_, _, ours)| *ours == key);
        let driving = key == NOT_READY || key == UNREACHABLE;
        (taint.effect == NO_SCHEDULE && scheduling) || (taint.effect == NO_EXECUTE && driving)
    };
    let is = |taint: &Taint, (key, effect): (&str, &str)| taint.key == key && taint.effect == effect;
    let mut wanted: Vec<_> = current
        .iter()
        .filter(|taint| !managed(taint) || ours.iter().any(|our| is(taint, *our)))
        .cloned()
        .collect();
    for (key, effect) in ours {
        if !wanted.iter().any(|taint| is(taint, (key, effect))) {
            let (key, effect) = (key.to_owned(), effect.to_owned());
            wanted.push(Taint { key, effect, value: None, time_added: Some(Time(now)) });
        }
    }
    wanted
}

/// When a pod must leave a node with these taints: at once if one of them is not tolerated, never if all are without
/// limit, else when the shortest toleration runs out.
pub(crate) fn leaves_at(
    pod: &Pod,
    taints: &[Taint],
    since: impl Fn(&Taint) -> Timestamp,
) -> Option<Timestamp> {
    let tolerations = &pod.spec.tolerations;
    let mut earliest = None;
    for taint in taints.iter().filter(|taint| taint.effect == NO_EXECUTE) {
        let mut using = tolerations.iter().filter(|toleration| tolerates(toleration, taint)).peekable();
        if using.peek().is_none() {
            return Some(since(taint));
        }
        let Some(seconds) = using.filter_map(|toleration| toleration.toleration_seconds).min() else {
            continue;
        };
        let until = since(taint).checked_add(SignedDuration::from_secs(seconds.clamp(0, 1 << 40))).ok();
        earliest = earliest.into_iter().chain(until).min();
    }
    earliest
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn pods_bear_taints_as_long_as_they_say() {
        let start: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let taints: Vec<Taint> = from_value(json!([
            { "key": "a", "effect": "NoExecute" }, { "key": "b", "effect": "NoSchedule" },
        ]))
        .unwrap();
        let leaves = |tolerations: serde_json::Value| {
            let pod: Pod =
                from_value(json!({ "spec": { "containers": [], "tolerations": tolerations } })).unwrap();
            leaves_at(&pod, &taints, |_| start).map(|at| at.duration_since(start).as_secs())
        };
        assert_eq!(leaves(json!([])), Some(0));
        assert_eq!(leaves(json!([{ "key": "a", "operator": "Exists" }])), None);
        assert_eq!(
            leaves(json!([{ "key": "a", "operator": "Exists", "tolerationSeconds": 300 }])),
            Some(300)
        );
        let both = json!([
            { "key": "a", "operator": "Exists", "tolerationSeconds": 300 },
            { "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 20 },
        ]);
        assert_eq!(leaves(both), Some(20));
        assert_eq!(leaves(json!([{ "key": "a", "operator": "Exists", "tolerationSeconds": -5 }])), Some(0));
    }

    #[test]
    fn ours_come_and_go_and_others_stay() {
        let node: Node = from_value(json!({ "spec": { "unschedulable": true, "taints": [
            { "key": "mine", "effect": "NoExecute" }, { "key": NOT_READY, "effect": "NoSchedule" },
        ] } }))
        .unwrap();
        let conditions = |ready: &str| -> Vec<NodeCondition> {
            from_value(json!([{ "type": "Ready", "status": ready }])).unwrap()
        };
        let of = |ready: &str, evict| {
            let taints = wanted(&node, &conditions(ready), evict, Timestamp::UNIX_EPOCH);
            taints.into_iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect::<Vec<_>>()
        };
        assert_eq!(of("True", true), ["mine:NoExecute", "node.kubernetes.io/unschedulable:NoSchedule"]);
        assert_eq!(
            of("Unknown", true),
            [
                "mine:NoExecute",
                "node.kubernetes.io/unreachable:NoSchedule",
                "node.kubernetes.io/unreachable:NoExecute",
                "node.kubernetes.io/unschedulable:NoSchedule"
            ]
        );
        assert!(!of("False", false).contains(&format!("{NOT_READY}:NoExecute")));
    }
}
