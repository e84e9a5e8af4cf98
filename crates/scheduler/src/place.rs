//! One decision.

use crate::filters::{Hindrance, refuse};
use crate::pod::PodFacts;
use crate::scores;
use crate::snapshot::Snapshot;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// So many nodes that can take a pod are always enough to choose from.
const ENOUGH: usize = 100;

/// Why no node can take a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unplaceable {
    nodes: usize,
    reasons: BTreeMap<String, usize>,
    /// Which filters refused: what must change.
    pub hindrances: BTreeSet<Hindrance>,
}

impl fmt::Display for Unplaceable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        let mut reasons: Vec<_> =
            self.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        reasons.sort();
        write!(f, "0/{} nodes are available: {}.", self.nodes, reasons.join(", "))
    }
}

impl std::error::Error for Unplaceable {}

/// How many feasible nodes to look for: all of a few, a falling share of many (upstream's curve).
fn wanted(nodes: usize) -> usize {
    if nodes <= ENOUGH {
        return nodes;
    }
    let percent = 50usize.saturating_sub(nodes / 125).max(5);
    (nodes * percent / 100).max(ENOUGH)
}

/// The node for a pod: of those that can take it one with the best score, chance deciding among equals. Begins where the
/// last search ended, and looks no further than it must.
///
/// # Errors
/// When no node can take it, with the reasons of all.
pub fn place(pod: &PodFacts, snapshot: &mut Snapshot, chance: u64) -> Result<Arc<str>, Unplaceable> {
    let count = snapshot.nodes.len();
    let known = snapshot.nodes.iter().filter(|node| node.known).count();
    let mut refused = Unplaceable { nodes: known, reasons: BTreeMap::new(), hindrances: BTreeSet::new() };
    let mut feasible = Vec::new();
    let wanted = wanted(known);
    let mut looked = 0;
    while looked < count && feasible.len() < wanted {
        let at = (snapshot.next + looked) % count;
        looked += 1;
        let node = &snapshot.nodes[at];
        if !node.known {
            continue;
        }
        match refuse(pod, node) {
            None => feasible.push(at),
            Some((hindrance, reasons)) => {
                refused.hindrances.insert(hindrance);
                for reason in reasons {
                    *refused.reasons.entry(reason).or_default() += 1;
                }
            }
        }
    }
    snapshot.next = if count == 0 { 0 } else { (snapshot.next + looked) % count };
    let chosen = match feasible[..] {
        [] => return Err(refused),
        [only] => only,
        _ => best(&feasible, &scores::total(pod, snapshot, &feasible), chance),
    };
    Ok(snapshot.nodes[chosen].name.clone())
}

fn best(feasible: &[usize], scores: &[i64], chance: u64) -> usize {
    let most = scores.iter().max();
    let equals: Vec<usize> =
        feasible.iter().zip(scores).filter(|(_, score)| Some(*score) == most).map(|(at, _)| *at).collect();
    let pick = usize::try_from(chance % equals.len().max(1) as u64).unwrap_or(0);
    equals.get(pick).copied().unwrap_or(feasible[0])
}

#[cfg(test)]
mod tests;
