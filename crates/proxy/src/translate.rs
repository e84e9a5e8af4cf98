//! What Services and their EndpointSlices, and pods' `hostPort`s, mean for one node.
//!
//! The rules are those of upstream's proxies (KEP-1669, KEP-2086, KEP-2433, KEP-3015): ready endpoints; while there are none,
//! those that still serve although they end; only the node's own where the Service asks for `Local`; else those that every
//! endpoint's hints name for this node, or for its zone. What comes from this machine to an outside address with `Local`
//! is served by all endpoints.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use apimachinery::cidr::Cidr;
use client::ResourceExt;
use k8s_openapi::api::core::v1::{ContainerPort, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use network::services::{Frontend, Masquerade, Pool, Services, Target, anywhere};

use crate::pods::{PodAt, ports, protocol};

/// Names the Service of a slice.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Services that another proxy looks after carry this label.
const OTHER_PROXY: &str = "service.kubernetes.io/service-proxy-name";
/// How long a client sticks to its endpoint where the Service does not say.
const AFFINITY_SECONDS: i32 = 10_800;

/// Where the proxy is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Here {
    pub(crate) node: String,
    /// Its zone, where it has one.
    pub(crate) zone: Option<String>,
}

/// One address behind a port of a Service.
struct Behind {
    address: SocketAddr,
    ready: bool,
    /// Still answers although its pod ends.
    serving: bool,
    local: bool,
    /// Whether it is meant for this node, and for this zone; `None` where it does not say for whom.
    for_node: Option<bool>,
    for_zone: Option<bool>,
}

/// What a Service with a port for health checks says there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HealthCheck {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// How many of this node's endpoints are ready.
    pub(crate) local_endpoints: usize,
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

/// All Services as a node should know them. Of two that claim one address and port the elder has it, whatever order they
/// came in.
pub(crate) fn services(services: &[Arc<Service>], slices: &[Arc<EndpointSlice>], here: &Here) -> Services {
    let by_service = by_service(slices);
    let mut found = Services::default();
    for (service, spec) in balanced(services) {
        let slices = slices_of(&by_service, service);
        for port in spec.ports.iter().flatten() {
            add_port(&mut found, service, spec, port, slices, here);
        }
    }
    found
}

/// Adds the ports of this node's own addresses that its pods ask for. A Service that has one already keeps it.
pub(crate) fn host_ports(found: &mut Services, pods: &[PodAt]) {
    for at in pods.iter().filter(|at| at.local) {
        for port in ports(&at.pod) {
            for (frontend, endpoint) in host_port(port, &at.addresses) {
                let (namespace, name) = (at.pod.namespace().unwrap_or_default(), at.pod.name_any());
                let pool = format!("hostPort {namespace}/{name} {frontend:?}");
                found.frontends.entry(frontend).or_insert_with(|| {
                    let endpoints = BTreeSet::from([endpoint]);
                    found.pools.insert(pool.clone(), Pool { endpoints, affinity: None });
                    Target::new(pool, Masquerade::Never)
                });
            }
        }
    }
}

/// Where a port is to be reached, and what answers there: one a family that the pod has addresses of and the port does not
/// leave out.
fn host_port(port: &ContainerPort, addresses: &[IpAddr]) -> Vec<(Frontend, SocketAddr)> {
    let number = port.host_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    let wanted = port.host_ip.as_deref().filter(|ip| !ip.is_empty()).map(str::parse::<IpAddr>).transpose();
    let parsed = (number, u16::try_from(port.container_port), protocol(port.protocol.as_deref()), wanted);
    let (Some(number), Ok(inside), Some(protocol), Ok(wanted)) = parsed else { return Vec::new() };
    let of_family = |v6: bool| {
        let endpoint = addresses.iter().find(|address| address.is_ipv6() == v6)?;
        let address = match wanted {
            Some(wanted) if wanted.is_ipv6() != v6 => return None,
            Some(wanted) => wanted,
            None => anywhere(v6),
        };
        Some((Frontend { address, protocol, port: number }, SocketAddr::new(*endpoint, inside)))
    };
    [false, true].into_iter().filter_map(of_family).collect()
}

