//! Three servers over one etcd, and nodes that joined one of them: the leader is killed, all are replaced by another program, and
//! in the end the power goes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use harness::{Cluster, Etcd, Machine, Plane, eventually, is_root};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use crate::cluster::{joined, ready, text};
use crate::containers::{first_process, pod};
use crate::load::{Load, Target, enter, network_of};
use crate::machines::{assert_none_failed, lives_of_set, set};
use crate::reboot::lose_power;
use crate::rolling;

/// Somebody who creates objects at one server, one after the other, until told to stop.
struct Writer {
    stop: Arc<AtomicBool>,
    taken: Arc<AtomicUsize>,
    thread: JoinHandle<Written>,
}

/// What became of it.
struct Written {
    taken: Vec<String>,
    failures: Vec<String>,
}

impl Writer {
    fn start(server: &Plane, prefix: &'static str) -> Self {
        let (stop, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (network, kubeconfig) = (server.host().namespace(), server.data().join("admin.kubeconfig"));
        let (told, counted) = (stop.clone(), taken.clone());
        let thread = std::thread::spawn(move || {
            enter(&network);
            let tokio =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            tokio.block_on(write(kubeconfig, prefix, &told, &counted))
        });
        Self { stop, taken, thread }
    }

    fn until_more(&self, count: usize) {
        let enough = self.taken.load(Ordering::SeqCst) + count;
        eventually("writing goes on", || (self.taken.load(Ordering::SeqCst) >= enough).then_some(()));
    }

    fn stop(self) -> Written {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("a writer ends")
    }
}

async fn write(kubeconfig: PathBuf, prefix: &str, stop: &AtomicBool, taken: &AtomicUsize) -> Written {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let api: Api<ConfigMap> =
        Api::default_namespaced(kube::Client::try_from(config.expect("a configuration")).expect("a client"));
    let mut written = Written { taken: Vec::new(), failures: Vec::new() };
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        let name = format!("{prefix}-{number}");
        number += 1;
        let object = json!({ "metadata": { "name": name, "labels": { "load": "yes" } } });
        let (object, params) = (serde_json::from_value(object).expect("a ConfigMap"), PostParams::default());
        match tokio::time::timeout(Duration::from_secs(20), api.create(&params, &object)).await {
            Ok(Ok(_)) => {
                written.taken.push(name);
                taken.fetch_add(1, Ordering::SeqCst);
            }
            Ok(Err(error)) => written.failures.push(error.to_string()),
            Err(_) => written.failures.push("no answer".to_owned()),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    written
}

#[track_caller]
fn assert_kept(plane: &Plane, written: &[Written]) {
    let listed = plane.get(&["configmaps", "--selector=load=yes"]);
    let listed = listed["items"].as_array().cloned().unwrap_or_default();
    let kept: Vec<String> = listed.iter().map(|each| text(each, "/metadata/name")).collect();
    for name in written.iter().flat_map(|each| &each.taken) {
        assert!(kept.contains(name), "{name} was acknowledged, and is gone");
    }
}

/// Which server does the controllers' work, by its address.
fn leader(plane: &Plane) -> Option<String> {
    let leases = plane.get(&["leases", "-n", "kube-system"]);
    let leases = leases["items"].as_array().cloned().unwrap_or_default();
    let named = |name: &str| leases.iter().find(|lease| lease["metadata"]["name"] == name).cloned();
    let holder = named("kube-controller-manager")?["spec"]["holderIdentity"].clone();
    let own = |lease: &&Value| {
        lease["spec"]["holderIdentity"] == holder && text(lease, "/metadata/name").starts_with("apiserver-")
    };
    leases.iter().find(own).map(|lease| text(lease, "/metadata/annotations/monoplane.dev~1api-address"))
}

/// Of each pod: its UID and how often its containers were started again.
fn pods(plane: &Plane) -> Vec<(String, String, Value)> {
    let pods = plane.get(&["pods"]);
    let each = |pod: &Value| {
        let restarts = pod["status"]["containerStatuses"][0]["restartCount"].clone();
        (text(pod, "/metadata/name"), text(pod, "/metadata/uid"), restarts)
    };
    pods["items"].as_array().expect("pods").iter().map(each).collect()
}

/// Since when each node has been ready, or not.
fn since(plane: &Plane) -> Vec<(String, Value)> {
    let nodes = plane.get(&["nodes"]);
    let each = |node: &Value| {
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready").cloned();
        let ready = ready.unwrap_or_default();
        (text(node, "/metadata/name"), json!([ready["status"], ready["lastTransitionTime"]]))
    };
    nodes["items"].as_array().expect("nodes").iter().map(each).collect()
}

/// How many servers a node remembers.
pub(crate) fn known(node: &Machine) -> usize {
    std::fs::read_to_string(node.data().join("node/servers")).unwrap_or_default().lines().count()
}

/// All that there is.
struct All {
    etcd: Etcd,
    cluster: Cluster,
    others: [Plane; 2],
    nodes: [Machine; 2],
    lives: tempfile::TempDir,
    /// Where another program is.
    place: tempfile::TempDir,
}

fn start() -> Option<All> {
    if !is_root() {
        eprintln!("skipped: machines of a cluster need root");
        return None;
    }
    let (mut cluster, etcd) =
        Cluster::start_over_etcd(env!("CARGO_BIN_EXE_monoplane"), &["--disable", "node,edge"]);
    let nodes = ["one", "two"].map(|name| joined(&mut cluster, name));
    let others = [cluster.another_server(), cluster.another_server()];
    let [lives, place] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let plane = &cluster.server;
    let idle = pod("client", "while true; do sleep 1; done", "  nodeName: two\n");
    plane.apply(&[rolling::manifest("one"), set(lives.path()), idle].join("\n---\n"));
    plane.kubectl_ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    plane.kubectl_ok(&["rollout", "status", "statefulset/set", "--timeout=60s"]);
    ready(plane, &["client"]);
    for node in &nodes {
        eventually("the node knows all servers", || (known(node) == 3).then_some(()));
    }
    Some(All { etcd, cluster, others, nodes, lives, place })
}

impl All {
    /// What a pod asks for by the Service, all the time.
    fn load(&self) -> Load {
        let plane = &self.others[0];
        let service = format!("{}:80", text(&plane.get(&["service", "web"]), "/spec/clusterIP"));
        let network = network_of(first_process(plane, "client"));
        let target = Target::new(&network, &service, "web");
        // After a power cut pods may be where the nodes' tables do not know them yet, and ways between the nodes be made anew.
        eventually("each that serves is reached", || {
            let slices = plane.get(&["endpointslices", "-l", "kubernetes.io/service-name=web"]);
            let endpoints = slices.pointer("/items/0/endpoints").and_then(Value::as_array).cloned();
            let endpoints = endpoints.filter(|endpoints| endpoints.len() == 3)?;
            endpoints.iter().try_for_each(|endpoint| {
                let own = format!("{}:8080", text(endpoint, "/addresses/0"));
                Target::new(&network, &own, "web")
                    .answers()
                    .filter(|()| endpoint["conditions"]["ready"] == true)
            })
        });
        eventually("all that serve are known", || (0..30).all(|_| target.answers().is_some()).then_some(()));
        let load = Load::start(&[target]);
        load.until_more(100);
        load
    }
}

#[test]
fn nodes_go_on_through_the_loss_and_replacement_of_servers_and_of_power() {
    let Some(mut all) = start() else { return };
    the_leader_is_killed(&mut all);
    a_server_falls_silent(&all);
    all_are_replaced(&mut all);
    the_power_goes(&mut all);
}

/// Controllers make pods, the scheduler places them, and nodes say what becomes of them.
fn work_goes_on(plane: &Plane) {
    plane.kubectl_ok(&["create", "deployment", "late", "--image=none.test/none", "--replicas=2"]);
    let late = || {
        let late = plane.get(&["pods", "-l", "app=late"]);
        late["items"].as_array().cloned().unwrap_or_default()
    };
    let waits = |pod: &&Value| pod["status"]["containerStatuses"][0]["state"]["waiting"].is_object();
    eventually("work goes on", || (late().iter().filter(waits).count() == 2).then_some(()));
    plane.kubectl_ok(&["delete", "deployment", "late"]);
    eventually("what was made meanwhile is gone", || late().is_empty().then_some(()));
}

/// Nobody is told that the connections to a server lead nowhere.
fn a_server_falls_silent(all: &All) {
    let [silent, plane] = &all.others;
    let (before, ready_since) = (pods(plane), since(plane));
    silent.host().unplug();
    work_goes_on(plane);
    assert_eq!((pods(plane), since(plane)), (before, ready_since), "pods and nodes have noticed nothing");
    silent.host().plug();
    eventually("it knows of all again", || (pods(silent) == pods(plane)).then_some(()));
}

fn the_leader_is_killed(all: &mut All) {
    let (before, ready_since) = (pods(&all.others[0]), since(&all.others[0]));
    assert_eq!(leader(&all.others[0]).as_deref(), Some("10.99.0.1:6443"), "the first one leads");
    let load = all.load();
    let (at_leader, at_other) =
        (Writer::start(&all.cluster.server, "leader"), Writer::start(&all.others[0], "other"));
    at_leader.until_more(50);
    all.cluster.server.kill_everything_of(&["up", "server"]);
    at_other.until_more(100);
    let plane = &all.others[0];
    eventually("another leads", || leader(plane).filter(|leader| leader != "10.99.0.1:6443"));
    work_goes_on(plane);
    load.until_more(100);
    assert_none_failed(&load.stop());
    let written = [at_leader.stop(), at_other.stop()];
    assert_eq!(written[1].failures, Vec::<String>::new());
    assert_kept(plane, &written);
    assert_eq!((pods(plane), since(plane)), (before, ready_since), "pods and nodes have noticed nothing");
    all.cluster.server.up();
    lives_of_set(all.lives.path());
}

/// Servers, then nodes, one by one, by a program at another place.
fn all_are_replaced(all: &mut All) {
    let place = all.place.path();
    std::fs::set_permissions(place, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("open to all");
    let program = place.join("monoplane");
    std::fs::copy(env!("CARGO_BIN_EXE_monoplane"), &program).expect("a copy");
    let binary = program.to_str().expect("a path");
    let before = pods(&all.others[0]);
    let load = all.load();
    let [other, another] = &mut all.others;
    for server in [&mut all.cluster.server, other, another] {
        server.stop();
        server.up_with(binary);
        load.until_more(50);
    }
    for (node, name) in all.nodes.iter_mut().zip(["one", "two"]) {
        node.stop();
        node.exchange(binary);
        node.start();
        all.cluster.wait_until_ready(name);
        let running = std::fs::read_link(format!("/proc/{}/exe", node.pid())).expect("it runs");
        assert_eq!(running, program);
        load.until_more(50);
    }
    assert_none_failed(&load.stop());
    eventually("all is as it was", || (pods(&all.cluster.server) == before).then_some(()));
    assert_eq!(lives_of_set(all.lives.path()), [1; 3]);
}

fn the_power_goes(all: &mut All) {
    let before = pods(&all.others[0]);
    let All { etcd, cluster, others: [other, another], nodes, lives, .. } = all;
    let writer = Writer::start(other, "last");
    writer.until_more(20);
    for server in [&mut cluster.server, other, another] {
        server.kill_everything_of(&["up", "server"]);
    }
    for node in nodes.iter_mut() {
        node.kill();
    }
    etcd.kill(0);
    if !nodes.iter().all(|node| lose_power(node.data())) {
        return;
    }
    let written = writer.stop();
    for node in nodes.iter_mut() {
        node.host().begin_anew();
        node.start();
    }
    etcd.revive(0);
    for server in [&mut cluster.server, other, another] {
        server.host().begin_anew();
        server.up();
    }
    let plane = &cluster.server;
    let again: Vec<_> = before.into_iter().map(|(name, uid, _)| (name, uid, json!(1))).collect();
    eventually("all pods run again", || (pods(plane) == again).then_some(()));
    for name in ["one", "two"] {
        cluster.wait_until_ready(name);
    }
    plane.kubectl_ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    plane.kubectl_ok(&["rollout", "status", "statefulset/set", "--timeout=60s"]);
    ready(plane, &["client"]);
    assert_kept(plane, &[written]);
    assert_eq!(lives_of_set(lives.path()), [2; 3]);
    assert_none_failed(&all.load().stop());
}
