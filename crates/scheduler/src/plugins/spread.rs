//! How even pods of a kind are over the places of a topology: PodTopologySpread.

use super::{Plugin, PluginName, Refusal};
use crate::census::{By, Census, Eligible, Group, TallyId};
use crate::cycle::Cycle;
use crate::event::Event;
use crate::pod::PodFacts;
use crate::snapshot::Snapshot;
use crate::terms::{Spread, matches};
use k8s_openapi::api::core::v1::{Affinity, NodeAffinity};
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeSet;

const HOSTNAME: &str = "kubernetes.io/hostname";
const UNEVEN: &str = "node(s) didn't match pod topology spread constraints";
const UNLABELLED: &str = "node(s) didn't match pod topology spread constraints (missing required label)";

pub(crate) const PLUGIN: Plugin = Plugin {
    name: PluginName::PodTopologySpread,
    concerns: |cycle| !cycle.spread.hard.is_empty(),
    filter: Some(|cycle, snapshot, at| {
        cycle.spread.hard.iter().find_map(|constraint| constraint.refuse(snapshot, at))
    }),
    score: Some(score),
    weight: 2,
    helps: |event, pod| match event {
        Event::PodPlaced(other) | Event::PodGone(other) => {
            let counts = |spread: &Spread| spread.hard && matches(&spread.selector, &other.class.labels);
            pod.namespace == other.namespace && (pod.spread.is_empty() || pod.spread.iter().any(counts))
        }
        Event::Node(node, aspects) => {
            let keys = pod.spread.iter().filter(|spread| spread.hard).map(|spread| &spread.topology_key);
            (aspects.labels || aspects.taints) && keys.into_iter().all(|key| node.labels.contains_key(key))
        }
        Event::NodeGone => true,
        _ => false,
    },
};

/// A constraint that must hold, with what it is measured by.
pub(crate) struct Hard {
    key: String,
    max_skew: i64,
    min_domains: usize,
    /// One, if the pod itself would be counted.
    own: i64,
    tally: TallyId,
    /// The fewest anywhere, as of a version of the census.
    least: Cell<Option<(u64, i64)>>,
}

/// A constraint that had better hold.
pub(crate) struct Soft {
    key: String,
    max_skew: i64,
    tally: TallyId,
}

/// What the pod's constraints are, made ready.
#[derive(Default)]
pub(crate) struct Ready {
    hard: Vec<Hard>,
    soft: Vec<Soft>,
    /// Whether a node must have all labels in order to be scored.
    all_labels: bool,
}

/// The pod's own constraints, or the profile's for pods that have none but belong to something.
fn constraints<'a>(cycle: &'a Cycle, snapshot: &Snapshot) -> Cow<'a, [Spread]> {
    let default = &cycle.profile.default_spread;
    if !cycle.pod.spread.is_empty() || default.is_empty() {
        return Cow::Borrowed(&cycle.pod.spread);
    }
    let Some(selector) = snapshot.selectors.of(&cycle.pod) else { return Cow::Borrowed(&[]) };
    default.iter().map(|spread| Spread { selector: selector.clone(), ..spread.clone() }).collect()
}

impl Ready {
    /// Readies what filters need.
    pub(crate) fn for_filters(cycle: &Cycle, snapshot: &mut Snapshot) -> Self {
        let all = constraints(cycle, snapshot);
        let hard: Vec<&Spread> = all.iter().filter(|spread| spread.hard).collect();
        let ready = |spread: &&Spread| Hard {
            key: spread.topology_key.clone(),
            max_skew: spread.max_skew,
            min_domains: spread.min_domains,
            own: i64::from(
                !cycle.pod.class.terminating && matches(&spread.selector, &cycle.pod.class.labels),
            ),
            tally: tally(spread, &hard, true, &cycle.pod, snapshot),
            least: Cell::new(None),
        };
        let mut ready = ready;
        Self { hard: hard.iter().map(&mut ready).collect(), ..Self::default() }
    }

    /// Readies what scores need: only when there is more than one node to choose from.
    pub(crate) fn for_scores(&mut self, cycle: &Cycle, snapshot: &mut Snapshot) {
        let all = constraints(cycle, snapshot);
        let soft: Vec<&Spread> = all.iter().filter(|spread| !spread.hard).collect();
        self.all_labels = !cycle.pod.spread.is_empty() || !cycle.profile.default_spread_is_the_systems;
        let mut ready = |spread: &&Spread| Soft {
            key: spread.topology_key.clone(),
            max_skew: spread.max_skew,
            tally: tally(spread, &soft, self.all_labels, &cycle.pod, snapshot),
        };
        self.soft = soft.iter().map(&mut ready).collect();
    }
}

