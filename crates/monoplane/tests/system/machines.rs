//! Machines under fire: what is asked of pods of several machines is answered while Deployments roll, cables are pulled,
//! servers are killed and all is started anew.

use std::collections::BTreeSet;
use std::path::Path;

use harness::{Cluster, Machine, Plane, eventually};
use serde_json::json;

use crate::cluster::{cluster, herd, joined, nodes_of, ready, sleepers, text};
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

fn rolled(plane: &Plane) {
    plane.kubectl_ok(&["rollout", "status", "deployment/web", "--timeout=120s"]);
    eventually("the old ones are gone", || {
        let pods = plane.get(&["pods", "-l", "app=web"]);
        (pods["items"].as_array()?.len() == 3).then_some(())
    });
}

#[track_caller]
pub(crate) fn assert_none_failed(all: &[Seen]) {
    for seen in all {
        assert!(seen.failures.is_empty() && seen.requests > 0, "{seen:?}");
    }
}

#[test]
fn pods_of_three_machines_are_replaced_and_moved_without_a_failed_request() {
    let Some(mut cluster) = cluster(&["--node-monitor-grace-period", "15s"]) else { return };
    let (one, two) = (joined(&mut cluster, "one"), joined(&mut cluster, "two"));
    let outsider = cluster.machine();
    let mut edges = [cluster.join_edge(&one, "one", &[]), cluster.join_edge(&two, "two", &[])];
    let plane = &cluster.server;
    plane.apply(&[rolling::manifest("one"), ingress("web.test"), idle("client", "two")].join("\n---\n"));
    rolled(plane);
    ready(plane, &["client"]);
    let spread: BTreeSet<String> = nodes_of(plane, "web").into_iter().collect();
    assert_eq!(spread.len(), 3, "{spread:?}");
    let spec = plane.get(&["service", "web"])["spec"].clone();
    let client = network_of(first_process(plane, "client"));
    let outside = outsider.host().namespace();
    let targets = [
        Target::new(&client, &format!("{}:80", text(&spec, "/clusterIP")), "web"),
        Target::new(&outside, &format!("{}:{}", one.host().address(), spec["ports"][0]["nodePort"]), "web"),
        Target::new(&outside, "10.99.0.1:8080", "web.test"),
        Target::new(&outside, &format!("{}:8080", one.host().address()), "web.test"),
        Target::new(&outside, &format!("{}:8080", two.host().address()), "web.test"),
    ];
    for target in &targets {
        eventually("the Ingress is served", || target.answers());
    }
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
    an_edge_is_killed(&mut edges, &targets[2..]);
    cut_off(&cluster, &two);
}

/// Of three edges the last one dies, under load on the others; it needs no token to be back.
fn an_edge_is_killed([_, last]: &mut [Machine; 2], targets: &[Target]) {
    let load = Load::start(&targets[..2]);
    load.until_more(100);
    last.kill();
    assert_eq!(targets[2].answers(), None);
    load.until_more(100);
    assert_none_failed(&load.stop());
    let words = ["edge", "--edge-name", "two", "--log", "info"];
    last.run(&words.map(str::to_owned));
    eventually("it serves again", || targets[2].answers());
}

/// A set of which none may run twice at once: as long as it lives, each signs what is kept of its name in a folder that all
/// machines of this test share.
pub(crate) fn set(lives: &Path) -> String {
    let script = "life=$(cat /proc/sys/kernel/random/uuid); \
                  while true; do echo $life >> /lives/$HOSTNAME; sleep 0.2; done";
    let volumes = format!(
        "        volumeMounts: [{{name: lives, mountPath: /lives}}]\n      \
         volumes: [{{name: lives, hostPath: {{path: '{}'}}}}]\n",
        lives.display()
    );
    herd("StatefulSet", "set", script, &volumes)
}

