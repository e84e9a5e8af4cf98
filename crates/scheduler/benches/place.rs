//! How long one decision takes, and that it does not depend on how many pods are placed already.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a program for people to look at

use k8s_openapi::api::core::v1::Pod;
use scheduler::{PodFacts, Profile, Snapshot, place};
use serde_json::{Value, from_value, json};
use std::sync::Arc;
use std::time::Instant;

const HOST: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

fn pod(i: usize, more: &Value) -> Arc<PodFacts> {
    let mut spec = json!({ "containers": [{ "name": "c", "resources": { "requests": { "cpu": "10m", "memory": "10Mi" } } }] });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let pod: Pod = from_value(json!({
        "metadata": { "name": format!("p{i}"), "uid": format!("u{i}"), "namespace": "x", "labels": { "app": format!("a{}", i % 50) } },
        "spec": spec,
    }))
    .unwrap();
    Arc::new(PodFacts::of(&pod))
}

/// What pods of a family say of one another.
fn family(name: &str, i: usize) -> Value {
    let selector = json!({ "matchLabels": { "app": format!("a{}", i % 50) } });
    let term = |key: &str| json!([{ "labelSelector": selector, "topologyKey": key }]);
    let rule = "requiredDuringSchedulingIgnoredDuringExecution";
    match name {
        "affinity" => json!({ "affinity": { "podAffinity": { rule: term(ZONE) } } }),
        "anti-affinity" => json!({ "affinity": { "podAntiAffinity": { rule: term(HOST) } } }),
        "spread" => json!({ "topologySpreadConstraints": [
            { "maxSkew": 5, "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector },
            { "maxSkew": 1, "topologyKey": HOST, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector },
        ] }),
        _ => json!({}),
    }
}

fn main() {
    let profile: Arc<Profile> = Arc::default();
    for (name, nodes) in
        [("plain", 100), ("plain", 5000), ("affinity", 5000), ("anti-affinity", 5000), ("spread", 5000)]
    {
        let mut snapshot = Snapshot::default();
        for i in 0..nodes {
            let labels = json!({ HOST: format!("n{i}"), ZONE: format!("z{}", i % 3) });
            let node = from_value(json!({
                "metadata": { "name": format!("n{i}"), "labels": labels },
                "status": { "allocatable": { "cpu": "64", "memory": "256Gi", "pods": "1000" } },
            }));
            snapshot.set_node(&node.unwrap());
        }
        let mut placed = 0;
        for batch in [1000, 9000, 1000] {
            let all: Vec<_> = (placed..placed + batch).map(|i| pod(i, &family(name, i))).collect();
            let start = Instant::now();
            for facts in all {
                let at = place(&facts, &profile, &mut snapshot, placed as u64).unwrap().node;
                snapshot.place(&at, facts);
                placed += 1;
            }
            let each = start.elapsed() / u32::try_from(batch).unwrap();
            println!("{name}: {nodes} nodes, {placed} pods placed: {each:?} a decision");
        }
    }
}
