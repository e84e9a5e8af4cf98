//! What Services and their EndpointSlices mean for one node.
//!
//! The rules are those of upstream's proxies (KEP-1669, KEP-2086, KEP-1645): ready endpoints; while there are none, those
//! that still serve although they end; and only the node's own where the Service asks for `Local`. Topology hints and
//! `loadBalancerSourceRanges` are not looked at.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use client::ResourceExt;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use network::services::{Frontend, Masquerade, Pool, Services, Target};

use crate::pods::protocol;

/// Names the Service of a slice.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Services that another proxy looks after carry this label.
const OTHER_PROXY: &str = "service.kubernetes.io/service-proxy-name";
/// How long a client sticks to its endpoint where the Service does not say.
const AFFINITY_SECONDS: i32 = 10_800;

/// One address behind a port of a Service.
struct Behind {
    address: SocketAddr,
    ready: bool,
    /// Still answers although its pod ends.
    serving: bool,
    local: bool,
}

/// The slices of each Service, by its namespace and name.
pub(crate) fn by_service(slices: &[Arc<EndpointSlice>]) -> HashMap<(String, String), Vec<&EndpointSlice>> {
    let mut found: HashMap<_, Vec<&EndpointSlice>> = HashMap::new();
    for slice in slices {
        if let Some(service) = slice.labels().get(SERVICE_NAME) {
            found.entry((slice.namespace().unwrap_or_default(), service.clone())).or_default().push(slice);
        }
    }
    found
}

/// All Services as `node` should know them.
pub fn services(services: &[Arc<Service>], slices: &[Arc<EndpointSlice>], node: &str) -> Services {
    let by_service = by_service(slices);
    let mut found = Services::default();
    let mut sorted: Vec<&Arc<Service>> = services.iter().collect();
    // Of two Services that claim one address and port the elder has it, whatever order they came in.
    sorted.sort_by_key(|service| {
        let created = service.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (created, service.namespace(), service.name_any())
    });
    for service in sorted {
        let key = (service.namespace().unwrap_or_default(), service.name_any());
        let slices = by_service.get(&key).map(Vec::as_slice).unwrap_or_default();
        let other = service.labels().contains_key(OTHER_PROXY);
        if let Some(spec) = service.spec.as_ref().filter(|spec| is_balanced(spec) && !other) {
            for port in spec.ports.iter().flatten() {
                add_port(&mut found, service, spec, port, slices, node);
            }
        }
    }
    found
}

fn is_balanced(spec: &ServiceSpec) -> bool {
    let address = spec.cluster_ip.as_deref().unwrap_or_default();
    spec.type_.as_deref() != Some("ExternalName") && !matches!(address, "" | "None")
}

fn add_port(
    found: &mut Services,
    service: &Service,
    spec: &ServiceSpec,
    port: &ServicePort,
    slices: &[&EndpointSlice],
    node: &str,
) {
    let (Some(protocol), Ok(number)) = (protocol(port.protocol.as_deref()), u16::try_from(port.port)) else {
        return;
    };
    let behind = behind(slices, port, node);
    let affinity = affinity(spec);
    let name = format!(
        "{}/{}:{}",
        service.namespace().unwrap_or_default(),
        service.name_any(),
        port.name.as_deref().unwrap_or_default()
    );
    let mut pool = |local: bool| {
        let name = format!("{name}{}", if local { " local" } else { "" });
        let endpoints = chosen(&behind, local);
        found.pools.entry(name.clone()).or_insert(Pool { endpoints, affinity });
        name
    };
    let inside_local = spec.internal_traffic_policy.as_deref() == Some("Local");
    let outside_local = spec.external_traffic_policy.as_deref() == Some("Local");
    let inside = Target { pool: pool(inside_local), masquerade: Masquerade::Outsiders };
    let mut frontends: BTreeMap<Frontend, Target> = BTreeMap::new();
    let at = |address: Option<IpAddr>, port| Frontend { address, protocol, port };
    for address in cluster_addresses(spec) {
        frontends.insert(at(Some(address), number), inside.clone());
    }
    let node_port = port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    let outside_addresses = outside_addresses(service, spec);
    if node_port.is_some() || !outside_addresses.is_empty() {
        let masquerade = if outside_local { Masquerade::Never } else { Masquerade::Always };
        let outside = Target { pool: pool(outside_local), masquerade };
        for address in outside_addresses {
            frontends.insert(at(Some(address), number), outside.clone());
        }
        if let Some(node_port) = node_port {
            frontends.insert(at(None, node_port), outside);
        }
    }
    for (frontend, target) in frontends {
        found.frontends.entry(frontend).or_insert(target);
    }
}

fn affinity(spec: &ServiceSpec) -> Option<Duration> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let seconds = config.and_then(|config| config.timeout_seconds).unwrap_or(AFFINITY_SECONDS);
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

fn cluster_addresses(spec: &ServiceSpec) -> BTreeSet<IpAddr> {
    let all = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    all.filter_map(|address| address.parse().ok()).collect()
}

/// Addresses of other machines' choosing: external ones and those of load balancers that pass packets on unchanged.
fn outside_addresses(service: &Service, spec: &ServiceSpec) -> BTreeSet<IpAddr> {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten();
    let passed_on = ingress
        .filter(|point| point.ip_mode.as_deref() != Some("Proxy"))
        .filter_map(|point| point.ip.as_ref());
    let external = spec.external_ips.iter().flatten();
    external.chain(passed_on).filter_map(|address| address.parse().ok()).collect()
}

/// Every endpoint of a Service's port.
fn behind(slices: &[&EndpointSlice], port: &ServicePort, node: &str) -> Vec<Behind> {
    let wanted = (port.name.as_deref().unwrap_or_default(), protocol(port.protocol.as_deref()));
    let mut found = Vec::new();
    for slice in slices.iter().filter(|slice| matches!(slice.address_type.as_str(), "IPv4" | "IPv6")) {
        let number = slice.ports.iter().flatten().find(|candidate| {
            (candidate.name.as_deref().unwrap_or_default(), protocol(candidate.protocol.as_deref())) == wanted
        });
        let Some(number) = number.and_then(|port| u16::try_from(port.port?).ok()) else { continue };
        found.extend(slice.endpoints.iter().flatten().filter_map(|endpoint| one(endpoint, number, node)));
    }
    found
}

fn one(endpoint: &Endpoint, port: u16, node: &str) -> Option<Behind> {
    // All addresses of an endpoint are the same endpoint: the first stands for it.
    let address = endpoint.addresses.first()?.parse().ok()?;
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
    let serving = conditions.and_then(|conditions| conditions.serving).unwrap_or(ready);
    let local = endpoint.node_name.as_deref() == Some(node);
    Some(Behind { address: SocketAddr::new(address, port), ready, serving, local })
}

fn chosen(behind: &[Behind], local: bool) -> BTreeSet<SocketAddr> {
    let near = || behind.iter().filter(|endpoint| endpoint.local || !local);
    let ready: BTreeSet<SocketAddr> = near().filter(|e| e.ready).map(|e| e.address).collect();
    if !ready.is_empty() {
        return ready;
    }
    near().filter(|e| e.serving).map(|e| e.address).collect()
}
