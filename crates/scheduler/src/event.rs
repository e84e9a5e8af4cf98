//! What happens to a cluster, as far as it may help a pod that waits.

use crate::plugins::PluginName;
use crate::pod::PodFacts;
use crate::snapshot::NodeInfo;

/// What of a node changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Aspects {
    pub(crate) labels: bool,
    pub(crate) taints: bool,
    /// Whether it takes pods at all.
    pub(crate) cordon: bool,
    pub(crate) allocatable: bool,
}

impl Aspects {
    /// All of it: a node that was not there.
    pub(crate) const ALL: Self = Self { labels: true, taints: true, cordon: true, allocatable: true };

    /// Whether anything changed that anybody looks at.
    pub(crate) fn any(self) -> bool {
        self != Self::default()
    }
}

/// Kinds of storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    Claim,
    Volume,
    Class,
    Node,
    Driver,
    Capacity,
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event<'a> {
    /// A node is new, or changed in some aspects; as it is now.
    Node(&'a NodeInfo, Aspects),
    /// A node is gone.
    NodeGone,
    /// A pod is on a node from now on, or is there with other labels.
    PodPlaced(&'a PodFacts),
    /// A pod left its node, or is leaving it, or asks for less there.
    PodGone(&'a PodFacts),
    /// Something of storage changed.
    Storage(Storage),
    /// The labels of a namespace changed.
    Namespace,
}

impl Event<'_> {
    /// What upstream calls it. Of storage and namespaces it is not told apart whether they are new, changed or gone.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Node(_, Aspects::ALL) => "NodeAdd",
            Self::Node(_, Aspects { cordon: true, .. }) => "NodeUpdateNodeTaint",
            Self::Node(_, Aspects { allocatable: true, .. }) => "NodeUpdateNodeAllocatable",
            Self::Node(_, Aspects { labels: true, .. }) => "NodeUpdateNodeLabel",
            Self::Node(..) => "NodeUpdateNodeTaint",
            Self::NodeGone => "NodeDelete",
            Self::PodPlaced(_) => "AssignedPodAdd",
            Self::PodGone(_) => "AssignedPodDelete",
            Self::Storage(Storage::Claim) => "PersistentVolumeClaim",
            Self::Storage(Storage::Volume) => "PersistentVolume",
            Self::Storage(Storage::Class) => "StorageClass",
            Self::Storage(Storage::Node) => "CSINode",
            Self::Storage(Storage::Driver) => "CSIDriver",
            Self::Storage(Storage::Capacity) => "CSIStorageCapacity",
            Self::Namespace => "Namespace",
        }
    }

    /// Whether it is worth asking a plugin: not for each pod that is placed each pod that waits for something else.
    pub(crate) fn may_concern(&self, name: PluginName) -> bool {
        !matches!(self, Self::PodPlaced(_))
            || matches!(name, PluginName::InterPodAffinity | PluginName::PodTopologySpread)
    }
}
