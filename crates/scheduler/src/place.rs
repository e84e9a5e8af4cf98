//! One decision.

use crate::config::Profile;
use crate::cycle::Cycle;
use crate::plugins::{PluginName, Refusal, volume_binding};
use crate::pod::PodFacts;
use crate::snapshot::Snapshot;
use crate::volumes::VolumePlan;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// So many nodes that can take a pod are always enough to choose from.
const ENOUGH: usize = 100;

/// Where a pod goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// The node.
    pub node: Arc<str>,
    pub(crate) volumes: VolumePlan,
}

/// How often which reason was given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reasons(BTreeMap<Cow<'static, str>, usize>);

impl Reasons {
    pub(crate) fn add(&mut self, reason: Cow<'static, str>, count: usize) {
        if count > 0 {
            *self.0.entry(reason).or_default() += count;
        }
    }

    /// Upstream's sentence about nodes that are not available.
    pub(crate) fn tell(&self, f: &mut impl fmt::Write, nodes: usize) -> fmt::Result {
        write!(f, "0/{nodes} nodes are available:")?;
        let mut all: Vec<_> = self.0.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        all.sort();
        if all.is_empty() { Ok(()) } else { write!(f, " {}.", all.join(", ")) }
    }
}

/// Why no node can take a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unplaceable {
    nodes: usize,
    reasons: Reasons,
    /// Why no node was even looked at.
    before: Option<String>,
    /// Which plugins refused: what must change.
    pub(crate) by: BTreeSet<PluginName>,
    /// Nodes, by number, where evicting pods may help.
    pub(crate) curable: Vec<usize>,
    /// Why no room is made.
    pub(crate) preemption: Option<String>,
}

impl Unplaceable {
    fn note(&mut self, at: usize, refusal: Refusal) {
        self.by.insert(refusal.by);
        if refusal.curable {
            self.curable.push(at);
        }
        for reason in refusal.reasons {
            self.reasons.add(reason, 1);
        }
    }
}

impl fmt::Display for Unplaceable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        match &self.before {
            Some(before) => write!(f, "0/{} nodes are available: {before}.", self.nodes)?,
            None => self.reasons.tell(f, self.nodes)?,
        }
        self.preemption.as_ref().map_or(Ok(()), |why| write!(f, " preemption: {why}"))
    }
}

impl std::error::Error for Unplaceable {}

/// How many feasible nodes to look for: all of a few, a falling share of many (upstream's curve), or the share that is set.
fn wanted(nodes: usize, percentage: usize) -> usize {
    if nodes <= ENOUGH || percentage >= 100 {
        return nodes;
    }
    let percent = if percentage > 0 { percentage } else { 50usize.saturating_sub(nodes / 125).max(5) };
    (nodes * percent / 100).max(ENOUGH)
}

/// The node for a pod: of those that can take it one with the best score, chance deciding among equals.
///
/// # Errors
/// When no node can take it, with the reasons of all.
pub fn place(
    pod: &Arc<PodFacts>,
    profile: &Arc<Profile>,
    snapshot: &mut Snapshot,
    chance: u64,
) -> Result<Placement, Box<Unplaceable>> {
    attempt(pod, profile, snapshot, chance).map_err(|(_, why)| why)
}

/// As [`place`], with the cycle in which it failed, for preemption to go on with.
pub(crate) fn attempt(
    pod: &Arc<PodFacts>,
    profile: &Arc<Profile>,
    snapshot: &mut Snapshot,
    chance: u64,
) -> Result<Placement, (Option<Box<Cycle>>, Box<Unplaceable>)> {
    let mut refused = Box::new(Unplaceable { nodes: snapshot.known_nodes(), ..Unplaceable::default() });
    if refused.nodes == 0 {
        return Err((None, refused));
    }
    let mut cycle = match Cycle::begin(pod, profile, snapshot) {
        Ok(cycle) => Box::new(cycle),
        Err(refusal) => {
            refused.by.insert(refusal.by);
            refused.before = Some(refusal.reasons.join(", "));
            return Err((None, refused));
        }
    };
    let feasible = find(&cycle, snapshot, &mut refused);
    let at = match feasible[..] {
        [] => return Err((Some(cycle), refused)),
        [only] => only,
        _ => best(&feasible, &cycle.total(snapshot, &feasible), chance),
    };
    let volumes = volume_binding::plan(&cycle, snapshot, at).unwrap_or_default();
    Ok(Placement { node: snapshot.nodes[at].name.clone(), volumes })
}

/// Nodes that can take the pod: the one on which room was made for it, if it is one; else as many as are wanted, the search
/// beginning where the last one ended.
fn find(cycle: &Cycle, snapshot: &mut Snapshot, refused: &mut Unplaceable) -> Vec<usize> {
    let nominated = snapshot.nomination(&cycle.pod.uid).or(cycle.pod.nominated.as_ref());
    if let Some(at) = nominated.and_then(|name| snapshot.node_at(name))
        && cycle.refuse_beside_nominated(snapshot, at).is_none()
    {
        return vec![at];
    }
    let mut feasible = Vec::new();
    if let Some(only) = &cycle.only {
        let there: Vec<usize> = only.iter().filter_map(|name| snapshot.node_at(name)).collect();
        for at in there {
            match cycle.refuse_beside_nominated(snapshot, at) {
                None => feasible.push(at),
                Some(refusal) => refused.note(at, refusal),
            }
        }
        refused.by.insert(PluginName::NodeAffinity);
        return feasible;
    }
    let count = snapshot.nodes.len();
    let mut wanted = wanted(snapshot.known_nodes(), cycle.profile.percentage_of_nodes_to_score);
    let mut looked = 0;
    while looked < count && wanted > 0 {
        let at = (snapshot.next + looked) % count;
        looked += 1;
        if !snapshot.nodes[at].known {
            continue;
        }
        match cycle.refuse_beside_nominated(snapshot, at) {
            None => {
                feasible.push(at);
                wanted -= 1;
            }
            Some(refusal) => refused.note(at, refusal),
        }
    }
    snapshot.next = if count == 0 { 0 } else { (snapshot.next + looked) % count };
    feasible
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
