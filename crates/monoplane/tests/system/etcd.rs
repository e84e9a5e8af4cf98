//! Servers that keep their state in etcd: two over one, of which one is killed; and the way there and back.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use harness::{copy_all, eventually, tools};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::metrics::sample;

/// The keys of Secrets, beside a server's data; servers that share a store share them.
const SECRETS: &str = "encryption-keys.json";

/// The role alone, as an operator runs it on a machine of its own.
struct Server {
    directory: TempDir,
    child: Option<Child>,
}

impl Server {
    /// Starts one under an address of loopback. It has the authority of another, where one is given.
    fn start(etcd: Option<&harness::Etcd>, number: u8, port: u16, like: Option<&Server>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        if let Some(other) = like {
            copy_keys(other.directory.path(), directory.path());
            let keys = [&other.directory, &directory].map(|of| of.path().join(SECRETS));
            std::fs::copy(&keys[0], &keys[1]).expect("the keys of Secrets");
        }
        Self::start_in(directory, etcd, number, port)
    }

    fn start_in(directory: TempDir, etcd: Option<&harness::Etcd>, number: u8, port: u16) -> Self {
        let etcd = etcd.map(|etcd| ["--etcd-servers".to_owned(), etcd.endpoints().join(",")]);
        let log = std::fs::File::create(directory.path().join("log")).expect("a log file");
        let child = Command::new(env!("CARGO_BIN_EXE_monoplane"))
            .args(["server", "--log", "info", "--api-port", &port.to_string()])
            .args(["--bind-address", &format!("127.0.0.{number}")])
            .args(["--advertise-address", &format!("192.0.2.{number}")])
            .args(etcd.into_iter().flatten())
            .arg("--data-dir")
            .arg(directory.path())
            .arg("--encryption-keys")
            .arg(directory.path().join(SECRETS))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let server = Self { directory, child: Some(child.expect("monoplane starts")) };
        eventually("the server serves", || {
            let ready =
                server.kubeconfig().exists() && server.kubectl(&["get", "--raw", "/readyz"]).status.success();
            ready.then_some(())
        });
        server
    }

