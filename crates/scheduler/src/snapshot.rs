//! What every node offers and what of it is taken, kept up to date by what changes.

use crate::pod::{Amounts, HostPort, PodFacts};
use crate::spreading::Groups;
use apimachinery::quantity::Quantity;
use client::kube::ResourceExt;
use k8s_openapi::api::core::v1::{Node, Taint};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A node in summary.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeInfo {
    pub(crate) name: Arc<str>,
    /// False for a node that only pods speak of: they count, should it turn up.
    pub(crate) known: bool,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) taints: Vec<Taint>,
    pub(crate) unschedulable: bool,
    pub(crate) allocatable: Amounts,
    pub(crate) allowed_pods: i64,
    pub(crate) requested: Amounts,
    pub(crate) likely: (i64, i64),
    pub(crate) pods: i64,
    pub(crate) ports: HashMap<HostPort, u32>,
}

impl NodeInfo {
    pub(crate) fn zone(&self) -> Option<&str> {
        self.labels.get("topology.kubernetes.io/zone").map(String::as_str)
    }
}

struct Placed {
    node: Arc<str>,
    facts: Arc<PodFacts>,
}

/// Nodes, and the pods on them. Cheap to change, and never copied.
#[derive(Default)]
pub struct Snapshot {
    pub(crate) nodes: Vec<NodeInfo>,
    by_name: HashMap<Arc<str>, usize>,
    placed: HashMap<Arc<str>, Placed>,
    pub(crate) groups: Groups,
    /// Where the search for a node begins next, so that all get their turn.
    pub(crate) next: usize,
}

impl Snapshot {
    /// Takes in a node as it now is.
    pub fn set_node(&mut self, node: &Node) {
        let at = self.slot(&node.name_any());
        let before = self.nodes[at].zone().map(str::to_owned);
        let info = &mut self.nodes[at];
        let status = node.status.as_ref();
        let allocatable = status.and_then(|status| status.allocatable.as_ref());
        info.known = true;
        info.labels = node.labels().clone();
        info.taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
        info.unschedulable = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
        info.allocatable = Amounts::of(allocatable.into_iter().flatten());
        let pods = allocatable
            .and_then(|list| list.get("pods"))
            .and_then(|quantity| quantity.0.parse::<Quantity>().ok());
        info.allowed_pods = pods.map_or(0, |pods| pods.value());
        let after = self.nodes[at].zone().map(str::to_owned);
        if before != after {
            self.groups.rezone(at, before.as_deref(), after.as_deref());
        }
    }

    /// Forgets a node; pods on it are remembered until they go too.
    pub fn remove_node(&mut self, name: &str) {
        let Some(at) = self.by_name.get(name).copied() else { return };
        let zone = self.nodes[at].zone().map(str::to_owned);
        self.groups.rezone(at, zone.as_deref(), None);
        let old = std::mem::take(&mut self.nodes[at]);
        self.nodes[at] = NodeInfo {
            name: old.name,
            requested: old.requested,
            likely: old.likely,
            pods: old.pods,
            ports: old.ports,
            ..NodeInfo::default()
        };
        self.drop_if_empty(at);
    }

    /// A pod is, or is about to be, on a node. Again for the same pod replaces what was known.
    pub fn place(&mut self, node: &str, facts: Arc<PodFacts>) {
        if let Some(placed) = self.placed.get(&facts.uid)
            && *placed.node == *node
            && (&placed.facts.requests, &placed.facts.group) == (&facts.requests, &facts.group)
        {
            return;
        }
        self.remove_pod(&facts.uid);
        let at = self.slot(node);
        let info = &mut self.nodes[at];
        info.requested.add(&facts.requests);
        info.likely.0 += facts.likely.0;
        info.likely.1 += facts.likely.1;
        info.pods += 1;
        for port in &facts.host_ports {
            *info.ports.entry(port.clone()).or_default() += 1;
        }
        if let Some(group) = &facts.group {
            self.groups.add(group, at, self.nodes[at].zone());
        }
        let node = self.nodes[at].name.clone();
        self.placed.insert(facts.uid.clone(), Placed { node, facts });
    }

    /// A pod is on no node any more, or has ended there; true when one was.
    pub fn remove_pod(&mut self, uid: &str) -> bool {
        let Some(Placed { node, facts }) = self.placed.remove(uid) else { return false };
        let Some(at) = self.by_name.get(&node).copied() else { return false };
        let info = &mut self.nodes[at];
        info.requested.subtract(&facts.requests);
        info.likely.0 -= facts.likely.0;
        info.likely.1 -= facts.likely.1;
        info.pods -= 1;
        for port in &facts.host_ports {
            if let Some(count) = info.ports.get_mut(port) {
                *count -= 1;
                if *count == 0 {
                    info.ports.remove(port);
                }
            }
        }
        if let Some(group) = &facts.group {
            self.groups.remove(group, at, self.nodes[at].zone());
        }
        self.drop_if_empty(at);
        true
    }

