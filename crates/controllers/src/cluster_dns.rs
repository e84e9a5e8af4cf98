//! Where cluster DNS answers: each node does, on the first address of its pods' range. The Service `kube-dns` leads each
//! pod to its own node's, by a slice a node and `internalTrafficPolicy: Local`.
//!
//! A `kube-dns` Service with a selector is somebody's who runs another DNS: then nothing is written.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use client::kube::ResourceExt;
use client::{ObjectKey, Reader, WorkQueue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::endpointslice::{MANAGED_BY, SERVICE, settle};
use crate::ownership::is_terminating;
use crate::plan::{Plan, controller_of};
use crate::{Controller, World};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-dns";
const MANAGER: &str = "cluster-dns.monoplane.dev";

/// The controller; see the module. Keys are names of nodes.
pub struct ClusterDns {
    nodes: Reader<Node>,
    services: Reader<Service>,
    slices: Reader<EndpointSlice>,
}

/// What it looks at.
#[derive(Default)]
pub struct View {
    /// The node, unless it is gone.
    pub node: Option<Arc<Node>>,
    /// The Service.
    pub service: Option<Arc<Service>>,
    /// The node's slice.
    pub slice: Option<Arc<EndpointSlice>>,
}

impl Controller for ClusterDns {
    const NAME: &'static str = "cluster-dns-controller";
    type Key = String;
    type View = View;
    type Memory = ();

    fn wire(world: &World, queue: &Arc<WorkQueue<String>>) -> Self {
        let (nodes, services) = (world.reader::<Node>(), world.reader::<Service>());
        let slices = world.reader::<EndpointSlice>();
        let add = queue.clone();
        nodes.informer().on_change(move |change| add.add(change.object().name_any()));
        let (add, all) = (queue.clone(), nodes.clone());
        services.informer().on_change(move |change| {
            if ObjectKey::of(&**change.object()) == ObjectKey::new(NAMESPACE, NAME) {
                all.informer().store().list().iter().for_each(|node| add.add(node.name_any()));
            }
        });
        let add = queue.clone();
        slices.informer().on_change(move |change| {
            let slice = change.object();
            // The node that a slice is for is in its name.
            let name = slice.metadata.name.as_deref().filter(|_| is_ours(slice));
            let node = name.and_then(|name| name.strip_prefix(&slice_name("")));
            node.into_iter().for_each(|node| add.add(node.to_owned()));
        });
        Self { nodes, services, slices }
    }

    fn view(&self, node: &String) -> View {
        let slice = self.slices.get(&ObjectKey::new(NAMESPACE, slice_name(node)));
        View {
            node: self.nodes.get(&ObjectKey::cluster(node)),
            service: self.services.get(&ObjectKey::new(NAMESPACE, NAME)),
            slice: slice.filter(|slice| is_ours(slice)),
        }
    }

    fn plan(_key: &String, view: &View, (): &(), _now: Timestamp) -> Plan<()> {
        plan(view)
    }
}

fn slice_name(node: &str) -> String {
    format!("{NAME}-{node}")
}

fn is_ours(slice: &EndpointSlice) -> bool {
    slice.labels().get(MANAGED_BY).is_some_and(|manager| manager == MANAGER)
}

/// Decides how the slice of one node should be; pure.
pub fn plan(view: &View) -> Plan<()> {
    let mut plan = Plan::default();
    let service = view.service.as_deref().filter(|service| {
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        selector.is_none_or(|selector| selector.is_empty()) && !is_terminating(*service)
    });
    let node = view.node.as_deref().filter(|node| !is_terminating(*node));
    let wanted = service.zip(node).and_then(|(service, node)| wanted(service, node));
    let current: Vec<_> = view.slice.iter().cloned().collect();
    settle(&mut plan, &current, wanted.into_iter().collect());
    plan
}

fn wanted(service: &Service, node: &Node) -> Option<EndpointSlice> {
    let address = first_address(node.spec.as_ref()?.pod_cidr.as_deref()?)?;
    let ports = service.spec.as_ref()?.ports.iter().flatten().map(|port| EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        app_protocol: None,
    });
    let labels = [(SERVICE, NAME), (MANAGED_BY, MANAGER)];
    Some(EndpointSlice {
        metadata: ObjectMeta {
            name: Some(slice_name(&node.name_any())),
            namespace: Some(NAMESPACE.to_owned()),
            labels: Some(labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
            // It goes with the node.
            owner_references: Some(vec![controller_of(node)]),
            ..ObjectMeta::default()
        },
        address_type: if address.is_ipv6() { "IPv6" } else { "IPv4" }.to_owned(),
        endpoints: Some(vec![Endpoint {
            addresses: vec![address.to_string()],
            // Nobody else is asked in its place, so that nothing is won by calling it unready.
            conditions: Some(EndpointConditions {
                ready: Some(true),
                serving: Some(true),
                terminating: Some(false),
            }),
            node_name: Some(node.name_any()),
            ..Endpoint::default()
        }]),
        ports: Some(ports.collect()),
    })
}

/// The first address of a range that a host can have: the node's own among its pods.
fn first_address(cidr: &str) -> Option<IpAddr> {
    let (network, prefix) = cidr.split_once('/')?;
    let prefix: u32 = prefix.parse().ok()?;
    match network.parse().ok()? {
        IpAddr::V4(network) => {
            let host = u32::MAX.checked_shr(prefix).unwrap_or(0);
            Some(Ipv4Addr::from((u32::from(network) & !host) + 1).into())
        }
        IpAddr::V6(network) => {
            let host = u128::MAX.checked_shr(prefix).unwrap_or(0);
            Some(Ipv6Addr::from((u128::from(network) & !host) + 1).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;
    use crate::plan::Action;

    fn view(selector: Value) -> View {
        let node =
            json!({ "metadata": { "name": "one", "uid": "u" }, "spec": { "podCIDR": "10.42.3.0/24" } });
        let ports =
            json!([{ "name": "dns", "port": 53, "protocol": "UDP" }, { "name": "dns-tcp", "port": 53 }]);
        let service = json!({ "spec": { "selector": selector, "ports": ports } });
        View {
            node: Some(Arc::new(from_value(node).unwrap())),
            service: Some(Arc::new(from_value(service).unwrap())),
            slice: None,
        }
    }

    #[test]
    fn a_node_answers_on_its_gateway() {
        let mut seen = view(json!(null));
        let planned = plan(&seen);
        let [Action::Create(create)] = planned.actions.as_slice() else { panic!("{planned:?}") };
        let endpoint = &create.object["endpoints"][0];
        assert_eq!((&endpoint["addresses"][0], &endpoint["nodeName"]), (&json!("10.42.3.1"), &json!("one")));
        assert_eq!(create.object["metadata"]["name"], "kube-dns-one");
        seen.slice = Some(Arc::new(from_value(create.object.clone()).unwrap()));
        assert!(plan(&seen).actions.is_empty());
        let own = View { slice: seen.slice.clone(), ..view(json!({ "k8s-app": "kube-dns" })) };
        assert!(matches!(plan(&own).actions.as_slice(), [Action::Delete(_)]));
        assert!(plan(&view(json!({ "k8s-app": "kube-dns" }))).actions.is_empty());
    }

    #[test]
    fn first_addresses() {
        for (cidr, expected) in [
            ("10.42.0.0/24", Some("10.42.0.1")),
            ("10.42.7.9/24", Some("10.42.7.1")),
            ("fd00:1::/64", Some("fd00:1::1")),
            ("0.0.0.0/0", Some("0.0.0.1")),
            ("10.42.0.0", None),
            ("x/24", None),
            ("10.42.0.0/x", None),
        ] {
            assert_eq!(first_address(cidr).map(|address| address.to_string()).as_deref(), expected, "{cidr}");
        }
    }
}
