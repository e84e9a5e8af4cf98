//! What a node has left, and how full it should become.

use super::{Plugin, PluginName, Refusal};
use crate::amounts::{Amounts, Resource};
use crate::config::{FitArgs, Packing, Weighted};
use crate::cycle::Cycle;
use crate::event::Event;
use crate::pod::PodFacts;
use crate::snapshot::NodeInfo;
use std::borrow::Cow;

pub(crate) const PLUGIN: Plugin = Plugin {
    name: PluginName::NodeResourcesFit,
    concerns: |_| true,
    filter: Some(|cycle, snapshot, at| refuse(&cycle.pod, &snapshot.nodes[at], &cycle.profile.fit)),
    score: Some(|cycle, snapshot, nodes| {
        nodes.iter().map(|at| fullness(cycle, &snapshot.nodes[*at])).collect()
    }),
    weight: 1,
    helps: |event, pod| match event {
        Event::Node(node, aspects) => aspects.allocatable && would_fit(pod, node),
        Event::PodGone(_) => true,
        _ => false,
    },
};

/// Whether it would fit if the node were empty.
fn would_fit(pod: &PodFacts, node: &NodeInfo) -> bool {
    let mut short = false;
    each_short(&pod.requests, &node.allocatable, &Amounts::default(), |_, _| short = true);
    !short
}

/// Tells of each resource that is short, and whether there is enough of it but for other pods.
fn each_short(wanted: &Amounts, have: &Amounts, taken: &Amounts, mut tell: impl FnMut(&str, bool)) {
    let mut check = |name: &str, wanted: i64, have: i64, taken: i64| {
        if wanted > 0 && wanted > have.saturating_sub(taken) {
            tell(name, wanted <= have);
        }
    };
    check("cpu", wanted.milli_cpu, have.milli_cpu, taken.milli_cpu);
    check("memory", wanted.memory, have.memory, taken.memory);
    check("ephemeral-storage", wanted.ephemeral_storage, have.ephemeral_storage, taken.ephemeral_storage);
    for (name, amount) in &wanted.extended {
        check(name, *amount, have.extended(name), taken.extended(name));
    }
}

fn refuse(pod: &PodFacts, node: &NodeInfo, args: &FitArgs) -> Option<Refusal> {
    let mut refusal = Refusal { by: PluginName::NodeResourcesFit, reasons: Vec::new(), curable: true };
    if node.pods.len() >= node.allowed_pods {
        refusal.reasons.push("Too many pods".into());
    }
    each_short(&pod.requests, &node.allocatable, &node.requested, |name, but_for_others| {
        if args.ignores(name) {
            return;
        }
        refusal.curable &= but_for_others;
        refusal.reasons.push(match name {
            "cpu" => "Insufficient cpu".into(),
            "memory" => "Insufficient memory".into(),
            _ => Cow::Owned(format!("Insufficient {name}")),
        });
    });
    (!refusal.reasons.is_empty()).then_some(refusal)
}

/// What of a resource a node has, and what would be taken with the pod on it, pods that ask for nothing being guessed at.
fn guessed(pod: &PodFacts, node: &NodeInfo, resource: &Resource) -> (i64, i64) {
    let taken = match resource {
        Resource::Cpu => node.likely.0 + pod.likely.0,
        Resource::Memory => node.likely.1 + pod.likely.1,
        other => node.requested.get(other) + pod.requests.get(other),
    };
    (node.allocatable.get(resource), taken)
}

fn fullness(cycle: &Cycle, node: &NodeInfo) -> i64 {
    let Packing { resources, shape } = &cycle.profile.fit.packing;
    let (mut sum, mut weights) = (0, 0);
    for Weighted { resource, weight } in resources {
        // What a pod does not ask for says nothing about where it should be.
        if !resource.always_counts() && cycle.pod.requests.get(resource) == 0 {
            continue;
        }
        let (have, taken) = guessed(&cycle.pod, node, resource);
        if have <= 0 {
            continue;
        }
        sum += weight * shape.score(have, taken);
        weights += weight;
    }
    if weights == 0 { 0 } else { sum / weights }
}
