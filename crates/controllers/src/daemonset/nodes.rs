//! Which nodes a DaemonSet's pods belong on, and what the pod of a node is.

use crate::history::HASH_LABEL;
use crate::pod::Pod;
use crate::pods::{from_template, node as node_of};
use api::node_selector::selects;
use api::taints::tolerates;
use client::kube::ResourceExt;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    self as core, Affinity, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec,
    Toleration,
};

/// How often the template has changed, as the server counts it.
const GENERATION: &str = "deprecated.daemonset.template.generation";
const GENERATION_LABEL: &str = "pod-template-generation";
/// What a daemon bears, as it is there to look after the node whatever its state.
const BORNE: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
/// What one on the node's own network bears too.
const BORNE_ON_HOST: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

/// What a node is to a DaemonSet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// It is to have a pod.
    Wanted,
    /// It may keep one that it has.
    Borne,
    /// It may have none.
    Unfit,
}

/// Tells what nodes are to one DaemonSet.
pub(super) struct Fitting<'a> {
    spec: Option<&'a PodSpec>,
    tolerations: Vec<Toleration>,
}

impl<'a> Fitting<'a> {
    pub(super) fn of(set: &'a DaemonSet) -> Self {
        let spec = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        Self { spec, tolerations: spec.map(tolerations).unwrap_or_default() }
    }

    pub(super) fn fit(&self, node: &Node) -> Fit {
        let Some(spec) = self.spec else { return Fit::Unfit };
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let other = spec.node_name.as_deref().is_some_and(|wanted| !wanted.is_empty() && wanted != name);
        if other || !selects(spec.node_selector.as_ref(), spec.affinity.as_ref(), node.labels(), name) {
            return Fit::Unfit;
        }
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        let suffers = |effect: &str| {
            let mut taints = taints.iter().filter(|taint| taint.effect == effect);
            taints.any(|taint| !self.tolerations.iter().any(|toleration| tolerates(toleration, taint)))
        };
        match (suffers("NoExecute"), suffers("NoSchedule")) {
            (true, _) => Fit::Unfit,
            (false, true) => Fit::Borne,
            (false, false) => Fit::Wanted,
        }
    }
}

/// What the pods bear: what the template says, and what every daemon does.
fn tolerations(spec: &PodSpec) -> Vec<Toleration> {
    let mut tolerations = spec.tolerations.clone().unwrap_or_default();
    let on_host = spec.host_network.unwrap_or(false).then_some(BORNE_ON_HOST);
    for (key, effect) in BORNE.into_iter().chain(on_host) {
        let borne = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        if !tolerations.contains(&borne) {
            tolerations.push(borne);
        }
    }
    tolerations
}

/// The node that a pod is on, or that it is meant for.
pub(super) fn target(pod: &Pod) -> Option<&str> {
    Some(node_of(pod)).filter(|node| !node.is_empty()).or(pod.spec.target.as_deref())
}

fn generation(set: &DaemonSet) -> Option<&str> {
    set.annotations().get(GENERATION).map(String::as_str).filter(|text| text.parse::<i64>().is_ok())
}

/// Whether a pod is of the present template, whose hash this is.
pub(super) fn is_updated(set: &DaemonSet, pod: &Pod, hash: &str) -> bool {
    let label = |name: &str| pod.labels().get(name).map(String::as_str);
    let generation = generation(set);
    label(HASH_LABEL) == Some(hash) || generation.is_some() && label(GENERATION_LABEL) == generation
}

/// The pod of that node: the scheduler puts it there, and nowhere else.
pub(super) fn new_pod(set: &DaemonSet, hash: &str, node: &str) -> core::Pod {
    let template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let mut pod = from_template(set, template);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.to_owned());
    if let Some(generation) = generation(set) {
        labels.insert(GENERATION_LABEL.to_owned(), generation.to_owned());
    }
    let spec = pod.spec.get_or_insert_default();
    spec.tolerations = Some(tolerations(spec));
    pin(spec.affinity.get_or_insert_default(), node);
    pod
}

/// Requires that node. What else was required of nodes it has been found to have.
fn pin(affinity: &mut Affinity, node: &str) {
    let name = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let term = NodeSelectorTerm { match_fields: Some(vec![name]), match_expressions: None };
    affinity.node_affinity.get_or_insert_default().required_during_scheduling_ignored_during_execution =
        Some(NodeSelector { node_selector_terms: vec![term] });
}
