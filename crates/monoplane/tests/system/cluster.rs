//! Several machines of one plane: each a network of its own on this one, with the real binary.

use std::collections::BTreeSet;

use harness::{Cluster, Machine, Plane, eventually, is_root, tools};
use serde_json::Value;

use crate::containers::{IMAGE, give_image, pod};

/// A cluster of one machine; `None` without root.
pub(crate) fn cluster(flags: &[&str]) -> Option<Cluster> {
    if !is_root() {
        eprintln!("skipped: machines of a cluster need root");
        return None;
    }
    let cluster = Cluster::start(env!("CARGO_BIN_EXE_monoplane"), flags);
    give_image(|words| cluster.server.monoplane(words));
    Some(cluster)
}

/// A machine that has joined, and has the image.
pub(crate) fn joined(cluster: &mut Cluster, name: &str) -> Machine {
    joined_with(cluster, name, &[])
}

/// The same with further flags.
fn joined_with(cluster: &mut Cluster, name: &str, flags: &[&str]) -> Machine {
    let machine = cluster.join(name, flags);
    give_image(|words| machine.monoplane(words));
    machine
}

/// A server of its own name, of a large file, and of who asks.
pub(crate) fn web(name: &str, node: &str) -> String {
    let script = "mkdir -p /www/cgi-bin; hostname > /www/index.html; dd if=/dev/zero of=/www/large bs=1M count=4; \
                  printf \"#!/bin/busybox sh\\necho Content-type: text/plain; echo; echo \\$REMOTE_ADDR\\n\" > /www/cgi-bin/who; \
                  chmod +x /www/cgi-bin/who; echo serving; exec /bin/busybox httpd -f -p 8080 -h /www";
    pod(name, script, &format!("  nodeName: {node}\n"))
        .replace(&format!("{{name: {name}}}"), &format!("{{name: {name}, labels: {{app: web}}}}"))
        .replace(
            "    command:",
            "    readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}\n    command:",
        )
}

fn client(name: &str, node: &str) -> String {
    pod(name, "sleep 100000", &format!("  nodeName: {node}\n"))
}

pub(crate) fn ready(plane: &Plane, pods: &[&str]) {
    for pod in pods {
        let said = plane.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), "--timeout=60s"]);
        assert!(said.ok, "{said:?}\n{}", plane.kubectl(&["describe", "pod", pod]).out);
    }
}

pub(crate) fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

const FETCH: &[&str] = &["/bin/busybox", "timeout", "2", "/bin/busybox", "wget", "-qO-"];

/// What a pod gets from a URL.
fn fetched(plane: &Plane, from: &str, url: &str) -> Option<String> {
    let said = plane.kubectl(&[&["exec", from, "--"], FETCH, &[url]].concat());
    said.ok.then(|| plain(&said.out))
}

/// Without the wrapping in which a server of both families sees clients of IPv4.
fn plain(text: &str) -> String {
    text.trim().trim_start_matches("[::ffff:").trim_end_matches(']').to_owned()
}

/// What a machine gets from a URL.
fn asked(machine: &Machine, url: &str) -> Option<String> {
    let said = machine.command(FETCH[0]).args(&FETCH[1..]).arg(url).output().expect("busybox runs");
    said.status.success().then(|| plain(&String::from_utf8_lossy(&said.stdout)))
}

const SERVICES: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, type: NodePort, \
     ports: [{port: 80, targetPort: 8080, nodePort: 30080}]}\n---\n\
     apiVersion: v1\nkind: Service\nmetadata: {name: near}\nspec: {selector: {app: web}, type: NodePort, \
     externalTrafficPolicy: Local, ports: [{port: 80, targetPort: 8080, nodePort: 30081}]}\n---\n\
     apiVersion: v1\nkind: Service\nmetadata: {name: six}\nspec: {selector: {app: web}, ipFamilies: [IPv6], \
     ports: [{port: 80, targetPort: 8080}]}\n";

/// Addresses of both families for Services, and for pods.
const BOTH: [&str; 4] =
    ["--service-cidr", "10.43.0.0/16,fd43::/112", "--cluster-cidr", "10.42.0.0/16,fd42::/56"];

const FRIENDS: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: friends}\nspec:\n  \
     podSelector: {matchLabels: {app: web}}\n  ingress: [{from: [{podSelector: {matchLabels: {friend: 'yes'}}}]}]\n";

