//! Endpoints: what EndpointSlices took the place of.

use std::net::IpAddr;
use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::{self, dns1123_label, dns1123_subdomain, qualified_name};
use jiff::Timestamp;
use serde_json::Value;

use crate::checks::{invalid, one_of};
use crate::kind::Column;
use crate::strategy::{Builtin, Rules, Strategy};
use crate::table;
use crate::tree::{default_text, items, items_mut, number, text};

/// Addresses that a row shows before it says how many more there are.
const SHOWN: usize = 3;

struct Endpoints;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("", "v1", "Endpoints"),
        rules: Rules { create_on_update: true, ..Rules::default() },
        fields: Vec::new(),
        subresources: Vec::new(),
        scale: None,
        columns: Column::parse(&["Name", "Endpoints", "Age"]),
        strategy: Arc::new(Endpoints),
    }
}

impl Strategy for Endpoints {
    fn default(&self, object: &mut Value) {
        for subset in items_mut(object, &["subsets"]) {
            for port in items_mut(subset, &["ports"]) {
                default_text(port, "protocol", "TCP");
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let subsets = Path::new("subsets");
        for (index, subset) in items(object, &["subsets"]).iter().enumerate() {
            let path = subsets.index(index);
            let lists = ["addresses", "notReadyAddresses"];
            if lists.iter().all(|list| items(subset, &[list]).is_empty()) {
                let why = "must specify `addresses` or `notReadyAddresses`";
                errors.push(FieldError::required(&path, why));
            }
            for list in lists {
                for (index, address) in items(subset, &[list]).iter().enumerate() {
                    validate_address(address, &path.child(list).index(index), errors);
                }
            }
            validate_ports(subset, &path.child("ports"), errors);
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![table::name(object), addresses(object), table::age(object, now)]
    }
}

fn validate_address(address: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let ip = text(address, &["ip"]);
    match ip.parse() {
        Ok(parsed) => {
            errors.extend(special(parsed).map(|why| FieldError::invalid(&path.child("ip"), ip, why)))
        }
        Err(_) => {
            let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.push(FieldError::invalid(&path.child("ip"), ip, why));
            // Upstream looks at it twice.
            errors.push(FieldError::invalid(&path.child("ip"), ip, "must be a valid IP address"));
        }
    }
    let hostname = text(address, &["hostname"]);
    if !hostname.is_empty() {
        invalid(&path.child("hostname"), hostname, dns1123_label(hostname), errors);
    }
    if let Some(node) = address.get("nodeName").and_then(Value::as_str) {
        invalid(&path.child("nodeName"), node, dns1123_subdomain(node), errors);
    }
}

/// Why nobody may be led to such an address: it means somebody else on each machine.
pub(crate) fn special(ip: IpAddr) -> Option<String> {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let link_local_multicast = match ip {
        IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
        IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
    };
    if ip.is_unspecified() {
        Some(format!("may not be unspecified ({ip})"))
    } else if ip.is_loopback() {
        Some("may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned())
    } else if link_local {
        Some("may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned())
    } else if link_local_multicast {
        Some("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned())
    } else {
        None
    }
}

fn validate_ports(subset: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let all = items(subset, &["ports"]);
    for (index, port) in all.iter().enumerate() {
        let path = path.index(index);
        let name = text(port, &["name"]);
        if name.is_empty() {
            if all.len() > 1 {
                errors.push(FieldError::required(&path.child("name"), ""));
            }
        } else {
            let faults = dns1123_label(name).into_iter();
            errors.extend(faults.map(|why| FieldError::invalid(&path.child("name"), name, why)));
        }
        let own = number(port, &["port"]).unwrap_or_default();
        for why in names::port_number(own) {
            errors.push(FieldError::invalid(&path.child("port"), own, why));
        }
        one_of(port, "protocol", &["SCTP", "TCP", "UDP"], &path, errors);
        validate_app_protocol(port, &path, errors);
    }
}

/// What is spoken at a port, if the port says so.
pub(crate) fn validate_app_protocol(port: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if let Some(protocol) = port.get("appProtocol").and_then(Value::as_str) {
        invalid(&path.child("appProtocol"), protocol, qualified_name(protocol), errors);
    }
}

/// The first few that are ready, with their ports, and how many more there are.
fn addresses(object: &Value) -> Value {
    let mut all = Vec::new();
    for subset in items(object, &["subsets"]) {
        let ips = || items(subset, &["addresses"]).iter().map(|address| text(address, &["ip"]));
        let ports = items(subset, &["ports"]);
        if ports.is_empty() {
            all.extend(ips().map(str::to_owned));
        }
        for port in ports.iter().filter_map(|port| number(port, &["port"])) {
            all.extend(ips().map(|ip| match ip.contains(':') {
                true => format!("[{ip}]:{port}"),
                false => format!("{ip}:{port}"),
            }));
        }
    }
    let more = all.len().saturating_sub(SHOWN);
    all.truncate(SHOWN);
    match more {
        0 => table::joined(all.iter().map(String::as_str)),
        more => format!("{} + {more} more...", all.join(",")).into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_and_what_is_refused() {
        let object = json!({"metadata": {"name": "a"}, "subsets": [
            {"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]},
        ]});
        assert_eq!(addresses(&object), "10.0.0.1:80,10.0.0.2:80,10.0.0.1:81 + 1 more...");
        assert_eq!(addresses(&json!({})), "<none>");
        let check = |subset: Value, expected: &str| {
            let mut errors = Vec::new();
            let mut object = json!({"subsets": [subset]});
            Endpoints.default(&mut object);
            Endpoints.validate(&object, &mut errors);
            let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(found.join("; "), expected);
        };
        check(json!({"addresses": [{"ip": "10.0.0.1", "hostname": "a"}], "ports": [{"port": 1}]}), "");
        check(json!({}), "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`");
        check(
            json!({"notReadyAddresses": [{"ip": "127.0.0.1"}]}),
            "subsets[0].notReadyAddresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
        );
        check(
            json!({"addresses": [{"ip": "x"}]}),
            "subsets[0].addresses[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff); \
             subsets[0].addresses[0].ip: Invalid value: \"x\": must be a valid IP address",
        );
        let count = |subset: Value| {
            let mut errors = Vec::new();
            Endpoints.validate(&json!({"subsets": [subset]}), &mut errors);
            errors.len()
        };
        assert_eq!(count(json!({"addresses": [{"ip": "10.0.0.1", "nodeName": ""}]})), 1);
        let port = |protocol: &str| json!({"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 1, "appProtocol": protocol}]});
        assert_eq!((count(port("a.b/c")), count(port("Bad Value!"))), (0, 1));
        check(
            json!({"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 1, "name": "a"}, {"port": 2}]}),
            "subsets[0].ports[1].name: Required value",
        );
    }
}