/// What load balancers are told, by port of this node: of Services that show their clients' addresses.
pub(crate) fn health_checks(
    services: &[Arc<Service>],
    slices: &[Arc<EndpointSlice>],
    here: &Here,
) -> BTreeMap<u16, HealthCheck> {
    let by_service = by_service(slices);
    let mut found = BTreeMap::new();
    for (service, spec) in balanced(services) {
        let local = is(&spec.type_, "LoadBalancer") && is(&spec.external_traffic_policy, "Local");
        let port = spec.health_check_node_port.and_then(|port| u16::try_from(port).ok());
        let Some(port) = port.filter(|port| local && *port > 0) else { continue };
        // An endpoint has an address of each of the Service's families: it counts once.
        let first = spec.ip_families.iter().flatten().next().map_or("IPv4", String::as_str);
        let slices = slices_of(&by_service, service).iter().filter(|slice| slice.address_type == first);
        let endpoints = slices.flat_map(|slice| slice.endpoints.iter().flatten());
        let ready = endpoints.filter_map(|endpoint| one(endpoint, 0, here)).filter(|e| e.local && e.ready);
        let addresses: BTreeSet<SocketAddr> = ready.map(|endpoint| endpoint.address).collect();
        found.entry(port).or_insert(HealthCheck {
            namespace: service.namespace().unwrap_or_default(),
            name: service.name_any(),
            local_endpoints: addresses.len(),
        });
    }
    found
}

/// Those that are this proxy's to balance, the eldest first.
fn balanced(services: &[Arc<Service>]) -> Vec<(&Service, &ServiceSpec)> {
    let mut sorted: Vec<&Arc<Service>> = services.iter().collect();
    sorted.sort_by_key(|service| {
        let created = service.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (created, service.namespace(), service.name_any())
    });
    let ours = sorted.into_iter().filter(|service| !service.labels().contains_key(OTHER_PROXY));
    ours.filter_map(|service| Some((&**service, service.spec.as_ref()?)))
        .filter(|(_, spec)| is_balanced(spec))
        .collect()
}

fn slices_of<'a, 'b>(
    by_service: &'a HashMap<(String, String), Vec<&'b EndpointSlice>>,
    service: &Service,
) -> &'a [&'b EndpointSlice] {
    let key = (service.namespace().unwrap_or_default(), service.name_any());
    by_service.get(&key).map(Vec::as_slice).unwrap_or_default()
}

fn is(field: &Option<String>, wanted: &str) -> bool {
    field.as_deref() == Some(wanted)
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
    here: &Here,
) {
    let (Some(protocol), Ok(number)) = (protocol(port.protocol.as_deref()), u16::try_from(port.port)) else {
        return;
    };
    let behind = behind(slices, port, here);
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
    let inside = Target::new(pool(is(&spec.internal_traffic_policy, "Local")), Masquerade::Outsiders);
    let mut frontends: BTreeMap<Frontend, Target> = BTreeMap::new();
    let at = |address: IpAddr, port| Frontend { address, protocol, port };
    let addresses = cluster_addresses(spec);
    // A Service of one family is not there for the other one, whatever address it is asked at.
    let families: BTreeSet<bool> = addresses.iter().map(IpAddr::is_ipv6).collect();
    let served = |addresses: BTreeSet<IpAddr>| -> Vec<IpAddr> {
        addresses.into_iter().filter(|address| families.contains(&address.is_ipv6())).collect()
    };
    for address in addresses {
        frontends.insert(at(address, number), inside.clone());
    }
    let node_port = port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    let (external, balancers) = (served(external_addresses(spec)), served(balancer_addresses(service)));
    if node_port.is_some() || !external.is_empty() || !balancers.is_empty() {
        let outside = match is(&spec.external_traffic_policy, "Local") {
            true => Target { insiders: Some(pool(false)), ..Target::new(pool(true), Masquerade::Never) },
            false => Target::new(pool(false), Masquerade::Always),
        };
        for address in balancers {
            let guarded = Target { sources: sources(spec, address), ..outside.clone() };
            frontends.insert(at(address, number), guarded);
        }
        for address in external {
            frontends.insert(at(address, number), outside.clone());
        }
        if let Some(node_port) = node_port {
            let nodes = families.iter().map(|v6| (at(anywhere(*v6), node_port), outside.clone()));
            frontends.extend(nodes);
        }
    }
    for (frontend, target) in frontends {
        found.frontends.entry(frontend).or_insert(target);
    }
}

