//! Which pods a pod wants to be with, or not; and which of those that are there want it.

use super::{Plugin, PluginName, Refusal};
use crate::census::{Bond, By, Group, TallyId};
use crate::cycle::Cycle;
use crate::event::Event;
use crate::pod::PodFacts;
use crate::snapshot::Snapshot;
use crate::terms::{Term, matches};
use apimachinery::selector::Selector;

pub(crate) const PLUGIN: Plugin = Plugin {
    name: PluginName::InterPodAffinity,
    concerns: |cycle| cycle.affinity.has_a_say(),
    filter: Some(|cycle, snapshot, at| cycle.affinity.refuse(snapshot, at)),
    score: Some(|cycle, snapshot, nodes| cycle.affinity.score(snapshot, nodes)),
    weight: 2,
    helps: |event, pod| helps(event, pod),
};

/// What the pod and those around it say, made ready.
#[derive(Default)]
pub(crate) struct Ready {
    /// How many are where of those that satisfy all of its terms, for each term.
    together: Vec<TallyId>,
    /// Whether the pod satisfies its own terms: the first of a group that wants to be together has to begin.
    satisfies_itself: bool,
    /// How many of those that it must not be with are where.
    apart: Vec<TallyId>,
    /// How many of those that must not be with it are where.
    repelling: Vec<TallyId>,
    /// What speaks for a place, or against it, with its weight.
    preferred: Vec<(i64, TallyId)>,
}

fn one(term: &Term) -> Group {
    Group { all: vec![term.selection.clone()], living: false }
}

impl Ready {
    /// Readies what filters need.
    pub(crate) fn for_filters(cycle: &Cycle, snapshot: &mut Snapshot) -> Self {
        let (terms, nodes, census) = (&cycle.pod.class.terms, &snapshot.nodes, &mut snapshot.census);
        let all =
            Group { all: terms.required.iter().map(|term| term.selection.clone()).collect(), living: false };
        let together = terms
            .required
            .iter()
            .map(|term| census.tally(all.clone(), By::key(&term.topology_key), nodes))
            .collect();
        let apart = terms
            .required_apart
            .iter()
            .map(|term| census.tally(one(term), By::key(&term.topology_key), nodes))
            .collect();
        let repelling = census.selecting(cycle.class).filter(|carried| carried.bond == Bond::RequiredApart);
        Self {
            together,
            satisfies_itself: census.takes_in(&all, &cycle.pod.class),
            apart,
            repelling: repelling.map(|carried| carried.tally).collect(),
            preferred: Vec::new(),
        }
    }

    /// Readies what scores need.
    pub(crate) fn for_scores(&mut self, cycle: &Cycle, snapshot: &mut Snapshot) {
        let (terms, nodes, census) = (&cycle.pod.class.terms, &snapshot.nodes, &mut snapshot.census);
        let own = terms.preferred.iter();
        self.preferred = own
            .map(|(weight, term)| (*weight, census.tally(one(term), By::key(&term.topology_key), nodes)))
            .collect();
        if self.preferred.is_empty() && cycle.profile.ignore_preferences_of_placed {
            return;
        }
        for carried in census.selecting(cycle.class) {
            let weight = match carried.bond {
                Bond::Required => cycle.profile.hard_pod_affinity_weight,
                Bond::RequiredApart => 0,
                Bond::Preferred(weight) => weight,
            };
            if weight != 0 && census.total(carried.tally) > 0 {
                self.preferred.push((weight, carried.tally));
            }
        }
    }

    fn has_a_say(&self) -> bool {
        !(self.together.is_empty() && self.apart.is_empty() && self.repelling.is_empty())
    }

    fn refuse(&self, snapshot: &Snapshot, at: usize) -> Option<Refusal> {
        let census = &snapshot.census;
        let any =
            |tallies: &[TallyId]| tallies.iter().any(|tally| census.count(*tally, at).is_some_and(|n| n > 0));
        let by = PluginName::InterPodAffinity;
        if !self.is_with_all(snapshot, at) {
            return Some(Refusal::lasting(by, "node(s) didn't match pod affinity rules"));
        }
        if any(&self.apart) {
            return Some(Refusal::curable(by, "node(s) didn't match pod anti-affinity rules"));
        }
        if any(&self.repelling) {
            return Some(Refusal::curable(by, "node(s) didn't satisfy existing pods anti-affinity rules"));
        }
        None
    }

    fn is_with_all(&self, snapshot: &Snapshot, at: usize) -> bool {
        let census = &snapshot.census;
        let mut found = true;
        for tally in &self.together {
            match census.count(*tally, at) {
                None => return false,
                Some(count) => found &= count > 0,
            }
        }
        found || (self.satisfies_itself && self.together.iter().all(|tally| census.total(*tally) == 0))
    }

    fn score(&self, snapshot: &Snapshot, nodes: &[usize]) -> Vec<i64> {
        if self.preferred.is_empty() {
            return vec![0; nodes.len()];
        }
        let census = &snapshot.census;
        let sum = |at: &usize| -> i64 {
            let each = self.preferred.iter();
            each.map(|(weight, tally)| weight * i64::from(census.count(*tally, *at).unwrap_or(0))).sum()
        };
        let raw: Vec<i64> = nodes.iter().map(sum).collect();
        let least = raw.iter().copied().min().unwrap_or(0);
        let range = raw.iter().copied().max().unwrap_or(0) - least;
        let score =
            |sum: &i64| if range == 0 { 0 } else { (100.0 * (sum - least) as f64 / range as f64) as i64 };
        raw.iter().map(score).collect()
    }
}

/// Whether a term may select a pod, as far as that can be said without knowing the labels of its namespace.
fn may_select(term: &Term, pod: &PodFacts) -> bool {
    let selection = &term.selection;
    let named =
        selection.namespaces.contains(&*pod.namespace) || selection.namespace_selector != Selector::nothing();
    named && matches(&selection.selector, &pod.class.labels)
}

fn helps(event: &Event<'_>, pod: &PodFacts) -> bool {
    let terms = &pod.class.terms;
    match event {
        Event::PodPlaced(other) => terms.required.iter().any(|term| may_select(term, other)),
        Event::PodGone(other) => {
            terms.required_apart.iter().any(|term| may_select(term, other))
                || other.class.terms.required_apart.iter().any(|term| may_select(term, pod))
        }
        Event::Node(node, aspects) => {
            let mut keys = terms.required.iter().map(|term| &term.topology_key);
            aspects.labels && keys.all(|key| node.labels.contains_key(key))
        }
        Event::Namespace => true,
        _ => false,
    }
}
