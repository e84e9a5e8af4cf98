//! EndpointSlices.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use apimachinery::field::{FieldError, Path, quote};
use apimachinery::meta::names::{dns1123_label, dns1123_subdomain, label_value};
use jiff::Timestamp;
use serde_json::Value;

use crate::checks::invalid;
use crate::core::endpoints::{special, validate_app_protocol};
use crate::kind::Column;
use crate::strategy::{Builtin, Generation, Rules, Strategy};
use crate::table;
use crate::tree::{default, items, items_mut, map, number, text};

const ADDRESS_TYPES: &[&str] = &["IPv4", "IPv6", "FQDN"];
const MAX_ENDPOINTS: usize = 1000;
const MAX_PORTS: usize = 20000;
const MAX_ADDRESSES: usize = 100;
const MAX_HINTS: usize = 8;
/// Ports and endpoints that a row shows before it says how many more there are.
const SHOWN: usize = 3;

struct EndpointSlice;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("discovery.k8s.io", "v1", "EndpointSlice"),
        rules: Rules { generation: Generation::AllButMetadata, create_on_update: true, ..Rules::default() },
        fields: Vec::new(),
        subresources: Vec::new(),
        scale: None,
        columns: Column::parse(&["Name", "AddressType", "Ports", "Endpoints", "Age"]),
        strategy: Arc::new(EndpointSlice),
    }
}

impl Strategy for EndpointSlice {
    fn default(&self, object: &mut Value) {
        for port in items_mut(object, &["ports"]) {
            default(port, "name", "");
            default(port, "protocol", "TCP");
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        drop_topology(object);
    }

    fn prepare_update(&self, object: &mut Value, _old: &Value) {
        drop_topology(object);
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        validate_type(object, errors);
        validate_ports(object, errors);
        validate_endpoints(object, errors);
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        let kind = text(object, &["addressType"]);
        if kind != text(old, &["addressType"]) {
            errors.push(FieldError::invalid(&Path::new("addressType"), kind, "field is immutable"));
        }
        validate_type(object, errors);
        validate_ports(object, errors);
        // What an older release let in may stay.
        if object.get("endpoints") != old.get("endpoints") {
            validate_endpoints(object, errors);
        }
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let is_old = text(object, &["addressType"]) == "FQDN";
        let why = "spec.addressType: FQDN endpoints are deprecated";
        is_old.then(|| why.to_owned()).into_iter().collect()
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let ports = items(object, &["ports"]).iter().map(|port| match number(port, &["port"]) {
            Some(number) => number.to_string(),
            None => "*".to_owned(),
        });
        let endpoints =
            items(object, &["endpoints"]).iter().flat_map(|endpoint| items(endpoint, &["addresses"]));
        let addresses = endpoints.filter_map(Value::as_str).map(str::to_owned);
        vec![
            table::name(object),
            text(object, &["addressType"]).into(),
            shortened(ports, "<unset>"),
            shortened(addresses, "<unset>"),
            table::age(object, now),
        ]
    }
}

/// This version of the API has other fields in its place.
fn drop_topology(object: &mut Value) {
    for endpoint in items_mut(object, &["endpoints"]) {
        map(endpoint).remove("deprecatedTopology");
    }
}

fn validate_type(object: &Value, errors: &mut Vec<FieldError>) {
    let (path, kind) = (Path::new("addressType"), text(object, &["addressType"]));
    if kind.is_empty() {
        errors.push(FieldError::required(&path, ""));
    } else if !ADDRESS_TYPES.contains(&kind) {
        errors.push(FieldError::not_supported(&path, kind, ADDRESS_TYPES));
    }
}

fn validate_endpoints(object: &Value, errors: &mut Vec<FieldError>) {
    let (path, endpoints) = (Path::new("endpoints"), items(object, &["endpoints"]));
    if endpoints.len() > MAX_ENDPOINTS {
        errors.push(FieldError::too_many(&path, endpoints.len(), MAX_ENDPOINTS));
        return;
    }
    let kind = text(object, &["addressType"]);
    for (index, endpoint) in endpoints.iter().enumerate() {
        let at = path.index(index);
        validate_addresses(endpoint, &at, kind, errors);
        for (field, check) in [
            ("nodeName", dns1123_subdomain as fn(&str) -> Vec<String>),
            ("hostname", dns1123_label as fn(&str) -> Vec<String>),
        ] {
            if let Some(name) = endpoint.get(field).and_then(Value::as_str) {
                invalid(&at.child(field), name, check(name), errors);
            }
        }
        let hints = at.child("hints");
        validate_hints(endpoint, "forZones", label_value, &hints.child("forZones"), errors);
        validate_hints(endpoint, "forNodes", dns1123_subdomain, &hints.child("forNodes"), errors);
    }
}

/// For whom an endpoint is: each name once.
fn validate_hints(
    endpoint: &Value,
    list: &str,
    check: fn(&str) -> Vec<String>,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    let all = items(endpoint, &["hints", list]);
    if all.len() > MAX_HINTS {
        errors.push(FieldError::too_many(path, all.len(), MAX_HINTS));
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, name) in all.iter().map(|hint| text(hint, &["name"])).enumerate() {
        let at_hint = path.index(index);
        let at_name = at_hint.child("name");
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&at_name, name));
        }
        invalid(&at_name, name, check(name), errors);
    }
}

