use super::*;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, from_value, json};
use std::sync::Arc;

fn node(name: &str, extra: Value) -> Node {
    let mut node = json!({
        "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
        "spec": {},
        "status": { "allocatable": { "cpu": "4", "memory": "8Gi", "pods": "110" } },
    });
    for (part, value) in extra.as_object().unwrap() {
        for (name, value) in value.as_object().unwrap() {
            node[part][name] = value.clone();
        }
    }
    from_value(node).unwrap()
}

fn pod(spec: Value) -> Arc<PodFacts> {
    let mut whole = json!({ "containers": [{ "name": "c" }] });
    for (name, value) in spec.as_object().unwrap() {
        whole[name] = value.clone();
    }
    let owner = json!([{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "r", "controller": true }]);
    let metadata = json!({ "name": "p", "namespace": "x", "uid": "p", "labels": { "app": "a" }, "ownerReferences": owner });
    Arc::new(PodFacts::of(&from_value(json!({ "metadata": metadata, "spec": whole })).unwrap()))
}

fn place(pod: &Arc<PodFacts>, snapshot: &mut Snapshot, chance: u64) -> Result<Arc<str>, Box<Unplaceable>> {
    super::place(pod, &Arc::default(), snapshot, chance).map(|placement| placement.node)
}

fn another(name: &str, pod: &Arc<PodFacts>) -> Arc<PodFacts> {
    Arc::new(PodFacts { uid: name.into(), ..(**pod).clone() })
}

fn asks(cpu: &str) -> Value {
    json!({ "containers": [{ "name": "c", "resources": { "requests": { "cpu": cpu } } }] })
}

fn snapshot(nodes: &[Node]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    nodes.iter().for_each(|node| snapshot.set_node(node));
    snapshot
}

fn refusal(nodes: &[Node], spec: Value) -> String {
    place(&pod(spec), &mut snapshot(nodes), 0).unwrap_err().to_string()
}

#[test]
fn refusals_read_as_upstream_writes_them() {
    let plain = node("a", json!({}));
    let tainted =
        node("b", json!({ "spec": { "taints": [{ "key": "k", "value": "v", "effect": "NoSchedule" }] } }));
    let cordoned = node("c", json!({ "spec": { "unschedulable": true } }));
    let full =
        node("d", json!({ "status": { "allocatable": { "cpu": "1", "memory": "1Gi", "pods": "0" } } }));
    assert_eq!(refusal(&[], json!({})), "no nodes available to schedule pods");
    assert_eq!(
        refusal(std::slice::from_ref(&plain), asks("5")),
        "0/1 nodes are available: 1 Insufficient cpu."
    );
    assert_eq!(
        refusal(&[plain.clone(), tainted, cordoned, full], asks("5")),
        "0/4 nodes are available: 1 Too many pods, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable, \
         2 Insufficient cpu."
    );
    assert_eq!(
        refusal(std::slice::from_ref(&plain), json!({ "nodeSelector": { "disk": "ssd" } })),
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
    );
    assert_eq!(
        refusal(&[plain], json!({ "nodeName": "z" })),
        "0/1 nodes are available: 1 node(s) didn't match the requested node name."
    );
}

#[test]
fn host_ports_are_taken_once_for_an_address() {
    let mut snapshot = snapshot(&[node("a", json!({}))]);
    let port = |address: &str| {
        let port = json!({ "containerPort": 1, "hostPort": 80, "hostIP": address });
        pod(json!({ "containers": [{ "name": "c", "ports": [port] }] }))
    };
    snapshot.place("a", another("first", &port("10.0.0.1")));
    assert!(place(&port("10.0.0.2"), &mut snapshot, 0).is_ok());
    for taken in ["10.0.0.1", "", "0.0.0.0"] {
        let why = place(&port(taken), &mut snapshot, 0).unwrap_err();
        assert_eq!(why.by, [PluginName::NodePorts].into());
    }
}

