//! Where pods go, as users of kubectl meet it: nodes are objects without kubelets, so that only the scheduler's part shows.

use harness::{Plane, eventually};
use serde_json::{Value, json};

use crate::start;

const RULE: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const HOST: &str = "kubernetes.io/hostname";

/// A plane with these nodes, each of a zone and a number of cores.
fn with_nodes(flags: &[&str], nodes: &[(&str, &str, &str)]) -> Plane {
    let plane = start(&[&["--disable", "node,edge"], flags].concat());
    for (name, zone, cpu) in nodes {
        let labels = json!({ HOST: name, "zone": zone });
        let node =
            json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "labels": labels } });
        plane.apply(&node.to_string());
        let room = json!({ "cpu": cpu, "memory": "8Gi", "pods": "110" });
        let status = json!({ "status": { "capacity": room, "allocatable": room } }).to_string();
        plane.kubectl_ok(&["patch", "node", name, "--subresource=status", "-p", &status]);
    }
    plane
}

/// A pod that no taint keeps away: nobody says that these nodes are well.
fn pod(plane: &Plane, name: &str, app: &str, spec: Value) {
    let mut whole = json!({
        "tolerations": [{ "operator": "Exists" }], "terminationGracePeriodSeconds": 0,
        "containers": [{ "name": "c", "image": "i", "resources": { "requests": { "cpu": "100m" } } }],
    });
    for (key, value) in spec.as_object().expect("an object") {
        whole[key] = value.clone();
    }
    let metadata = json!({ "name": name, "labels": { "app": app } });
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": whole });
    plane.apply(&pod.to_string());
}

fn node_of(plane: &Plane, name: &str) -> Option<String> {
    plane.get(&["pod", name])["spec"]["nodeName"].as_str().map(str::to_owned)
}

fn placed(plane: &Plane, name: &str) -> String {
    eventually(&format!("{name} has a node"), || node_of(plane, name))
}

fn described(plane: &Plane, name: &str, part: &str) {
    eventually(&format!("{name} says {part:?}"), || {
        plane.kubectl_ok(&["describe", "pod", name]).contains(part).then_some(())
    });
}

fn cores(cpu: &str) -> Value {
    json!([{ "name": "c", "image": "i", "resources": { "requests": { "cpu": cpu } } }])
}

fn term(app: &str, key: &str) -> Value {
    json!([{ "labelSelector": { "matchLabels": { "app": app } }, "topologyKey": key }])
}

