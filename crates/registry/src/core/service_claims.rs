//! Addresses and ports that services take for themselves alone.

use std::collections::BTreeSet;

use apimachinery::field::{FieldError, Path};
use apimachinery::status::Status;
use serde_json::{Value, json};

use super::service_validation::is_asked_for_health;
use crate::claims::Claims;
use crate::ranges::Ranges;
use crate::tree::{items, items_mut, map, number, object, text};

/// Outside of what is served as objects.
const ADDRESSES: &str = "/allocations/service-addresses/";
const PORTS: &str = "/allocations/node-ports/";

/// Chooses what the service lacks, and says how its claims change.
pub(super) fn claim(ranges: &Ranges, service: &mut Value, old: Option<&Value>) -> Result<Claims, Status> {
    let chosen = choose(ranges, service)?;
    let held = old.map(claims_of).unwrap_or_default();
    let wanted = claims_of(service);
    check_ranges(ranges, service, &wanted, &held)?;
    let bytes = |key: &String| key.clone().into();
    Ok(Claims {
        take: wanted.difference(&held).map(bytes).collect(),
        chosen: chosen.iter().map(bytes).collect(),
        release: held.difference(&wanted).map(bytes).collect(),
    })
}

/// What a service that goes gives back.
pub(super) fn release(old: &Value) -> Claims {
    Claims { release: claims_of(old).into_iter().map(Into::into).collect(), ..Claims::default() }
}

fn choose(ranges: &Ranges, service: &mut Value) -> Result<Vec<String>, Status> {
    let mut chosen = Vec::new();
    let kind = text(service, &["spec", "type"]).to_owned();
    if kind == "ExternalName" {
        return Ok(chosen);
    }
    if text(service, &["spec", "clusterIP"]).is_empty() {
        let address = ranges.address().to_string();
        chosen.push(format!("{ADDRESSES}{address}"));
        let spec = object(service, "spec");
        spec.insert("clusterIP".into(), address.clone().into());
        spec.insert("clusterIPs".into(), json!([address]));
    }
    let asked = service.get("spec").is_some_and(is_asked_for_health);
    if asked && number(service, &["spec", "healthCheckNodePort"]).unwrap_or_default() == 0 {
        let node = i64::from(ranges.every_port().next().unwrap_or_default());
        chosen.push(format!("{PORTS}{node}"));
        object(service, "spec").insert("healthCheckNodePort".into(), node.into());
    }
    let balanced = kind == "LoadBalancer" && service["spec"]["allocateLoadBalancerNodePorts"] != json!(false);
    if kind == "NodePort" || balanced {
        choose_ports(ranges, service, &mut chosen)?;
    }
    Ok(chosen)
}

fn choose_ports(ranges: &Ranges, service: &mut Value, chosen: &mut Vec<String>) -> Result<(), Status> {
    // Ports of several protocols with one number share one node port number, as upstream gives them.
    let health = number(service, &["spec", "healthCheckNodePort"]);
    let mut by_number: Vec<(i64, String, i64)> = items(service, &["spec", "ports"])
        .iter()
        .filter_map(|port| {
            let node = number(port, &["nodePort"]).filter(|node| *node > 0)?;
            Some((number(port, &["port"])?, text(port, &["protocol"]).to_owned(), node))
        })
        .collect();
    for port in items_mut(service, &["spec", "ports"]) {
        if number(port, &["nodePort"]).unwrap_or_default() > 0 {
            continue;
        }
        let (own, protocol) =
            (number(port, &["port"]).unwrap_or_default(), text(port, &["protocol"]).to_owned());
        let shared = by_number.iter().find(|(number, other, node)| {
            *number == own && *other != protocol && !by_number.contains(&(own, protocol.clone(), *node))
        });
        let node = match shared {
            Some((_, _, node)) => *node,
            None => {
                // Two ports of one service must not get the same.
                let free =
                    |node: &i64| health != Some(*node) && by_number.iter().all(|(_, _, taken)| taken != node);
                let node =
                    ranges.every_port().map(i64::from).find(free).ok_or_else(|| {
                        Status::internal_error("failed to allocate a nodePort: range is full")
                    })?;
                chosen.push(format!("{PORTS}{node}"));
                node
            }
        };
        map(port).insert("nodePort".into(), node.into());
        by_number.push((own, protocol, node));
    }
    Ok(())
}

