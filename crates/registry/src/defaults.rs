//! The objects that every plane begins with. The composition creates them through the API, like any client.

use std::net::IpAddr;

use apimachinery::status::Status;
use serde_json::{Value, json};

use crate::{Options, ranges::Ranges};

/// Namespaces that are always there.
pub const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Where the cluster's DNS answers, of a range of service addresses; `None` if that is too small for it.
///
/// # Errors
/// When the range is none.
pub fn dns_address(options: &Options) -> Result<Option<IpAddr>, Status> {
    Ok(ranges(options)?.first().dns_address())
}

/// The address by which pods find the API, of a range of service addresses.
///
/// # Errors
/// When the range is none.
pub fn api_address(options: &Options) -> Result<IpAddr, Status> {
    Ok(ranges(options)?.first().first_address())
}

fn ranges(options: &Options) -> Result<Ranges, Status> {
    Ranges::new(&options.service_cidr, options.node_ports, options.random.clone())
}

/// How a built-in group comes before others, as upstream's do; the group of APIServices itself comes first.
pub fn group_priority(group: &str) -> i64 {
    crate::apiregistration::local::priority(group)
}

/// The ranges of the ServiceCIDR that the server makes of its configuration.
///
/// # Errors
/// When the range is none.
pub fn service_cidrs(options: &Options) -> Result<Vec<String>, Status> {
    Ok(ranges(options)?.configured().map(|range| range.to_string()).collect())
}

/// The namespaces; the system's priority classes; the ranges of services; the service by which pods find the API at `port`: it has the first
/// address of the service range; that of the cluster's DNS; and what says that this server serves its own groups.
/// In the order in which they are to be created; what exists already is left alone.
pub fn manifests(options: &Options, port: u16) -> Result<Vec<Value>, Status> {
    let ranges = ranges(options)?;
    let namespace = |name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let mut all: Vec<Value> = NAMESPACES.iter().map(namespace).collect();
    all.extend(crate::scheduling::priority_class::system());
    let cidrs: Vec<String> = ranges.configured().map(|range| range.to_string()).collect();
    all.push(json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": crate::ranges::DEFAULT},
        "spec": {"cidrs": cidrs},
    }));
    let address = ranges.first().first_address().to_string();
    all.push(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "clusterIP": address,
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
        },
    }));
    all.extend(ranges.first().dns_address().map(dns));
    all.extend(crate::apiregistration::local::manifests());
    Ok(all)
}

/// Every node answers for its own pods, so that a question never leaves it.
fn dns(address: IpAddr) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kube-dns",
            "namespace": "kube-system",
            "labels": {"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true"},
        },
        "spec": {
            "clusterIP": address.to_string(),
            "internalTrafficPolicy": "Local",
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP"},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
            ],
        },
    })
}
