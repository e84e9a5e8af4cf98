//! The only server there is moves to another address: nodes that know it by a name go on by themselves, the others when they
//! are told.

use harness::{Cluster, Machine, Plane, eventually, is_root};
use serde_json::Value;

use crate::cluster::{ready, text, web};
use crate::containers::give_image;

const NAME: &str = "api.plane.test";

/// A node that joined the server at this host.
fn joined_at(cluster: &mut Cluster, node: &str, host: &str) -> Machine {
    let mut machine = cluster.machine();
    machine.call(NAME, cluster.server.host().address());
    let mut words = cluster.invitation(&["--node-name", node]);
    let join = words.iter().position(|word| word == "--join").expect("the flag") + 1;
    words[join] = format!("https://{host}:6443");
    machine.run(&words);
    give_image(|words| machine.monoplane(words));
    cluster.wait_until_ready(node);
    machine
}

/// What a pod that went on has as before.
fn life(plane: &Plane, pod: &str) -> (String, String, Value) {
    let pod = plane.get(&["pod", pod]);
    let restarts = pod["status"]["containerStatuses"][0]["restartCount"].clone();
    (text(&pod, "/metadata/uid"), text(&pod, "/status/podIP"), restarts)
}

fn answers(plane: &Plane, pod: &str) {
    eventually("its kubelet is reached", || plane.kubectl(&["logs", pod]).ok.then_some(()));
    let said = plane.kubectl_ok(&["exec", pod, "--", "/bin/busybox", "hostname"]);
    assert_eq!(said.trim(), pod);
}

/// The node takes new pods: it hears from the server, and is heard.
fn works(plane: &Plane, node: &str) {
    let name = format!("late-{node}");
    plane.apply(&web(&name, node));
    ready(plane, &[&name]);
    answers(plane, &name);
}

#[test]
fn nodes_go_on_when_their_server_moves() {
    if !is_root() {
        return eprintln!("skipped: machines of a cluster need root");
    }
    let flags = ["--disable", "node,edge", "--tls-san", NAME, "--node-monitor-grace-period", "15s"];
    let mut cluster = Cluster::start(env!("CARGO_BIN_EXE_monoplane"), &flags);
    let named = joined_at(&mut cluster, "named", NAME);
    let mut numbered = joined_at(&mut cluster, "numbered", "10.99.0.1");
    let pods = ["web-named", "web-numbered"];
    cluster.server.apply(&[web(pods[0], "named"), web(pods[1], "numbered")].join("\n---\n"));
    ready(&cluster.server, &pods);
    let before = pods.map(|pod| life(&cluster.server, pod));

    cluster.server.stop();
    cluster.server.machine().host_mut().move_to(77);
    named.call(NAME, cluster.server.host().address());
    cluster.server.up();
    let plane = &cluster.server;
    answers(plane, pods[0]);
    works(plane, "named");
    eventually("who knows the old address alone is missed", || {
        let node = plane.get(&["node", "numbered"]);
        node["spec"]["taints"].to_string().contains("node.kubernetes.io/unreachable").then_some(())
    });

    numbered.stop();
    let words =
        "node --join https://10.99.0.77:6443 --node-name numbered --log info --image-gc-high-threshold 100";
    numbered.run(&words.split(' ').map(str::to_owned).collect::<Vec<_>>());
    cluster.wait_until_ready("numbered");
    answers(plane, pods[1]);
    works(plane, "numbered");
    assert_eq!(pods.map(|pod| life(plane, pod)), before, "their pods ran on");
    for node in [&named, &numbered] {
        let servers = std::fs::read_to_string(node.data().join("node/servers")).expect("servers");
        assert_eq!(servers.trim(), "https://10.99.0.77:6443/", "they know where it is");
    }
}
