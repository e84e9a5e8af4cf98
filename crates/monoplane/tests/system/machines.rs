//! Machines under fire: what is asked of pods of several machines is answered while Deployments roll, cables are pulled,
//! servers are killed and all is started anew.

use std::collections::BTreeSet;

use harness::{Plane, eventually};
use serde_json::{Value, json};

use crate::cluster::{cluster, joined, ready, text};
use crate::containers::{first_process, pod};
use crate::load::{Load, Seen, Target, network_of};
use crate::rolling;

/// An Ingress to the Service of [`rolling`].
fn ingress(host: &str) -> String {
    let backend = json!({ "service": { "name": "web", "port": { "number": 80 } } });
    let path = json!({ "path": "/", "pathType": "Prefix", "backend": backend });
    json!({ "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": { "name": "web" },
        "spec": { "rules": [{ "host": host, "http": { "paths": [path] } }] } })
    .to_string()
}

/// A pod that does nothing, for its network.
fn idle(name: &str, node: &str) -> String {
    pod(name, "while true; do sleep 1; done", &format!("  nodeName: {node}\n"))
}

/// The nodes of the pods with a label that run, and are to stay.
fn nodes_of(plane: &Plane, label: &str) -> Vec<String> {
    let pods = plane.get(&["pods", "-l", label]);
    let stays =
        |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null() && pod["status"]["phase"] == "Running";
    let items = pods["items"].as_array().cloned().unwrap_or_default();
    items.iter().filter(stays).map(|pod| text(pod, "/spec/nodeName")).collect()
}

fn rolled(plane: &Plane) {
    plane.kubectl_ok(&["rollout", "status", "deployment/web", "--timeout=120s"]);
    eventually("the old ones are gone", || {
        let pods = plane.get(&["pods", "-l", "app=web"]);
        (pods["items"].as_array()?.len() == 3).then_some(())
    });
}

#[track_caller]
fn assert_none_failed(all: &[Seen]) {
    for seen in all {
        assert!(seen.failures.is_empty() && seen.requests > 0, "{seen:?}");
    }
}

#[test]
fn pods_of_three_machines_are_replaced_and_moved_without_a_failed_request() {
    let Some(mut cluster) = cluster(&["--node-monitor-grace-period", "15s"]) else { return };
    let (one, two) = (joined(&mut cluster, "one"), joined(&mut cluster, "two"));
    let outsider = cluster.machine();
    let plane = &cluster.server;
    plane.apply(&[rolling::manifest("one"), ingress("web.test"), idle("client", "two")].join("\n---\n"));
    rolled(plane);
    ready(plane, &["client"]);
    let spread: BTreeSet<String> = nodes_of(plane, "app=web").into_iter().collect();
    assert_eq!(spread.len(), 3, "{spread:?}");
    let spec = plane.get(&["service", "web"])["spec"].clone();
    let client = network_of(first_process(plane, "client"));
    let outside = outsider.host().namespace();
    let targets = [
        Target::new(&client, &format!("{}:80", text(&spec, "/clusterIP")), "web"),
        Target::new(&outside, &format!("{}:{}", one.host().address(), spec["ports"][0]["nodePort"]), "web"),
        Target::new(&outside, "10.99.0.1:8080", "web.test"),
    ];
    eventually("the Ingress is served", || targets[2].answers());
    let load = Load::start(&targets);
    load.until_more(400);
    for version in ["two", "one"] {
        match version {
            "two" => plane.apply(&rolling::manifest(version)),
            _ => plane.kubectl_ok(&["rollout", "undo", "deployment/web"]),
        };
        rolled(plane);
        load.until_more(400);
    }
    let all = load.stop();
    assert_none_failed(&all);
    for seen in &all {
        assert_eq!(seen.versions.iter().map(String::as_str).collect::<Vec<_>>(), ["one", "two"], "{seen:?}");
    }
    drop((one, two));
}
