//! Who is where: how many pods of a kind there are in every place, counted once and then kept up with each change.
//!
//! Pods of one namespace, with the same labels and the same terms, are one [`PodClass`]; of those there are few. Which classes
//! a selection takes in is worked out when either is first seen. A tally counts pods of a selection, or pods that carry a term, by the
//! places of a topology. So a pod that comes or goes changes a few numbers, and a question about all pods is a few numbers read.

mod topology;

pub(crate) use topology::{By, Eligible, Topology};

use crate::snapshot::NodeInfo;
use crate::terms::{Labels, PodSelection, Term, Terms, matches};
use apimachinery::selector::Selector;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// So much may be made before it is worth looking what of it is still needed.
const ROOM: usize = 4096;

/// What pods have in common for all questions about who is where.
#[derive(Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub(crate) struct PodClass {
    pub(crate) namespace: String,
    pub(crate) labels: Labels,
    /// On its way out: it does not count for spreading.
    pub(crate) terminating: bool,
    pub(crate) terms: Terms,
}

/// Pods that satisfy all of some selections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Group {
    pub(crate) all: Vec<PodSelection>,
    /// Without those that are on their way out.
    pub(crate) living: bool,
}

/// How a pod is bound to those that a term of its selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Bond {
    Required,
    RequiredApart,
    /// With its weight; below zero: rather apart.
    Preferred(i64),
}

pub(crate) type ClassId = usize;
pub(crate) type TallyId = usize;
type GroupId = usize;
type TermId = usize;
type TopologyId = usize;

struct Class {
    key: Arc<PodClass>,
    groups: Vec<GroupId>,
    carried: Vec<TermId>,
}

struct Selected {
    group: Group,
    tallies: Vec<TallyId>,
    /// Terms, carried by somebody, that select this group.
    terms: Vec<TermId>,
}

/// A term that pods carry, and how many do where.
pub(crate) struct Carried {
    pub(crate) bond: Bond,
    pub(crate) tally: TallyId,
}

#[derive(Default)]
struct Tally {
    topology: TopologyId,
    counts: Vec<u32>,
    total: u64,
}

impl Tally {
    fn change(&mut self, place: Option<usize>, by: i64) {
        let Some(place) = place else { return };
        if place >= self.counts.len() {
            self.counts.resize(place + 1, 0);
        }
        self.counts[place] = u32::try_from(i64::from(self.counts[place]) + by).unwrap_or(0);
        self.total = self.total.saturating_add_signed(by);
    }
}

/// See the module. Maps are only looked things up in: what is gone through is in the order in which it was made.
#[derive(Default)]
pub(crate) struct Census {
    namespaces: BTreeMap<String, Labels>,
    classes: Vec<Class>,
    class_of: HashMap<Arc<PodClass>, ClassId>,
    classes_in: HashMap<String, Vec<ClassId>>,
    groups: Vec<Selected>,
    group_of: HashMap<Group, GroupId>,
    /// Groups of one selection by the namespaces that it names, and those for which any namespace may count.
    groups_in: HashMap<String, Vec<GroupId>>,
    groups_anywhere: Vec<GroupId>,
    terms: Vec<Carried>,
    term_of: HashMap<(Bond, Term), TermId>,
    topologies: Vec<Topology>,
    topology_of: HashMap<By, TopologyId>,
    tallies: Vec<Tally>,
    tally_of: HashMap<(GroupId, TopologyId), TallyId>,
    /// What there was after the last look at what is needed.
    needed: usize,
    version: u64,
}

impl Census {
    /// The class of such pods.
    pub(crate) fn class(&mut self, key: &Arc<PodClass>, nodes: &[NodeInfo]) -> ClassId {
        if let Some(class) = self.class_of.get(key) {
            return *class;
        }
        let Terms { required, required_apart, preferred } = &key.terms;
        let required = required.iter().map(|term| (Bond::Required, term));
        let apart = required_apart.iter().map(|term| (Bond::RequiredApart, term));
        let preferred = preferred.iter().map(|(weight, term)| (Bond::Preferred(*weight), term));
        let carried = required
            .chain(apart)
            .chain(preferred)
            .map(|(bond, term)| self.carried(bond, term, nodes))
            .collect();
        let id = self.classes.len();
        let candidates =
            self.groups_in.get(&key.namespace).into_iter().flatten().chain(&self.groups_anywhere);
        let mut groups: Vec<GroupId> =
            candidates.copied().filter(|group| self.takes_in(&self.groups[*group].group, key)).collect();
        groups.sort_unstable();
        self.classes.push(Class { key: key.clone(), groups, carried });
        self.class_of.insert(key.clone(), id);
        self.classes_in.entry(key.namespace.clone()).or_default().push(id);
        id
    }

