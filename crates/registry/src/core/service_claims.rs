//! Addresses and ports that services take for themselves alone.

use std::collections::BTreeSet;
use std::net::IpAddr;

use apimachinery::field::{FieldError, Path};
use apimachinery::status::Status;
use bytes::Bytes;
use serde_json::{Value, json};

use super::service_validation::is_asked_for_health;
use crate::address_range::family_of;
use crate::claims::Claims;
use crate::encode::encode;
use crate::networking::ip_address;
use crate::ranges::Ranges;
use crate::tree::{items, items_mut, map, number, object, text};

/// IPAddresses: who has an address is an object of its own.
const ADDRESSES: &str = "/registry/networking.k8s.io/ipaddresses/";
/// Outside of what is served as objects.
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
    choose_addresses(ranges, service, &mut chosen)?;
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

/// Chooses an address of each family that the service lacks one of.
fn choose_addresses(ranges: &Ranges, service: &mut Value, chosen: &mut Vec<String>) -> Result<(), Status> {
    if text(service, &["spec", "clusterIP"]) == "None" {
        return Ok(());
    }
    let mut all = items(service, &["spec", "clusterIPs"]).to_vec();
    let families = items(service, &["spec", "ipFamilies"]).iter().filter_map(Value::as_str);
    // A family that the cluster has not was refused before, or was there before the cluster lost it.
    let mut lacking: Vec<String> = Vec::new();
    for family in families.skip(all.len()).take_while(|family| ranges.serves(family)) {
        let address = ranges
            .address(family)
            .ok_or_else(|| Status::internal_error("failed to allocate a serviceIP: range is full"))?;
        lacking.push(address.to_string());
    }
    if lacking.is_empty() {
        return Ok(());
    }
    chosen.extend(lacking.iter().map(|address| format!("{ADDRESSES}{address}")));
    all.extend(lacking.into_iter().map(Value::from));
    let spec = object(service, "spec");
    spec.insert("clusterIP".into(), all.first().cloned().unwrap_or_default());
    spec.insert("clusterIPs".into(), all.into());
    Ok(())
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
    // One address may be written in many ways; headless services have a word that is none.
    claims.extend(addresses(service).map(|(_, address)| format!("{ADDRESSES}{address}")));
    let health = number(service, &["spec", "healthCheckNodePort"]);
    let ports = items(service, &["spec", "ports"]).iter();
    for port in ports.map(|port| number(port, &["nodePort"])).chain([health]) {
        if let Some(node) = port.filter(|node| *node > 0) {
            claims.insert(format!("{PORTS}{node}"));
        }
    }
    claims
}

/// The addresses that a service has for itself.
pub(crate) fn addresses_of(service: &Value) -> Vec<IpAddr> {
    let claims = claims_of(service);
    claims.iter().filter_map(|claim| claim.strip_prefix(ADDRESSES)?.parse().ok()).collect()
}

/// What the claim on an address is kept as: the IPAddress.
pub(super) fn claimed(claim: &str, namespace: &str, name: &str, stamp: &dyn Fn(&mut Value)) -> Option<Bytes> {
    let address = claim.strip_prefix(ADDRESSES)?.parse().ok()?;
    let mut object = ip_address::of_service(address, namespace, name);
    stamp(&mut object);
    encode(&object).ok().map(|encoded| encoded.stored)
}

/// The service's addresses, as it writes them and as they are.
fn addresses(service: &Value) -> impl Iterator<Item = (&Value, IpAddr)> {
    let all = items(service, &["spec", "clusterIPs"]).iter();
    all.filter_map(|written| Some((written, written.as_str()?.parse().ok()?)))
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
            let Ok(parsed) = address.parse::<IpAddr>() else { continue };
            if ranges.serves(family_of(parsed)) && !ranges.holds(parsed) {
                let why = format!(
                    "failed to allocate IP {address}: the provided network does not match the current range"
                );
                let given = service["spec"]["clusterIPs"].clone();
                errors.push(FieldError::invalid(&spec.child("clusterIPs"), given, why));
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
    if let Some(address) = claim.strip_prefix(ADDRESSES) {
        // What comes behind one that was chosen here was chosen here, too.
        let mut all = items(service, &["spec", "clusterIPs"]).to_vec();
        all.truncate(all.iter().position(|one| one == address).unwrap_or(all.len()));
        let spec = object(service, "spec");
        if all.is_empty() {
            spec.remove("clusterIP");
            spec.remove("clusterIPs");
        } else {
            spec.insert("clusterIPs".into(), all.into());
        }
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
    FieldError::invalid(&spec.child("clusterIPs"), service["spec"]["clusterIPs"].clone(), why)
}
