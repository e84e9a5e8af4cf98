//! A throw-away plane and the means to drive and break it.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::wait::{eventually, kill};

/// A running plane. Dropping it stops it and removes what it made.
pub struct Plane {
    binary: PathBuf,
    directory: PathBuf,
    flags: Vec<String>,
    up: Option<Child>,
    /// Removes everything when it is told to, or when this process is killed.
    guard: Child,
    number: u32,
    /// Whether pods and Services have addresses of both families.
    dual: bool,
}

/// What a command printed.
#[derive(Debug)]
pub struct Said {
    /// Whether it succeeded.
    pub ok: bool,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            ok: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Plane {
    /// Starts a plane of this binary with these further flags of `up` and waits until every role serves.
    pub fn start(binary: &str, flags: &[&str]) -> Self {
        Self::launch(&std::env::temp_dir(), binary, flags, false)
    }

    /// The same with its data below a directory, which may be on a file system of its own.
    pub fn start_in(parent: &Path, binary: &str, flags: &[&str]) -> Self {
        Self::launch(parent, binary, flags, false)
    }

    /// The same with addresses of both families for pods and Services.
    pub fn start_dual(binary: &str, flags: &[&str]) -> Self {
        Self::launch(&std::env::temp_dir(), binary, flags, true)
    }

    fn launch(parent: &Path, binary: &str, flags: &[&str], dual: bool) -> Self {
        let directory = tempfile::Builder::new().prefix("monoplane-test-").tempdir_in(parent);
        let directory = directory.expect("a directory");
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(directory.path(), open).expect("permissions");
        let number = std::process::id();
        let mut guard = Command::new(binary);
        guard.args(["clean", "--after-stdin", "--all", "--data-dir"]).arg(directory.path());
        guard.args(marks(number)).stdin(Stdio::piped()).process_group(0);
        let mut plane = Self {
            binary: binary.into(),
            guard: guard.spawn().expect("monoplane starts"),
            directory: directory.keep(),
            flags: flags.iter().map(|f| (*f).to_owned()).collect(),
            up: None,
            number,
            dual,
        };
        plane.up();
        plane
    }

    /// Starts `up` (again).
    pub fn up(&mut self) {
        let _ = std::fs::remove_file(self.data().join("processes.json"));
        let log = std::fs::File::create(self.data().join("up.log")).expect("a log file");
        let child = Command::new(&self.binary)
            .args([
                "up",
                "--api-port",
                "0",
                "--http-port",
                "0",
                "--https-port",
                "0",
                "--kubelet-port",
                "0",
                "--node-name",
                "test-node",
            ])
            .arg("--data-dir")
            .arg(self.data())
            // They go with the plane.
            .arg("--encryption-keys")
            .arg(self.data().join("encryption-keys.json"))
            .args(marks(self.number))
            .args(ranges(self.number, self.dual))
            // How full this machine's disk is has nothing to do with what is tested.
            .args(["--image-gc-high-threshold", "100"])
            .args(self.unless_given("--eviction-hard", "memory.available<20Mi"))
            .args(["--log", "info"])
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("monoplane starts");
        self.up = Some(child);
        self.wait_until_up();
    }

    fn unless_given<'a>(&self, flag: &'a str, value: &'a str) -> impl Iterator<Item = &'a str> {
        let given = self.flags.iter().any(|given| given == flag);
        [flag, value].into_iter().filter(move |_| !given)
    }

    /// Ends `up` in order, as its supervisor would; pods run on.
    pub fn stop(&mut self) {
        let mut up = self.up.take().expect("the plane runs");
        kill(up.id(), 15);
        up.wait().expect("up can be waited for");
    }

    /// Starts `up` of another binary.
    pub fn up_with(&mut self, binary: &str) {
        self.binary = binary.into();
        self.up();
    }

    /// Starts `up` again after it was killed from outside.
    pub fn revive(&mut self) {
        if let Some(mut up) = self.up.take() {
            up.wait().expect("up can be waited for");
        }
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
        let mut command = Command::new(&self.binary);
        command.args(words).arg("--data-dir").arg(self.data());
        command.stdin(Stdio::null()).output().expect("monoplane runs").into()
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.directory
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
        let mut up = self.up.take().expect("the plane runs");
        up.wait().expect("up can be waited for");
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
        let mut command = Command::new(kubectl());
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
        let text = std::fs::read_to_string(self.data().join("up.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        if let Some(mut up) = self.up.take() {
            kill(up.id(), 15);
            let _ = up.wait();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        drop(self.guard.stdin.take());
        let cleaned = self.guard.wait();
        if !std::thread::panicking() {
            assert!(cleaned.expect("the guard ends").success(), "something of the plane is left");
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

/// What keeps this plane apart from others on the machine.
fn marks(number: u32) -> [String; 4] {
    let (bridge, cgroups) = (format!("mt{number}"), format!("monoplane-test-{number}"));
    ["--bridge".to_owned(), bridge, "--cgroup-root".to_owned(), cgroups]
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
