//! What NetworkPolicies mean for one node.
//!
//! A policy isolates the pods that it selects, in its directions, and allows what its rules say; several of one pod are
//! added up. Only this node's pods are judged here, by addresses: other nodes judge theirs. Pods on their node's network
//! are outside: they are neither judged nor selected as peers. A port's name means, on each side, what the destination pod
//! calls so. What cannot be understood allows nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use apimachinery::cidr::Cidr;
use apimachinery::field::Path;
use apimachinery::selector::Selector;
use client::ResourceExt;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use network::policies::{Block, Peers, Policies, Policy, Ports, Rule};
use network::services::Protocol;

use crate::pods::{PodAt, ports, protocol};

#[cfg(test)]
mod tests;

/// Everything that policies are about.
pub(crate) struct World<'a> {
    pub(crate) policies: &'a [Arc<NetworkPolicy>],
    pub(crate) namespaces: &'a [Arc<Namespace>],
    pub(crate) pods: &'a [PodAt],
}

/// All policies as the node should know them.
pub(crate) fn policies(world: &World<'_>) -> Policies {
    let namespaces = world.namespaces.iter().map(|namespace| (namespace.name_any(), namespace.labels()));
    let look = Look { pods: world.pods, namespaces: namespaces.collect() };
    let mut found = Policies::default();
    for policy in world.policies {
        let Some(spec) = &policy.spec else { continue };
        let namespace = policy.namespace().unwrap_or_default();
        let selector = selector(spec.pod_selector.as_ref().unwrap_or(&LabelSelector::default()));
        let subjects: Vec<&PodAt> = look.selected(&namespace, &selector).filter(|pod| pod.local).collect();
        if subjects.is_empty() {
            continue;
        }
        let name = format!("{namespace}/{}", policy.name_any());
        let (ingress, egress) = directions(spec);
        for address in subjects.iter().flat_map(|pod| &pod.addresses) {
            let isolation = found.pods.entry(*address).or_default();
            isolation.ingress.extend(ingress.then(|| name.clone()));
            isolation.egress.extend(egress.then(|| name.clone()));
        }
        let rules = Policy {
            ingress: if ingress { look.ingress(&namespace, spec, &subjects) } else { Vec::new() },
            egress: if egress { look.egress(&namespace, spec) } else { Vec::new() },
        };
        found.policies.insert(name, rules);
    }
    found
}

/// Whether a policy is about ingress, and about egress.
fn directions(spec: &NetworkPolicySpec) -> (bool, bool) {
    match spec.policy_types.as_deref() {
        Some(types @ [_, ..]) => {
            let has = |wanted: &str| types.iter().any(|kind| kind == wanted);
            (has("Ingress"), has("Egress"))
        }
        _ => (true, spec.egress.as_ref().is_some_and(|rules| !rules.is_empty())),
    }
}

/// A selector; one that cannot be understood selects nothing.
fn selector(selector: &LabelSelector) -> Selector {
    let object = serde_json::to_value(selector).unwrap_or_default();
    Selector::from_object(&object, &Path::empty()).unwrap_or_else(|_| Selector::nothing())
}

struct Look<'a> {
    pods: &'a [PodAt],
    namespaces: BTreeMap<String, &'a BTreeMap<String, String>>,
}

