//! Nodes of which no resource is used up long before the others.

use super::{Plugin, PluginName};
use crate::cycle::Cycle;
use crate::snapshot::NodeInfo;

pub(crate) const PLUGIN: Plugin = Plugin {
    name: PluginName::NodeResourcesBalancedAllocation,
    concerns: |_| false,
    filter: None,
    score: Some(|cycle, snapshot, nodes| {
        // What asks for nothing tips no balance.
        if !cycle.profile.balance.iter().any(|resource| cycle.pod.requests.get(&resource.name) > 0) {
            return vec![0; nodes.len()];
        }
        nodes.iter().map(|at| balance(cycle, &snapshot.nodes[*at])).collect()
    }),
    weight: 1,
    helps: |_, _| false,
};

/// 100, less the spread of the shares of resources that are taken.
fn balance(cycle: &Cycle, node: &NodeInfo) -> i64 {
    let share = |name: &str| {
        let (have, taken) =
            (node.allocatable.get(name), node.requested.get(name) + cycle.pod.requests.get(name));
        let counts = matches!(name, "cpu" | "memory") || cycle.pod.requests.get(name) > 0;
        (counts && have > 0).then(|| (taken as f64 / have as f64).min(1.0))
    };
    let shares: Vec<f64> =
        cycle.profile.balance.iter().filter_map(|resource| share(&resource.name)).collect();
    let deviation = match shares[..] {
        [] | [_] => 0.0,
        [a, b] => (a - b).abs() / 2.0,
        _ => {
            let mean = shares.iter().sum::<f64>() / shares.len() as f64;
            let squares = shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>();
            (squares / shares.len() as f64).sqrt()
        }
    };
    ((1.0 - deviation) * 100.0) as i64
}
