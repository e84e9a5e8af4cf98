//! What is wrong with a service.

use std::collections::BTreeSet;
use std::net::IpAddr;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::{self, dns1123_label, dns1123_subdomain, label_value, qualified_name};
use serde_json::Value;

use super::service_families;
use crate::checks::{one_of, supported};
use crate::tree::{at, entries, items, number, text};

const DISTRIBUTIONS: &[&str] = &["PreferClose", "PreferSameZone", "PreferSameNode"];
const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

pub(super) fn validate(service: &Value, errors: &mut Vec<FieldError>) {
    let spec = Path::new("spec");
    let tree = service.get("spec").unwrap_or(&Value::Null);
    let kind = text(tree, &["type"]);
    let headless = text(tree, &["clusterIP"]) == "None";
    let ports = spec.child("ports");
    if items(tree, &["ports"]).is_empty() && !headless && kind != "ExternalName" {
        errors.push(FieldError::required(&ports, ""));
    }
    one_of(tree, "type", TYPES, &spec, errors);
    one_of(tree, "sessionAffinity", &["ClientIP", "None"], &spec, errors);
    supported(tree, "internalTrafficPolicy", &["Cluster", "Local"], &spec, errors);
    supported(tree, "trafficDistribution", DISTRIBUTIONS, &spec, errors);
    validate_affinity(tree, &spec, errors);
    validate_outside(tree, &spec, errors);
    validate_balancer(tree, &spec, errors);
    if kind == "LoadBalancer" && headless {
        let why = "may not be set to 'None' for LoadBalancer services";
        errors.push(FieldError::invalid(&spec.child("clusterIPs").index(0), "None", why));
    }
    if kind == "NodePort" && headless {
        let why = "may not be set to 'None' for NodePort services";
        errors.push(FieldError::invalid(&spec.child("clusterIPs").index(0), "None", why));
    }
    if kind == "ExternalName" {
        validate_external_name(tree, &spec, errors);
    }
    validate_external_addresses(tree, &spec, errors);
    validate_ports(tree, &ports, kind, errors);
    let selector = spec.child("selector");
    for (key, value) in entries(tree, &["selector"]) {
        errors.extend(
            qualified_name(key).into_iter().map(|why| FieldError::invalid(&selector, key.as_str(), why)),
        );
        let value = value.as_str().unwrap_or_default();
        errors.extend(label_value(value).into_iter().map(|why| FieldError::invalid(&selector, value, why)));
    }
}

/// For how long a client sticks to its endpoint.
fn validate_affinity(tree: &Value, spec: &Path<'_>, errors: &mut Vec<FieldError>) {
    const LONGEST: i64 = 24 * 60 * 60;
    if text(tree, &["sessionAffinity"]) != "ClientIP" {
        return;
    }
    let config = spec.child("sessionAffinityConfig");
    let client = config.child("clientIP");
    let seconds = number(tree, &["sessionAffinityConfig", "clientIP", "timeoutSeconds"]).unwrap_or_default();
    if !(1..=LONGEST).contains(&seconds) {
        let why = format!("must be greater than 0 and less than {LONGEST}");
        errors.push(FieldError::invalid(&client.child("timeoutSeconds"), seconds, why));
    }
}

/// Whether clients outside of the cluster reach the service.
pub(super) fn is_outward(tree: &Value) -> bool {
    match text(tree, &["type"]) {
        "NodePort" | "LoadBalancer" => true,
        "ClusterIP" => !items(tree, &["externalIPs"]).is_empty(),
        _ => false,
    }
}

/// Whether a balancer asks each node whether it has endpoints of its own.
pub(super) fn is_asked_for_health(tree: &Value) -> bool {
    text(tree, &["type"]) == "LoadBalancer" && text(tree, &["externalTrafficPolicy"]) == "Local"
}

