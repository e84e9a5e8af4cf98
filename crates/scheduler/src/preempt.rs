//! Room for a pod where less important ones are: on which node, and which of them have to go.

use crate::cycle::Cycle;
use crate::place::{Reasons, Unplaceable};
use crate::pod::PodFacts;
use crate::snapshot::Snapshot;
use std::cmp::Reverse;
use std::sync::Arc;

const NO_VICTIMS: &str = "No preemption victims found for incoming pod";
const NO_HELP: &str = "Preemption is not helpful for scheduling";

/// What has to happen so that a pod gets a place.
#[derive(Clone, Debug)]
pub(crate) struct Preemption {
    pub(crate) node: Arc<str>,
    /// Pods that have to go, the most important first.
    pub(crate) victims: Vec<Arc<PodFacts>>,
    /// Less important pods for which room was being made there: they have to look elsewhere.
    pub(crate) rivals: Vec<Arc<PodFacts>>,
}

/// What it would take on one node.
struct Candidate {
    at: usize,
    victims: Vec<Arc<PodFacts>>,
    /// How many go although a budget would keep them.
    violations: usize,
}

/// Finds the node where making room does least harm.
///
/// # Errors
/// Why no room is made, in upstream's words.
pub(crate) fn preempt(
    cycle: &Cycle,
    snapshot: &mut Snapshot,
    refused: &Unplaceable,
    chance: u64,
) -> Result<Preemption, String> {
    may_preempt(cycle, snapshot, refused)?;
    let mut reasons = Reasons::default();
    let nodes = snapshot.known_nodes();
    reasons.add(NO_HELP.into(), nodes.saturating_sub(refused.curable.len()));
    let candidates = candidates(cycle, snapshot, &refused.curable, chance, &mut reasons);
    let Some(best) = candidates.into_iter().min_by_key(harm) else {
        let mut why = String::new();
        let _ = reasons.tell(&mut why, nodes);
        return Err(why);
    };
    let node = snapshot.nodes[best.at].name.clone();
    let rival = |other: &&Arc<PodFacts>| other.priority < cycle.pod.priority;
    let rivals = snapshot.nominated_to(&node).filter(rival).cloned().collect();
    Ok(Preemption { node, victims: best.victims, rivals })
}

fn may_preempt(cycle: &Cycle, snapshot: &Snapshot, refused: &Unplaceable) -> Result<(), String> {
    if cycle.pod.lets_others_be {
        return Err("not eligible due to preemptionPolicy=Never.".to_owned());
    }
    let nominated = snapshot.nomination(&cycle.pod.uid).or(cycle.pod.nominated.as_ref());
    let Some(at) = nominated.and_then(|name| snapshot.node_at(name)) else { return Ok(()) };
    let going = |pod: &Arc<PodFacts>| pod.preempted && pod.priority < cycle.pod.priority;
    if refused.curable.contains(&at) && snapshot.pods_on(at).any(going) {
        return Err("not eligible due to a terminating pod on the nominated node.".to_owned());
    }
    Ok(())
}

/// Tries nodes from a random one on, until there are enough to choose from.
fn candidates(
    cycle: &Cycle,
    snapshot: &mut Snapshot,
    curable: &[usize],
    chance: u64,
    reasons: &mut Reasons,
) -> Vec<Candidate> {
    let count = curable.len();
    if count == 0 {
        return Vec::new();
    }
    let args = cycle.profile.candidates;
    let wanted = (count * args.percentage / 100).max(args.least).min(count);
    let first = usize::try_from(chance % count as u64).unwrap_or(0);
    let mut found: Vec<Candidate> = Vec::new();
    for step in 0..count {
        match victims(cycle, snapshot, curable[(first + step) % count], reasons) {
            Some(candidate) => found.push(candidate),
            None => continue,
        }
        if found.len() >= wanted && found.iter().any(|candidate| candidate.violations == 0) {
            break;
        }
    }
    found
}

/// The more important first: by priority, and then who has been there longer.
fn importance(pod: &Arc<PodFacts>) -> impl Ord + use<> {
    (Reverse(pod.priority), pod.since, pod.uid.clone())
}

/// The fewest pods that have to leave a node. Takes all less important ones away, and lets back, the most important first and those
/// that a budget keeps before others, who does not stand in the way.
fn victims(cycle: &Cycle, snapshot: &mut Snapshot, at: usize, reasons: &mut Reasons) -> Option<Candidate> {
    let lesser = |pod: &&Arc<PodFacts>| pod.priority < cycle.pod.priority;
    let mut lesser: Vec<_> = snapshot.pods_on(at).filter(lesser).cloned().collect();
    if lesser.is_empty() {
        reasons.add(NO_VICTIMS.into(), 1);
        return None;
    }
    lesser.sort_by_cached_key(importance);
    let node = snapshot.nodes[at].name.clone();
    lesser.iter().for_each(|pod| drop(snapshot.remove_pod(&pod.uid)));
    if let Some(refusal) = cycle.refuse_beside_nominated(snapshot, at) {
        lesser.into_iter().for_each(|pod| snapshot.place(&node, pod));
        refusal.reasons.into_iter().for_each(|reason| reasons.add(reason, 1));
        return None;
    }
    let kept = snapshot.budgets.violated(lesser.iter().map(|pod| &**pod));
    let (protected, others): (Vec<_>, Vec<_>) = lesser.into_iter().zip(kept).partition(|(_, kept)| *kept);
    let mut victims: Vec<Arc<PodFacts>> = Vec::new();
    let mut violations = 0;
    for (pod, kept) in protected.into_iter().chain(others) {
        snapshot.place(&node, pod.clone());
        if cycle.refuse_beside_nominated(snapshot, at).is_some() {
            snapshot.remove_pod(&pod.uid);
            victims.push(pod);
            violations += usize::from(kept);
        }
    }
    victims.iter().for_each(|pod| snapshot.place(&node, pod.clone()));
    victims.sort_by_cached_key(importance);
    Some(Candidate { at, victims, violations })
}

/// What is compared, in upstream's order: budgets broken, the highest priority that has to go, the sum of priorities, how many
/// go, and of the most important how long the longest has been there. The first of equals is taken.
fn harm(candidate: &Candidate) -> impl Ord + use<> {
    let highest = candidate.victims.first().map(|pod| pod.priority);
    let sum: i64 = candidate.victims.iter().map(|pod| i64::from(pod.priority) + (1 << 31)).sum();
    let longest = candidate.victims.first().map(|pod| pod.since);
    (candidate.violations, highest, sum, candidate.victims.len(), Reverse(longest))
}

#[cfg(test)]
mod tests;