#[test]
fn what_is_placed_fills_a_node_and_what_goes_frees_it() {
    let mut snapshot = snapshot(&[node("a", json!({}))]);
    for i in 0..4 {
        let facts = another(&i.to_string(), &pod(asks("1")));
        let at = place(&facts, &mut snapshot, 0).unwrap();
        snapshot.place(&at, facts);
    }
    assert!(place(&pod(asks("1")), &mut snapshot, 0).is_err());
    snapshot.remove_pod("2");
    assert!(place(&pod(asks("1")), &mut snapshot, 0).is_ok());
}

#[test]
fn replicas_spread_over_nodes_and_zones() {
    let set = from_value(
        json!({ "metadata": { "name": "r" }, "spec": { "selector": { "matchLabels": { "app": "a" } } } }),
    );
    let set: k8s_openapi::api::apps::v1::ReplicaSet = set.unwrap();
    let zoned = |name: &str, zone: &str| {
        node(name, json!({ "metadata": { "labels": { "topology.kubernetes.io/zone": zone } } }))
    };
    let mut snapshot = snapshot(&[zoned("a1", "a"), zoned("a2", "a"), zoned("b1", "b"), zoned("b2", "b")]);
    snapshot.selectors.set(&("x".into(), "r".into()), Some(set));
    let mut placed = Vec::new();
    for i in 0..8u64 {
        let facts = another(&i.to_string(), &pod(asks("100m")));
        let at = place(&facts, &mut snapshot, i * 7).unwrap();
        snapshot.place(&at, facts);
        placed.push(at);
        let in_a = placed.iter().filter(|name| name.starts_with('a')).count();
        assert!(in_a.abs_diff(placed.len() - in_a) <= 1, "{placed:?}");
    }
    for name in ["a1", "a2", "b1", "b2"] {
        assert_eq!(placed.iter().filter(|at| &***at == name).count(), 2, "{placed:?}");
    }
}

#[test]
fn preferences_decide_among_equals() {
    let soft = node("soft", json!({ "spec": { "taints": [{ "key": "k", "effect": "PreferNoSchedule" }] } }));
    let mut two = snapshot(&[soft, node("plain", json!({}))]);
    for chance in 0..4 {
        assert_eq!(place(&pod(json!({})), &mut two, chance).unwrap(), "plain".into());
    }
    let fast = node("fast", json!({ "metadata": { "labels": { "disk": "ssd" } } }));
    let mut two = snapshot(&[node("slow", json!({})), fast]);
    let wish = json!({ "affinity": { "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [
        { "weight": 10, "preference": { "matchExpressions": [{ "key": "disk", "operator": "In", "values": ["ssd"] }] } }
    ] } } });
    for chance in 0..4 {
        assert_eq!(place(&pod(wish.clone()), &mut two, chance).unwrap(), "fast".into());
    }
}

#[test]
fn pods_on_nodes_that_are_not_known_count_when_they_turn_up() {
    let mut snapshot = Snapshot::default();
    snapshot.place("late", another("x", &pod(asks("3"))));
    assert_eq!(
        place(&pod(asks("1")), &mut snapshot, 0).unwrap_err().to_string(),
        "no nodes available to schedule pods"
    );
    snapshot.set_node(&node("late", json!({})));
    assert!(place(&pod(asks("2")), &mut snapshot, 0).is_err());
    assert!(place(&pod(asks("1")), &mut snapshot, 0).is_ok());
}

#[test]
fn many_nodes_are_sampled_in_turn() {
    let nodes: Vec<_> = (0..1000).map(|i| node(&format!("n{i}"), json!({}))).collect();
    let mut snapshot = snapshot(&nodes);
    place(&pod(json!({})), &mut snapshot, 0).unwrap();
    assert_eq!((wanted(1000, 70), wanted(1000, 100), wanted(1000, 1)), (700, 1000, 100));
    assert_eq!(snapshot.next, wanted(1000, 0));
    assert_eq!((wanted(100, 0), wanted(1000, 0), wanted(5000, 0)), (100, 420, 500));
}
