//! Whether a node can take a pod at all; and if not, why, in upstream's words.

use api::node_selector;

use crate::affinity::untolerated;
use crate::pod::{HostPort, PodFacts};
use crate::snapshot::NodeInfo;
use k8s_openapi::api::core::v1::Taint;

/// Which filter a node did not pass: what must change before it is worth trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hindrance {
    /// The node is cordoned.
    Unschedulable,
    /// The pod names another node.
    NodeName,
    /// The node has a taint that the pod does not tolerate.
    Taint,
    /// The node's labels are not what the pod asks for.
    Affinity,
    /// A port of the node is taken.
    Ports,
    /// The node has too little left.
    Resources,
}

/// What one node lacks: which filter, and the reasons to tell.
pub(crate) type Refusal = (Hindrance, Vec<String>);

type Filter = fn(&PodFacts, &NodeInfo) -> Option<Refusal>;

/// In upstream's order; the first that refuses speaks.
const FILTERS: [Filter; 6] = [schedulable, named, tolerated, attracted, ports_free, fits];

/// Why the node cannot take the pod; `None` when it can.
pub(crate) fn refuse(pod: &PodFacts, node: &NodeInfo) -> Option<Refusal> {
    FILTERS.iter().find_map(|filter| filter(pod, node))
}

fn one(hindrance: Hindrance, reason: impl Into<String>) -> Option<Refusal> {
    Some((hindrance, vec![reason.into()]))
}

fn schedulable(pod: &PodFacts, node: &NodeInfo) -> Option<Refusal> {
    if !node.unschedulable {
        return None;
    }
    let cordon = Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    untolerated(&[cordon], &pod.tolerations, &["NoSchedule"])?;
    one(Hindrance::Unschedulable, "node(s) were unschedulable")
}

fn named(pod: &PodFacts, node: &NodeInfo) -> Option<Refusal> {
    let other = pod.node_name.as_ref().is_some_and(|name| *name != node.name);
    if other { one(Hindrance::NodeName, "node(s) didn't match the requested node name") } else { None }
}

fn tolerated(pod: &PodFacts, node: &NodeInfo) -> Option<Refusal> {
    let taint = untolerated(&node.taints, &pod.tolerations, &["NoSchedule", "NoExecute"])?;
    let value = taint.value.as_deref().unwrap_or_default();
    one(Hindrance::Taint, format!("node(s) had untolerated taint {{{}: {value}}}", taint.key))
}

fn attracted(pod: &PodFacts, node: &NodeInfo) -> Option<Refusal> {
    let (selector, affinity) = (Some(&pod.node_selector), pod.affinity.as_ref());
    if node_selector::selects(selector, affinity, &node.labels, &node.name) {
        return None;
    }
    one(Hindrance::Affinity, "node(s) didn't match Pod's node affinity/selector")
}

fn ports_free(pod: &PodFacts, node: &NodeInfo) -> Option<Refusal> {
    if pod.host_ports.is_empty() || node.ports.is_empty() {
        return None;
    }
    let taken = |wanted: &HostPort| {
        node.ports.keys().any(|(address, protocol, number)| {
            let overlaps = address == &wanted.0 || address == "0.0.0.0" || wanted.0 == "0.0.0.0";
            overlaps && protocol == &wanted.1 && number == &wanted.2
        })
    };
    if !pod.host_ports.iter().any(taken) {
        return None;
    }
    one(Hindrance::Ports, "node(s) didn't have free ports for the requested pod ports")
}

fn fits(pod: &PodFacts, node: &NodeInfo) -> Option<Refusal> {
    let mut reasons = Vec::new();
    if node.pods + 1 > node.allowed_pods {
        reasons.push("Too many pods".to_owned());
    }
    let (wanted, have, taken) = (&pod.requests, &node.allocatable, &node.requested);
    let mut check = |name: &str, wanted: i64, have: i64, taken: i64| {
        if wanted > 0 && wanted > have - taken {
            reasons.push(format!("Insufficient {name}"));
        }
    };
    check("cpu", wanted.milli_cpu, have.milli_cpu, taken.milli_cpu);
    check("memory", wanted.memory, have.memory, taken.memory);
    check("ephemeral-storage", wanted.ephemeral_storage, have.ephemeral_storage, taken.ephemeral_storage);
    for (name, amount) in &wanted.extended {
        let of = |amounts: &crate::pod::Amounts| amounts.extended.get(name).copied().unwrap_or(0);
        check(name, *amount, of(have), of(taken));
    }
    if reasons.is_empty() { None } else { Some((Hindrance::Resources, reasons)) }
}