/// What is about clients outside of the cluster.
fn validate_outside(tree: &Value, spec: &Path<'_>, errors: &mut Vec<FieldError>) {
    let policy = text(tree, &["externalTrafficPolicy"]);
    if is_outward(tree) {
        one_of(tree, "externalTrafficPolicy", &["Cluster", "Local"], spec, errors);
    } else if !policy.is_empty() {
        let why = "may only be set for externally-accessible services";
        errors.push(FieldError::invalid(&spec.child("externalTrafficPolicy"), policy, why));
    }
    let (path, port) = (spec.child("healthCheckNodePort"), number(tree, &["healthCheckNodePort"]));
    if let Some(port) = port.filter(|port| *port != 0) {
        if is_asked_for_health(tree) {
            errors.extend(
                names::port_number(port).into_iter().map(|why| FieldError::invalid(&path, port, why)),
            );
        } else {
            let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.push(FieldError::invalid(&path, port, why));
        }
    }
}

/// What is about balancers outside of the cluster.
fn validate_balancer(tree: &Value, spec: &Path<'_>, errors: &mut Vec<FieldError>) {
    const KUBELET: i64 = 10250;
    let balanced = text(tree, &["type"]) == "LoadBalancer";
    let only_balanced = |field: &str, errors: &mut Vec<FieldError>| {
        let set = match at(tree, &[field]) {
            Some(Value::Array(all)) => !all.is_empty(),
            other => other.is_some(),
        };
        if set && !balanced {
            let why = "may only be used when `type` is 'LoadBalancer'";
            errors.push(FieldError::forbidden(&spec.child(field), why));
        }
    };
    for field in ["loadBalancerSourceRanges", "allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        only_balanced(field, errors);
    }
    // Upstream writes this one with a capital.
    let ranges = spec.child("LoadBalancerSourceRanges");
    for (index, range) in items(tree, &["loadBalancerSourceRanges"]).iter().enumerate() {
        let range = range.as_str().unwrap_or_default();
        if !is_cidr(range.trim()) {
            let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            errors.push(FieldError::invalid(&ranges.index(index), range, why));
        }
    }
    if let Some(class) = at(tree, &["loadBalancerClass"]).and_then(Value::as_str) {
        let faults = qualified_name(class).into_iter();
        errors.extend(faults.map(|why| FieldError::invalid(&spec.child("loadBalancerClass"), class, why)));
    }
    let ports = spec.child("ports");
    for (index, port) in items(tree, &["ports"]).iter().enumerate().filter(|_| balanced) {
        if number(port, &["port"]) == Some(KUBELET) {
            let why = format!("may not expose port {KUBELET} externally since it is used by kubelet");
            errors.push(FieldError::invalid(&ports.index(index).child("port"), KUBELET, why));
        }
    }
}

fn is_cidr(text: &str) -> bool {
    let Some((address, prefix)) = text.split_once('/') else { return false };
    let longest = match address.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    prefix.parse::<u8>().is_ok_and(|prefix| prefix <= longest)
}

fn validate_external_name(tree: &Value, spec: &Path<'_>, errors: &mut Vec<FieldError>) {
    let at_name = spec.child("externalName");
    let name = text(tree, &["externalName"]);
    if name.is_empty() {
        errors.push(FieldError::required(&at_name, ""));
    } else {
        let faults = dns1123_subdomain(name.strip_suffix('.').unwrap_or(name)).into_iter();
        errors.extend(faults.map(|why| FieldError::invalid(&at_name, name, why)));
    }
    service_families::forbid(tree, spec, errors);
}

fn validate_external_addresses(tree: &Value, spec: &Path<'_>, errors: &mut Vec<FieldError>) {
    let path = spec.child("externalIPs");
    for (index, address) in items(tree, &["externalIPs"]).iter().enumerate() {
        let address = address.as_str().unwrap_or_default();
        match address.parse::<IpAddr>() {
            Err(_) => {
                let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
                errors.push(FieldError::invalid(&path.index(index), address, why));
            }
            Ok(parsed) => errors.extend(
                super::endpoints::special(parsed)
                    .map(|why| FieldError::invalid(&path.index(index), address, why)),
            ),
        }
    }
}