#[test]
fn a_machine_behind_a_router_reaches_others_and_is_not_reached() {
    let Some(mut cluster) = cluster(&["--disable", "node,edge"]) else { return };
    let (hidden, other) = (cluster.hidden_machine(), cluster.machine());
    let kubeconfig = cluster.server.data().join("admin.kubeconfig");
    let mut kubectl = hidden.command(tools().join("kubectl"));
    let said = kubectl.arg("--kubeconfig").arg(&kubeconfig).args(["get", "--raw", "/readyz"]).output();
    assert!(said.expect("kubectl runs").status.success());
    let ping = |from: &Machine, to: &Machine| {
        let to = to.host().address().to_string();
        let said = from.command("/bin/busybox").args(["ping", "-c", "1", "-W", "1", &to]).output();
        said.expect("busybox runs").status.success()
    };
    assert!(ping(&hidden, &other) && !ping(&other, &hidden));
    other.host().unplug();
    assert!(!ping(&hidden, &other));
}

#[test]
fn pods_of_three_machines_are_one_network() {
    let Some(mut cluster) = cluster(&BOTH) else { return };
    let (one, two) =
        (joined_with(&mut cluster, "one", &BOTH[..2]), joined_with(&mut cluster, "two", &BOTH[..2]));
    let outsider = cluster.machine();
    let plane = &cluster.server;
    let nodes = plane.get(&["nodes"]);
    let cidrs: BTreeSet<String> =
        nodes["items"].as_array().expect("nodes").iter().map(|node| text(node, "/spec/podCIDR")).collect();
    assert_eq!(cidrs.into_iter().collect::<Vec<_>>(), ["10.42.0.0/24", "10.42.1.0/24", "10.42.2.0/24"]);

    plane.apply(
        &[web("web", "one"), client("client", "two"), client("here", "test-node"), SERVICES.into()]
            .join("\n---\n"),
    );
    ready(plane, &["web", "client", "here"]);
    assert!(plane.kubectl_ok(&["logs", "web"]).contains("serving"));
    let address = |name: &str| text(&plane.get(&["pod", name]), "/status/podIP");
    for from in ["client", "here"] {
        eventually("a Service is reached by name", || {
            fetched(plane, from, "http://web.default.svc.cluster.local/")
        });
        assert_eq!(fetched(plane, from, "http://web/").as_deref(), Some("web"));
        assert_eq!(
            fetched(plane, from, "http://web/cgi-bin/who"),
            Some(address(from)),
            "pods keep their addresses"
        );
    }
    let six = text(&plane.get(&["pod", "web"]), "/status/podIPs/1/ip");
    assert!(six.starts_with("fd42:0:0:1:") || six.starts_with("fd42:0:0:2:"), "{six}");
    let own = text(&plane.get(&["pod", "client"]), "/status/podIPs/1/ip");
    for place in [format!("[{six}]:8080"), "six".to_owned()] {
        let who = eventually("it is reached over IPv6", || {
            fetched(plane, "client", &format!("http://{place}/cgi-bin/who"))
        });
        assert_eq!(who.trim_start_matches('['), own, "{place}");
    }
    // More than any packet carries, there and through the API.
    let large = "wget -qO- http://web/large | wc -c";
    let counted = plane.kubectl_ok(&["exec", "client", "--", "/bin/busybox", "sh", "-c", large]);
    assert_eq!(counted.trim(), (4 << 20).to_string());
    let proxied = plane.kubectl_ok(&["get", "--raw", "/api/v1/namespaces/default/services/web/proxy/"]);
    assert_eq!(proxied.trim(), "web");
    forwarded(plane);

    // From outside: by any machine, and by the pod's own with the client's address.
    for at in ["10.99.0.1", "10.99.0.2", "10.99.0.3"] {
        assert_eq!(asked(&outsider, &format!("http://{at}:30080/")).as_deref(), Some("web"), "{at}");
    }
    let own = outsider.host().address().to_string();
    assert_eq!(asked(&outsider, "http://10.99.0.2:30081/cgi-bin/who"), Some(own));
    assert_eq!(asked(&outsider, "http://10.99.0.3:30081/"), None, "no pod of it is there");
    for machine in [&one, &two] {
        assert_eq!(asked(machine, &format!("http://{}:8080/", address("web"))).as_deref(), Some("web"));
    }

    plane.apply(FRIENDS);
    eventually("a stranger is turned away", || {
        fetched(plane, "client", "http://web/").is_none().then_some(())
    });
    plane.kubectl_ok(&["label", "pod", "client", "friend=yes"]);
    eventually("a friend is not", || fetched(plane, "client", "http://web/"));
    for name in ["web", "six"] {
        assert_eq!(fetched(plane, "here", &format!("http://{name}/")), None, "{name}");
    }
}

