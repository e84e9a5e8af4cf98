//! Which nodes are one place, under a key of their labels.

use crate::snapshot::NodeInfo;
use crate::terms::Labels;
use api::node_selector;
use api::taints::tolerates;
use k8s_openapi::api::core::v1::{Affinity, Toleration};
use serde::Serialize;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The place of a node that is in none.
const NOWHERE: u32 = u32::MAX;

/// Which nodes count at all.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Eligible {
    /// Labels that a node must have, whatever their values.
    pub(crate) keys: Vec<String>,
    pub(crate) node_selector: Labels,
    pub(crate) affinity: Option<Affinity>,
    /// Nodes with taints that these do not cover do not count.
    pub(crate) tolerations: Option<Vec<Toleration>>,
}

impl Eligible {
    fn holds(&self, node: &NodeInfo) -> bool {
        let covered = |tolerations: &Vec<Toleration>| {
            node.taints.iter().all(|taint| {
                !matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute")
                    || tolerations.iter().any(|toleration| tolerates(toleration, taint))
            })
        };
        self.keys.iter().all(|key| node.labels.contains_key(key))
            && node_selector::selects(
                Some(&self.node_selector),
                self.affinity.as_ref(),
                &node.labels,
                &node.name,
            )
            && self.tolerations.as_ref().is_none_or(covered)
    }
}

/// What places are made by: a key of nodes' labels, and which nodes count; the same by their text.
#[derive(Clone, Debug)]
pub(crate) struct By {
    pub(crate) key: Arc<str>,
    text: Arc<str>,
    eligible: Option<Arc<Eligible>>,
}

impl By {
    /// All nodes that have the label.
    pub(crate) fn key(key: &str) -> Self {
        Self { key: key.into(), text: "".into(), eligible: None }
    }

    /// Of those that have the label the eligible ones.
    pub(crate) fn among(key: &str, eligible: Eligible) -> Self {
        let text = serde_json::to_string(&eligible).unwrap_or_default();
        Self { key: key.into(), text: text.into(), eligible: Some(Arc::new(eligible)) }
    }
}

impl PartialEq for By {
    fn eq(&self, other: &Self) -> bool {
        (&self.key, &self.text) == (&other.key, &other.text)
    }
}

impl Eq for By {}

impl Hash for By {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.key, &self.text).hash(state);
    }
}

/// Where every node is, by number.
pub(crate) struct Topology {
    by: By,
    places: HashMap<String, u32>,
    of_node: Vec<u32>,
    /// How many nodes there are in each place.
    nodes_in: Vec<u32>,
}

impl Topology {
    pub(crate) fn new(by: By, nodes: &[NodeInfo]) -> Self {
        let mut topology = Self { by, places: HashMap::new(), of_node: Vec::new(), nodes_in: Vec::new() };
        for node in nodes {
            let place = topology.find(node);
            topology.of_node.push(place);
            topology.arrive(place);
        }
        topology
    }

    fn find(&mut self, node: &NodeInfo) -> u32 {
        let Some(value) = node.labels.get(&*self.by.key) else { return NOWHERE };
        if !node.known || self.by.eligible.as_ref().is_some_and(|eligible| !eligible.holds(node)) {
            return NOWHERE;
        }
        if let Some(place) = self.places.get(value) {
            return *place;
        }
        let place = u32::try_from(self.nodes_in.len()).unwrap_or(NOWHERE);
        self.places.insert(value.clone(), place);
        self.nodes_in.push(0);
        place
    }

    fn arrive(&mut self, place: u32) {
        if let Some(count) = self.nodes_in.get_mut(place as usize) {
            *count += 1;
        }
    }

    /// Puts a node where it now belongs: where it was and where it is, if that changed.
    pub(crate) fn update(&mut self, at: usize, node: &NodeInfo) -> Option<(Option<usize>, Option<usize>)> {
        let (before, now) = (self.of_node[at], self.find(node));
        if before == now {
            return None;
        }
        if let Some(count) = self.nodes_in.get_mut(before as usize) {
            *count -= 1;
        }
        self.arrive(now);
        self.of_node[at] = now;
        Some((known(before), known(now)))
    }

    /// A node that is nowhere yet.
    pub(crate) fn push(&mut self) {
        self.of_node.push(NOWHERE);
    }

    /// Forgets a node that is nowhere; the last one takes its number.
    pub(crate) fn swap_remove(&mut self, at: usize) {
        self.of_node.swap_remove(at);
    }

    /// The place of a node.
    pub(crate) fn of(&self, node: usize) -> Option<usize> {
        known(self.of_node[node])
    }

    /// The place that a label's value stands for, whether the node that has it counts or not.
    pub(crate) fn named(&self, value: &str) -> Option<usize> {
        self.places.get(value).map(|place| *place as usize)
    }

    /// The places that have nodes.
    pub(crate) fn places(&self) -> impl Iterator<Item = usize> {
        self.nodes_in.iter().enumerate().filter(|(_, nodes)| **nodes > 0).map(|(place, _)| place)
    }
}

fn known(place: u32) -> Option<usize> {
    (place != NOWHERE).then_some(place as usize)
}
