//! Whether a pod that was bound to this node may be here: whoever bound it need not have been the scheduler.

use api::k8s::api::core::v1::{Node, Pod};
use api::node_selector;
use api::taints::tolerates;
use client::Api;

use crate::context::Context;
use crate::pod::memory::Waiting;

/// Why not. What is known of the node's labels and taints may be minutes old: nothing is refused for it unheard.
/// `fixed`: the pod is the node's own.
pub(crate) async fn check(cx: &Context, pod: &Pod, fixed: bool) -> Option<Waiting> {
    let known = refusal(pod, &cx.node.borrow(), fixed)?;
    let nodes: Api<Node> = Api::all(cx.client.clone());
    match nodes.get(&cx.node_name).await {
        Ok(node) => {
            let found = refusal(pod, &node, fixed);
            cx.node.send_replace(node);
            found
        }
        Err(_) => Some(known),
    }
}

fn refusal(pod: &Pod, node: &Node, fixed: bool) -> Option<Waiting> {
    let spec = pod.spec.as_ref()?;
    let failed =
        |name: &str, why: &str| Some(super::rejected(name, format!("Predicate {name} failed: {why}")));
    let (labels, name) = (node.metadata.labels.clone().unwrap_or_default(), node.metadata.name.as_deref());
    let selector = spec.node_selector.as_ref();
    if !node_selector::selects(selector, spec.affinity.as_ref(), &labels, name.unwrap_or_default()) {
        return failed("NodeAffinity", "node(s) didn't match Pod's node affinity/selector");
    }
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let ends = taints.any(|taint| {
        taint.effect == "NoExecute" && !tolerations.iter().any(|toleration| tolerates(toleration, taint))
    });
    if ends && !fixed {
        return failed("TaintToleration", "node(s) had taints that the pod didn't tolerate");
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn labels_and_taints_decide() {
        let check = |spec: Value, fixed: bool, expected: Option<&str>| {
            let mut spec = spec;
            spec["containers"] = json!([]);
            let pod = serde_json::from_value(json!({"spec": spec})).unwrap();
            let node = json!({
                "metadata": {"name": "n", "labels": {"disk": "ssd"}},
                "spec": {"taints": [{"key": "k", "effect": "NoExecute"}, {"key": "l", "effect": "NoSchedule"}]},
            });
            let found = refusal(&pod, &serde_json::from_value(node).unwrap(), fixed);
            assert_eq!(found.as_ref().map(|found| found.reason.as_str()), expected, "{spec}");
        };
        let tolerant = json!([{"key": "k", "operator": "Exists"}]);
        check(json!({"tolerations": tolerant, "nodeSelector": {"disk": "ssd"}}), false, None);
        check(json!({"tolerations": tolerant, "nodeSelector": {"disk": "hdd"}}), false, Some("NodeAffinity"));
        check(json!({}), false, Some("TaintToleration"));
        check(json!({}), true, None);
    }
}
