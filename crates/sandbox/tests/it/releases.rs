//! A node of this release and a shim of the first, which speaks version 1 of the protocol and knows no `hello`. What the
//! shim says here is what that release said, and its records are those that it wrote.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use runtime::{ContainerState, Runtime, SandboxState};
use serde_json::{Value, json};

use crate::machine::{ended, with_machine};

/// The first release's end of a sandbox.
struct OldShim {
    /// Stands for its process.
    process: Mutex<Child>,
    container: Mutex<Value>,
    watchers: Mutex<Vec<UnixStream>>,
    heard: Mutex<Vec<Value>>,
}

fn send(to: &mut UnixStream, reply: &Value) {
    let text = reply.to_string();
    let frame = [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat();
    // A caller may hang up before it has read everything.
    let _ = to.write_all(&frame);
}

fn receive(from: &mut UnixStream) -> Option<Value> {
    let mut length = [0; 4];
    from.read_exact(&mut length).ok()?;
    let mut frame = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
    from.read_exact(&mut frame).ok()?;
    serde_json::from_slice(&frame).ok()
}

impl OldShim {
    fn listen(self: Arc<Self>, socket: &Path) {
        let listener = UnixListener::bind(socket).unwrap();
        std::thread::spawn(move || {
            for mut caller in listener.incoming().flatten() {
                if let Some(request) = receive(&mut caller) {
                    self.answer(caller, &request);
                }
            }
        });
    }

    fn answer(&self, mut caller: UnixStream, request: &Value) {
        let call = &request["call"];
        self.heard.lock().unwrap().push(request.clone());
        if call["hello"].is_object() {
            let why = "bad request: unknown variant `hello`, expected one of `state`, `watch`, `create`";
            return send(&mut caller, &json!({ "error": why }));
        }
        if request["version"] != 1 {
            return send(&mut caller, &json!({ "error": "this shim speaks version 1" }));
        }
        if call == "watch" {
            send(&mut caller, &json!({ "state": [*self.container.lock().unwrap()] }));
            return self.watchers.lock().unwrap().push(caller);
        }
        if call["kill"].is_object() {
            let mut container = self.container.lock().unwrap();
            container["finished_at"] = json!(1795357091128513199_u64);
            container["exit_code"] = json!(128 + call["kill"]["signal"].as_i64().unwrap());
            for watcher in self.watchers.lock().unwrap().iter_mut() {
                send(watcher, &json!({ "container": *container }));
            }
        }
        if call == "shutdown" {
            let mut process = self.process.lock().unwrap();
            process.kill().unwrap();
            process.wait().unwrap();
        }
        send(&mut caller, &json!("done"));
    }
}

/// Puts a record of the first release in its place.
fn place(name: &str, directory: &Path, change: impl FnOnce(&mut Value)) -> Value {
    let records = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/records/0.1");
    let mut record: Value = serde_json::from_slice(&std::fs::read(records.join(name)).unwrap()).unwrap();
    change(&mut record);
    std::fs::create_dir_all(directory).unwrap();
    std::fs::write(directory.join(name), record.to_string()).unwrap();
    record
}

fn start_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(19).unwrap().parse().unwrap()
}

#[test]
fn a_shim_of_the_first_release_is_adopted_and_driven() {
    with_machine(async |machine| {
        let process = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = process.id();
        let sandbox = "f8e735d5bbe52ed3b9cecfef90d7610a";
        let directory = machine.directory.path().join("state/sandboxes").join(sandbox);
        let group = json!(format!("{}/pods/pod-u1", machine.group));
        place("sandbox.json", &directory, |record| record["config"]["cgroup_parent"] = group.clone());
        place("shim-config.json", &directory, |record| record["config"]["cgroup_parent"] = group.clone());
        place("shim.json", &directory, |record| {
            record["pid"] = pid.into();
            record["start_ticks"] = start_ticks(pid).into();
        });
        let id = "1311894f2a9a59832d3fb4502eb06a58";
        let of = directory.join("containers").join(id);
        place("container.json", &of, |_| {});
        place("plan.json", &of, |_| {});
        let running = place("state.json", &of, |record| {
            record["finished_at"] = 0.into();
            record["exit_code"] = 0.into();
        });
        let shim = Arc::new(OldShim {
            process: process.into(),
            container: running.into(),
            watchers: Mutex::default(),
            heard: Mutex::default(),
        });
        Arc::clone(&shim).listen(&directory.join("shim.sock"));

        let node = machine.reopen().await;
        assert_eq!(node.sandbox_status(sandbox).await.unwrap().state, SandboxState::Ready);
        assert_eq!(node.container_status(id).await.unwrap().state, ContainerState::Running);
        node.stop_container(id, Duration::from_secs(30)).await.unwrap();
        assert_eq!(ended(&node, id).await.exit_code, 143);
        node.remove_sandbox(sandbox).await.unwrap();
        assert!(!directory.exists());
        let heard = shim.heard.lock().unwrap();
        let versions = heard.iter().all(|request| request["version"] == 1);
        assert!(versions && heard.iter().any(|request| request["call"] == "shutdown"), "{heard:?}");
    });
}
