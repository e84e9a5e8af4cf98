//! What a pod says of the labels and the name of its node.

use super::{Plugin, PluginName, Refusal, normal};
use crate::cycle::Cycle;
use crate::event::Event;
use crate::pod::PodFacts;
use crate::snapshot::NodeInfo;
use api::node_selector::{selects, term_matches};
use k8s_openapi::api::core::v1::{NodeAffinity, NodeSelectorTerm};
use std::collections::BTreeSet;

pub(crate) const PLUGIN: Plugin = Plugin {
    name: PluginName::NodeAffinity,
    concerns: |cycle| {
        let added = cycle.profile.added_affinity.as_ref().and_then(required);
        added.is_some() || !cycle.pod.node_selector.is_empty() || cycle.pod.affinity.is_some()
    },
    filter: Some(|cycle, snapshot, at| {
        let node = &snapshot.nodes[at];
        let added = cycle.profile.added_affinity.as_ref().and_then(required);
        let refused = |why| Some(Refusal::lasting(PluginName::NodeAffinity, why));
        if added.is_some_and(|terms| !terms.iter().any(|term| term_matches(term, &node.labels, &node.name))) {
            return refused("node(s) didn't match scheduler-enforced node affinity");
        }
        if !attracts(&cycle.pod, node) {
            return refused("node(s) didn't match Pod's node affinity/selector");
        }
        None
    }),
    score: Some(|cycle, snapshot, nodes| {
        normal(nodes.iter().map(|at| attraction(cycle, &snapshot.nodes[*at])).collect())
    }),
    weight: 2,
    helps: |event, pod| match event {
        Event::Node(node, aspects) => aspects.labels && attracts(pod, node),
        _ => false,
    },
};

fn required(affinity: &NodeAffinity) -> Option<&Vec<NodeSelectorTerm>> {
    affinity.required_during_scheduling_ignored_during_execution.as_ref().map(|all| &all.node_selector_terms)
}

fn own(pod: &PodFacts) -> Option<&NodeAffinity> {
    pod.affinity.as_ref()?.node_affinity.as_ref()
}

fn attracts(pod: &PodFacts, node: &NodeInfo) -> bool {
    selects(Some(&pod.node_selector), pod.affinity.as_ref(), &node.labels, &node.name)
}

/// The weights of what is preferred and holds. A preference for nothing in particular is one for any node.
fn attraction(cycle: &Cycle, node: &NodeInfo) -> i64 {
    let both = [own(&cycle.pod), cycle.profile.added_affinity.as_ref()];
    let preferred = both
        .into_iter()
        .flatten()
        .filter_map(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_ref());
    let matching = preferred.flatten().filter(|term| {
        let empty = term.preference.match_expressions.is_none() && term.preference.match_fields.is_none();
        empty || term_matches(&term.preference, &node.labels, &node.name)
    });
    matching.map(|term| i64::from(term.weight)).sum()
}

/// The only nodes that can be meant, where the pod names them in each of its terms, as those of DaemonSets do.
pub(crate) fn only(pod: &PodFacts) -> Option<BTreeSet<String>> {
    let terms = required(own(pod)?)?;
    let mut all = BTreeSet::new();
    for term in terms {
        let fields = term.match_fields.iter().flatten();
        let names = fields
            .filter(|field| field.key == "metadata.name" && field.operator == "In")
            .map(|field| field.values.iter().flatten().cloned().collect::<BTreeSet<_>>())
            .reduce(|a, b| a.intersection(&b).cloned().collect())?;
        all.extend(names);
    }
    (!terms.is_empty()).then_some(all)
}