#[test]
fn pods_are_placed_by_what_they_say_of_one_another() {
    let plane = with_nodes(&[], &[("a1", "a", "4"), ("a2", "a", "4"), ("b1", "b", "4")]);
    let apart = json!({ "affinity": { "podAntiAffinity": { RULE: term("lone", HOST) } } });
    for name in ["lone-0", "lone-1", "lone-2"] {
        pod(&plane, name, "lone", apart.clone());
    }
    let mut nodes = ["lone-0", "lone-1", "lone-2"].map(|name| placed(&plane, name));
    nodes.sort();
    assert_eq!(nodes, ["a1", "a2", "b1"]);
    pod(&plane, "lone-3", "lone", apart);
    let why = "0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules. preemption: 0/3 nodes are available: \
               3 No preemption victims found for incoming pod.";
    described(&plane, "lone-3", why);
    plane.kubectl_ok(&["delete", "pod", "lone-1"]);
    assert_eq!(nodes.iter().filter(|node| **node == placed(&plane, "lone-3")).count(), 1);

    pod(&plane, "anchor", "anchor", json!({ "nodeSelector": { "zone": "b" } }));
    placed(&plane, "anchor");
    pod(&plane, "near", "near", json!({ "affinity": { "podAffinity": { RULE: term("anchor", "zone") } } }));
    assert_eq!(placed(&plane, "near"), "b1");

    let selector = json!({ "matchLabels": { "app": "even" } });
    let spread = json!({ "topologySpreadConstraints": [
        { "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector } ] });
    let names = ["even-0", "even-1", "even-2", "even-3"];
    names.iter().for_each(|name| pod(&plane, name, "even", spread.clone()));
    let in_b = names.iter().filter(|name| placed(&plane, name) == "b1").count();
    assert_eq!(in_b, 2);

    pod(&plane, "gated", "gated", json!({ "schedulingGates": [{ "name": "wait" }] }));
    let gated = eventually("it says that it is gated", || {
        plane.get(&["pod", "gated"])["status"]["conditions"].as_array().and_then(|all| all.first().cloned())
    });
    assert_eq!(gated["reason"], "SchedulingGated");
    assert_eq!(node_of(&plane, "gated"), None);
    plane.kubectl_ok(&[
        "patch",
        "pod",
        "gated",
        "--type=json",
        "-p",
        r#"[{"op":"remove","path":"/spec/schedulingGates"}]"#,
    ]);
    placed(&plane, "gated");
}

#[test]
fn an_important_pod_takes_the_place_of_others_that_no_budget_keeps() {
    let plane = with_nodes(&[], &[("a", "a", "1"), ("b", "b", "1")]);
    plane.kubectl_ok(&["create", "priorityclass", "high", "--value=1000"]);
    let low = json!({ "containers": cores("1"), "terminationGracePeriodSeconds": 600 });
    pod(&plane, "kept", "kept", low.clone());
    pod(&plane, "other", "other", low);
    let there = placed(&plane, "other");
    placed(&plane, "kept");
    plane.kubectl_ok(&["create", "pdb", "b", "--selector=app=kept", "--max-unavailable=0"]);

    let polite = json!({ "containers": cores("1"), "priority": 500, "priorityClassName": "polite" });
    plane.kubectl_ok(&["create", "priorityclass", "polite", "--value=500", "--preemption-policy=Never"]);
    pod(&plane, "polite", "polite", polite);
    described(
        &plane,
        "polite",
        "0/2 nodes are available: 2 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never.",
    );

    pod(&plane, "vip", "vip", json!({ "containers": cores("1"), "priorityClassName": "high" }));
    let nominated = eventually("room is being made", || {
        plane.get(&["pod", "vip"])["status"]["nominatedNodeName"].as_str().map(str::to_owned)
    });
    assert_eq!(nominated, there);
    let victim = eventually("the victim goes", || {
        let victim = plane.get(&["pod", "other"]);
        victim["metadata"]["deletionTimestamp"].is_string().then_some(victim)
    });
    let conditions = victim["status"]["conditions"].as_array().expect("conditions");
    let target =
        conditions.iter().find(|condition| condition["type"] == "DisruptionTarget").expect("a condition");
    assert_eq!(target["reason"], "PreemptionByScheduler");
    assert_eq!(target["message"], "default-scheduler: preempting to accommodate a higher priority pod");
    described(&plane, "other", &format!("on node {there}"));
    plane.kubectl_ok(&["delete", "pod", "other", "--force"]);
    assert_eq!(placed(&plane, "vip"), there);
    assert!(plane.get(&["pod", "kept"])["metadata"]["deletionTimestamp"].is_null());
    assert_eq!(node_of(&plane, "polite"), None);
}

#[test]
fn a_file_configures_profiles_and_what_is_wrong_in_it_is_named() {
    let folder = std::env::temp_dir().join(format!("monoplane-scheduling-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("scheduler.yaml");
    let head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
    let profiles = "profiles:\n- {}\n- schedulerName: packed\n  pluginConfig:\n  - name: NodeResourcesFit\n    args: \
                    {scoringStrategy: {type: MostAllocated}}\n  plugins:\n    score: {disabled: [{name: '*'}], enabled: \
                    [{name: NodeResourcesFit}]}\n";
    std::fs::write(&file, format!("{head}{profiles}")).expect("written");
    let path = file.to_str().expect("text");
    let plane = with_nodes(&["--scheduler-config", path], &[("a", "a", "4"), ("b", "b", "4")]);
    pod(&plane, "first", "x", json!({ "containers": cores("1") }));
    let full = placed(&plane, "first");
    for name in ["second", "third"] {
        pod(&plane, name, "x", json!({ "containers": cores("1"), "schedulerName": "packed" }));
        assert_eq!(placed(&plane, name), full);
    }
    pod(&plane, "fourth", "x", json!({ "containers": cores("1") }));
    assert_ne!(placed(&plane, "fourth"), full);

    std::fs::write(
        &file,
        format!("{head}profiles: [{{plugins: {{score: {{enabled: [{{name: Typo}}]}}}}}}]\n"),
    )
    .expect("written");
    let mut refused = std::process::Command::new(env!("CARGO_BIN_EXE_monoplane"));
    refused.args(["scheduler", "--kubeconfig", "/nonexistent", "--scheduler-config", path]);
    let refused = harness::Said::from(refused.output().expect("monoplane runs"));
    assert!(refused.err.contains("profiles[0].plugins.score.enabled[0].name"), "{refused:?}");
    std::fs::remove_dir_all(&folder).expect("removed");
}
