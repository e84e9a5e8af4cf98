//! Other people's clients: informers of kube-rs, @kubernetes/client-node and the Python client know what the server holds
//! after their connections broke, and after what they missed was forgotten.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use harness::{Plane, eventually, kill};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use serde_json::json;

const NAMESPACE: &str = "clients";

/// Values by name.
type Known = BTreeMap<String, String>;

/// Somebody who keeps a copy of a namespace's ConfigMaps.
trait Informer {
    fn known(&mut self) -> Known;
    /// Hears nothing until it may go on, as a laptop that is closed.
    fn sleep(&mut self);
    fn wake(&mut self);
}

/// A program that prints what it knows for each line that it is sent.
struct Program {
    child: Child,
    asked: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Program {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let (asked, answers) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        Self { child, asked, answers: BufReader::new(answers) }
    }
}

impl Informer for Program {
    fn known(&mut self) -> Known {
        writeln!(self.asked).expect("it listens");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("it answers");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    fn sleep(&mut self) {
        kill(self.child.id(), 19);
    }

    fn wake(&mut self) {
        kill(self.child.id(), 18);
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that sleeps would not hear that its input has ended.
        kill(self.child.id(), 9);
        let _ = self.child.wait();
    }
}

/// kube's reflector on a thread of its own, which can be held up.
struct Reflector {
    store: reflector::Store<ConfigMap>,
    held: Arc<Mutex<()>>,
    holding: Option<std::sync::mpsc::Sender<()>>,
    handle: tokio::runtime::Handle,
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Reflector {
    fn start(kubeconfig: Kubeconfig) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (store, writer) = reflector::store();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let handle = runtime.handle().clone();
        std::thread::spawn(move || {
            runtime.block_on(async {
                let api: Api<ConfigMap> = Api::namespaced(client(kubeconfig).await, NAMESPACE);
                let changes = watcher(api, watcher::Config::default()).default_backoff().reflect(writer);
                tokio::select! {
                    () = changes.for_each(|_| std::future::ready(())) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { store, held: Arc::default(), holding: None, handle, _stop: stop }
    }
}

impl Informer for Reflector {
    fn known(&mut self) -> Known {
        self.store.state().iter().map(|object| value_of(object)).collect()
    }

    fn sleep(&mut self) {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let held = self.held.clone();
        // The runtime has one thread: whoever blocks it blocks the watch.
        self.handle.spawn(async move {
            let _guard = held.lock();
            let _ = receiver.recv();
        });
        self.holding = Some(sender);
    }

    fn wake(&mut self) {
        self.holding = None;
    }
}

fn value_of(object: &ConfigMap) -> (String, String) {
    let value = object.data.as_ref().and_then(|data| data.get("value")).cloned();
    (object.metadata.name.clone().unwrap_or_default(), value.unwrap_or_default())
}

async fn client(kubeconfig: Kubeconfig) -> kube::Client {
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    kube::Client::try_from(config.expect("a configuration")).expect("a client")
}

fn start(plane: &Plane) -> Vec<(&'static str, Box<dyn Informer>)> {
    let kubeconfig = plane.data().join("admin.kubeconfig");
    let scripts = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let mut node = Command::new("node");
    node.arg(scripts.join("informer.mjs")).arg(&kubeconfig).arg(NAMESPACE);
    node.arg(harness::tools().join("client-node").canonicalize().expect("run `cargo xtask tools`"));
    let mut python = Command::new("python3");
    python.arg(scripts.join("informer.py")).arg(&kubeconfig).arg(NAMESPACE);
    python.env("PYTHONPATH", harness::tools().join("client-python"));
    let own = Reflector::start(Kubeconfig::read_from(&kubeconfig).expect("a kubeconfig"));
    vec![
        ("@kubernetes/client-node", Box::new(Program::start(node))),
        ("the Python client", Box::new(Program::start(python))),
        ("kube-rs", Box::new(own)),
    ]
}

/// Waits until every informer knows what the server holds.
fn all_know(plane: &Plane, informers: &mut [(&str, Box<dyn Informer>)]) {
    let listed = plane.get(&["configmaps", "-n", NAMESPACE]);
    let items: Vec<ConfigMap> = serde_json::from_value(listed["items"].clone()).expect("ConfigMaps");
    let truth: Known = items.iter().map(value_of).collect();
    assert!(!truth.is_empty());
    for (name, informer) in informers {
        eventually(&format!("{name} knows what the server holds"), || {
            (informer.known() == truth).then_some(())
        });
    }
}

fn set(plane: &Plane, name: &str, value: &str) {
    let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": NAMESPACE},
        "data": {"value": value}});
    plane.apply(&manifest.to_string());
}

/// So many changes of one object that the server forgets the first of them, and more than a connection's buffers hold.
fn many_changes(plane: &Plane) {
    let kubeconfig = Kubeconfig::read_from(plane.data().join("admin.kubeconfig")).expect("a kubeconfig");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let api: Api<ConfigMap> = Api::namespaced(client(kubeconfig).await, NAMESPACE);
        let changes = (0..5_000).map(|number| {
            let api = api.clone();
            async move {
                let patch = json!({"data": {"filling": "x".repeat(8 << 10), "number": number.to_string()}});
                api.patch("busy", &PatchParams::default(), &Patch::Merge(patch))
                    .await
                    .expect("it is changed");
            }
        });
        futures::stream::iter(changes).buffer_unordered(16).collect::<Vec<_>>().await;
    });
}

#[test]
fn informers_of_others_outlive_broken_connections_and_forgotten_history() {
    let plane = Plane::start(env!("CARGO_BIN_EXE_monoplane"), &["--disable", "node,edge"]);
    plane.kubectl_ok(&["create", "namespace", NAMESPACE]);
    for (name, value) in [("a", "1"), ("b", "1"), ("busy", "1")] {
        set(&plane, name, value);
    }
    let mut informers = start(&plane);
    all_know(&plane, &mut informers);
    set(&plane, "a", "2");
    plane.kubectl_ok(&["delete", "configmap", "b", "-n", NAMESPACE]);
    all_know(&plane, &mut informers);

    plane.restart("server", 9);
    set(&plane, "a", "3");
    set(&plane, "c", "1");
    all_know(&plane, &mut informers);

    for (_, informer) in &mut informers {
        informer.sleep();
    }
    many_changes(&plane);
    plane.kubectl_ok(&["delete", "configmap", "a", "-n", NAMESPACE]);
    set(&plane, "d", "1");
    for (_, informer) in &mut informers {
        informer.wake();
    }
    all_know(&plane, &mut informers);
    // And they hear of what happens after that.
    set(&plane, "d", "2");
    plane.kubectl_ok(&["delete", "configmap", "c", "-n", NAMESPACE]);
    all_know(&plane, &mut informers);
}