/// A port of a pod elsewhere, by way of the API.
fn forwarded(plane: &Plane) {
    let mut forwarding = plane.kubectl_command();
    forwarding.args(["port-forward", "pod/web", "18080:8080"]).stdout(std::process::Stdio::null());
    let mut forwarding = forwarding.spawn().expect("kubectl runs");
    let got = eventually("the port is forwarded", || {
        let said = plane.command("/bin/busybox").args(["wget", "-qO-", "http://127.0.0.1:18080/"]).output();
        said.ok()
            .filter(|said| said.status.success())
            .map(|said| String::from_utf8_lossy(&said.stdout).into_owned())
    });
    forwarding.kill().expect("kubectl ends");
    forwarding.wait().expect("kubectl ends");
    assert_eq!(got.trim(), "web");
}

/// Three that bear a lost node for a second, and do this.
pub(crate) fn herd(kind: &str, name: &str, script: &str, more: &str) -> String {
    let bears = |key: &str| {
        format!(
            "{{key: node.kubernetes.io/{key}, operator: Exists, effect: NoExecute, tolerationSeconds: 1}}"
        )
    };
    format!(
        "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n  replicas: 3\n  \
         selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec:\n      \
         terminationGracePeriodSeconds: 1\n      tolerations: [{}, {}]\n      topologySpreadConstraints:\n      \
         - {{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, \
         labelSelector: {{matchLabels: {{app: {name}}}}}}}\n      containers:\n      - name: main\n        image: '{IMAGE}'\n        \
         imagePullPolicy: Never\n        command: [/bin/busybox, sh, -c]\n        args: ['{script}']\n{more}",
        bears("not-ready"),
        bears("unreachable")
    )
}

/// The nodes of the pods of an application that run, and are to stay.
pub(crate) fn nodes_of(plane: &Plane, app: &str) -> Vec<String> {
    let pods = plane.get(&["pods", "-l", &format!("app={app}")]);
    let stays =
        |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null() && pod["status"]["phase"] == "Running";
    let items = pods["items"].as_array().cloned().unwrap_or_default();
    items.iter().filter(stays).map(|pod| text(pod, "/spec/nodeName")).collect()
}

/// How many pods a machine runs.
pub(crate) fn sleepers(machine: &Machine) -> usize {
    let containers = machine.data().join("node/containers");
    std::fs::read_dir(containers.join("sandboxes")).map_or(0, Iterator::count)
}

#[test]
fn pods_of_a_lost_machine_move_and_none_is_doubled_when_it_is_back() {
    let Some(mut cluster) = cluster(&["--node-monitor-grace-period", "15s"]) else { return };
    let (one, two) = (joined(&mut cluster, "one"), joined(&mut cluster, "two"));
    let plane = &cluster.server;
    plane.apply(&herd("Deployment", "herd", "exec sleep 100000", ""));
    plane.kubectl_ok(&["rollout", "status", "deployment/herd", "--timeout=60s"]);
    let spread: BTreeSet<String> = nodes_of(plane, "herd").into_iter().collect();
    assert_eq!(spread.len(), 3, "{spread:?}");
    two.host().unplug();
    eventually("its pods have moved", || {
        let nodes = nodes_of(plane, "herd");
        (nodes.len() == 3 && !nodes.contains(&"two".to_owned())).then_some(())
    });
    assert_eq!(sleepers(&two), 1, "nobody could tell it to end its pod");
    two.host().plug();
    cluster.wait_until_ready("two");
    eventually("it has ended what runs elsewhere", || (sleepers(&two) == 0).then_some(()));
    assert_eq!(nodes_of(plane, "herd").len(), 3);

    // And one that is to go leaves in order.
    let drained = plane.kubectl_ok(&["drain", "one", "--ignore-daemonsets", "--force", "--timeout=60s"]);
    assert!(drained.contains("drained"), "{drained}");
    eventually("its pods are elsewhere", || {
        let nodes = nodes_of(plane, "herd");
        (nodes.len() == 3 && !nodes.contains(&"one".to_owned())).then_some(())
    });
    eventually("and ended here", || (sleepers(&one) == 0).then_some(()));
}

/// How often a node has begun anew.
fn lives(machine: &Machine) -> usize {
    machine.log().matches("the node begins anew").count()
}

