//! Pods as the network sees them: addresses, labels and ports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use client::{InformerOptions, ResourceExt};
use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod, PodSpec, PodStatus};
use network::services::Protocol;

use crate::placements::Placement;

/// On a mirror pod: the UID of what it mirrors.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// A pod with addresses of its own.
#[derive(Clone, Debug)]
pub(crate) struct PodAt {
    pub(crate) pod: Arc<Pod>,
    pub(crate) addresses: Vec<IpAddr>,
    /// Whether it is on this node.
    pub(crate) local: bool,
}

/// All pods with addresses of their own, and those sandboxes whose pods are among them. A sandbox's addresses are its
/// pod's, whatever the API still says of them.
pub(crate) fn all(
    pods: &[Arc<Pod>],
    placements: &BTreeMap<String, Placement>,
    node: &str,
) -> (Vec<PodAt>, BTreeSet<String>) {
    let by_uid: BTreeMap<&str, (&String, &Placement)> = placements
        .iter()
        .map(|(sandbox, placement)| (placement.uid.as_str(), (sandbox, placement)))
        .collect();
    let taken: BTreeSet<IpAddr> = placements.values().flat_map(|p| p.addresses.iter().copied()).collect();
    let (mut found, mut known) = (Vec::new(), BTreeSet::new());
    for pod in pods {
        let local = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node);
        let uid = pod.annotations().get(MIRROR).or(pod.metadata.uid.as_ref());
        let placed = uid.and_then(|uid| by_uid.get(uid.as_str())).filter(|_| local);
        let addresses = match placed {
            Some((sandbox, placement)) => {
                known.insert((*sandbox).clone());
                placement.addresses.clone()
            }
            None => told(pod).filter(|address| !local || !taken.contains(address)).collect(),
        };
        if !addresses.is_empty() {
            found.push(PodAt { pod: pod.clone(), addresses, local });
        }
    }
    (found, known)
}

/// The addresses that the API tells of: none of a pod on its node's network or at its end.
fn told(pod: &Pod) -> impl Iterator<Item = IpAddr> + '_ {
    let on_host = pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
    let status = pod
        .status
        .as_ref()
        .filter(|status| !on_host && !matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")));
    let many = status.and_then(|status| status.pod_ips.as_ref()).into_iter().flatten();
    let many = many.map(|address| address.ip.as_str());
    let one = status.and_then(|status| status.pod_ip.as_deref());
    let all: BTreeSet<&str> = many.chain(one).collect();
    all.into_iter().filter_map(|address| address.parse().ok())
}

/// Every port of a pod's containers, sidecars included.
pub(crate) fn ports(pod: &Pod) -> impl Iterator<Item = &ContainerPort> {
    let spec = pod.spec.as_ref();
    let containers = spec.into_iter().flat_map(|spec| &spec.containers);
    let sidecars = spec.and_then(|spec| spec.init_containers.as_ref()).into_iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    containers.chain(sidecars).flat_map(|container| container.ports.iter().flatten())
}

/// A protocol by its name; TCP where there is none.
pub(crate) fn protocol(name: Option<&str>) -> Option<Protocol> {
    match name.unwrap_or("TCP") {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        _ => None,
    }
}

/// What of each pod is kept: there may be many, and most of a pod is nothing to the network.
pub(crate) fn trimmed() -> InformerOptions<Pod> {
    fn trim(pod: &mut Pod) {
        let ports = |containers: Vec<Container>| {
            let kept = containers.into_iter().map(|container| Container {
                ports: container.ports,
                restart_policy: container.restart_policy,
                ..Container::default()
            });
            kept.collect::<Vec<_>>()
        };
        pod.metadata.managed_fields = None;
        pod.metadata.annotations.iter_mut().for_each(|all| all.retain(|name, _| name == MIRROR));
        pod.spec = pod.spec.take().map(|spec| PodSpec {
            containers: ports(spec.containers),
            init_containers: spec.init_containers.map(ports),
            host_network: spec.host_network,
            node_name: spec.node_name,
            ..PodSpec::default()
        });
        pod.status = pod.status.take().map(|status| PodStatus {
            phase: status.phase,
            pod_ip: status.pod_ip,
            pod_ips: status.pod_ips,
            ..PodStatus::default()
        });
    }
    InformerOptions { trim: Box::new(trim), ..InformerOptions::default() }
}
