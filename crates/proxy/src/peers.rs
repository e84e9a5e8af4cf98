//! The other nodes, as far as their pods are reached through a tunnel.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use apimachinery::cidr::Cidr;
use client::{InformerOptions, ObjectMeta, ResourceExt};
use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus};
use network::overlay::Peer;

/// On a Node: the link-layer address of its end of the tunnel.
pub const LINK: &str = "monoplane.dev/overlay-link-address";

/// All but this one that say where they and their pods are. What cannot be understood is left out.
pub(crate) fn peers(nodes: &[Arc<Node>], own: &str) -> Vec<Peer> {
    let others = nodes.iter().filter(|node| node.metadata.name.as_deref() != Some(own));
    others.flat_map(|node| ends(node)).collect()
}

/// A node's end, by each of its addresses.
fn ends(node: &Node) -> Vec<Peer> {
    let Some(link) = node.annotations().get(LINK).and_then(|text| text.parse().ok()) else {
        return Vec::new();
    };
    let spec = node.spec.as_ref();
    let cidrs = spec.into_iter().flat_map(|spec| spec.pod_cidrs.iter().flatten());
    let pods: Vec<(IpAddr, u8)> = cidrs
        .filter_map(|cidr| Cidr::parse_leniently(cidr))
        .map(|cidr| (cidr.network(), cidr.prefix))
        .collect();
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let internal = addresses.filter(|address| address.type_ == "InternalIP");
    let hosts = internal.filter_map(|address| address.address.parse::<IpAddr>().ok());
    let hosts = hosts.filter(|host| !host.is_loopback() && !host.is_unspecified() && !pods.is_empty());
    hosts.map(|host| Peer { host, link, pods: pods.clone() }).collect()
}

/// What of each node is kept.
pub(crate) fn trimmed() -> InformerOptions<Node> {
    fn trim(node: &mut Node) {
        let link = node.annotations_mut().remove(LINK).map(|link| (LINK.to_owned(), link));
        let metadata = std::mem::take(&mut node.metadata);
        node.metadata = ObjectMeta {
            name: metadata.name,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            annotations: Some(BTreeMap::from_iter(link)),
            ..ObjectMeta::default()
        };
        node.spec =
            node.spec.take().map(|spec| NodeSpec { pod_cidrs: spec.pod_cidrs, ..NodeSpec::default() });
        let addresses = node.status.take().and_then(|status| status.addresses);
        node.status = Some(NodeStatus { addresses, ..NodeStatus::default() });
    }
    InformerOptions { trim: Box::new(trim), ..InformerOptions::default() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(name: &str, link: &str, addresses: &[&str], cidrs: Value) -> Arc<Node> {
        let addresses: Vec<Value> =
            addresses.iter().map(|address| json!({ "type": "InternalIP", "address": address })).collect();
        let mut node: Node = serde_json::from_value(json!({
            "metadata": { "name": name, "labels": { "a": "b" }, "annotations": { LINK: link, "more": "x" } },
            "spec": { "podCIDRs": cidrs, "podCIDR": "10.9.0.0/24" },
            "status": { "addresses": addresses, "capacity": { "cpu": "1" } },
        }))
        .unwrap();
        (trimmed().trim)(&mut node);
        Arc::new(node)
    }

    #[test]
    fn peers_are_the_other_nodes_that_say_all() {
        let link = "02:00:00:00:00:01";
        let all = [
            node("own", link, &["192.0.2.1"], json!(["10.1.0.0/24"])),
            node("two", link, &["192.0.2.2", "2001:db8::2"], json!(["10.2.0.7/24", "fd00::/64"])),
            node("silent", "", &["192.0.2.3"], json!(["10.3.0.0/24"])),
            node("alone", link, &["127.0.0.1"], json!(["10.4.0.0/24"])),
            node("new", link, &["192.0.2.5"], json!([])),
            node("odd", link, &["a"], json!(["10.6.0.0/24", "x"])),
        ];
        let found = peers(&all, "own");
        let hosts: Vec<String> = found.iter().map(|peer| peer.host.to_string()).collect();
        assert_eq!(hosts, ["192.0.2.2", "2001:db8::2"]);
        assert_eq!(found[0].link.to_string(), link);
        assert_eq!(found[0].pods, [("10.2.0.0".parse().unwrap(), 24), ("fd00::".parse().unwrap(), 64)]);
        assert!(all[1].metadata.labels.is_none() && !all[1].annotations().contains_key("more"));
    }
}
