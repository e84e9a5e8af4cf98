//! What every node offers and what of it is taken, kept up to date by what changes.

use crate::amounts::Amounts;
use crate::budgets::Budgets;
use crate::census::{Census, ClassId};
use crate::event::Aspects;
use crate::pod::{ClaimKey, HostPort, PodFacts};
use crate::selectors::Selectors;
use crate::terms::Labels;
use crate::volumes::Volumes;
use apimachinery::quantity::Quantity;
use client::kube::ResourceExt;
use k8s_openapi::api::core::v1::{Node, Taint};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// A node in summary.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeInfo {
    pub(crate) name: Arc<str>,
    /// False for a node that only pods speak of: they count, should it turn up.
    pub(crate) known: bool,
    pub(crate) labels: Labels,
    pub(crate) taints: Vec<Taint>,
    pub(crate) unschedulable: bool,
    pub(crate) allocatable: Amounts,
    pub(crate) allowed_pods: usize,
    pub(crate) requested: Amounts,
    pub(crate) likely: (i64, i64),
    pub(crate) pods: BTreeSet<Arc<str>>,
    pub(crate) ports: BTreeMap<HostPort, u32>,
    /// How many pods of which class it has.
    pub(crate) classes: BTreeMap<ClassId, u32>,
    /// Claims that its pods use, and how many do.
    pub(crate) claims: BTreeMap<ClaimKey, u32>,
    /// Images that it has, with their sizes.
    pub(crate) images: BTreeMap<Arc<str>, i64>,
}

impl NodeInfo {
    /// What pods on it take, more or (`sign` below zero) less.
    fn take(&mut self, facts: &PodFacts, sign: i64) {
        if sign > 0 {
            self.requested.add(&facts.requests);
            self.pods.insert(facts.uid.clone());
        } else {
            self.requested.subtract(&facts.requests);
            self.pods.remove(&facts.uid);
        }
        self.likely.0 += sign * facts.likely.0;
        self.likely.1 += sign * facts.likely.1;
        facts.host_ports.iter().for_each(|port| count(&mut self.ports, port.clone(), sign));
        facts.claim_keys().for_each(|claim| count(&mut self.claims, claim, sign));
    }
}

/// One more, or one less; nothing is left of none.
pub(crate) fn count<K: Ord>(counts: &mut BTreeMap<K, u32>, key: K, sign: i64) {
    let before = counts.get(&key).copied().unwrap_or(0);
    let now = if sign > 0 { before + 1 } else { before.saturating_sub(1) };
    if now == 0 {
        counts.remove(&key);
    } else {
        counts.insert(key, now);
    }
}

struct Placed {
    node: Arc<str>,
    facts: Arc<PodFacts>,
}

/// Nodes, the pods on them, and what else decides where pods may go. Cheap to change, and never copied.
#[derive(Default)]
pub struct Snapshot {
    pub(crate) nodes: Vec<NodeInfo>,
    by_name: HashMap<Arc<str>, usize>,
    placed: HashMap<Arc<str>, Placed>,
    pub(crate) census: Census,
    pub(crate) selectors: Selectors,
    pub(crate) volumes: Volumes,
    pub(crate) budgets: Budgets,
    /// Pods for which room is being made on a node, by node and UID.
    nominated: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Arc<PodFacts>>>,
    nominations: HashMap<Arc<str>, Arc<str>>,
    /// How many nodes have an image.
    images: BTreeMap<Arc<str>, u32>,
    known: usize,
    /// Where the search for a node begins next, so that all get their turn.
    pub(crate) next: usize,
}

impl Snapshot {
    /// Takes in a node as it now is.
    pub fn set_node(&mut self, node: &Node) {
        self.take_node(node);
    }