    fn data(&self) -> String {
        self.directory.path().to_str().expect("UTF-8").to_owned()
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it can be killed");
            child.wait().expect("it ends");
        }
    }

    /// Ends it, and leaves its data.
    fn stop(mut self) -> TempDir {
        self.kill();
        std::mem::replace(&mut self.directory, tempfile::tempdir().expect("a directory"))
    }

    fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("admin.kubeconfig")
    }

    fn kubectl(&self, words: &[&str]) -> Output {
        let mut command = Command::new(tools().join("kubectl"));
        command.arg("--kubeconfig").arg(self.kubeconfig());
        command.arg("--cache-dir").arg(self.directory.path().join("kubectl-cache"));
        command.args(words).stdin(Stdio::null()).output().expect("kubectl runs")
    }

    #[track_caller]
    fn kubectl_ok(&self, words: &[&str]) -> String {
        let output = self.kubectl(words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {}: {said}\n{}", words.join(" "), self.log());
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn get(&self, words: &[&str]) -> Value {
        let output = self.kubectl(&[&["get", "-o", "json"], words].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    fn holder(&self, lease: &str) -> Option<String> {
        let lease = self.get(&["lease", lease, "--namespace", "kube-system"]);
        lease["spec"]["holderIdentity"].as_str().filter(|holder| !holder.is_empty()).map(str::to_owned)
    }

    /// Addresses under which pods find the API.
    fn endpoints(&self) -> Vec<String> {
        let slice = self.get(&["endpointslice", "kubernetes"]);
        let endpoints = slice["endpoints"].as_array().cloned().unwrap_or_default();
        endpoints.iter().map(|each| each["addresses"][0].as_str().unwrap_or_default().to_owned()).collect()
    }

    fn log(&self) -> String {
        tail(&self.directory.path().join("log"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

/// The authorities and the keys of tokens.
fn copy_keys(from: &Path, to: &Path) {
    copy_all(&from.join("server/pki"), &to.join("server/pki"));
}

fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

#[test]
fn one_of_two_servers_is_killed_and_work_goes_on_by_the_other() {
    let etcd = harness::Etcd::start();
    let port = free_port();
    let mut one = Server::start(Some(&etcd), 1, port, None);
    let other = Server::start(Some(&etcd), 2, port, Some(&one));
    eventually("both are found from inside", || {
        (other.endpoints() == ["192.0.2.1", "192.0.2.2"]).then_some(())
    });
    let leaders = ["kube-controller-manager", "kube-scheduler"];
    let before = leaders.map(|lease| eventually("somebody leads", || other.holder(lease)));

    // What one was told the other shows at once.
    for round in 0..3 {
        let (name, value) = (format!("c{round}"), format!("--from-literal=round={round}"));
        one.kubectl_ok(&["create", "configmap", &name, &value]);
        let seen = other.get(&["configmap", &name]);
        assert_eq!(seen["data"]["round"], round.to_string());
        other.kubectl_ok(&["delete", "configmap", &name]);
        assert!(!one.kubectl(&["get", "configmap", &name]).status.success());
    }
    one.kubectl_ok(&["create", "deployment", "web", "--image=registry.example/app:1", "--replicas=2"]);
    let pods = |server: &Server| server.get(&["pods"])["items"].as_array().map_or(0, Vec::len);
    eventually("the pods are made", || (pods(&other) == 2).then_some(()));
    one.kubectl_ok(&["expose", "deployment", "web", "--port=80", "--type=NodePort"]);

    // The one that does the work is killed under the load of a client of the other.
    let (stop, written) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| write_until(&other, &stop, &written));
        eventually("there is load", || (written.load(Ordering::Relaxed) > 50).then_some(()));
        one.kill();
        let at_kill = written.load(Ordering::Relaxed);
        eventually("writing goes on", || (written.load(Ordering::Relaxed) > at_kill + 200).then_some(()));
        other.kubectl_ok(&["scale", "deployment", "web", "--replicas=4"]);
        eventually("the other's controllers make the pods", || (pods(&other) == 4).then_some(()));
        stop.store(true, Ordering::Relaxed);
    });
    // Each had one of the two, or the one that was killed had both.
    eventually("the other leads all", || {
        let [controllers, scheduler] = leaders.map(|lease| other.holder(lease));
        let by_one = controllers.is_some() && controllers == scheduler;
        let before = before.iter().all(|before| Some(before) == controllers.as_ref());
        (by_one && !before).then_some(())
    });
    let listed = other.get(&["configmaps", "--selector=load=yes"]);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(written.load(Ordering::Relaxed)));
    eventually("only who lives is found", || (other.endpoints() == ["192.0.2.2"]).then_some(()));
}

/// Creates objects, one after the other, and insists that each is taken.
fn write_until(server: &Server, stop: &AtomicBool, written: &AtomicUsize) {
    let tokio = tokio::runtime::Runtime::new().expect("a runtime");
    tokio.block_on(async {
        let kubeconfig = Kubeconfig::read_from(server.kubeconfig()).expect("a kubeconfig");
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let client = kube::Client::try_from(config.expect("a configuration")).expect("a client");
        let api: Api<ConfigMap> = Api::default_namespaced(client);
        while !stop.load(Ordering::Relaxed) {
            let number = written.load(Ordering::Relaxed);
            let object = json!({"metadata": {"name": format!("load{number}"), "labels": {"load": "yes"}}});
            let object = serde_json::from_value(object).expect("a ConfigMap");
            api.create(&PostParams::default(), &object).await.expect("it is taken");
            written.fetch_add(1, Ordering::Relaxed);
        }
    });
}

#[test]
fn a_plane_moves_to_etcd_and_back_by_backups() {
    let monoplane = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_monoplane"));
        command.args(words).stdin(Stdio::null()).output().expect("monoplane runs")
    };
    let ok = |words: &[&str]| {
        let output = monoplane(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let version =
        |map: &Value| map["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse::<u64>().ok());
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).to_str().expect("UTF-8").to_owned();
    let etcd = harness::Etcd::start();
    let servers = etcd.endpoints().join(",");

    let first = Server::start(None, 1, free_port(), None);
    first.kubectl_ok(&["create", "configmap", "kept", "--from-literal=a=b"]);
    let made = first.get(&["configmap", "kept"]);
    ok(&["backup", &path("first"), "--data-dir", &first.data()]);
    first.kubectl_ok(&["create", "configmap", "later"]);
    let latest = version(&first.get(&["configmap", "later"]));
    ok(&["restore", &path("first"), "--etcd-servers", &servers]);
    assert!(!monoplane(&["restore", &path("first"), "--etcd-servers", &servers]).status.success());
    ok(&["restore", &path("first"), "--force", "--etcd-servers", &servers]);

    let second = Server::start(Some(&etcd), 1, free_port(), Some(&first));
    let moved = second.get(&["configmap", "kept"]);
    assert_eq!((&moved["metadata"]["uid"], &moved["data"]), (&made["metadata"]["uid"], &made["data"]));
    assert!(version(&moved) > version(&made), "revisions go on");
    assert!(!second.kubectl(&["get", "configmap", "later"]).status.success());
    second.kubectl_ok(&["create", "configmap", "more"]);
    assert!(!first.kubectl_ok(&["get", "--raw", "/metrics"]).contains("etcd_request_duration_seconds"));
    requests_are_counted(&second);
    assert!(latest.is_some());
    ok(&["backup", &path("second"), "--etcd-servers", &servers]);

    // A store that a server runs on is not touched, whatever is said.
    let refused = monoplane(&["restore", &path("second"), "--force", "--data-dir", &first.data()]);
    assert!(!refused.status.success());
    let home = first.data();
    let directory_of_first = first.stop();
    assert!(
        !monoplane(&["restore", &path("second"), "--data-dir", &home]).status.success(),
        "it holds something"
    );
    ok(&["restore", &path("second"), "--force", "--data-dir", &home]);
    let third = Server::start_in(directory_of_first, None, 1, free_port());
    assert_eq!(third.get(&["configmap", "kept"])["metadata"]["uid"], made["metadata"]["uid"]);
    third.kubectl_ok(&["get", "configmap", "more"]);
    assert!(!third.kubectl(&["get", "configmap", "later"]).status.success());
}

/// What etcd was asked for is told by what it is about.
fn requests_are_counted(server: &Server) {
    let asked = |operation: &str| {
        let what = "group=\"scheduling.k8s.io\",resource=\"priorityclasses\"";
        let named = format!("etcd_request_duration_seconds_count{{operation=\"{operation}\",{what}}}");
        sample(&server.kubectl_ok(&["get", "--raw", "/metrics"]), &named).unwrap_or_default()
    };
    let before = ["create", "update", "delete"].map(asked);
    server.kubectl_ok(&["create", "priorityclass", "counted", "--value=7"]);
    server.kubectl_ok(&["label", "priorityclass", "counted", "label=new"]);
    let [created, updated, deleted] = before;
    assert_eq!(["create", "update", "delete"].map(asked), [created + 1, updated + 1, deleted]);
    server.kubectl_ok(&["delete", "priorityclass", "counted"]);
    assert_eq!(asked("delete"), deleted + 1);
    assert!(asked("list") > 0, "the cache was filled by something");
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port()
}