    /// Whether a pod is placed.
    pub fn holds(&self, uid: &str) -> bool {
        self.placed.contains_key(uid)
    }

    /// The UIDs of the pods that are placed.
    pub(crate) fn uids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.placed.keys()
    }

    /// How many pods are placed.
    pub fn pods(&self) -> usize {
        self.placed.len()
    }

    fn slot(&mut self, name: &str) -> usize {
        if let Some(at) = self.by_name.get(name) {
            return *at;
        }
        let at = self.nodes.len();
        let name: Arc<str> = name.into();
        self.nodes.push(NodeInfo { name: name.clone(), ..NodeInfo::default() });
        self.by_name.insert(name, at);
        at
    }

    /// A node that neither exists nor has pods leaves no trace; the last one takes its number.
    fn drop_if_empty(&mut self, at: usize) {
        if self.nodes[at].known || self.nodes[at].pods > 0 {
            return;
        }
        let last = self.nodes.len() - 1;
        let gone = self.nodes.swap_remove(at);
        self.by_name.remove(&gone.name);
        if at != last {
            self.by_name.insert(self.nodes[at].name.clone(), at);
            self.groups.renumber(last, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{from_value, json};

    fn node(name: &str, zone: u8) -> Node {
        from_value(json!({
            "metadata": { "name": name, "labels": { "topology.kubernetes.io/zone": format!("z{zone}") } },
            "status": { "allocatable": { "cpu": "4", "memory": "8Gi", "pods": "10" } },
        }))
        .unwrap()
    }

    fn facts(uid: u8, group: u8, cpu: u8) -> Arc<PodFacts> {
        let pod = from_value(json!({
            "metadata": { "name": "p", "uid": format!("u{uid}"),
                "ownerReferences": [{ "apiVersion": "v1", "kind": "R", "name": "r", "uid": format!("g{group}"), "controller": true }] },
            "spec": { "containers": [{ "name": "c", "resources": { "requests": { "cpu": format!("{cpu}m") } },
                "ports": [{ "containerPort": 1, "hostPort": u16::from(cpu) + 1 }] }] },
        }))
        .unwrap();
        Arc::new(PodFacts::of(&pod))
    }

    proptest! {
        /// However nodes and pods come and go, the sums are those of what is there.
        #[test]
        fn sums_are_those_of_what_is_there(
            steps in proptest::collection::vec((0..4u8, 0..4u8, 0..12u8, 0..3u8), 0..80),
        ) {
            let mut snapshot = Snapshot::default();
            let mut placed: BTreeMap<u8, (u8, u8, u8)> = BTreeMap::new();
            let mut nodes: BTreeMap<u8, u8> = BTreeMap::new();
            for (what, at, uid, group) in steps {
                match what {
                    0 => {
                        snapshot.set_node(&node(&format!("n{at}"), group));
                        nodes.insert(at, group);
                    }
                    1 => {
                        snapshot.remove_node(&format!("n{at}"));
                        nodes.remove(&at);
                    }
                    2 => {
                        snapshot.place(&format!("n{at}"), facts(uid, group, uid * 3));
                        placed.insert(uid, (at, group, uid * 3));
                    }
                    _ => {
                        snapshot.remove_pod(&format!("u{uid}"));
                        placed.remove(&uid);
                    }
                }
                for (index, info) in snapshot.nodes.iter().enumerate() {
                    let on: Vec<_> = placed.values().filter(|(at, ..)| *info.name == *format!("n{at}")).collect();
                    prop_assert_eq!(info.pods as usize, on.len());
                    prop_assert_eq!(info.requested.milli_cpu, on.iter().map(|(.., cpu)| i64::from(*cpu)).sum::<i64>());
                    prop_assert_eq!(info.ports.values().sum::<u32>() as usize, on.len());
                    for group in 0..3u8 {
                        let here = on.iter().filter(|(_, g, _)| *g == group).count();
                        prop_assert_eq!(snapshot.groups.on_node(&format!("g{group}"), index) as usize, here);
                    }
                }
                for group in 0..3u8 {
                    for zone in 0..4u8 {
                        let here = placed.values().filter(|(at, g, _)| *g == group && nodes.get(at) == Some(&zone)).count();
                        prop_assert_eq!(snapshot.groups.in_zone(&format!("g{group}"), &format!("z{zone}")) as usize, here);
                    }
                }
                prop_assert_eq!(snapshot.pods(), placed.len());
            }
        }
    }
}