impl<'a> Look<'a> {
    /// The pods of a namespace that a selector selects.
    fn selected(&self, namespace: &str, selector: &Selector) -> impl Iterator<Item = &'a PodAt> {
        self.pods.iter().filter(move |pod| {
            pod.pod.metadata.namespace.as_deref() == Some(namespace) && holds(selector, pod.pod.labels())
        })
    }

    fn ingress(&self, namespace: &str, spec: &NetworkPolicySpec, subjects: &[&PodAt]) -> Vec<Rule> {
        let rules = spec.ingress.iter().flatten();
        let rule = |peers: Option<&[NetworkPolicyPeer]>, ports: Option<&[NetworkPolicyPort]>| Rule {
            peers: self.peers(namespace, peers),
            ports: all_ports(ports, subjects),
        };
        rules.map(|each| rule(each.from.as_deref(), each.ports.as_deref())).collect()
    }

    fn egress(&self, namespace: &str, spec: &NetworkPolicySpec) -> Vec<Rule> {
        let everywhere: Vec<&PodAt> = self.pods.iter().collect();
        let rules = spec.egress.iter().flatten();
        let rule = |peers: Option<&[NetworkPolicyPeer]>, ports: Option<&[NetworkPolicyPort]>| Rule {
            peers: self.peers(namespace, peers),
            ports: all_ports(ports, &everywhere),
        };
        rules.map(|each| rule(each.to.as_deref(), each.ports.as_deref())).collect()
    }

    /// An empty list means everybody, as an absent one does.
    fn peers(&self, namespace: &str, peers: Option<&[NetworkPolicyPeer]>) -> Option<Peers> {
        let peers = peers.filter(|peers| !peers.is_empty())?;
        let mut found = Peers::default();
        for peer in peers {
            match &peer.ip_block {
                Some(range) => found.blocks.extend(block(range)),
                None => found.pods.extend(self.chosen(namespace, peer).flat_map(|pod| &pod.addresses)),
            }
        }
        Some(found)
    }

    /// The pods that selectors choose: of the policy's own namespace unless namespaces are selected, too.
    fn chosen(&self, namespace: &str, peer: &NetworkPolicyPeer) -> impl Iterator<Item = &'a PodAt> {
        let everyone = || Selector::everything();
        let of_pods = peer.pod_selector.as_ref().map_or_else(everyone, selector);
        let selects = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
        let namespaces: BTreeSet<String> = match &peer.namespace_selector {
            _ if !selects => BTreeSet::new(),
            None => BTreeSet::from([namespace.to_owned()]),
            Some(wanted) => {
                let wanted = selector(wanted);
                let found = self.namespaces.iter().filter(|(_, labels)| holds(&wanted, labels));
                found.map(|(name, _)| name.clone()).collect()
            }
        };
        self.pods.iter().filter(move |pod| {
            pod.pod.metadata.namespace.as_ref().is_some_and(|of| namespaces.contains(of))
                && holds(&of_pods, pod.pod.labels())
        })
    }
}

fn holds(selector: &Selector, labels: &BTreeMap<String, String>) -> bool {
    selector.matches_with(|name| labels.get(name).map(String::as_str))
}

fn block(block: &IPBlock) -> Option<Block> {
    let range = |text: &str| Cidr::parse_leniently(text).map(|range| (range.network(), range.prefix));
    let network = range(&block.cidr)?;
    let excepts: Option<Vec<_>> = block.except.iter().flatten().map(|except| range(except)).collect();
    Some(Block { network, except: excepts? })
}

/// An empty list means all ports, as an absent one does. `destinations` say what names mean.
fn all_ports(ports: Option<&[NetworkPolicyPort]>, destinations: &[&PodAt]) -> Option<Vec<Ports>> {
    let ports = ports.filter(|ports| !ports.is_empty())?;
    Some(ports.iter().filter_map(|port| one_port(port, destinations)).collect())
}

fn one_port(port: &NetworkPolicyPort, destinations: &[&PodAt]) -> Option<Ports> {
    let protocol = protocol(port.protocol.as_deref())?;
    Some(match &port.port {
        None => Ports::Range(protocol, 0, u16::MAX),
        Some(IntOrString::Int(first)) => {
            let last = port.end_port.unwrap_or(*first);
            Ports::Range(protocol, u16::try_from(*first).ok()?, u16::try_from(last).ok()?)
        }
        Some(IntOrString::String(name)) => Ports::Named(protocol, named(name, protocol, destinations)),
    })
}

/// Where a name leads to on each of these pods.
fn named(name: &str, wanted: Protocol, pods: &[&PodAt]) -> BTreeSet<SocketAddr> {
    let mut found = BTreeSet::new();
    for pod in pods {
        for port in ports(&pod.pod).filter(|port| port.name.as_deref() == Some(name)) {
            let Ok(number) = u16::try_from(port.container_port) else { continue };
            if protocol(port.protocol.as_deref()) == Some(wanted) {
                found.extend(pod.addresses.iter().map(|address| SocketAddr::new(*address, number)));
            }
        }
    }
    found
}