/// How many lives each of the set has had, one after the other.
#[track_caller]
pub(crate) fn lives_of_set(lives: &Path) -> [usize; 3] {
    [0, 1, 2].map(|number| {
        let signed = std::fs::read_to_string(lives.join(format!("set-{number}"))).expect("it has lived");
        let mut lives: Vec<&str> = signed.lines().collect();
        lives.dedup();
        let each: BTreeSet<&str> = lives.iter().copied().collect();
        assert_eq!(each.len(), lives.len(), "set-{number} ran twice at once: {lives:?}");
        lives.len()
    })
}

fn running(plane: &Plane, app: &str) -> BTreeSet<String> {
    nodes_of(plane, app).into_iter().collect()
}

/// Which addresses a Service leads to.
fn behind(plane: &Plane, service: &str) -> Vec<String> {
    let slices = plane.get(&["endpointslices", "-l", &format!("kubernetes.io/service-name={service}")]);
    let slices = slices["items"].as_array().cloned().unwrap_or_default();
    let endpoints = slices.iter().filter_map(|slice| slice["endpoints"].as_array()).flatten();
    let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] != false);
    ready.map(|endpoint| text(endpoint, "/addresses/0")).collect()
}

/// A node and its server do not hear of each other for longer than that may be; then they do again.
fn cut_off(cluster: &Cluster, two: &Machine) {
    let plane = &cluster.server;
    let lives = tempfile::tempdir().expect("a directory");
    plane.apply(&[herd("Deployment", "herd", "exec sleep 100000", ""), set(lives.path())].join("\n---\n"));
    plane.kubectl_ok(&["rollout", "status", "deployment/herd", "--timeout=60s"]);
    plane.kubectl_ok(&["rollout", "status", "statefulset/set", "--timeout=60s"]);
    for app in ["web", "herd", "set"] {
        assert_eq!(running(plane, app).len(), 3, "{app}: {:?}", nodes_of(plane, app));
    }
    plane.apply(&idle("near", "one"));
    ready(plane, &["near"]);
    // What stays in reach: all that the machine beside asks for, and what is asked of the one that is cut off.
    let near = network_of(first_process(plane, "near"));
    let pods = plane.get(&["pods", "-l", "app=web", "--field-selector=spec.nodeName=two"]);
    let own = format!("{}:8080", text(&pods, "/items/0/status/podIP"));
    let service = format!("{}:80", text(&plane.get(&["service", "web"]), "/spec/clusterIP"));
    let targets = [
        Target::new(&near, &service, "web"),
        Target::new(&near, &own, "web"),
        Target::new(&two.host().namespace(), &own, "web"),
    ];
    let load = Load::start(&targets);
    load.until_more(200);
    cluster.server.host().cut(two.host());
    let stays = BTreeSet::from(["one".to_owned(), "test-node".to_owned()]);
    eventually("what bears it for a second has moved", || {
        (nodes_of(plane, "herd").len() == 3 && running(plane, "herd") == stays).then_some(())
    });
    let node = plane.get(&["node", "two"]);
    assert!(node["spec"]["taints"].to_string().contains("node.kubernetes.io/unreachable"), "{node}");
    eventually("the Service leads elsewhere", || (behind(plane, "web").len() == 2).then_some(()));
    assert_eq!(
        (nodes_of(plane, "web").len(), nodes_of(plane, "set").len()),
        (3, 2),
        "nobody knows that it ended"
    );
    load.until_more(200);
    cluster.server.host().mend(two.host());
    cluster.wait_until_ready("two");
    eventually("all of the set run again", || (nodes_of(plane, "set").len() == 3).then_some(()));
    eventually("the Service leads to all", || (behind(plane, "web").len() == 3).then_some(()));
    load.until_more(200);
    assert_none_failed(&load.stop());
    plane.kubectl_ok(&["rollout", "status", "statefulset/set", "--timeout=60s"]);
    assert_eq!(lives_of_set(lives.path()).iter().sum::<usize>(), 4, "one has moved");
    assert_eq!(nodes_of(plane, "herd").len(), 3);
    let on_two = |app: &str| nodes_of(plane, app).iter().filter(|node| *node == "two").count();
    let own = 1 + ["web", "herd", "set"].map(on_two).iter().sum::<usize>();
    eventually("what has moved has ended here", || (sleepers(two) == own).then_some(()));
}