fn validate_addresses(endpoint: &Value, path: &Path<'_>, kind: &str, errors: &mut Vec<FieldError>) {
    let at = path.child("addresses");
    let addresses = items(endpoint, &["addresses"]);
    if addresses.is_empty() {
        errors.push(FieldError::required(&at, "must contain at least 1 address"));
    } else if addresses.len() > MAX_ADDRESSES {
        errors.push(FieldError::too_many(&at, addresses.len(), MAX_ADDRESSES));
    }
    for (index, address) in addresses.iter().enumerate() {
        let address = address.as_str().unwrap_or_default();
        match kind {
            "IPv4" | "IPv6" => validate_ip(address, kind, &at, index, errors),
            "FQDN" => validate_domain(address, &at.index(index), errors),
            _ => {}
        }
    }
}

/// An address of that family; one of the other is told of the whole list.
fn validate_ip(address: &str, kind: &str, all: &Path<'_>, index: usize, errors: &mut Vec<FieldError>) {
    let path = all.index(index);
    let Ok(ip) = address.parse::<IpAddr>() else {
        let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        errors.push(FieldError::invalid(&path, address, why));
        return;
    };
    let proper = ip.to_string();
    if kind == "IPv6" && proper != address {
        let why = format!("must be in canonical form ({})", quote(&proper));
        errors.push(FieldError::invalid(&path, address, why));
        return;
    }
    if ip.is_ipv4() != (kind == "IPv4") {
        errors.push(FieldError::invalid(all, address, format!("must be an {kind} address")));
    }
    errors.extend(special(ip).map(|why| FieldError::invalid(&path, address, why)));
}

/// A domain name of at least two labels; it may end in a dot.
fn validate_domain(name: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let faults = dns1123_subdomain(name);
    let is_short = faults.is_empty() && name.split('.').count() < 2;
    invalid(path, name, faults, errors);
    if is_short {
        let why = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(path, name, why));
    }
}

fn validate_ports(object: &Value, errors: &mut Vec<FieldError>) {
    let path = Path::new("ports");
    let ports = items(object, &["ports"]);
    if ports.len() > MAX_PORTS {
        errors.push(FieldError::too_many(&path, ports.len(), MAX_PORTS));
        return;
    }
    let mut names = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let at = path.index(index);
        let name = text(port, &["name"]);
        if !name.is_empty() {
            invalid(&at.child("name"), name, dns1123_label(name), errors);
        }
        if !names.insert(name) {
            errors.push(FieldError::duplicate(&at.child("name"), name));
        }
        let protocol = text(port, &["protocol"]);
        if !["TCP", "UDP", "SCTP"].contains(&protocol) {
            errors.push(FieldError::not_supported(&at.child("protocol"), protocol, &["SCTP", "TCP", "UDP"]));
        }
        validate_app_protocol(port, &at, errors);
    }
}

/// The first few, and how many more there are.
fn shortened(texts: impl Iterator<Item = String>, none: &str) -> Value {
    let all: Vec<String> = texts.collect();
    if all.is_empty() {
        return none.into();
    }
    let shown = all[..all.len().min(SHOWN)].join(",");
    let more = all.len().saturating_sub(SHOWN);
    if more > 0 { format!("{shown} + {more} more...").into() } else { shown.into() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_refused() {
        let check = |kind: &str, endpoint: Value, port: Value, expected: &str| {
            let mut object = json!({"addressType": kind, "endpoints": [endpoint], "ports": [port]});
            EndpointSlice.default(&mut object);
            let mut errors = Vec::new();
            EndpointSlice.validate(&object, &mut errors);
            let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(found.join("; "), expected, "{object}");
        };
        let at = |address: &str| json!({"addresses": [address]});
        check("IPv4", at("10.0.0.1"), json!({"appProtocol": "a.b/c"}), "");
        check("FQDN", at("a.b."), json!({}), "");
        check(
            "IPv6",
            at("10.0.0.1"),
            json!({}),
            "endpoints[0].addresses: Invalid value: \"10.0.0.1\": must be an IPv6 address",
        );
        check(
            "IPv4",
            at("x"),
            json!({}),
            "endpoints[0].addresses[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        );
        let hints = json!({"forZones": [{"name": "z"}, {"name": "z"}], "forNodes": [{"name": "n"}]});
        check(
            "IPv4",
            json!({"addresses": ["10.0.0.1"], "hints": hints}),
            json!({}),
            "endpoints[0].hints.forZones[1].name: Duplicate value: \"z\"",
        );
    }
}
