//! EndpointSlices.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use jiff::Timestamp;
use serde_json::Value;

use crate::core::endpoints::special;
use crate::kind::Column;
use crate::strategy::{Builtin, Generation, Rules, Strategy};
use crate::table;
use crate::tree::{default, items, items_mut, number, text};

const ADDRESS_TYPES: &[&str] = &["IPv4", "IPv6", "FQDN"];
const MAX_ENDPOINTS: usize = 1000;
const MAX_PORTS: usize = 20000;
const MAX_ADDRESSES: usize = 100;
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

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let (at, kind) = (Path::new("addressType"), text(object, &["addressType"]));
        if kind.is_empty() {
            errors.push(FieldError::required(&at, ""));
        } else if !ADDRESS_TYPES.contains(&kind) {
            errors.push(FieldError::not_supported(&at, kind, ADDRESS_TYPES));
        }
        let endpoints = items(object, &["endpoints"]);
        let path = Path::new("endpoints");
        if endpoints.len() > MAX_ENDPOINTS {
            errors.push(FieldError::too_many(&path, endpoints.len(), MAX_ENDPOINTS));
        }
        for (index, endpoint) in endpoints.iter().enumerate() {
            validate_addresses(endpoint, &path.index(index), kind, errors);
        }
        validate_ports(object, errors);
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        let kind = text(object, &["addressType"]);
        if kind != text(old, &["addressType"]) {
            errors.push(FieldError::invalid(&Path::new("addressType"), kind, "field is immutable"));
        }
        self.validate(object, errors);
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
        let parsed: Result<std::net::IpAddr, _> = address.parse();
        let why = match (kind, parsed) {
            ("IPv4" | "IPv6", Ok(ip)) if ip.is_ipv4() == (kind == "IPv4") => match special(ip) {
                Some(why) => why,
                None => continue,
            },
            ("IPv4", _) => "must be a valid IPv4 address".to_owned(),
            ("IPv6", _) => "must be a valid IPv6 address".to_owned(),
            ("FQDN", _) => match apimachinery::meta::names::dns1123_subdomain(address).pop() {
                Some(why) => why,
                None => continue,
            },
            _ => continue,
        };
        errors.push(FieldError::invalid(&at.index(index), address, why));
    }
}

fn validate_ports(object: &Value, errors: &mut Vec<FieldError>) {
    let path = Path::new("ports");
    let ports = items(object, &["ports"]);
    if ports.len() > MAX_PORTS {
        errors.push(FieldError::too_many(&path, ports.len(), MAX_PORTS));
    }
    let mut names = std::collections::BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let at = path.index(index);
        let name = text(port, &["name"]);
        if !names.insert(name) {
            errors.push(FieldError::duplicate(&at.child("name"), name));
        }
        let protocol = text(port, &["protocol"]);
        if !["TCP", "UDP", "SCTP"].contains(&protocol) {
            errors.push(FieldError::not_supported(&at.child("protocol"), protocol, &["SCTP", "TCP", "UDP"]));
        }
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
