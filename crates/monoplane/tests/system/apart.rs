//! The controllers and the scheduler as processes of their own, with nothing but a kubeconfig.

use std::process::{Child, Command, Stdio};

use harness::{Plane, eventually, kill};
use serde_json::Value;

use crate::start;

/// A part that runs, and is ended with the test.
struct Running(Child);

impl Running {
    fn start(plane: &Plane, words: &[&str], program: &str) -> Self {
        let kubeconfig = plane.data().join(format!("server/credentials/{program}.kubeconfig"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_monoplane"));
        command.args(words).arg("--kubeconfig").arg(kubeconfig).stdin(Stdio::null());
        Self(command.spawn().expect("monoplane starts"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const NODE: &str = r#"{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "paper"}}"#;
const ROOM: &str = r#"{"status": {"capacity": {"cpu": "4", "memory": "8Gi", "pods": "20"},
    "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "20"}, "conditions": [{"type": "Ready", "status": "True"}]}}"#;
const TAINTS: &str = r#"{"spec": {"taints": null}}"#;

fn bound(plane: &Plane) -> usize {
    let pods = plane.get(&["pods", "-l", "app=web"]);
    let on_paper = |pod: &&Value| pod["spec"]["nodeName"] == "paper";
    pods["items"].as_array().map_or(0, |pods| pods.iter().filter(on_paper).count())
}

#[test]
fn parts_of_the_server_run_apart_and_take_turns() {
    let plane = start(&["--disable", "node,edge,scheduler,controllers"]);
    plane.apply(NODE);
    plane.kubectl_ok(&["patch", "node", "paper", "--subresource=status", "--type=strategic", "-p", ROOM]);
    plane.kubectl_ok(&["patch", "node", "paper", "--type=merge", "-p", TAINTS]);
    plane.kubectl_ok(&["create", "deployment", "web", "--image=web", "--replicas=2"]);
    assert!(plane.get(&["replicasets"])["items"].as_array().is_some_and(Vec::is_empty), "nobody controls");

    let ca = plane.data().join("server/credentials/ca.crt");
    let words = ["controllers", "--root-ca-file", ca.to_str().expect("a path that is text")];
    let _controllers = Running::start(&plane, &words, "kube-controller-manager");
    let pods = || plane.get(&["pods", "-l", "app=web"])["items"].as_array().map_or(0, Vec::len);
    eventually("the pods are made", || (pods() == 2).then_some(()));
    assert_eq!(bound(&plane), 0, "nobody schedules");
    eventually("the root certificate", || plane.kubectl(&["get", "cm", "kube-root-ca.crt"]).ok.then_some(()));

    let first = Running::start(&plane, &["scheduler"], "kube-scheduler");
    eventually("the pods are bound", || (bound(&plane) == 2).then_some(()));
    let holder =
        || plane.get(&["lease", "kube-scheduler", "-n", "kube-system"])["spec"]["holderIdentity"].clone();
    let (led, _second) = (holder(), Running::start(&plane, &["scheduler"], "kube-scheduler"));
    assert!(led.is_string(), "{led}");
    // Asked to end it gives the lease back, so that the other need not wait until it is over.
    kill(first.0.id(), 15);
    eventually("the other leads", || {
        let now = holder();
        (now.as_str().is_some_and(|name| !name.is_empty()) && now != led).then_some(())
    });
    plane.kubectl_ok(&["scale", "deployment", "web", "--replicas=3"]);
    eventually("it schedules", || (bound(&plane) == 3).then_some(()));
}