    /// As [`Self::set_node`]; what of it changed.
    pub(crate) fn take_node(&mut self, node: &Node) -> Aspects {
        let at = self.slot(&node.name_any());
        let info = &mut self.nodes[at];
        let status = node.status.as_ref();
        let allocatable = status.and_then(|status| status.allocatable.as_ref());
        let spec = node.spec.as_ref();
        let taints = spec.and_then(|spec| spec.taints.clone()).unwrap_or_default();
        let unschedulable = spec.and_then(|spec| spec.unschedulable).unwrap_or(false);
        let amounts = Amounts::of(allocatable.into_iter().flatten());
        let pods = allocatable
            .and_then(|list| list.get("pods"))
            .and_then(|quantity| quantity.0.parse::<Quantity>().ok());
        let allowed_pods = pods.and_then(|pods| usize::try_from(pods.value()).ok()).unwrap_or(0);
        let mut aspects = Aspects {
            labels: info.labels != *node.labels(),
            taints: info.taints != taints,
            cordon: info.unschedulable != unschedulable,
            allocatable: (&info.allocatable, info.allowed_pods) != (&amounts, allowed_pods),
        };
        if !info.known {
            (aspects, info.known, self.known) = (Aspects::ALL, true, self.known + 1);
        }
        (info.taints, info.unschedulable) = (taints, unschedulable);
        (info.allocatable, info.allowed_pods) = (amounts, allowed_pods);
        if aspects.labels || aspects.taints {
            info.labels.clone_from(node.labels());
            self.census.node_changed(at, &self.nodes[at]);
        }
        let images = self.images_of(node);
        self.set_images(at, images);
        aspects
    }

    /// The images that a node says it has, each name in memory once.
    fn images_of(&self, node: &Node) -> BTreeMap<Arc<str>, i64> {
        let all = node.status.iter().flat_map(|status| status.images.iter().flatten());
        let named = all.flat_map(|image| {
            let size = image.size_bytes.unwrap_or(0);
            image.names.iter().flatten().map(move |name| (name.as_str(), size))
        });
        let known = |name: &str| {
            self.images.get_key_value(name).map_or_else(|| name.into(), |(name, _)| name.clone())
        };
        named.map(|(name, size)| (known(name), size)).collect()
    }

    /// Forgets a node; pods on it are remembered until they go too.
    pub fn remove_node(&mut self, name: &str) {
        let Some(at) = self.by_name.get(name).copied() else { return };
        self.set_images(at, BTreeMap::new());
        let old = std::mem::take(&mut self.nodes[at]);
        self.known -= usize::from(old.known);
        self.nodes[at] = NodeInfo {
            name: old.name,
            requested: old.requested,
            likely: old.likely,
            pods: old.pods,
            ports: old.ports,
            classes: old.classes,
            claims: old.claims,
            ..NodeInfo::default()
        };
        self.census.node_changed(at, &self.nodes[at]);
        self.drop_if_empty(at);
    }

    fn set_images(&mut self, at: usize, images: BTreeMap<Arc<str>, i64>) {
        if self.nodes[at].images == images {
            return;
        }
        let old = std::mem::replace(&mut self.nodes[at].images, images);
        old.into_keys().for_each(|image| count(&mut self.images, image, -1));
        self.nodes[at].images.keys().for_each(|image| count(&mut self.images, image.clone(), 1));
    }

    /// How many nodes have an image.
    pub(crate) fn nodes_with(&self, image: &str) -> u32 {
        self.images.get(image).copied().unwrap_or(0)
    }

    /// A pod is, or is about to be, on a node. Again for the same pod replaces what was known.
    pub fn place(&mut self, node: &str, facts: Arc<PodFacts>) {
        if let Some(placed) = self.placed.get_mut(&facts.uid)
            && *placed.node == *node
            && placed.facts.asks_the_same_as(&facts)
        {
            placed.facts = facts;
            return;
        }
        self.remove_pod(&facts.uid);
        let at = self.slot(node);
        let class = self.census.class(&facts.class, &self.nodes);
        let info = &mut self.nodes[at];
        info.take(&facts, 1);
        self.census.change(class, at, info, true);
        self.volumes.used(&facts, 1);
        let node = info.name.clone();
        self.placed.insert(facts.uid.clone(), Placed { node, facts });
    }

    /// A pod is on no node any more, or has ended there; what it was.
    pub fn remove_pod(&mut self, uid: &str) -> Option<Arc<PodFacts>> {
        let Placed { node, facts } = self.placed.remove(uid)?;
        let at = self.by_name.get(&node).copied()?;
        let class = self.census.class(&facts.class, &self.nodes);
        let info = &mut self.nodes[at];
        info.take(&facts, -1);
        self.census.change(class, at, info, false);
        self.volumes.used(&facts, -1);
        self.drop_if_empty(at);
        Some(facts)
    }

    /// Whether a pod is placed.
    pub fn holds(&self, uid: &str) -> bool {
        self.placed.contains_key(uid)
    }

