//! What is wrong with a service.

use std::collections::BTreeSet;
use std::net::IpAddr;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::{self, dns1123_label, dns1123_subdomain, label_value, qualified_name};
use serde_json::Value;

use super::pod_spec::one_of;
use crate::tree::{at, entries, items, number, text};

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
    one_of(tree, "internalTrafficPolicy", &["Cluster", "Local"], &spec, errors);
    one_of(tree, "externalTrafficPolicy", &["Cluster", "Local"], &spec, errors);
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
    validate_addresses(tree, &spec, errors);
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

fn validate_external_name(tree: &Value, spec: &Path<'_>, errors: &mut Vec<FieldError>) {
    let at_name = spec.child("externalName");
    let name = text(tree, &["externalName"]);
    if name.is_empty() {
        errors.push(FieldError::required(&at_name, ""));
    } else {
        let faults = dns1123_subdomain(name.strip_suffix('.').unwrap_or(name)).into_iter();
        errors.extend(faults.map(|why| FieldError::invalid(&at_name, name, why)));
    }
    if !text(tree, &["clusterIP"]).is_empty() {
        let why = "may not be set for ExternalName services";
        errors.push(FieldError::forbidden(&spec.child("clusterIPs"), why));
    }
}

fn validate_addresses(tree: &Value, spec: &Path<'_>, errors: &mut Vec<FieldError>) {
    let path = spec.child("clusterIPs");
    let many = items(tree, &["clusterIPs"]);
    let first = text(tree, &["clusterIP"]);
    if let Some(one) = many.first().and_then(Value::as_str)
        && one != first
    {
        errors.push(FieldError::invalid(&path, many.to_vec(), "first value must match `clusterIP`"));
    }
    for (index, address) in many.iter().enumerate() {
        let address = address.as_str().unwrap_or_default();
        if address != "None" && address.parse::<IpAddr>().is_err() {
            let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.push(FieldError::invalid(&path.index(index), address, why));
        }
    }
    let path = spec.child("externalIPs");
    for (index, address) in items(tree, &["externalIPs"]).iter().enumerate() {
        let address = address.as_str().unwrap_or_default();
        if address.parse::<IpAddr>().is_err() {
            let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.push(FieldError::invalid(&path.index(index), address, why));
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
    validate(service, errors);
    let spec = Path::new("spec");
    let external = |service: &Value| text(service, &["spec", "type"]) == "ExternalName";
    if external(service) || external(old) {
        return;
    }
    let (before, now) = (text(old, &["spec", "clusterIP"]), text(service, &["spec", "clusterIP"]));
    if !before.is_empty() && before != now {
        let given = at(service, &["spec", "clusterIPs"]).cloned().unwrap_or_default();
        errors.push(FieldError::invalid(
            &spec.child("clusterIPs").index(0),
            given,
            "may not change once set",
        ));
    }
}
