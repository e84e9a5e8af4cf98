//! What schema work costs on the path of a write: `cargo bench -p apimachinery`.
//!
//! The budget is about 10 µs for an object of 1 KiB, from its bytes to a validated tree and its canonical bytes.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark talks to its terminal and stops at surprises"
)]

use std::hint::black_box;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use apimachinery::field::Path;
use apimachinery::gvk::GroupVersionKind;
use apimachinery::managed::{self, Place, Reset, Writer};
use apimachinery::meta::{self, NameRule};
use apimachinery::schema::Schema;
use apimachinery::schema::table::Table;
use apimachinery::{json, patch};
use serde_json::{Value, json};

const TEXT: &str = include_str!("../../api/schema/v1.36.txt");

fn schema(gvk: &GroupVersionKind) -> &'static Schema {
    static TABLE: LazyLock<Table> = LazyLock::new(|| Table::new(TEXT).unwrap());
    TABLE.kind(gvk).unwrap()
}

/// The best of several rounds, so that a neighbour's noise does not count.
fn measure<T, S>(name: &str, mut setup: impl FnMut() -> T, mut run: impl FnMut(T) -> S) {
    const ROUNDS: usize = 20;
    const TURNS: usize = 500;
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let inputs: Vec<T> = (0..TURNS).map(|_| setup()).collect();
        let start = Instant::now();
        // Dropping what came out belongs to the cost.
        inputs.into_iter().for_each(|input| drop(black_box(run(black_box(input)))));
        best = best.min(start.elapsed());
    }
    println!("{name:<44} {:>8.2} µs", best.as_secs_f64() * 1e6 / TURNS as f64);
}

fn config_map() -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "name": "bench-12345", "namespace": "default", "labels": {"app.kubernetes.io/name": "bench", "run": "17"},
            "annotations": {"example.com/note": "what the load generator writes"},
        },
        "data": {"a": "x".repeat(400), "b": "y".repeat(300)},
    })
}

fn pod() -> Value {
    let container = |name: &str| {
        json!({
            "name": name, "image": "registry.example.com/team/app:1.2.3", "args": ["--flag", "value"],
            "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
            "resources": {"limits": {"cpu": "500m", "memory": "128Mi"}, "requests": {"cpu": "100m", "memory": "64Mi"}},
            "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 5},
        })
    };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web-5d4f8c7b9-abcde", "namespace": "default", "labels": {"app": "web", "pod-template-hash": "5d4f8c7b9"}},
        "spec": {
            "containers": [container("app"), container("sidecar")], "restartPolicy": "Always", "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
    })
}

fn suite(name: &str, gvk: &GroupVersionKind, object: &Value, change: &Value) {
    let schema = schema(gvk);
    let bytes = serde_json::to_vec(object).unwrap();
    let (metadata, conformed) = (Path::new("metadata"), object.clone());
    println!("{name}: {} bytes", bytes.len());
    let parse = |bytes: &[u8]| json::parse(bytes).unwrap().tree;
    let validate = |tree: &Value| meta::validate(tree, true, NameRule::Subdomain, &metadata);
    measure(
        "  serde_json alone, for comparison",
        || (),
        |()| serde_json::from_slice::<Value>(&bytes).unwrap(),
    );
    measure("  parse, noticing repeated keys", || (), |()| parse(&bytes));
    measure(
        "  conform to the kind",
        || object.clone(),
        |mut tree| {
            schema.conform(&mut tree).unwrap();
            tree
        },
    );
    measure("  validate the metadata", || (), |()| validate(&conformed));
    measure("  copy", || (), |()| object.clone());
    measure("  encode", || (), |()| serde_json::to_vec(object).unwrap());
    measure(
        "  strategic merge",
        || (object.clone(), change.clone()),
        |(mut tree, change)| {
            patch::strategic::apply(&mut tree, change, schema).unwrap();
            tree
        },
    );
    measure(
        "  JSON merge",
        || object.clone(),
        |mut tree| {
            patch::merge::apply(&mut tree, change);
            tree
        },
    );
    let api_version = gvk.api_version();
    let writer = Writer {
        place: Place::root(Some(schema), false),
        manager: "bench",
        api_version: &api_version,
        subresource: "",
        reset: Reset::Fields(&["status"]),
        now: "2026-01-01T00:00:00Z",
    };
    measure(
        "  who manages a new one",
        || (),
        |()| managed::encode(writer.update(None, object, Vec::new).unwrap()),
    );
    let mut changed = object.clone();
    patch::merge::apply(&mut changed, &json!({"metadata": {"labels": {"run": "19"}}}));
    let entries = writer.update(None, object, Vec::new).unwrap();
    measure(
        "  who manages a changed one",
        || entries.clone(),
        |entries| managed::encode(writer.update(Some(object), &changed, || entries).unwrap()),
    );
    measure(
        "  the whole way of a create",
        || (),
        |()| {
            let mut tree = parse(&bytes);
            schema.conform(&mut tree).unwrap();
            assert!(validate(&tree).is_empty());
            serde_json::to_vec(&tree).unwrap()
        },
    );
}

fn main() {
    let change = json!({"metadata": {"labels": {"run": "18"}}, "data": {"c": "z"}});
    suite("ConfigMap", &GroupVersionKind::of("", "v1", "ConfigMap"), &config_map(), &change);
    let change = json!({"spec": {
        "$setElementOrder/containers": [{"name": "app"}, {"name": "sidecar"}],
        "containers": [{"name": "app", "image": "registry.example.com/team/app:1.2.4"}],
    }});
    suite("Pod", &GroupVersionKind::of("", "v1", "Pod"), &pod(), &change);
    measure("index of the built-in schemas", || (), |()| Table::new(TEXT).unwrap());
}