/// What counts the pods of a constraint: on nodes that have the labels of all constraints, and that the pod could be on as far as
/// the constraint asks.
fn tally(
    spread: &Spread,
    all: &[&Spread],
    all_labels: bool,
    pod: &PodFacts,
    snapshot: &mut Snapshot,
) -> TallyId {
    let node_affinity = pod.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = node_affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.clone());
    let bound = spread.honor_affinity && (required.is_some() || !pod.node_selector.is_empty());
    let many = all_labels && all.len() > 1;
    let by = if bound || many || spread.honor_taints {
        let required = required.map(|required| Affinity {
            node_affinity: Some(NodeAffinity {
                required_during_scheduling_ignored_during_execution: Some(required),
                ..NodeAffinity::default()
            }),
            ..Affinity::default()
        });
        let eligible = Eligible {
            keys: if many {
                all.iter().map(|spread| spread.topology_key.clone()).collect()
            } else {
                Vec::new()
            },
            node_selector: if bound { pod.node_selector.clone() } else { Default::default() },
            affinity: required.filter(|_| bound),
            tolerations: spread.honor_taints.then(|| pod.tolerations.clone()),
        };
        By::among(&spread.topology_key, eligible)
    } else {
        By::key(&spread.topology_key)
    };
    let group = Group { all: vec![spread.selection(&pod.namespace)], living: true };
    snapshot.census.tally(group, by, &snapshot.nodes)
}

impl Hard {
    fn refuse(&self, snapshot: &Snapshot, at: usize) -> Option<Refusal> {
        let census = &snapshot.census;
        let Some(value) = snapshot.nodes[at].labels.get(&self.key) else {
            return Some(Refusal::lasting(PluginName::PodTopologySpread, UNLABELLED));
        };
        // A node that does not count may still be in a place of those that do.
        let places = census.places(self.tally);
        let place = places.of(at).or_else(|| places.named(value));
        let here = place.map_or(0, |place| i64::from(census.in_place(self.tally, place)));
        let uneven = here + self.own - self.least(census) > self.max_skew;
        uneven.then(|| Refusal::curable(PluginName::PodTopologySpread, UNEVEN))
    }

    /// The fewest in any place; none where there are fewer places than there should be.
    fn least(&self, census: &Census) -> i64 {
        if let Some((version, least)) = self.least.get()
            && version == census.version()
        {
            return least;
        }
        let (mut places, mut least) = (0, u32::MAX);
        for place in census.places(self.tally).places() {
            places += 1;
            least = least.min(census.in_place(self.tally, place));
        }
        let least = if places < self.min_domains || places == 0 { 0 } else { i64::from(least) };
        self.least.set(Some((census.version(), least)));
        least
    }
}

/// Many in a place make it costly, more so where places are many.
fn score(cycle: &Cycle, snapshot: &Snapshot, nodes: &[usize]) -> Vec<i64> {
    let (soft, census) = (&cycle.spread.soft, &snapshot.census);
    if soft.is_empty() {
        return vec![0; nodes.len()];
    }
    let labelled = |at: usize| soft.iter().all(|one| snapshot.nodes[at].labels.contains_key(&one.key));
    let scored: Vec<bool> = nodes.iter().map(|at| !cycle.spread.all_labels || labelled(*at)).collect();
    let counted = || nodes.iter().zip(&scored).filter(|(_, scored)| **scored).map(|(at, _)| *at);
    let weight = |one: &Soft| {
        let places = if one.key == HOSTNAME {
            counted().count()
        } else {
            counted().map(|at| census.places(one.tally).of(at)).collect::<BTreeSet<_>>().len()
        };
        ((places + 2) as f64).ln()
    };
    let weights: Vec<f64> = soft.iter().map(weight).collect();
    let cost = |at: usize| -> i64 {
        let each = soft.iter().zip(&weights).filter_map(|(one, weight)| {
            let here = match census.count(one.tally, at) {
                Some(here) => here,
                None if snapshot.nodes[at].labels.contains_key(&one.key) => 0,
                None => return None,
            };
            Some(f64::from(here) * weight + (one.max_skew - 1) as f64)
        });
        each.sum::<f64>().round() as i64
    };
    let costs: Vec<Option<i64>> =
        nodes.iter().zip(&scored).map(|(at, scored)| scored.then(|| cost(*at))).collect();
    let known = || costs.iter().flatten().copied();
    let (least, most) = (known().min().unwrap_or(0), known().max().unwrap_or(0));
    let score = |cost: &Option<i64>| match cost {
        None => 0,
        Some(_) if most == 0 => 100,
        Some(cost) => 100 * (most + least - cost) / most,
    };
    costs.iter().map(score).collect()
}
