//! What decides where a pod may go and where it had better: one file a plugin, all of one shape.

use crate::cycle::Cycle;
use crate::event::Event;
use crate::pod::PodFacts;
use crate::snapshot::Snapshot;
use std::borrow::Cow;
use std::fmt;

pub(crate) mod balance;
pub(crate) mod fit;
pub(crate) mod image_locality;
pub(crate) mod inter_pod_affinity;
pub(crate) mod node_affinity;
pub(crate) mod node_name;
pub(crate) mod node_ports;
pub(crate) mod node_unschedulable;
pub(crate) mod node_volume_limits;
pub(crate) mod spread;
pub(crate) mod taints;
pub(crate) mod volume_binding;
pub(crate) mod volume_restrictions;
pub(crate) mod volume_zone;

/// A plugin, by upstream's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // upstream's names, and each has a file that says what it does
pub enum PluginName {
    NodeUnschedulable,
    NodeName,
    TaintToleration,
    NodeAffinity,
    NodePorts,
    NodeResourcesFit,
    VolumeRestrictions,
    NodeVolumeLimits,
    VolumeBinding,
    VolumeZone,
    PodTopologySpread,
    InterPodAffinity,
    NodeResourcesBalancedAllocation,
    ImageLocality,
    DefaultPreemption,
}

impl fmt::Display for PluginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Why a node, or every node, cannot take a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) by: PluginName,
    /// In upstream's words.
    pub(crate) reasons: Vec<Cow<'static, str>>,
    /// Whether it may help to evict pods.
    pub(crate) curable: bool,
}

impl Refusal {
    /// Evicting pods may help.
    pub(crate) fn curable(by: PluginName, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { by, reasons: vec![reason.into()], curable: true }
    }

    /// Whatever is evicted, it stays.
    pub(crate) fn lasting(by: PluginName, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { by, reasons: vec![reason.into()], curable: false }
    }
}

/// Why a node cannot take the pod of the cycle, if that is so.
pub(crate) type Filter = fn(&Cycle, &Snapshot, usize) -> Option<Refusal>;

/// A number for each of the nodes, each between 0 and 100.
pub(crate) type Score = fn(&Cycle, &Snapshot, &[usize]) -> Vec<i64>;

/// A plugin: which nodes it lets through, which it likes, and what may help a pod that it held back.
pub(crate) struct Plugin {
    pub(crate) name: PluginName,
    /// Whether its filter has anything to say about a pod.
    pub(crate) concerns: fn(&Cycle) -> bool,
    pub(crate) filter: Option<Filter>,
    pub(crate) score: Option<Score>,
    /// What counts in the total by default.
    pub(crate) weight: i64,
    pub(crate) helps: fn(&Event<'_>, &PodFacts) -> bool,
}

/// All of them, in the order in which upstream filters by them.
pub(crate) const ALL: [&Plugin; 14] = [
    &node_unschedulable::PLUGIN,
    &node_name::PLUGIN,
    &taints::PLUGIN,
    &node_affinity::PLUGIN,
    &node_ports::PLUGIN,
    &fit::PLUGIN,
    &volume_restrictions::PLUGIN,
    &node_volume_limits::PLUGIN,
    &volume_binding::PLUGIN,
    &volume_zone::PLUGIN,
    &spread::PLUGIN,
    &inter_pod_affinity::PLUGIN,
    &balance::PLUGIN,
    &image_locality::PLUGIN,
];

/// The plugin of a name; none for what is no plugin of this shape.
pub(crate) fn of(name: PluginName) -> Option<&'static Plugin> {
    ALL.into_iter().find(|plugin| plugin.name == name)
}

#[cfg(test)]
mod model;

/// The highest becomes 100.
pub(crate) fn normal(raw: Vec<i64>) -> Vec<i64> {
    let most = raw.iter().copied().max().unwrap_or(0);
    if most == 0 { raw } else { raw.into_iter().map(|score| score * 100 / most).collect() }
}

/// The highest becomes 0, none becomes 100.
pub(crate) fn reversed(raw: Vec<i64>) -> Vec<i64> {
    let most = raw.iter().copied().max().unwrap_or(0);
    if most == 0 {
        vec![100; raw.len()]
    } else {
        raw.into_iter().map(|score| 100 - score * 100 / most).collect()
    }
}
