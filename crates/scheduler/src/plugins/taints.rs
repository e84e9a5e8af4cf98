//! Taints and tolerations: what nodes and pods say about each other.

use super::{Plugin, PluginName, Refusal, reversed};
use crate::event::Event;
use crate::pod::PodFacts;
use crate::snapshot::NodeInfo;
use api::taints::tolerates;

pub(crate) const PLUGIN: Plugin = Plugin {
    name: PluginName::TaintToleration,
    concerns: |_| true,
    filter: Some(|cycle, snapshot, at| {
        let refused = keeps_out(&cycle.pod, &snapshot.nodes[at]);
        refused.then(|| Refusal::lasting(PluginName::TaintToleration, "node(s) had untolerated taint(s)"))
    }),
    score: Some(|cycle, snapshot, nodes| {
        reversed(nodes.iter().map(|at| undesired(&cycle.pod, &snapshot.nodes[*at])).collect())
    }),
    weight: 3,
    helps: |event, pod| match event {
        Event::Node(node, aspects) => aspects.taints && !keeps_out(pod, node),
        _ => false,
    },
};

fn keeps_out(pod: &PodFacts, node: &NodeInfo) -> bool {
    node.taints.iter().any(|taint| {
        matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute")
            && !pod.tolerations.iter().any(|toleration| tolerates(toleration, taint))
    })
}

/// Taints that the node would rather keep pods away by, and this pod does not tolerate.
fn undesired(pod: &PodFacts, node: &NodeInfo) -> i64 {
    let soft = node.taints.iter().filter(|taint| taint.effect == "PreferNoSchedule");
    let count =
        soft.filter(|taint| !pod.tolerations.iter().any(|toleration| tolerates(toleration, taint))).count();
    i64::try_from(count).unwrap_or(i64::MAX)
}
