//! The nodes, as far as their pods are reached through tunnels: what each announces of itself, and what of it is understood.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use apimachinery::cidr::Cidr;
use client::{InformerOptions, ObjectMeta, ResourceExt};
use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus};
use network::overlay::{Ends, Peer};

/// On a Node: the link-layer address of its end of the tunnel that is VXLAN's.
pub const LINK: &str = "monoplane.dev/overlay-link-address";
/// On a Node: the public key of its end of the tunnel that is WireGuard's.
pub const KEY: &str = "monoplane.dev/overlay-public-key";

/// The annotations by which a node announces these; without a value, those that it must not have.
pub fn announced(ends: &Ends) -> BTreeMap<String, Option<String>> {
    let link = ends.link.map(|link| link.to_string());
    [(LINK.to_owned(), link), (KEY.to_owned(), ends.key.map(|key| key.to_string()))].into()
}

/// All but this one that say where they and their pods are. What cannot be understood is left out.
pub(crate) fn peers(nodes: &[Arc<Node>], own: &str) -> Vec<Peer> {
    let others = nodes.iter().filter(|node| node.metadata.name.as_deref() != Some(own));
    others.flat_map(|node| ends(node)).collect()
}

/// A node's ends, by each of its addresses.
fn ends(node: &Node) -> Vec<Peer> {
    let said = |name| node.annotations().get(name).map(String::as_str);
    let ends = Ends {
        link: said(LINK).and_then(|text| text.parse().ok()),
        key: said(KEY).and_then(|text| text.parse().ok()),
    };
    if ends == Ends::default() {
        return Vec::new();
    }
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
    hosts.map(|host| Peer { host, ends, pods: pods.clone() }).collect()
}

/// What of each node is kept.
pub(crate) fn trimmed() -> InformerOptions<Node> {
    fn trim(node: &mut Node) {
        let annotations = node.annotations_mut();
        let ends = [LINK, KEY].map(|name| annotations.remove_entry(name));
        let metadata = std::mem::take(&mut node.metadata);
        node.metadata = ObjectMeta {
            name: metadata.name,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            annotations: Some(ends.into_iter().flatten().collect()),
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

    const SOME_LINK: &str = "02:00:00:00:00:01";
    const SOME_KEY: &str = "ERERERERERERERERERERERERERERERERERERERERERE=";

    fn node(name: &str, ends: Value, addresses: &[&str], cidrs: Value) -> Arc<Node> {
        let mut annotations = ends;
        annotations["more"] = "x".into();
        let addresses: Vec<Value> =
            addresses.iter().map(|address| json!({ "type": "InternalIP", "address": address })).collect();
        let mut node: Node = serde_json::from_value(json!({
            "metadata": { "name": name, "labels": { "a": "b" }, "annotations": annotations },
            "spec": { "podCIDRs": cidrs, "podCIDR": "10.9.0.0/24" },
            "status": { "addresses": addresses, "capacity": { "cpu": "1" } },
        }))
        .unwrap();
        (trimmed().trim)(&mut node);
        Arc::new(node)
    }

    #[test]
    fn peers_are_the_other_nodes_that_say_all() {
        let (link, key) = (|| json!({ LINK: SOME_LINK }), || json!({ KEY: SOME_KEY }));
        let all = [
            node("own", link(), &["192.0.2.1"], json!(["10.1.0.0/24"])),
            node("two", link(), &["192.0.2.2", "2001:db8::2"], json!(["10.2.0.7/24", "fd00::/64"])),
            node("silent", json!({ LINK: "", KEY: "" }), &["192.0.2.3"], json!(["10.3.0.0/24"])),
            node("alone", link(), &["127.0.0.1"], json!(["10.4.0.0/24"])),
            node("new", link(), &["192.0.2.5"], json!([])),
            node("odd", link(), &["a"], json!(["10.6.0.0/24", "x"])),
            node("secret", key(), &["192.0.2.7"], json!(["10.7.0.0/24"])),
            node("both", json!({ LINK: SOME_LINK, KEY: SOME_KEY }), &["192.0.2.8"], json!(["10.8.0.0/24"])),
        ];
        let found = peers(&all, "own");
        let hosts: Vec<String> = found.iter().map(|peer| peer.host.to_string()).collect();
        assert_eq!(hosts, ["192.0.2.2", "2001:db8::2", "192.0.2.7", "192.0.2.8"]);
        let (link, key) = (SOME_LINK.parse().ok(), SOME_KEY.parse().ok());
        let ends: Vec<Ends> = found.iter().map(|peer| peer.ends).collect();
        let (only_link, only_key) = (Ends { link, key: None }, Ends { link: None, key });
        assert_eq!(ends, [only_link, only_link, only_key, Ends { link, key }]);
        assert_eq!(found[0].pods, [("10.2.0.0".parse().unwrap(), 24), ("fd00::".parse().unwrap(), 64)]);
        assert!(all[1].metadata.labels.is_none() && !all[1].annotations().contains_key("more"));
    }

    #[test]
    fn what_a_node_announces_is_what_others_understand() {
        let all = Ends { link: SOME_LINK.parse().ok(), key: SOME_KEY.parse().ok() };
        for ends in [all, Ends { key: None, ..all }, Ends { link: None, ..all }] {
            let said: BTreeMap<_, _> =
                announced(&ends).into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            let node = node("other", json!(said), &["192.0.2.2"], json!(["10.2.0.0/24"]));
            assert_eq!(peers(&[node], "own")[0].ends, ends);
        }
    }
}
