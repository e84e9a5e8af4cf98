//! The translation against the words of the specification, evaluated on the objects themselves.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use network::policies::{Beginning, Policies};
use network::services::Protocol;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{World, policies};
use crate::pods;

/// Objects as a client would write them.
#[derive(Clone, Debug)]
struct Objects {
    namespaces: Vec<Value>,
    pods: Vec<Value>,
    policies: Vec<Value>,
}

fn typed<T: k8s_openapi::serde::de::DeserializeOwned>(objects: &[Value]) -> Vec<Arc<T>> {
    objects.iter().map(|object| Arc::new(serde_json::from_value(object.clone()).expect("typed"))).collect()
}

impl Objects {
    fn translated(&self) -> Policies {
        let pods = typed::<Pod>(&self.pods);
        let (pods, _) = pods::all(&pods, &Default::default(), "here");
        let (namespaces, all) =
            (typed::<Namespace>(&self.namespaces), typed::<NetworkPolicy>(&self.policies));
        policies(&World { policies: &all, namespaces: &namespaces, pods: &pods })
    }

    fn pod(&self, address: IpAddr) -> Option<&Value> {
        self.pods.iter().find(|pod| pod["status"]["podIP"] == address.to_string() && on_own_network(pod))
    }

    /// The specification: isolation by selection, and what is added up of the rules.
    fn may(&self, beginning: &Beginning) -> bool {
        let (source, destination) = (beginning.source, beginning.destination.ip());
        source == destination
            || (self.side("Egress", source, destination, beginning)
                && self.side("Ingress", destination, source, beginning))
    }

    fn side(&self, direction: &str, own: IpAddr, other: IpAddr, beginning: &Beginning) -> bool {
        let Some(pod) = self.pod(own).filter(|pod| pod["spec"]["nodeName"] == "here") else { return true };
        let mut isolated = false;
        for policy in &self.policies {
            let spec = &policy["spec"];
            let applies = policy["metadata"]["namespace"] == pod["metadata"]["namespace"]
                && selects(&spec["podSelector"], &pod["metadata"]["labels"])
                && spec["policyTypes"].as_array().is_some_and(|types| types.contains(&json!(direction)));
            if !applies {
                continue;
            }
            isolated = true;
            let (rules, peers) = match direction {
                "Ingress" => (&spec["ingress"], "from"),
                _ => (&spec["egress"], "to"),
            };
            for rule in rules.as_array().into_iter().flatten() {
                let of = &policy["metadata"]["namespace"];
                if any(&rule[peers], |peer| self.is_peer(peer, of, other))
                    && any(&rule["ports"], |port| self.is_port(port, beginning))
                {
                    return true;
                }
            }
        }
        !isolated
    }

    fn is_peer(&self, peer: &Value, namespace: &Value, address: IpAddr) -> bool {
        if let Some(block) = peer.get("ipBlock") {
            let within = |range: &Value| {
                let range = apimachinery::cidr::Cidr::parse_leniently(range.as_str().expect("a range"));
                range.expect("a range").contains(address)
            };
            return within(&block["cidr"]) && !block["except"].as_array().into_iter().flatten().any(within);
        }
        let Some(pod) = self.pod(address) else { return false };
        let own = &pod["metadata"]["namespace"];
        let in_namespace = match peer.get("namespaceSelector") {
            None => own == namespace,
            Some(selector) => self.namespaces.iter().any(|candidate| {
                candidate["metadata"]["name"] == *own && selects(selector, &candidate["metadata"]["labels"])
            }),
        };
        let chosen = |selector| selects(selector, &pod["metadata"]["labels"]);
        in_namespace && peer.get("podSelector").is_none_or(chosen)
    }

    fn is_port(&self, port: &Value, beginning: &Beginning) -> bool {
        let protocol = if beginning.protocol == Protocol::Tcp { "TCP" } else { "UDP" };
        let number = u64::from(beginning.destination.port());
        let same_protocol = port["protocol"] == protocol;
        let reaches = match &port["port"] {
            Value::Null => true,
            Value::String(name) => self.pod(beginning.destination.ip()).is_some_and(|pod| {
                pod["spec"]["containers"][0]["ports"].as_array().into_iter().flatten().any(|own| {
                    own["name"] == *name && own["containerPort"] == number && own["protocol"] == protocol
                })
            }),
            first => {
                let first = first.as_u64().expect("a number");
                (first..=port["endPort"].as_u64().unwrap_or(first)).contains(&number)
            }
        };
        same_protocol && reaches
    }
}

fn on_own_network(pod: &Value) -> bool {
    pod["spec"]["hostNetwork"] != true && pod["status"]["phase"] == "Running"
}

/// An absent or empty list holds for all.
fn any(list: &Value, holds: impl Fn(&Value) -> bool) -> bool {
    list.as_array().is_none_or(|list| list.is_empty() || list.iter().any(holds))
}

fn selects(selector: &Value, labels: &Value) -> bool {
    let mut wanted = selector["matchLabels"].as_object().into_iter().flatten();
    let exists = selector["matchExpressions"].as_array().into_iter().flatten();
    wanted.all(|(name, value)| labels[name] == *value)
        && exists.map(|each| &each["key"]).all(|key| labels.get(key.as_str().expect("a key")).is_some())
}

fn address(number: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, number])
}

fn selector() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({})),
        (0..2_u8).prop_map(|n| json!({"matchLabels": {"app": n.to_string()}})),
        Just(json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]})),
    ]
}

