//! A node behind a router, which nobody reaches: what is asked of it goes through the tunnel that it keeps.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use harness::{Cluster, Machine, Plane, eventually, is_root};

use crate::containers::{give_image, pod};
use crate::three_servers::known;

/// A clock and a server of its own name.
const SCRIPT: &str = "mkdir /www; hostname > /www/index.html; /bin/busybox httpd -p 8080 -h /www; \
                      n=0; while true; do echo tick $n; n=$((n+1)); sleep 1; done";
const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}\n";

/// A cluster with a hidden node that runs a pod; `None` without root.
fn cluster() -> Option<(Cluster, Machine)> {
    if !is_root() {
        eprintln!("skipped: machines of a cluster need root");
        return None;
    }
    let mut cluster = Cluster::start(env!("CARGO_BIN_EXE_monoplane"), &["--disable", "edge"]);
    give_image(|words| cluster.server.monoplane(words));
    let hidden = hidden_node(&mut cluster);
    Some((cluster, hidden))
}

/// A node that nobody reaches, and its pod.
fn hidden_node(cluster: &mut Cluster) -> Machine {
    let mut hidden = cluster.hidden_machine();
    let words = cluster.invitation(&["--node-name", "hidden"]);
    hidden.run(&words);
    give_image(|words| hidden.monoplane(words));
    cluster.wait_until_ready("hidden");
    let named = "{name: web, labels: {app: web}}";
    let web = pod("web", SCRIPT, "  nodeName: hidden\n").replace("{name: web}", named);
    let web = web.replace(
        "    command:",
        "    readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}\n    command:",
    );
    cluster.server.apply(&format!("{web}---\n{SERVICE}"));
    cluster.server.kubectl_ok(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]);
    hidden
}

/// A process that is ended with this.
struct Running(Child);

