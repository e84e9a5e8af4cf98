//! A node that is cordoned takes only pods that tolerate it.

use super::{Plugin, PluginName, Refusal};
use crate::event::Event;
use crate::pod::PodFacts;
use crate::snapshot::NodeInfo;
use api::taints::tolerates;
use k8s_openapi::api::core::v1::Taint;

pub(crate) const PLUGIN: Plugin = Plugin {
    name: PluginName::NodeUnschedulable,
    concerns: |_| true,
    filter: Some(|cycle, snapshot, at| {
        let refused = keeps_out(&cycle.pod, &snapshot.nodes[at]);
        refused.then(|| Refusal::lasting(PluginName::NodeUnschedulable, "node(s) were unschedulable"))
    }),
    score: None,
    weight: 0,
    helps: |event, pod| match event {
        Event::Node(node, aspects) => (aspects.cordon || aspects.taints) && !keeps_out(pod, node),
        _ => false,
    },
};

fn keeps_out(pod: &PodFacts, node: &NodeInfo) -> bool {
    if !node.unschedulable {
        return false;
    }
    let cordon = Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    !pod.tolerations.iter().any(|toleration| tolerates(toleration, &cordon))
}
