//! What Services take: themselves, node ports and load balancers.

use apimachinery::quantity::Quantity;
use serde_json::Value;

use super::{Amounts, at, items, text};

pub(super) const NAMES: [&str; 3] = ["services", "services.loadbalancers", "services.nodeports"];

pub(super) fn add(used: &mut Amounts, service: &Value) {
    let ports = items(service, &["spec", "ports"]);
    let chosen =
        ports.iter().filter(|port| at(port, &["nodePort"]).and_then(Value::as_i64).unwrap_or(0) != 0);
    let (balancers, node_ports) = match text(service, &["spec", "type"]) {
        "NodePort" => (0, ports.len()),
        "LoadBalancer" => {
            let allocates = at(service, &["spec", "allocateLoadBalancerNodePorts"]).and_then(Value::as_bool);
            // Those that the client chose are taken even where none are given out.
            (1, if allocates == Some(false) { chosen.count() } else { ports.len() })
        }
        _ => (0, 0),
    };
    let node_ports = i64::try_from(node_ports).unwrap_or(i64::MAX);
    for (name, count) in NAMES.into_iter().zip([1, balancers, node_ports]) {
        used.insert(name.to_owned(), Quantity::from_units(count));
    }
}