    fn carried(&mut self, bond: Bond, term: &Term, nodes: &[NodeInfo]) -> TermId {
        let key = (bond, term.clone());
        if let Some(id) = self.term_of.get(&key) {
            return *id;
        }
        let group = self.group(Group { all: vec![term.selection.clone()], living: false });
        let topology = self.topology(By::key(&term.topology_key), nodes);
        let (id, tally) = (self.terms.len(), self.tallies.len());
        self.tallies.push(Tally { topology, ..Tally::default() });
        self.terms.push(Carried { bond, tally });
        self.term_of.insert(key, id);
        self.groups[group].terms.push(id);
        id
    }

    fn group(&mut self, group: Group) -> GroupId {
        if let Some(id) = self.group_of.get(&group) {
            return *id;
        }
        let id = self.groups.len();
        let named = match &group.all[..] {
            [first, ..] if first.namespace_selector == Selector::nothing() => Some(&first.namespaces),
            _ => None,
        };
        let classes: Vec<ClassId> = match named {
            Some(names) => {
                for name in names {
                    self.groups_in.entry(name.clone()).or_default().push(id);
                }
                names.iter().filter_map(|name| self.classes_in.get(name)).flatten().copied().collect()
            }
            None => {
                self.groups_anywhere.push(id);
                (0..self.classes.len()).collect()
            }
        };
        for class in classes {
            if self.takes_in(&group, &self.classes[class].key) {
                self.classes[class].groups.push(id);
            }
        }
        self.group_of.insert(group.clone(), id);
        self.groups.push(Selected { group, tallies: Vec::new(), terms: Vec::new() });
        id
    }

    /// The places by a key.
    pub(crate) fn topology(&mut self, by: By, nodes: &[NodeInfo]) -> TopologyId {
        if let Some(id) = self.topology_of.get(&by) {
            return *id;
        }
        let id = self.topologies.len();
        self.topologies.push(Topology::new(by.clone(), nodes));
        self.topology_of.insert(by, id);
        id
    }

    /// The count of the group's pods by those places.
    pub(crate) fn tally(&mut self, group: Group, by: By, nodes: &[NodeInfo]) -> TallyId {
        let (group, topology) = (self.group(group), self.topology(by, nodes));
        if let Some(id) = self.tally_of.get(&(group, topology)) {
            return *id;
        }
        let mut tally = Tally { topology, ..Tally::default() };
        for (at, node) in nodes.iter().enumerate() {
            let place = self.topologies[topology].of(at);
            for (class, count) in &node.classes {
                if self.classes[*class].groups.binary_search(&group).is_ok() {
                    tally.change(place, i64::from(*count));
                }
            }
        }
        let id = self.tallies.len();
        self.tallies.push(tally);
        self.tally_of.insert((group, topology), id);
        self.groups[group].tallies.push(id);
        id
    }

    /// Whether a pod of that class is one of the group.
    pub(crate) fn takes_in(&self, group: &Group, class: &PodClass) -> bool {
        let counts = !(group.living && class.terminating);
        counts && !group.all.is_empty() && group.all.iter().all(|selection| self.selects(selection, class))
    }

    fn selects(&self, selection: &PodSelection, class: &PodClass) -> bool {
        let nothing = Labels::new();
        let counts = selection.namespaces.contains(&class.namespace)
            || matches(
                &selection.namespace_selector,
                self.namespaces.get(&class.namespace).unwrap_or(&nothing),
            );
        counts && matches(&selection.selector, &class.labels)
    }

    /// Terms that pods carry, or carried, and that select pods of this class.
    pub(crate) fn selecting(&self, class: ClassId) -> impl Iterator<Item = &Carried> {
        let groups = self.classes[class].groups.iter();
        groups.flat_map(|group| &self.groups[*group].terms).map(|term| &self.terms[*term])
    }

    /// How many are where that node is; none if it is in no place.
    pub(crate) fn count(&self, tally: TallyId, node: usize) -> Option<u32> {
        let tally = &self.tallies[tally];
        let place = self.topologies[tally.topology].of(node)?;
        Some(tally.counts.get(place).copied().unwrap_or(0))
    }

    /// How many are in a place.
    pub(crate) fn in_place(&self, tally: TallyId, place: usize) -> u32 {
        self.tallies[tally].counts.get(place).copied().unwrap_or(0)
    }

