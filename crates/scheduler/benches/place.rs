//! How long one decision takes, and that it does not depend on how many pods are placed already.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a program for people to look at

use k8s_openapi::api::core::v1::Pod;
use scheduler::{PodFacts, Snapshot, place};
use serde_json::{from_value, json};
use std::sync::Arc;
use std::time::Instant;

fn facts(i: usize) -> PodFacts {
    let pod: Pod = from_value(json!({
        "metadata": { "name": format!("p{i}"), "uid": format!("u{i}"), "namespace": "x",
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": format!("r{}", i % 50), "controller": true }] },
        "spec": { "containers": [{ "name": "c", "resources": { "requests": { "cpu": "10m", "memory": "10Mi" } } }] },
    }))
    .unwrap();
    PodFacts::of(&pod)
}

fn main() {
    for nodes in [100, 1000, 5000] {
        let mut snapshot = Snapshot::default();
        for i in 0..nodes {
            let labels = json!({ "kubernetes.io/hostname": format!("n{i}"), "topology.kubernetes.io/zone": format!("z{}", i % 3) });
            let node = from_value(json!({
                "metadata": { "name": format!("n{i}"), "labels": labels },
                "status": { "allocatable": { "cpu": "64", "memory": "256Gi", "pods": "1000" } },
            }));
            snapshot.set_node(&node.unwrap());
        }
        let mut placed = 0;
        for batch in [1000, 9000, 1000] {
            let all: Vec<_> = (placed..placed + batch).map(facts).collect();
            let start = Instant::now();
            for facts in all {
                let at = place(&facts, &mut snapshot, placed as u64).unwrap();
                snapshot.place(&at, Arc::new(facts));
                placed += 1;
            }
            let each = start.elapsed() / u32::try_from(batch).unwrap();
            println!("{nodes} nodes, {placed} pods placed: {each:?} a decision");
        }
    }
}