    /// A pod that is placed.
    pub(crate) fn pod(&self, uid: &str) -> Option<&Arc<PodFacts>> {
        self.placed.get(uid).map(|placed| &placed.facts)
    }

    /// The pods on a node, by UID.
    pub(crate) fn pods_on(&self, at: usize) -> impl Iterator<Item = &Arc<PodFacts>> {
        self.nodes[at].pods.iter().filter_map(|uid| self.pod(uid))
    }

    /// The UIDs of the pods that are placed.
    pub(crate) fn uids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.placed.keys()
    }

    /// How many pods are placed.
    pub fn pods(&self) -> usize {
        self.placed.len()
    }

    /// How many nodes there are.
    pub fn known_nodes(&self) -> usize {
        self.known
    }

    /// The number of a node that is there.
    pub(crate) fn node_at(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied().filter(|at| self.nodes[*at].known)
    }

    /// Room is being made for a pod on this node, or on none any more.
    pub(crate) fn nominate(&mut self, facts: &Arc<PodFacts>, node: Option<&str>) {
        if let Some(before) = self.nominations.remove(&facts.uid)
            && let Some(there) = self.nominated.get_mut(&before)
        {
            there.remove(&facts.uid);
            if there.is_empty() {
                self.nominated.remove(&before);
            }
        }
        if let Some(node) = node {
            let node: Arc<str> = node.into();
            self.nominations.insert(facts.uid.clone(), node.clone());
            self.nominated.entry(node).or_default().insert(facts.uid.clone(), facts.clone());
        }
    }

    /// The node on which room is being made for a pod.
    pub(crate) fn nomination(&self, uid: &str) -> Option<&Arc<str>> {
        self.nominations.get(uid)
    }

    /// Whether room is being made for any pod.
    pub(crate) fn has_nominated(&self) -> bool {
        !self.nominated.is_empty()
    }

    /// Pods for which room is being made on a node.
    pub(crate) fn nominated_to(&self, node: &str) -> impl Iterator<Item = &Arc<PodFacts>> {
        self.nominated.get(node).into_iter().flat_map(BTreeMap::values)
    }

    /// All pods for which room is being made.
    pub(crate) fn all_nominated(&self) -> impl Iterator<Item = &Arc<PodFacts>> {
        self.nominated.values().flat_map(BTreeMap::values)
    }

    /// A namespace has these labels, or is gone. Whether that may matter to anybody.
    pub(crate) fn set_namespace(&mut self, name: &str, labels: Option<&Labels>) -> bool {
        self.census.set_namespace(name, labels, &mut self.nodes)
    }

    /// Forgets counts that nobody asks for any more.
    pub(crate) fn tidy(&mut self) {
        self.census.tidy(&mut self.nodes);
    }

    fn slot(&mut self, name: &str) -> usize {
        if let Some(at) = self.by_name.get(name) {
            return *at;
        }
        let at = self.nodes.len();
        let name: Arc<str> = name.into();
        self.nodes.push(NodeInfo { name: name.clone(), ..NodeInfo::default() });
        self.census.node_added();
        self.by_name.insert(name, at);
        at
    }

    /// A node that neither exists nor has pods leaves no trace; the last one takes its number.
    fn drop_if_empty(&mut self, at: usize) {
        if self.nodes[at].known || !self.nodes[at].pods.is_empty() {
            return;
        }
        let last = self.nodes.len() - 1;
        let gone = self.nodes.swap_remove(at);
        self.census.node_dropped(at);
        self.by_name.remove(&gone.name);
        if at != last {
            self.by_name.insert(self.nodes[at].name.clone(), at);
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
            "metadata": { "name": "p", "namespace": "x", "uid": format!("u{uid}"), "labels": { "group": format!("g{group}") } },
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
                for info in &snapshot.nodes {
                    let on: Vec<_> = placed.values().filter(|(at, ..)| *info.name == *format!("n{at}")).collect();
                    prop_assert_eq!(info.pods.len(), on.len());
                    prop_assert_eq!(info.requested.milli_cpu, on.iter().map(|(.., cpu)| i64::from(*cpu)).sum::<i64>());
                    prop_assert_eq!(info.ports.values().sum::<u32>() as usize, on.len());
                    prop_assert_eq!(info.classes.values().sum::<u32>() as usize, on.len());
                }
                prop_assert_eq!(snapshot.known_nodes(), nodes.len());
                prop_assert_eq!(snapshot.pods(), placed.len());
            }
        }
    }
}