impl Running {
    fn start(mut command: Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().expect("it starts"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What `kubectl logs -f` prints, line for line, until it ends.
fn followed(plane: &Plane) -> (Running, impl Iterator<Item = String> + use<>) {
    let mut command = plane.kubectl_command();
    command.args(["logs", "-f", "--tail=1", "web"]).stdout(Stdio::piped());
    let mut running = Running::start(command);
    let lines = BufReader::new(running.0.stdout.take().expect("a pipe")).lines();
    (running, lines.map_while(Result::ok))
}

/// Waits until the node is reached again; how long that takes is not this test's business.
fn reached_again(plane: &Plane) {
    eventually("its kubelet is reached", || plane.kubectl(&["logs", "--tail=1", "web"]).ok.then_some(()));
}

fn port_is_forwarded(plane: &Plane) {
    let mut command = plane.kubectl_command();
    command.args(["port-forward", "pod/web", "18081:8080"]).stdout(Stdio::null());
    let _forwarding = Running::start(command);
    let got = eventually("the port is forwarded", || {
        let said = plane.command("/bin/busybox").args(["wget", "-qO-", "http://127.0.0.1:18081/"]).output();
        said.ok()
            .filter(|said| said.status.success())
            .map(|said| String::from_utf8_lossy(&said.stdout).into_owned())
    });
    assert_eq!(got.trim(), "web");
}

fn proxied(plane: &Plane) {
    for (path, answer) in [
        ("/api/v1/nodes/hidden/proxy/healthz", "ok"),
        ("/api/v1/nodes/hidden:10250/proxy/healthz", "ok"),
        ("/api/v1/namespaces/default/pods/web:8080/proxy/", "web"),
        ("/api/v1/namespaces/default/services/web/proxy/", "web"),
    ] {
        assert_eq!(plane.kubectl_ok(&["get", "--raw", path]).trim(), answer, "{path}");
    }
    assert!(has_one_tunnel(plane), "more tunnels than servers, or none");
}

fn has_one_tunnel(plane: &Plane) -> bool {
    plane.kubectl_ok(&["get", "--raw", "/metrics"]).contains("\nmonoplane_node_tunnels 1\n")
}

/// What docs/cluster.md says of pods behind a router.
fn pods_there(plane: &Plane) {
    let says = |from: &str, script: &str| {
        plane.kubectl(&["exec", from, "--", "/bin/busybox", "sh", "-c", script]).ok
    };
    let api = "echo | /bin/busybox nc -w 2 kubernetes.default.svc.cluster.local 443";
    eventually("they find the API by its name", || says("web", api).then_some(()));
    let own = "/bin/busybox timeout 2 /bin/busybox wget -qO- http://web.default.svc.cluster.local/";
    eventually("and Services on their own machine", || says("web", own).then_some(()));
    plane.apply(&pod("here", "sleep 100000", "  nodeName: test-node\n"));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/here", "--timeout=60s"]);
    assert!(!says("here", own), "pods of other machines reach them after all: tell it in the docs");
}

#[test]
fn a_node_that_nobody_reaches_answers_as_any_other() {
    let Some((mut cluster, mut hidden)) = cluster() else { return };
    let plane = &cluster.server;
    let address = hidden.host().address().to_string();
    let ping = plane.command("/bin/busybox").args(["ping", "-c", "1", "-W", "1", &address]).output();
    assert!(!ping.expect("busybox runs").status.success(), "it is not hidden");

    let (following, mut lines) = followed(plane);
    assert!(lines.by_ref().take(3).all(|line| line.starts_with("tick ")));
    let large = "x".repeat(3 << 20);
    let exec = ["exec", "-i", "web", "--", "/bin/busybox"];
    let counted = plane.kubectl_with(&[&exec[..], &["wc", "-c"]].concat(), &large);
    assert_eq!(counted.out.trim(), large.len().to_string(), "{counted:?}");
    let back = plane.kubectl_with(&[&exec[..], &["cat"]].concat(), &large);
    assert!(back.ok && back.out == large, "{} of {}", back.out.len(), large.len());
    let code = plane.kubectl(&["exec", "web", "--", "/bin/busybox", "sh", "-c", "exit 7"]);
    assert!(code.err.contains("exit code 7"), "{code:?}");
    port_is_forwarded(plane);
    proxied(plane);
    for what in [["node", "hidden"], ["pod", "web"]] {
        eventually("what it uses is known", || {
            plane.kubectl(&[&["top"], &what[..]].concat()).ok.then_some(())
        });
    }
    assert!(lines.next().is_some_and(|line| line.starts_with("tick ")), "it goes on meanwhile");
    pods_there(plane);
    drop(following);
    assert!(lines.count() < 100);

    // The server dies, the router forgets all connections, the node dies: each time it is as before.
    cluster.server.kill_everything_of(&["up", "server", "node"]);
    cluster.server.up();
    reached_again(&cluster.server);
    proxied(&cluster.server);

    let (_following, mut lines) = followed(&cluster.server);
    assert!(lines.next().is_some());
    hidden.host().forget();
    reached_again(&cluster.server);
    // Who followed is told that it is over.
    lines.for_each(drop);
    eventually("the dead tunnel is gone", || has_one_tunnel(&cluster.server).then_some(()));
    proxied(&cluster.server);

    // Its other connections were forgotten as well.
    cluster.server.apply(&pod("late", "sleep 100000", "  nodeName: hidden\n"));
    cluster.server.kubectl_ok(&["wait", "--for=condition=Ready", "pod/late", "--timeout=60s"]);
    cluster.wait_until_ready("hidden");

    hidden.kill();
    hidden.start();
    reached_again(&cluster.server);
    cluster.wait_until_ready("hidden");
    port_is_forwarded(&cluster.server);
}

/// All that kubectl asks of the node's pod, of this server.
fn answers(plane: &Plane) {
    let logs = plane.kubectl_ok(&["logs", "--tail=1", "web"]);
    assert!(logs.starts_with("tick "), "{logs}");
    let echoed = plane.kubectl_with(&["exec", "-i", "web", "--", "/bin/busybox", "cat"], "here and back");
    assert_eq!(echoed.out, "here and back", "{echoed:?}");
    port_is_forwarded(plane);
    proxied(plane);
}

#[test]
fn a_node_that_nobody_reaches_answers_by_every_server() {
    if !is_root() {
        return eprintln!("skipped: machines of a cluster need root");
    }
    let flags = ["--disable", "node,edge"];
    let (mut cluster, _etcd) = Cluster::start_over_etcd(env!("CARGO_BIN_EXE_monoplane"), &flags);
    let mut others = [cluster.another_server(), cluster.another_server()];
    let mut hidden = hidden_node(&mut cluster);
    eventually("the node knows all servers", || (known(&hidden) == 3).then_some(()));
    for server in [&cluster.server, &others[0], &others[1]] {
        eventually("each has a tunnel", || has_one_tunnel(server).then_some(()));
        answers(server);
    }

    // The one that the node joined dies: the others need no time for that.
    cluster.server.kill_everything_of(&["up", "server"]);
    others.iter().for_each(answers);
    // A node that begins anew meanwhile finds those that are left.
    hidden.kill();
    hidden.start();
    for server in &others {
        reached_again(server);
        answers(server);
    }
    cluster.server.up();
    reached_again(&cluster.server);
    answers(&cluster.server);

    // A server has another address from now on; the node hears of it from the others.
    let moved = &mut others[0];
    moved.stop();
    moved.machine().host_mut().move_to(77);
    moved.up();
    reached_again(moved);
    answers(moved);
    let servers = || std::fs::read_to_string(hidden.data().join("node/servers")).unwrap_or_default();
    eventually("the node forgets where it was", || {
        (known(&hidden) == 3 && servers().contains("10.99.0.77")).then_some(())
    });
    [&cluster.server, &others[1]].into_iter().for_each(answers);
}
