//! Which certificates of kubelets as servers are a node's own: those for its name, and for addresses that its Node object
//! has and nobody else does. Upstream leaves this to people, or to programs beside the cluster.

use super::{kubelet_faults, usages};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use pki::SigningRequest;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

const NODE: &str = "system:node:";
const NODES: &str = "system:nodes";

/// What is not any node's: by which the API itself is reached. A kubelet with a certificate for that could take its place.
#[derive(Debug, Default)]
pub(super) struct OfTheApi(BTreeSet<IpAddr>);

impl OfTheApi {
    /// The addresses of the Service `default/kubernetes`, and those behind it.
    pub(super) fn new<'a>(
        service: impl Iterator<Item = &'a String>,
        behind: &'a [Arc<EndpointSlice>],
    ) -> Self {
        let endpoints = behind.iter().flat_map(|slice| slice.endpoints.iter().flatten());
        let addresses = endpoints.flat_map(|endpoint| &endpoint.addresses);
        Self(service.chain(addresses).filter_map(|text| text.parse().ok()).collect())
    }
}

/// Whether a node asks for what is its own.
pub(super) fn is_own(
    request: &CertificateSigningRequest,
    asked: &SigningRequest,
    nodes: &[Arc<Node>],
    api: &OfTheApi,
) -> bool {
    let spec = &request.spec;
    let is_node = spec.groups.iter().flatten().any(|group| group == NODES);
    let is_itself = spec.username.as_deref() == Some(asked.common_name.as_str());
    if !is_node || !is_itself || kubelet_faults(asked, &usages(request), true).is_err() {
        return false;
    }
    let Some(name) = asked.common_name.strip_prefix(NODE) else { return false };
    let is = |node: &&Arc<Node>| node.metadata.name.as_deref() == Some(name);
    let Some(own) = nodes.iter().find(is).map(|node| addresses(node)) else { return false };
    let others: BTreeSet<IpAddr> =
        nodes.iter().filter(|node| !is(node)).flat_map(|node| addresses(node)).collect();
    let every_apis = pki::api_server_names(Vec::<String>::new());
    let fine = |address: &IpAddr| {
        let is_one = !address.is_unspecified() && !address.is_loopback() && !address.is_multicast();
        is_one && own.contains(address) && !others.contains(address) && !api.0.contains(address)
    };
    asked.dns_names.iter().all(|host| host == name && !every_apis.contains(host))
        && asked.addresses.iter().all(fine)
}

/// By which a node says that it is reached.
fn addresses(node: &Node) -> BTreeSet<IpAddr> {
    let all = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let reached = all.filter(|address| matches!(address.type_.as_str(), "InternalIP" | "ExternalIP"));
    reached.filter_map(|address| address.address.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    fn node(name: &str, address: &str) -> Arc<Node> {
        let addresses =
            json!([{ "type": "InternalIP", "address": address }, { "type": "Hostname", "address": "other" }]);
        Arc::new(
            from_value(json!({ "metadata": { "name": name }, "status": { "addresses": addresses } }))
                .unwrap(),
        )
    }

    fn judge(by: &str, group: &str, name: &str, hosts: &[&str], addresses: &[&str]) -> bool {
        let request = from_value(json!({
            "spec": { "request": "", "signerName": "kubernetes.io/kubelet-serving", "username": by, "groups": [group],
                "usages": ["server auth", "digital signature"] },
        }));
        let mut asked = SigningRequest::default();
        asked.common_name = format!("system:node:{name}");
        asked.organisations = vec!["system:nodes".to_owned()];
        asked.dns_names = hosts.iter().map(|host| (*host).to_owned()).collect();
        asked.addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let nodes = [
            node("n", "192.0.2.1"),
            node("m", "192.0.2.2"),
            node("localhost", "127.0.0.1"),
            node("thief", "192.0.2.2"),
            node("other-thief", "192.0.2.9"),
            node("shy", "10.43.0.1"),
        ];
        let slice = json!({ "addressType": "IPv4", "endpoints": [{ "addresses": ["192.0.2.9"] }] });
        let api =
            OfTheApi::new([&"10.43.0.1".to_owned()].into_iter(), &[Arc::new(from_value(slice).unwrap())]);
        is_own(&request.unwrap(), &asked, &nodes, &api)
    }

    #[test]
    fn a_node_gets_a_certificate_for_itself_alone() {
        let own = |hosts: &[&str], addresses: &[&str]| judge("system:node:n", NODES, "n", hosts, addresses);
        assert!(own(&["n"], &["192.0.2.1"]) && own(&["n"], &[]) && own(&[], &["192.0.2.1"]));
        assert!(!own(&[], &[]), "for nothing");
        assert!(!own(&["n", "m"], &["192.0.2.1"]) && !own(&["other"], &[]), "another's name");
        assert!(!own(&["n"], &["192.0.2.1", "192.0.2.2"]), "another's address");
        assert!(!judge("system:node:m", NODES, "n", &["n"], &[]), "asked by another");
        assert!(!judge("system:node:n", "system:authenticated", "n", &["n"], &[]), "asked by no node");
        assert!(!judge("system:node:gone", NODES, "gone", &["gone"], &[]), "of a node that is not there");
    }

    #[test]
    fn what_others_are_reached_by_is_nobodys_own() {
        let asks = |name: &str, addresses: &[&str]| {
            judge(&format!("system:node:{name}"), NODES, name, &[name], addresses)
        };
        assert!(!asks("thief", &["192.0.2.2"]), "two say that they have it");
        assert!(!asks("other-thief", &["192.0.2.9"]), "an API server has it");
        assert!(!asks("shy", &["10.43.0.1"]), "the API's Service has it");
        assert!(!asks("localhost", &[]) && !asks("localhost", &["127.0.0.1"]), "every API server has it");
    }
}
