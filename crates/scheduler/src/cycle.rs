//! One pod's turn: what its plugins need is worked out once, and then asked for node by node.

use crate::census::ClassId;
use crate::config::Profile;
use crate::plugins::{
    Filter, PluginName, Refusal, inter_pod_affinity, node_affinity, spread, volume_binding,
};
use crate::pod::PodFacts;
use crate::snapshot::Snapshot;
use std::collections::BTreeSet;
use std::sync::Arc;

/// See the module.
pub(crate) struct Cycle {
    pub(crate) pod: Arc<PodFacts>,
    pub(crate) profile: Arc<Profile>,
    pub(crate) class: ClassId,
    pub(crate) affinity: inter_pod_affinity::Ready,
    pub(crate) spread: spread::Ready,
    pub(crate) volumes: volume_binding::Ready,
    /// The only nodes that can be meant.
    pub(crate) only: Option<BTreeSet<String>>,
    /// Of the profile's those that have something to say.
    filters: Vec<Filter>,
}

impl Cycle {
    /// Begins.
    ///
    /// # Errors
    /// Why no node at all can take the pod.
    pub(crate) fn begin(
        pod: &Arc<PodFacts>,
        profile: &Arc<Profile>,
        snapshot: &mut Snapshot,
    ) -> Result<Self, Refusal> {
        snapshot.tidy();
        let class = snapshot.census.class(&pod.class, &snapshot.nodes);
        // Pods for which room is being made count on trial: what they say must be known before.
        let nominated: Vec<_> = snapshot.all_nominated().map(|other| other.class.clone()).collect();
        for other in nominated {
            snapshot.census.class(&other, &snapshot.nodes);
        }
        let mut cycle = Self {
            pod: pod.clone(),
            profile: profile.clone(),
            class,
            affinity: Default::default(),
            spread: Default::default(),
            volumes: Default::default(),
            only: node_affinity::only(pod).filter(|_| profile.filters_by(PluginName::NodeAffinity)),
            filters: Vec::new(),
        };
        if cycle.only.as_ref().is_some_and(BTreeSet::is_empty) {
            return Err(Refusal::lasting(PluginName::NodeAffinity, "pod affinity terms conflict"));
        }
        if !pod.claims.is_empty() && profile.filters_by(PluginName::VolumeBinding) {
            cycle.volumes = volume_binding::Ready::of(&cycle, &snapshot.volumes)?;
        }
        if profile.filters_by(PluginName::PodTopologySpread) {
            cycle.spread = spread::Ready::for_filters(&cycle, snapshot);
        }
        if profile.filters_by(PluginName::InterPodAffinity) {
            cycle.affinity = inter_pod_affinity::Ready::for_filters(&cycle, snapshot);
        }
        let plugins = profile.filters.iter().filter_map(|named| named.plugin());
        let concerned = plugins.filter(|plugin| (plugin.concerns)(&cycle));
        cycle.filters = concerned.filter_map(|plugin| plugin.filter).collect();
        Ok(cycle)
    }

    /// Why a node cannot take the pod, as things are: the first filter that refuses speaks.
    pub(crate) fn refuse(&self, snapshot: &Snapshot, at: usize) -> Option<Refusal> {
        self.filters.iter().find_map(|filter| filter(self, snapshot, at))
    }

    /// As [`Self::refuse`], and with those pods on the node, too, for which room is being made there, as far as they are no
    /// less important. What the pod wants to be near must be there already: both have to hold.
    pub(crate) fn refuse_beside_nominated(&self, snapshot: &mut Snapshot, at: usize) -> Option<Refusal> {
        if !snapshot.has_nominated() {
            return self.refuse(snapshot, at);
        }
        let name = snapshot.nodes[at].name.clone();
        let before = |other: &&Arc<PodFacts>| {
            other.priority >= self.pod.priority && other.uid != self.pod.uid && !snapshot.holds(&other.uid)
        };
        let others: Vec<_> = snapshot.nominated_to(&name).filter(before).cloned().collect();
        if !others.is_empty() {
            others.iter().for_each(|other| snapshot.place(&name, other.clone()));
            let refusal = self.refuse(snapshot, at);
            others.iter().for_each(|other| drop(snapshot.remove_pod(&other.uid)));
            if refusal.is_some() {
                return refusal;
            }
        }
        self.refuse(snapshot, at)
    }

    /// The total score of each of the nodes.
    pub(crate) fn total(&mut self, snapshot: &mut Snapshot, nodes: &[usize]) -> Vec<i64> {
        let mut spread = std::mem::take(&mut self.spread);
        spread.for_scores(self, snapshot);
        self.spread = spread;
        let mut affinity = std::mem::take(&mut self.affinity);
        affinity.for_scores(self, snapshot);
        self.affinity = affinity;
        let mut total = vec![0; nodes.len()];
        for (named, weight) in &self.profile.scores {
            let Some(score) = named.plugin().and_then(|plugin| plugin.score) else { continue };
            for (sum, score) in total.iter_mut().zip(score(self, snapshot, nodes)) {
                *sum += weight * score;
            }
        }
        total
    }
}

impl Profile {
    fn filters_by(&self, name: PluginName) -> bool {
        self.filters.iter().any(|named| named.0 == name)
    }
}
