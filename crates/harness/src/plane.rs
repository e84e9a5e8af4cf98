//! A throw-away plane and the means to drive and break it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::host::Host;
use crate::machine::{Machine, Said};
use crate::wait::{eventually, kill};

/// The keys of Secrets, beside a plane's data.
const KEYS: &str = "encryption-keys.json";

/// A running plane. Dropping it stops it and removes what it made.
pub struct Plane {
    machine: Machine,
    flags: Vec<String>,
    number: u32,
    /// Whether pods and Services have addresses of both families.
    dual: bool,
    /// Whether it is in a network of its own, in which no port and no address is taken.
    alone: bool,
}

impl Plane {
    /// Starts a plane of this binary with these further flags of `up` and waits until every role serves.
    pub fn start(binary: &str, flags: &[&str]) -> Self {
        Self::launch(&std::env::temp_dir(), binary, flags, None, false)
    }

    /// The same with its data below a directory, which may be on a file system of its own.
    pub fn start_in(parent: &Path, binary: &str, flags: &[&str]) -> Self {
        Self::launch(parent, binary, flags, None, false)
    }

    /// The same with addresses of both families for pods and Services.
    pub fn start_dual(binary: &str, flags: &[&str]) -> Self {
        Self::launch(&std::env::temp_dir(), binary, flags, None, true)
    }

    /// The same in a network of its own, at whose address the plane listens.
    pub(crate) fn start_on(host: Host, binary: &str, flags: &[&str]) -> Self {
        Self::launch(&std::env::temp_dir(), binary, flags, Some(host), false)
    }

    /// Another server of a plane that keeps its state in etcd, with the authority and the keys of the first.
    pub(crate) fn start_beside(first: &Self, host: Host, mark: String, binary: &Path) -> Self {
        let machine = Machine::new(&std::env::temp_dir(), binary, mark, Some(host));
        copy_all(&first.data().join("server/pki"), &machine.data().join("server/pki"));
        let keys = [first.data(), machine.data()].map(|data| data.join(KEYS));
        std::fs::copy(&keys[0], &keys[1]).expect("the keys of Secrets");
        let mut plane =
            Self { machine, flags: first.flags.clone(), number: first.number, dual: first.dual, alone: true };
        plane.up();
        plane
    }

    fn launch(parent: &Path, binary: &str, flags: &[&str], host: Option<Host>, dual: bool) -> Self {
        let (number, alone) = (std::process::id(), host.is_some());
        let machine = Machine::new(parent, Path::new(binary), number.to_string(), host);
        let flags = flags.iter().map(|f| (*f).to_owned()).collect();
        let mut plane = Self { machine, flags, number, dual, alone };
        plane.up();
        plane
    }

    /// Starts `up` (again).
    pub fn up(&mut self) {
        let _ = std::fs::remove_file(self.data().join("processes.json"));
        let keys = self.data().join(KEYS);
        let mut words: Vec<String> = ["up", "--node-name", "test-node"].map(str::to_owned).into();
        // They go with the plane.
        words.extend(["--encryption-keys".to_owned(), keys.display().to_string()]);
        // How full this machine's disk is has nothing to do with what is tested.
        words.extend(["--image-gc-high-threshold", "100", "--log", "info"].map(str::to_owned));
        words.extend(self.unless_given("--eviction-hard", "memory.available<20Mi").map(str::to_owned));
        if self.alone {
            words.extend(["--bind-address".to_owned(), self.machine.host().address().to_string()]);
        } else {
            let ports = ["--api-port", "--http-port", "--https-port", "--kubelet-port"];
            words.extend(ports.into_iter().flat_map(|port| [port, "0"]).map(str::to_owned));
            words.extend(ranges(self.number, self.dual));
        }
        words.extend(self.flags.iter().cloned());
        self.machine.run(&words);
        self.wait_until_up();
    }

    fn unless_given<'a>(&self, flag: &'a str, value: &'a str) -> impl Iterator<Item = &'a str> {
        let given = self.flags.iter().any(|given| given == flag);
        [flag, value].into_iter().filter(move |_| !given)
    }

    /// Ends `up` in order, as its supervisor would; pods run on.
    pub fn stop(&mut self) {
        self.machine.stop();
    }

    /// Starts `up` of another binary.
    pub fn up_with(&mut self, binary: &str) {
        self.machine.exchange(binary);
        self.up();
    }

    /// Starts `up` again after it was killed from outside.
    pub fn revive(&mut self) {
        self.machine.reap();
        self.up();
    }

    /// Waits until every role serves.
    pub fn wait_until_up(&self) {
        eventually("the plane is up", || {
            let text = std::fs::read_to_string(self.data().join("processes.json")).unwrap_or_default();
            let processes: Value = serde_json::from_str(&text).unwrap_or_default();
            let roles = processes.as_object()?;
            roles.iter().all(|(role, p)| role == "up" || p["ready"] == true).then_some(())
        });
    }

    /// Runs the binary itself on this plane's data directory.
    pub fn monoplane(&self, words: &[&str]) -> Said {
        self.machine.monoplane(words)
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        self.machine.data()
    }