#[test]
fn a_node_goes_on_through_kills_and_changes_of_its_address() {
    let Some(mut cluster) = cluster(&[]) else { return };
    let mut one = joined(&mut cluster, "one");
    cluster.server.apply(&[web("web", "one"), client("here", "test-node")].join("\n---\n"));
    ready(&cluster.server, &["web", "here"]);
    let fields = |plane: &Plane| {
        let pod = plane.get(&["pod", "web"]);
        (text(&pod, "/status/podIP"), pod["status"]["containerStatuses"][0]["restartCount"].clone())
    };
    let before = fields(&cluster.server);
    let url = format!("http://{}:8080/", before.0);
    let reached = |plane: &Plane| eventually("the pod is reached", || fetched(plane, "here", &url));
    assert_eq!(reached(&cluster.server), "web");

    // The server dies, and so does the node; the node needs neither the server nor a token to go on.
    cluster.server.kill_everything();
    one.kill();
    let words: Vec<String> =
        ["node", "--node-name", "one", "--log", "info", "--image-gc-high-threshold", "100"]
            .map(str::to_owned)
            .into();
    one.run(&words);
    assert_eq!(asked(&one, &url).as_deref(), Some("web"), "the pod runs on");
    cluster.server.up();
    cluster.wait_until_ready("one");
    assert_eq!(reached(&cluster.server), "web");
    assert_eq!(fields(&cluster.server), before, "it is the same pod");

    one.host_mut().move_to(99);
    eventually("the node says where it is now", || {
        let node = cluster.server.get(&["node", "one"]);
        (text(&node, "/status/addresses/0/address") == "10.99.0.99").then_some(())
    });
    // Its server has a certificate for that address, and the tunnel leads there.
    eventually("its kubelet is reached", || cluster.server.kubectl(&["logs", "web"]).ok.then_some(()));
    assert_eq!(reached(&cluster.server), "web");
    // What it proves itself by is gone: it gets it anew, by what it still has.
    for file in ["proxy-client.pem", "kubelet.pem", "kubelet-client.pem"] {
        let (path, lives) = (one.data().join("node").join(file), lives(&one));
        std::fs::remove_file(&path).expect("a certificate");
        eventually("another certificate", || (path.exists() && self::lives(&one) > lives).then_some(()));
        eventually("its kubelet is reached", || cluster.server.kubectl(&["logs", "web"]).ok.then_some(()));
    }
    assert_eq!(reached(&cluster.server), "web");
    assert_eq!(fields(&cluster.server), before);
    assert!(one.is_running());
}

#[test]
fn who_may_not_join_is_told_why() {
    let Some(mut cluster) = cluster(&["--disable", "edge"]) else { return };
    let good = cluster.invitation(&["--node-name", "new"]);
    let with = |flag: &str, change: &dyn Fn(&str) -> String| {
        let at = good.iter().position(|word| word == flag).expect("the flag") + 1;
        let mut words = good.clone();
        words[at] = change(&words[at]);
        words
    };
    let flipped = |text: &str| {
        let last = if text.ends_with('b') { 'c' } else { 'b' };
        format!("{}{last}", &text[..text.len() - 1])
    };
    let cases = [
        (with("--token", &flipped), "has another secret"),
        (with("--token", &|token| format!("zzzzzz{}", &token[6..])), "does not know the token zzzzzz"),
        (with("--ca-hash", &flipped), "this is not the server that the token is of"),
        (with("--node-name", &|_| "test-node".to_owned()), "is there already and ready"),
        (with("--join", &|_| "https://10.99.0.1:1".to_owned()), "does it listen there?"),
        (good[..3].to_vec(), "`monoplane token create` on the server prints the whole command"),
    ];
    let mut machines: Vec<(Machine, &str)> = Vec::new();
    for (words, why) in cases {
        let mut machine = cluster.machine();
        machine.run(&words);
        machines.push((machine, why));
    }
    for (mut machine, why) in machines {
        assert!(!machine.wait(), "it has joined: {why}");
        assert!(machine.log().contains(why), "{why}: {}", machine.log());
    }
    let nodes = cluster.server.get(&["nodes"]);
    assert_eq!(nodes["items"].as_array().map(Vec::len), Some(1));
    let listed = cluster.server.monoplane(&["token", "list"]);
    assert!(listed.out.contains("kubeadm:default-node-token"), "{listed:?}");
    let token = good[good.iter().position(|word| word == "--token").expect("a token") + 1].clone();
    assert!(!listed.out.contains(&token[7..]), "secrets are not shown");
    assert!(cluster.server.monoplane(&["token", "delete", &token]).ok);
    assert!(!cluster.server.monoplane(&["token", "list"]).out.contains(&token[..6]));
}