fn validate_ports(tree: &Value, path: &Path<'_>, kind: &str, errors: &mut Vec<FieldError>) {
    let all = items(tree, &["ports"]);
    let (mut names_seen, mut seen, mut nodes) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (index, port) in all.iter().enumerate() {
        let at_port = path.index(index);
        let name = text(port, &["name"]);
        if name.is_empty() {
            if all.len() > 1 {
                errors.push(FieldError::required(&at_port.child("name"), ""));
            }
        } else {
            let faults = dns1123_label(name).into_iter();
            errors.extend(faults.map(|why| FieldError::invalid(&at_port.child("name"), name, why)));
            if !names_seen.insert(name) {
                errors.push(FieldError::duplicate(&at_port.child("name"), name));
            }
        }
        let own = number(port, &["port"]).unwrap_or_default();
        for why in names::port_number(own) {
            errors.push(FieldError::invalid(&at_port.child("port"), own, why));
        }
        one_of(port, "protocol", &["SCTP", "TCP", "UDP"], &at_port, errors);
        validate_target(port, &at_port, errors);
        super::endpoints::validate_app_protocol(port, &at_port, errors);
        let protocol = text(port, &["protocol"]);
        if !seen.insert((own, protocol)) {
            errors.push(FieldError::duplicate(
                &at_port,
                serde_json::json!({"port": own, "protocol": protocol}),
            ));
        }
        let Some(node) = number(port, &["nodePort"]).filter(|node| *node != 0) else { continue };
        if kind == "ClusterIP" || kind == "ExternalName" {
            let why = format!("may not be used when `type` is '{kind}'");
            errors.push(FieldError::forbidden(&at_port.child("nodePort"), why));
        } else if !nodes.insert((node, protocol)) {
            errors.push(FieldError::duplicate(&at_port.child("nodePort"), node));
        }
    }
}

fn validate_target(port: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let at_target = path.child("targetPort");
    match at(port, &["targetPort"]) {
        Some(Value::String(name)) => {
            let faults = names::port_name(name).into_iter();
            errors.extend(faults.map(|why| FieldError::invalid(&at_target, name.as_str(), why)));
        }
        Some(target) => {
            let target = target.as_i64().unwrap_or_default();
            for why in names::port_number(target) {
                errors.push(FieldError::invalid(&at_target, target, why));
            }
        }
        None => {}
    }
}

pub(super) fn validate_update(service: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    service_families::changed(service, old, errors);
    validate(service, errors);
    let spec = Path::new("spec");
    let balanced = |service: &Value| text(service, &["spec", "type"]) == "LoadBalancer";
    let class = |service: &Value| at(service, &["spec", "loadBalancerClass"]).cloned();
    if balanced(service) && balanced(old) && class(service) != class(old) {
        let given = class(service).unwrap_or_default();
        errors.push(FieldError::invalid(&spec.child("loadBalancerClass"), given, "may not change once set"));
    }
}

/// What is wrong with a status that somebody reports.
pub(super) fn validate_status(service: &Value, errors: &mut Vec<FieldError>) {
    let status = Path::new("status");
    let balancer = status.child("loadBalancer");
    let path = balancer.child("ingress");
    let ingress = items(service, &["status", "loadBalancer", "ingress"]);
    if !ingress.is_empty() && text(service, &["spec", "type"]) != "LoadBalancer" {
        let why = "may only be used when `spec.type` is \"LoadBalancer\"";
        errors.push(FieldError::forbidden(&path, why));
    }
    for (index, point) in ingress.iter().enumerate() {
        let path = path.index(index);
        let (ip, hostname) = (text(point, &["ip"]), text(point, &["hostname"]));
        if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
            let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.push(FieldError::invalid(&path.child("ip"), ip, why));
        }
        if ip.is_empty() && !text(point, &["ipMode"]).is_empty() {
            let why = "may not be specified when `ip` is not set";
            errors.push(FieldError::forbidden(&path.child("ipMode"), why));
        }
        one_of(point, "ipMode", &["Proxy", "VIP"], &path, errors);
        if hostname.parse::<IpAddr>().is_ok() {
            let why = "must be a DNS name, not an IP address";
            errors.push(FieldError::invalid(&path.child("hostname"), hostname, why));
        } else if !hostname.is_empty() {
            let faults = dns1123_subdomain(hostname).into_iter();
            errors.extend(faults.map(|why| FieldError::invalid(&path.child("hostname"), hostname, why)));
        }
    }
}
