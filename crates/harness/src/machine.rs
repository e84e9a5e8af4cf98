//! A process of the binary with a data directory of its own, and what cleans up after it.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::host::Host;
use crate::wait::kill;

/// A machine of a plane, as far as the binary is concerned. Dropping it stops the process and removes what it made.
pub struct Machine {
    binary: PathBuf,
    directory: PathBuf,
    mark: String,
    words: Vec<String>,
    process: Option<Child>,
    /// Removes everything when it is told to, or when this process is killed.
    guard: Child,
    /// The network that it is in, if not this machine's own.
    host: Option<Host>,
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

impl Machine {
    /// One whose data is below a directory. The mark keeps what it makes apart from what others make.
    pub(crate) fn new(parent: &Path, binary: &Path, mark: String, host: Option<Host>) -> Self {
        let directory = tempfile::Builder::new().prefix("monoplane-test-").tempdir_in(parent);
        let directory = directory.expect("a directory");
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(directory.path(), open).expect("permissions");
        let mut guard = command_in(host.as_ref(), binary);
        guard.args(["clean", "--after-stdin", "--all", "--data-dir"]).arg(directory.path());
        guard.args(marks(&mark)).stdin(Stdio::piped()).process_group(0);
        let guard = guard.spawn().expect("monoplane starts");
        let (binary, directory) = (binary.to_owned(), directory.keep());
        Self { binary, directory, mark, words: Vec::new(), process: None, guard, host }
    }

    /// Runs the binary on the data directory: a verb and its flags. Those that keep machines apart are added.
    pub fn run(&mut self, words: &[String]) {
        self.words = words.to_vec();
        self.start();
    }

    /// Runs what it ran before.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let log = std::fs::File::create(self.log_file()).expect("a log file");
        let mut command = match self.names().exists() {
            true => self.naming(),
            false => self.command(&self.binary),
        };
        let (verb, flags) = self.words.split_first().expect("a verb");
        command.arg(verb).arg("--data-dir").arg(self.data());
        if verb != "edge" {
            command.args(marks(&self.mark));
        }
        command.args(flags);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.process = Some(command.spawn().expect("monoplane starts"));
    }

    /// What it runs from the next start on finds this address by that name, and no other; later ones at once.
    pub fn call(&self, name: &str, address: Ipv4Addr) {
        // In place: it may be bound already.
        std::fs::write(self.names(), format!("127.0.0.1 localhost\n{address} {name}\n")).expect("a file");
    }

    fn names(&self) -> PathBuf {
        self.data().join("hosts")
    }

    /// The binary, with the names in the place of the machine's own; its mounts are its own, too.
    fn naming(&self) -> Command {
        let mut command = self.command("unshare");
        command.args(["--mount", "--", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\""]);
        command.arg(self.names()).arg(&self.binary);
        command
    }

    /// Runs another binary from the next start on.
    pub fn exchange(&mut self, binary: &str) {
        self.binary = binary.into();
    }

    /// Ends the process in order; pods run on.
    pub fn stop(&mut self) {
        self.end(15);
    }

    /// The process gets no chance to end in order; pods run on.
    pub fn kill(&mut self) {
        self.end(9);
    }

    fn end(&mut self, signal: i32) {
        let mut process = self.process.take().expect("it runs");
        kill(process.id(), signal);
        process.wait().expect("it can be waited for");
    }

    /// Waits until the process has ended by itself, or by somebody else; says whether it succeeded.
    pub fn wait(&mut self) -> bool {
        let mut process = self.process.take().expect("it runs");
        process.wait().expect("it can be waited for").success()
    }

    /// The same unless it was waited for already.
    pub(crate) fn reap(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.wait().expect("it can be waited for");
        }
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        let process = self.process.as_mut();
        process.is_some_and(|process| process.try_wait().expect("it can be looked at").is_none())
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// Runs the binary itself on the data directory.
    pub fn monoplane(&self, words: &[&str]) -> Said {
        let mut command = self.command(&self.binary);
        command.args(words).arg("--data-dir").arg(self.data());
        command.stdin(Stdio::null()).output().expect("monoplane runs").into()
    }

    /// A program in the machine's network.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        command_in(self.host.as_ref(), program)
    }

    /// The machine's network, if it has one of its own.
    pub fn host(&self) -> &Host {
        self.host.as_ref().expect("a network of its own")
    }

    /// The same, to give it another address.
    pub fn host_mut(&mut self) -> &mut Host {
        self.host.as_mut().expect("a network of its own")
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.directory
    }

    /// The end of the process's log, for a failing test's message.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn log_file(&self) -> PathBuf {
        let verb = self.words.first().map_or("none", String::as_str);
        self.data().join(format!("{verb}.log"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            kill(process.id(), 15);
            let _ = process.wait();
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

fn command_in(host: Option<&Host>, program: impl AsRef<OsStr>) -> Command {
    match host {
        Some(host) => host.command(program),
        None => Command::new(program),
    }
}

/// What keeps this machine apart from others on the same Linux.
fn marks(mark: &str) -> [String; 4] {
    let (bridge, cgroups) = (format!("mt{mark}"), format!("monoplane-test-{mark}"));
    ["--bridge".to_owned(), bridge, "--cgroup-root".to_owned(), cgroups]
}