/// The networks that a load balancer's address takes packets from; those of its own family count. `None` for all.
fn sources(spec: &ServiceSpec, address: IpAddr) -> Option<BTreeSet<(IpAddr, u8)>> {
    let ranges = spec.load_balancer_source_ranges.iter().flatten();
    let ranges = ranges.filter_map(|range| Cidr::parse_leniently(range.trim()));
    let own = ranges.filter(|range| range.address.is_ipv4() == address.is_ipv4());
    let own: BTreeSet<_> = own.map(|range| (range.network(), range.prefix)).collect();
    (!own.is_empty()).then_some(own)
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
    all.filter_map(|address| parsed(address)).collect()
}

/// An address that somebody can be reached at: the unspecified ones stand for all of this machine's.
fn parsed(address: &str) -> Option<IpAddr> {
    address.parse().ok().filter(|address: &IpAddr| !address.is_unspecified())
}

fn external_addresses(spec: &ServiceSpec) -> BTreeSet<IpAddr> {
    spec.external_ips.iter().flatten().filter_map(|address| parsed(address)).collect()
}

/// Addresses of load balancers that pass packets on unchanged.
fn balancer_addresses(service: &Service) -> BTreeSet<IpAddr> {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten();
    let passed_on = ingress.filter(|point| !is(&point.ip_mode, "Proxy"));
    passed_on.filter_map(|point| parsed(point.ip.as_ref()?)).collect()
}

/// Every endpoint of a Service's port.
fn behind(slices: &[&EndpointSlice], port: &ServicePort, here: &Here) -> Vec<Behind> {
    let wanted = (port.name.as_deref().unwrap_or_default(), protocol(port.protocol.as_deref()));
    let mut found = Vec::new();
    for slice in slices.iter().filter(|slice| matches!(slice.address_type.as_str(), "IPv4" | "IPv6")) {
        let number = slice.ports.iter().flatten().find(|candidate| {
            (candidate.name.as_deref().unwrap_or_default(), protocol(candidate.protocol.as_deref())) == wanted
        });
        let Some(number) = number.and_then(|port| u16::try_from(port.port?).ok()) else { continue };
        found.extend(slice.endpoints.iter().flatten().filter_map(|endpoint| one(endpoint, number, here)));
    }
    found
}

fn one(endpoint: &Endpoint, port: u16, here: &Here) -> Option<Behind> {
    // All addresses of an endpoint are the same endpoint: the first stands for it.
    let address = endpoint.addresses.first()?.parse().ok()?;
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
    let serving = conditions.and_then(|conditions| conditions.serving).unwrap_or(ready);
    let local = is(&endpoint.node_name, &here.node);
    let hints = endpoint.hints.as_ref();
    let nodes = hints.and_then(|hints| hints.for_nodes.as_deref()).filter(|nodes| !nodes.is_empty());
    let zones = hints.and_then(|hints| hints.for_zones.as_deref()).filter(|zones| !zones.is_empty());
    Some(Behind {
        address: SocketAddr::new(address, port),
        ready,
        serving,
        local,
        for_node: nodes.map(|nodes| nodes.iter().any(|node| node.name == here.node)),
        for_zone: zones.map(|zones| zones.iter().any(|zone| Some(&zone.name) == here.zone.as_ref())),
    })
}

/// Those endpoints that answer, of each family by itself.
fn chosen(behind: &[Behind], local: bool) -> BTreeSet<SocketAddr> {
    let of_family = |v6| chosen_of_family(behind, local, v6);
    [false, true].into_iter().flat_map(of_family).collect()
}

fn chosen_of_family(behind: &[Behind], local: bool, v6: bool) -> BTreeSet<SocketAddr> {
    let own = || behind.iter().filter(|endpoint| endpoint.address.is_ipv6() == v6);
    let near = || own().filter(|endpoint| endpoint.local || !local);
    let ready: Vec<&Behind> = near().filter(|endpoint| endpoint.ready).collect();
    if ready.is_empty() {
        return near().filter(|e| e.serving).map(|e| e.address).collect();
    }
    // Hints are heeded when each endpoint has one, and some are for here.
    let hinted = |hint: fn(&Behind) -> Option<bool>| {
        let all = ready.iter().all(|endpoint| hint(endpoint).is_some());
        let here: BTreeSet<_> =
            ready.iter().filter(|endpoint| hint(endpoint) == Some(true)).map(|e| e.address).collect();
        (all && !local && !here.is_empty()).then_some(here)
    };
    hinted(|endpoint| endpoint.for_node)
        .or_else(|| hinted(|endpoint| endpoint.for_zone))
        .unwrap_or_else(|| ready.iter().map(|endpoint| endpoint.address).collect())
}
