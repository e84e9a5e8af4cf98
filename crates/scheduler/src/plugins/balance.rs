//! Nodes of which no resource is used up long before the others.

use super::{Plugin, PluginName};
use crate::amounts::Resource;
use crate::cycle::Cycle;
use crate::snapshot::NodeInfo;

pub(crate) const PLUGIN: Plugin = Plugin {
    name: PluginName::NodeResourcesBalancedAllocation,
    concerns: |_| false,
    filter: None,
    score: Some(|cycle, snapshot, nodes| {
        // What asks for nothing tips no balance.
        if !cycle.profile.balance.iter().any(|weighted| cycle.pod.requests.get(&weighted.resource) > 0) {
            return vec![0; nodes.len()];
        }
        nodes.iter().map(|at| balance(cycle, &snapshot.nodes[*at])).collect()
    }),
    weight: 1,
    helps: |_, _| false,
};

/// 100, less the spread of the shares of resources that are taken.
fn balance(cycle: &Cycle, node: &NodeInfo) -> i64 {
    let share = |resource: &Resource| {
        let asked = cycle.pod.requests.get(resource);
        let (have, taken) = (node.allocatable.get(resource), node.requested.get(resource) + asked);
        let counts = resource.always_counts() || asked > 0;
        (counts && have > 0).then(|| (taken as f64 / have as f64).min(1.0))
    };
    let shares = || cycle.profile.balance.iter().filter_map(|weighted| share(&weighted.resource));
    let (count, sum) = shares().fold((0, 0.0), |(count, sum), share| (count + 1, sum + share));
    let mean = sum / f64::from(count.max(1));
    let deviation = match count {
        0 | 1 => 0.0,
        // The same as below, exact to the last bit as upstream has it.
        2 => shares().fold(0.0_f64, |difference, share| share - difference).abs() / 2.0,
        _ => (shares().map(|share| (share - mean).powi(2)).sum::<f64>() / f64::from(count)).sqrt(),
    };
    ((1.0 - deviation) * 100.0) as i64
}
