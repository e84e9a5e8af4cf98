//! The APIServices of what this server serves itself.

use serde_json::{Value, json};

/// How groups come before each other, as upstream's do: what is not here comes after.
const PRIORITIES: &[(&str, i64)] = &[
    ("", 18_000),
    ("apps", 17_800),
    ("events.k8s.io", 17_750),
    ("authentication.k8s.io", 17_700),
    ("authorization.k8s.io", 17_600),
    ("autoscaling", 17_500),
    ("batch", 17_400),
    ("certificates.k8s.io", 17_300),
    ("networking.k8s.io", 17_200),
    ("policy", 17_100),
    ("rbac.authorization.k8s.io", 17_000),
    ("storage.k8s.io", 16_800),
    ("admissionregistration.k8s.io", 16_700),
    ("apiextensions.k8s.io", 16_700),
    ("scheduling.k8s.io", 16_600),
    ("coordination.k8s.io", 16_500),
    ("node.k8s.io", 16_300),
    ("discovery.k8s.io", 16_200),
    ("resource.k8s.io", 15_900),
];
const OTHERS: i64 = 15_000;
/// The group of the aggregation itself, which has no APIService and comes before all.
const OWN: &str = "apiregistration.k8s.io";
const FIRST: i64 = 20_000;
/// The label by which such an object is told from one that somebody made.
const AUTOMANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// One for each version of each group that is built in.
pub(crate) fn manifests() -> Vec<Value> {
    let mut served: Vec<(&str, &str)> =
        api::kinds::ALL.iter().map(|kind| (kind.group, kind.version)).collect();
    served.sort_unstable();
    served.dedup();
    // An APIService of the aggregation itself is not shown, as upstream's is not.
    served.retain(|(group, _)| *group != OWN);
    served.into_iter().map(|(group, version)| manifest(group, version)).collect()
}

/// How a group comes before others.
pub(crate) fn priority(group: &str) -> i64 {
    if group == OWN {
        return FIRST;
    }
    PRIORITIES.iter().find(|(name, _)| *name == group).map_or(OTHERS, |(_, minimum)| *minimum)
}

fn manifest(group: &str, version: &str) -> Value {
    let of_version = match (group, version) {
        ("", _) => 1,
        (_, "v1") => 15,
        _ => 30,
    };
    json!({
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": format!("{version}.{group}"), "labels": {AUTOMANAGED: "onstart"}},
        "spec": {
            "group": group,
            "version": version,
            "groupPriorityMinimum": priority(group),
            "versionPriority": of_version,
        },
    })
}