/// Keys of everything that the service takes.
fn claims_of(service: &Value) -> BTreeSet<String> {
    let mut claims = BTreeSet::new();
    if text(service, &["spec", "type"]) == "ExternalName" {
        return claims;
    }
    let address = text(service, &["spec", "clusterIP"]);
    if !address.is_empty() && address != "None" {
        claims.insert(format!("{ADDRESSES}{address}"));
    }
    let health = number(service, &["spec", "healthCheckNodePort"]);
    let ports = items(service, &["spec", "ports"]).iter();
    for port in ports.map(|port| number(port, &["nodePort"])).chain([health]) {
        if let Some(node) = port.filter(|node| *node > 0) {
            claims.insert(format!("{PORTS}{node}"));
        }
    }
    claims
}

fn check_ranges(
    ranges: &Ranges,
    service: &Value,
    wanted: &BTreeSet<String>,
    held: &BTreeSet<String>,
) -> Result<(), Status> {
    let mut errors = Vec::new();
    let spec = Path::new("spec");
    for claim in wanted.difference(held) {
        if let Some(address) = claim.strip_prefix(ADDRESSES) {
            if !address.parse().is_ok_and(|address| ranges.has_address(address)) {
                let why = format!(
                    "failed to allocate IP {address}: the provided IP ({address}) is not in the valid range. \
                     The range of valid IPs is {}",
                    ranges.cidr()
                );
                errors.push(FieldError::invalid(&spec.child("clusterIPs"), json!([address]), why));
            }
        } else if let Some(port) = claim.strip_prefix(PORTS) {
            let number = port.parse::<i64>().unwrap_or_default();
            if !ranges.has_port(number) {
                let why = format!(
                    "provided port is not in the valid range. The range of valid ports is {}",
                    ranges.ports()
                );
                errors.push(port_error(service, number, &why));
            }
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    let name = text(service, &["metadata", "name"]);
    Err(Status::invalid(&apimachinery::gvk::GroupKind::of("", "Service"), name, errors))
}

fn port_error(service: &Value, node: i64, why: &str) -> FieldError {
    let all = items(service, &["spec", "ports"]);
    let spec = Path::new("spec");
    let Some(index) = all.iter().position(|port| number(port, &["nodePort"]) == Some(node)) else {
        return FieldError::invalid(&spec.child("healthCheckNodePort"), node, why);
    };
    let ports = spec.child("ports");
    let port = ports.index(index);
    FieldError::invalid(&port.child("nodePort"), node, why)
}

/// Takes a choice back: somebody else has made it.
pub(super) fn unchoose(claim: &str, service: &mut Value) {
    if claim.starts_with(ADDRESSES) {
        let spec = object(service, "spec");
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
    } else if let Some(node) = claim.strip_prefix(PORTS).and_then(|port| port.parse::<i64>().ok()) {
        for port in items_mut(service, &["spec", "ports"]) {
            if number(port, &["nodePort"]) == Some(node) {
                map(port).remove("nodePort");
            }
        }
        if number(service, &["spec", "healthCheckNodePort"]) == Some(node) {
            object(service, "spec").remove("healthCheckNodePort");
        }
    }
}

/// What to say about the client's own choice that somebody else has.
pub(super) fn taken(claim: &str, service: &Value) -> FieldError {
    if let Some(node) = claim.strip_prefix(PORTS).and_then(|port| port.parse::<i64>().ok()) {
        return port_error(service, node, "provided port is already allocated");
    }
    let address = claim.strip_prefix(ADDRESSES).unwrap_or(claim);
    let spec = Path::new("spec");
    let why = format!("failed to allocate IP {address}: provided IP is already allocated");
    FieldError::invalid(&spec.child("clusterIPs"), json!([address]), why)
}