fn peer() -> impl Strategy<Value = Value> {
    let range =
        || ((0..9_u8).prop_map(address), 28..=31).prop_map(|(address, prefix)| format!("{address}/{prefix}"));
    prop_oneof![
        selector().prop_map(|of| json!({"podSelector": of})),
        selector().prop_map(|of| json!({"namespaceSelector": of})),
        (selector(), selector())
            .prop_map(|(pod, space)| json!({"podSelector": pod, "namespaceSelector": space})),
        (range(), prop::collection::vec((0..9_u8).prop_map(|n| format!("{}/32", address(n))), 0..2))
            .prop_map(|(cidr, except)| json!({"ipBlock": {"cidr": cidr, "except": except}})),
    ]
}

fn port() -> impl Strategy<Value = Value> {
    let which = prop_oneof![
        Just(json!({})),
        Just(json!({"port": 80})),
        Just(json!({"port": 80, "endPort": 81})),
        Just(json!({"port": "web"})),
    ];
    (which, prop::sample::select(&["TCP", "TCP", "UDP"][..])).prop_map(|(mut port, protocol)| {
        port["protocol"] = json!(protocol);
        port
    })
}

fn rules(peers: &'static str) -> impl Strategy<Value = Vec<Value>> {
    let others = prop::option::of(prop::collection::vec(peer(), 0..3));
    let ports = prop::option::of(prop::collection::vec(port(), 0..3));
    let rule = (others, ports).prop_map(move |(others, ports)| {
        let mut rule = json!({});
        others.into_iter().for_each(|others| rule[peers] = json!(others));
        ports.into_iter().for_each(|ports| rule["ports"] = json!(ports));
        rule
    });
    prop::collection::vec(rule, 0..3)
}

fn objects() -> impl Strategy<Value = Objects> {
    let label = || prop::option::of(0..2);
    let labels = |label: Option<i32>| label.map_or(json!({}), |n| json!({"app": n.to_string()}));
    let namespaces = prop::collection::vec(label(), 2).prop_map(move |all| {
        let one = |(n, label)| json!({"metadata": {"name": format!("n{n}"), "labels": labels(label)}});
        all.into_iter().enumerate().map(one).collect()
    });
    let pod = (
        0..2,
        label(),
        80..83,
        prop::bool::weighted(0.85),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.9),
    );
    let pods = prop::collection::vec(pod, 1..7).prop_map(move |all| {
        let one = |(n, (space, label, web, here, on_host, runs))| {
            json!({
                "metadata": {"name": format!("p{n}"), "namespace": format!("n{space}"), "labels": labels(label)},
                "spec": {
                    "nodeName": if here { "here" } else { "there" }, "hostNetwork": on_host,
                    "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": web, "protocol": "TCP"}]}],
                },
                "status": {
                    "phase": if runs { "Running" } else { "Failed" },
                    "podIP": address(u8::try_from(n).expect("few")),
                },
            })
        };
        all.into_iter().enumerate().map(one).collect()
    });
    const TYPES: [&[&str]; 3] = [&["Ingress"], &["Egress"], &["Ingress", "Egress"]];
    let types = prop::sample::select(&TYPES[..]);
    let policy = (0..2, selector(), types, rules("from"), rules("to"));
    let policies = prop::collection::vec(policy, 0..4).prop_map(|all| {
        let one = |(n, (space, selector, types, ingress, egress))| {
            json!({
                "metadata": {"name": format!("r{n}"), "namespace": format!("n{space}")},
                "spec": {"podSelector": selector, "policyTypes": types, "ingress": ingress, "egress": egress},
            })
        };
        all.into_iter().enumerate().map(one).collect()
    });
    (namespaces, pods, policies).prop_map(|(namespaces, pods, policies)| Objects {
        namespaces,
        pods,
        policies,
    })
}

proptest! {
    #[test]
    fn what_is_translated_decides_as_the_objects_say(objects in objects()) {
        let translated = objects.translated();
        // Some of these addresses are nobody's.
        for (source, destination) in (0..8).flat_map(|source| (0..8).map(move |to| (source, to))) {
            for (port, protocol) in [80, 81, 82].into_iter().zip([Protocol::Tcp, Protocol::Tcp, Protocol::Udp]) {
                let destination = SocketAddr::new(address(destination), port);
                let beginning = Beginning { source: address(source), destination, protocol };
                prop_assert_eq!(translated.admit(&beginning), objects.may(&beginning), "{:?}", beginning);
            }
        }
    }
}

#[test]
fn what_cannot_be_understood_allows_nothing() {
    let pods = vec![json!({
        "metadata": {"name": "p", "namespace": "n"}, "spec": {"nodeName": "here", "containers": []},
        "status": {"podIP": "10.0.0.1", "phase": "Running"},
    })];
    for rule in [
        json!({"from": [{"ipBlock": {"cidr": "nonsense"}}]}),
        json!({"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["nonsense"]}}]}),
        json!({"from": [{}]}),
        json!({"ports": [{"protocol": "ICMP", "port": 80}]}),
        json!({"ports": [{"protocol": "TCP", "port": 70000}]}),
    ] {
        let policy = json!({
            "metadata": {"name": "r", "namespace": "n"}, "spec": {"podSelector": {}, "ingress": [rule]},
        });
        let objects = Objects { namespaces: Vec::new(), pods: pods.clone(), policies: vec![policy] };
        let destination = SocketAddr::new(address(1), 80);
        let beginning = Beginning { source: address(9), destination, protocol: Protocol::Tcp };
        assert!(!objects.translated().admit(&beginning), "{objects:?}");
    }
}