    /// How many are anywhere.
    pub(crate) fn total(&self, tally: TallyId) -> u64 {
        self.tallies[tally].total
    }

    /// What a tally counts by.
    pub(crate) fn places(&self, tally: TallyId) -> &Topology {
        &self.topologies[self.tallies[tally].topology]
    }

    /// A pod of that class is on a node from now on, or no more.
    pub(crate) fn change(&mut self, class: ClassId, at: usize, node: &mut NodeInfo, arrives: bool) {
        let count = node.classes.entry(class).or_insert(0);
        *count = if arrives { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            node.classes.remove(&class);
        }
        let by = if arrives { 1 } else { -1 };
        for group in &self.classes[class].groups {
            for tally in &self.groups[*group].tallies {
                let tally = &mut self.tallies[*tally];
                tally.change(self.topologies[tally.topology].of(at), by);
            }
        }
        self.count_carried(class, at, by);
        self.version += 1;
    }

    /// Another one whenever a count changed.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    fn count_carried(&mut self, class: ClassId, at: usize, by: i64) {
        for term in &self.classes[class].carried {
            let tally = &mut self.tallies[self.terms[*term].tally];
            tally.change(self.topologies[tally.topology].of(at), by);
        }
    }

    /// A node without pods and labels has the next number.
    pub(crate) fn node_added(&mut self) {
        self.topologies.iter_mut().for_each(Topology::push);
    }

    /// A node is gone, and the last one has its number.
    pub(crate) fn node_dropped(&mut self, at: usize) {
        self.topologies.iter_mut().for_each(|topology| topology.swap_remove(at));
    }

    /// A node's labels or taints changed: those on it may be in another place.
    pub(crate) fn node_changed(&mut self, at: usize, node: &NodeInfo) {
        self.version += 1;
        let update = |topology: &mut Topology| topology.update(at, node);
        let moves: Vec<_> = self.topologies.iter_mut().map(update).collect();
        if moves.iter().all(Option::is_none) {
            return;
        }
        let shift = |tally: &mut Tally, count: i64| {
            if let Some((from, to)) = moves[tally.topology] {
                tally.change(from, -count);
                tally.change(to, count);
            }
        };
        for (class, count) in &node.classes {
            for group in &self.classes[*class].groups {
                for tally in &self.groups[*group].tallies {
                    shift(&mut self.tallies[*tally], i64::from(*count));
                }
            }
            for term in &self.classes[*class].carried {
                shift(&mut self.tallies[self.terms[*term].tally], i64::from(*count));
            }
        }
    }

    /// A namespace has these labels, or is gone. Whether that may matter to anybody.
    pub(crate) fn set_namespace(
        &mut self,
        name: &str,
        labels: Option<&Labels>,
        nodes: &mut [NodeInfo],
    ) -> bool {
        if self.namespaces.get(name) == labels {
            return false;
        }
        match labels {
            Some(labels) => self.namespaces.insert(name.to_owned(), labels.clone()),
            None => self.namespaces.remove(name),
        };
        if self.groups_anywhere.is_empty() {
            return false;
        }
        if self.classes_in.contains_key(name) {
            self.begin_anew(nodes);
        }
        true
    }

    fn made(&self) -> usize {
        // A topology is as large as there are nodes.
        self.classes.len() + self.groups.len() + self.tallies.len() + 8 * self.topologies.len()
    }

    /// Forgets what nobody needs any more, when much was made since that was last done.
    pub(crate) fn tidy(&mut self, nodes: &mut [NodeInfo]) {
        if self.made() > ROOM + 3 * self.needed {
            self.begin_anew(nodes);
        }
    }

    /// Only classes with pods, and what these carry; the rest is made again when it is asked for.
    pub(crate) fn begin_anew(&mut self, nodes: &mut [NodeInfo]) {
        let namespaces = std::mem::take(&mut self.namespaces);
        let old = std::mem::replace(self, Self { namespaces, ..Self::default() });
        let counts: Vec<Vec<(Arc<PodClass>, u32)>> = nodes
            .iter_mut()
            .map(|node| std::mem::take(&mut node.classes))
            .map(|counts| {
                counts.into_iter().map(|(id, count)| (old.classes[id].key.clone(), count)).collect()
            })
            .collect();
        for (at, counts) in counts.into_iter().enumerate() {
            for (key, count) in counts {
                let class = self.class(&key, nodes);
                nodes[at].classes.insert(class, count);
                self.count_carried(class, at, i64::from(count));
            }
        }
        self.needed = self.made();
    }
}