    /// The machine that it runs on.
    pub fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }

    /// The machine's network, if it has one of its own.
    pub fn host(&self) -> &Host {
        self.machine.host()
    }

    /// A program in the plane's network.
    pub fn command(&self, program: &str) -> Command {
        self.machine.command(program)
    }

    /// `endpoints.json`.
    pub fn endpoint(&self, which: &str) -> String {
        let text = std::fs::read_to_string(self.data().join("endpoints.json")).expect("endpoints.json");
        let endpoints: Value = serde_json::from_str(&text).expect("JSON");
        endpoints[which].as_str().unwrap_or_else(|| panic!("no {which} in {text}")).to_owned()
    }

    /// Process id of a role.
    pub fn pid(&self, role: &str) -> u32 {
        let text = std::fs::read_to_string(self.data().join("processes.json")).expect("processes.json");
        let processes: Value = serde_json::from_str(&text).expect("JSON");
        u32::try_from(processes[role]["pid"].as_u64().unwrap_or_else(|| panic!("no {role} in {text}")))
            .expect("a pid")
    }

    /// SIGKILL to every process of the plane at once; containers and their shims live on.
    pub fn kill_everything(&mut self) {
        self.kill_everything_of(&["up", "server", "node", "edge"]);
    }

    /// The same for a plane that runs only some roles.
    pub fn kill_everything_of(&mut self, roles: &[&str]) {
        let pids: Vec<u32> = roles.iter().map(|role| self.pid(role)).collect();
        for pid in pids {
            kill(pid, 9);
        }
        self.machine.wait();
    }

    /// Ends a role's process with a signal and waits until its supervisor has another that serves.
    pub fn restart(&self, role: &str, signal: i32) {
        let before = self.pid(role);
        kill(before, signal);
        eventually("another process of the role", || {
            let text = std::fs::read_to_string(self.data().join("processes.json")).ok()?;
            let processes: Value = serde_json::from_str(&text).ok()?;
            let next = &processes[role];
            (next["pid"] != before && next["ready"] == true).then_some(())
        });
    }

    /// Runs kubectl as the administrator.
    pub fn kubectl(&self, words: &[&str]) -> Said {
        self.kubectl_command().args(words).stdin(Stdio::null()).output().expect("kubectl runs").into()
    }

    /// Runs kubectl and insists that it succeeds.
    #[track_caller]
    pub fn kubectl_ok(&self, words: &[&str]) -> String {
        let said = self.kubectl(words);
        assert!(said.ok, "kubectl {}: {}{}\n{}", words.join(" "), said.out, said.err, self.log());
        said.out
    }

    /// Runs kubectl with text on its standard input.
    pub fn kubectl_with(&self, words: &[&str], input: &str) -> Said {
        let mut child = self
            .kubectl_command()
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl runs");
        child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("kubectl reads");
        child.wait_with_output().expect("kubectl ends").into()
    }

    /// Applies manifests and insists that it succeeds.
    #[track_caller]
    pub fn apply(&self, manifest: &str) -> String {
        let said = self.kubectl_with(&["apply", "-f", "-"], manifest);
        assert!(said.ok, "kubectl apply: {}{}\n{}", said.out, said.err, self.log());
        said.out
    }

    /// A kubectl that talks to this plane.
    pub fn kubectl_command(&self) -> Command {
        let mut command = self.machine.command(kubectl());
        command.arg("--kubeconfig").arg(self.data().join("admin.kubeconfig"));
        // Its discovery cache, away from other planes'.
        command.arg("--cache-dir").arg(self.data().join("kubectl-cache"));
        command
    }

    /// An object as JSON.
    pub fn get(&self, words: &[&str]) -> Value {
        let said = self.kubectl(&[&["get", "-o", "json"], words].concat());
        serde_json::from_str(&said.out).unwrap_or_default()
    }

    /// The end of the plane's log, for a failing test's message.
    pub fn log(&self) -> String {
        self.machine.log()
    }
}

/// A directory as it is, but for what is being written meanwhile, under a name that begins with a dot.
pub fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory").map(|entry| entry.expect("an entry")) {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        match entry.file_type().expect("a type").is_dir() {
            true => copy_all(&from.join(&name), &to.join(&name)),
            false => {
                std::fs::copy(from.join(&name), to.join(&name)).expect("a copy");
            }
        }
    }
}

/// Addresses of a plane's own.
fn ranges(number: u32, dual: bool) -> [String; 4] {
    let mut pods = format!("10.{}.{}.0/24", 64 + number % 128, number / 128 % 256);
    let mut services = format!("172.{}.{}.0/24", 16 + number % 16, number / 16 % 256);
    if dual {
        let (high, low) = (number >> 16, number & 0xffff);
        pods += &format!(",fd42:{high:x}:{low:x}::/64");
        services += &format!(",fd43:{high:x}:{low:x}::/112");
    }
    ["--pod-cidr".into(), pods, "--service-cidr".into(), services]
}

/// Where the tools of tests are.
pub fn tools() -> PathBuf {
    std::env::var_os("MONOPLANE_TOOLS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools"), PathBuf::from)
}

fn kubectl() -> PathBuf {
    let kubectl = tools().join("kubectl");
    assert!(kubectl.exists(), "{} is missing: run `cargo xtask tools`", kubectl.display());
    kubectl
}
