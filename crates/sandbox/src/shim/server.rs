//! The shim's loop: calls, helpers, children that end, output to log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::attachment;
use super::connection::{Connection, Incoming};
use super::console::{self, Console};
use super::container::{Container, Stdio};
use super::helper::{self, Outcome, Task};
use super::pod::Namespaces;
use super::workload::Workloads;
use crate::cgroup::Tree;
use crate::files::{SOCKET, SandboxFiles, ShimConfig};
use crate::process;
use crate::protocol::{self, Call, Reply, VERSIONS};

/// How many callers are served at once; further ones wait in the socket's queue.
const MAX_CONNECTIONS: usize = 256;
/// How often what is to die is killed again.
const KILL_ROUND: Duration = Duration::from_millis(20);

/// A copy of the shim at work for a caller.
struct Helper {
    pid: Pid,
    report: OwnedFd,
    received: Vec<u8>,
    container: String,
    caller: u64,
    job: Job,
    /// Where the terminal that it makes comes from.
    console: Option<Console>,
    /// The process namespace of another container, held for as long as the helper needs it.
    joins: Option<OwnedFd>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Job {
    Create,
    Start,
    /// A command that ends with its caller.
    Exec,
    /// A command that does not.
    Run,
}

/// A command that runs in a container; its caller waits for its end.
struct Command {
    pid: Pid,
    caller: u64,
    outlives_caller: bool,
}

/// A running shim.
pub(crate) struct Server {
    pub(super) files: SandboxFiles,
    config: ShimConfig,
    tree: Tree,
    listener: OwnedFd,
    signals: SignalFd,
    pub(super) connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    pub(super) containers: BTreeMap<String, Container>,
    helpers: Vec<Helper>,
    commands: Vec<Command>,
    /// Whether the sandbox is coming to its end.
    ending: bool,
    /// Who asked for it, and hears of it.
    enders: Vec<u64>,
    namespaces: Namespaces,
    workloads: Workloads,
}

/// What a descriptor that became ready belongs to.
#[derive(Clone)]
enum Source {
    Listener,
    Signals,
    Connection(u64),
    Helper(usize),
    Output(String, usize),
    /// Somebody who is attached to a container takes more.
    Attachment,
}

impl Server {
    pub(crate) fn new(
        files: SandboxFiles,
        config: ShimConfig,
        namespaces: Namespaces,
        workloads: Workloads,
    ) -> io::Result<Self> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        // A daemon: the terminal's and the supervisor's signals are for others.
        for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM] {
            mask.add(signal);
        }
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let listener = console::listen(&files.0, SOCKET)?;
        Ok(Self {
            files,
            config,
            tree: Tree::detect()?,
            listener,
            signals,
            connections: BTreeMap::new(),
            next_connection: 0,
            containers: BTreeMap::new(),
            helpers: Vec::new(),
            commands: Vec::new(),
            ending: false,
            enders: Vec::new(),
            namespaces,
            workloads,
        })
    }

    /// Serves until the sandbox is shut down, and returns the exit code.
    pub(crate) fn run(mut self) -> i32 {
        while !self.is_done() {
            for source in self.wait() {
                match source {
                    Source::Listener => self.accept(),
                    Source::Signals => self.reap(),
                    Source::Connection(caller) => self.receive(caller),
                    Source::Helper(index) => self.listen_to(index),
                    Source::Output(container, index) => {
                        if let Some(container) = self.containers.get_mut(&container) {
                            container.pump(index);
                        }
                    }
                    Source::Attachment => {}
                }
            }
            self.pass_on();
            self.finish_helpers();
            self.containers.values_mut().for_each(|container| container.end_the_rest(&self.tree));
            if self.ending {
                self.kill_all();
            }
        }
        self.end();
        0
    }

    /// Waits until something is ready. Of a container's outputs and of the helpers, the last come first: handling one
    /// may remove it and move those behind it.
    fn wait(&self) -> Vec<Source> {
        let mut sources = vec![Source::Signals];
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        for (index, helper) in self.helpers.iter().enumerate().rev() {
            sources.push(Source::Helper(index));
            fds.push(PollFd::new(&helper.report, PollFlags::IN));
        }
        for (id, container) in &self.containers {
            for pending in container.pending() {
                sources.push(Source::Attachment);
                fds.push(PollFd::new(pending, PollFlags::OUT));
            }
            if container.is_held_up() {
                continue;
            }
            for (index, output) in container.outputs.iter().enumerate().rev() {
                sources.push(Source::Output(id.clone(), index));
                fds.push(PollFd::new(&output.fd, PollFlags::IN));
            }
        }
        for (caller, connection) in &self.connections {
            sources.push(Source::Connection(*caller));
            fds.push(PollFd::new(&connection.socket, PollFlags::IN));
        }
        if self.connections.len() < MAX_CONNECTIONS {
            sources.push(Source::Listener);
            fds.push(PollFd::new(&self.listener, PollFlags::IN));
        }
        let restless = |container: &Container| container.lingers || container.is_leaving();
        let kills = self.ending || self.containers.values().any(restless);
        let held_up = self.containers.values().any(Container::is_held_up);
        let timeout = kills.then_some(KILL_ROUND).or(held_up.then_some(attachment::PATIENCE));
        let timeout = timeout.and_then(|round| Timespec::try_from(round).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(_) => return Vec::new(),
        }
        let ready = fds.iter().zip(sources).filter(|(fd, _)| !fd.revents().is_empty());
        ready.map(|(_, source)| source).collect()
    }

    fn accept(&mut self) {
        let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
        if let Ok(socket) = rustix::net::accept_with(&self.listener, flags) {
            self.next_connection += 1;
            self.connections.insert(self.next_connection, Connection::new(socket));
        }
    }

    fn receive(&mut self, caller: u64) {
        let Some(connection) = self.connections.get_mut(&caller) else { return };
        match connection.receive() {
            Incoming::Nothing => {}
            Incoming::HungUp => self.hang_up(caller),
            Incoming::Frame(frame) => match protocol::understand(&frame) {
                Ok(call) => self.call(caller, call),
                Err(answer) => self.reply(caller, &answer),
            },
        }
    }

    pub(super) fn hang_up(&mut self, caller: u64) {
        self.connections.remove(&caller);
        self.containers.values_mut().for_each(|container| container.detach(caller));
        let ends = |command: &&Command| command.caller == caller && !command.outlives_caller;
        for command in self.commands.iter().filter(ends) {
            let _ = kill(command.pid, Signal::SIGKILL);
        }
        // Nobody waits for that container, and nobody will know of it: its helper's end makes it forgotten.
        let abandoned = |helper: &&Helper| helper.caller == caller && helper.job == Job::Create;
        for helper in self.helpers.iter().filter(abandoned) {
            let _ = kill(helper.pid, Signal::SIGKILL);
        }
    }

    fn call(&mut self, caller: u64, call: Call) {
        let reply = match call {
            Call::Hello { .. } => Some(Reply::Hello { min: *VERSIONS.start(), max: *VERSIONS.end() }),
            Call::State => Some(Reply::State(self.containers.values().map(|c| c.record.clone()).collect())),
            Call::Watch => return self.watch(caller),
            Call::Create { container } => self.create(caller, container),
            Call::Start { container } => self.begin(caller, container, Job::Start, &[]),
            Call::Exec { container, command } => self.begin(caller, container, Job::Exec, &command),
            Call::Run { container, command, terminal: false } => {
                self.begin(caller, container, Job::Run, &command)
            }
            Call::Run { container, command, terminal: true } => {
                self.run_on_terminal(caller, container, command)
            }
            Call::Attach { container, stdin } => self.attach(caller, &container, stdin),
            Call::Connect { port, ipv6 } => self.connect(caller, port, ipv6),
            Call::Kill { container, signal } => Some(self.signal(&container, signal)),
            Call::Delete { container } => Some(self.delete(&container)),
            Call::ReopenLog { container } => Some(match self.containers.get_mut(&container) {
                None => Reply::NotFound,
                Some(found) => match found.reopen_log() {
                    Ok(()) => Reply::Done,
                    Err(error) => Reply::Error(format!("log file: {error}")),
                },
            }),
            Call::Shutdown => {
                self.ending = true;
                self.enders.push(caller);
                None
            }
        };
        if let Some(reply) = reply {
            self.reply(caller, &reply);
        }
    }

    fn watch(&mut self, caller: u64) {
        let records: Vec<_> = self.containers.values().map(|container| container.record.clone()).collect();
        self.reply(caller, &Reply::State(records));
        if let Some(connection) = self.connections.get_mut(&caller) {
            connection.watches = true;
        }
    }

    fn create(&mut self, caller: u64, id: String) -> Option<Reply> {
        if self.containers.contains_key(&id) || self.ending {
            return Some(Reply::Error(format!("container {id} exists or the sandbox is ending")));
        }
        let group = format!("/{}/{id}", self.config.config.cgroup_parent.trim_matches('/'));
        let files = self.files.container(&id);
        let (container, stdio) = match Container::new(&id, files.clone(), group) {
            Ok(made) => made,
            Err(error) => return Some(Reply::Error(error.to_string())),
        };
        let joined = match self.pid_namespace_of(container.pid_target.as_deref()) {
            Ok(joined) => joined,
            Err(error) => return Some(Reply::Error(error)),
        };
        let shared = self.namespaces.pause.as_ref().map(|pause| &pause.namespace);
        let pid_namespace = shared.or(joined.as_ref()).map(AsRawFd::as_raw_fd);
        let Stdio { input, output, errors, console } = stdio;
        let path = console.as_ref().map(|console| console.path.clone());
        let user_namespace = self.user_namespace();
        let task =
            Task::Create { files, pid_namespace, user_namespace, console: path, workloads: self.workloads };
        let stdio = [input.as_fd(), output.as_fd(), errors.as_fd()];
        let reply = self.help(caller, id.clone(), Job::Create, &task, stdio, console);
        if reply.is_none() {
            // The helper names the namespace by this process's descriptor of it.
            if let Some(helper) = self.helpers.last_mut() {
                helper.joins = joined;
            }
            self.containers.insert(id, container);
        }
        reply
    }

    /// The process namespace of another container. It is this process that waits for its first one, whose number is nobody
    /// else's until then.
    fn pid_namespace_of(&self, target: Option<&str>) -> Result<Option<OwnedFd>, String> {
        let Some(target) = target else { return Ok(None) };
        let found = self.containers.get(target).filter(|container| container.is_running());
        let found = found.ok_or_else(|| format!("container {target} is not running"))?;
        let namespace = File::open(format!("/proc/{}/ns/pid", found.record.pid));
        let namespace = namespace.map_err(|error| format!("container {target}: {error}"))?;
        Ok(Some(namespace.into()))
    }

    pub(super) fn user_namespace(&self) -> Option<RawFd> {
        self.namespaces.user.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Sets a helper to work on a container that exists.
    fn begin(&mut self, caller: u64, id: String, job: Job, command: &[String]) -> Option<Reply> {
        let Some(container) = self.containers.get_mut(&id) else { return Some(Reply::NotFound) };
        if !container.is_running() {
            return Some(Reply::Error(format!("container {id} is not running")));
        }
        let files = container.files.clone();
        if job == Job::Start {
            container.starting();
            let Ok(null) = File::options().read(true).write(true).open("/dev/null") else {
                return Some(Reply::Error("/dev/null cannot be opened".to_owned()));
            };
            let stdio = [null.as_fd(); 3];
            return self.help(caller, id, job, &Task::Start, stdio, None);
        }
        let fds = self.connections.get_mut(&caller).map(Connection::take_fds).unwrap_or_default();
        let [input, output, errors] = fds.as_slice() else {
            return Some(Reply::Error("exec needs three files".to_owned()));
        };
        let stdio = [input.as_fd(), output.as_fd(), errors.as_fd()];
        let user_namespace = self.user_namespace();
        let (command, number) = (command.to_vec(), caller);
        let task = Task::Exec { files, command, number, user_namespace, console: None };
        self.help(caller, id, job, &task, stdio, None)
    }

    pub(super) fn help(
        &mut self,
        caller: u64,
        container: String,
        job: Job,
        task: &Task,
        stdio: [BorrowedFd<'_>; 3],
        console: Option<Console>,
    ) -> Option<Reply> {
        match helper::spawn(&self.files, &container, task, stdio) {
            Ok((pid, report)) => {
                let received = Vec::new();
                self.helpers.push(Helper {
                    pid,
                    report,
                    received,
                    container,
                    caller,
                    job,
                    console,
                    joins: None,
                });
                None
            }
            Err(error) => Some(Reply::Error(format!("cannot start a helper: {error}"))),
        }
    }

    /// Takes what a helper has reported so far.
    fn listen_to(&mut self, index: usize) {
        let Some(helper) = self.helpers.get_mut(index) else { return };
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = rustix::io::read(&helper.report, &mut buffer) {
            helper.received.extend_from_slice(&buffer[..count]);
        }
    }

    /// Acts on the helpers that have reported.
    fn finish_helpers(&mut self) {
        let mut index = 0;
        while index < self.helpers.len() {
            match protocol::take_frame(&mut self.helpers[index].received) {
                Ok(Some(frame)) => {
                    let helper = self.helpers.remove(index);
                    let outcome =
                        serde_json::from_slice(&frame).unwrap_or_else(|error| Err(error.to_string()));
                    self.helped(helper, outcome);
                }
                _ => index += 1,
            }
        }
    }

    fn helped(&mut self, helper: Helper, outcome: Outcome) {
        let Helper { container: id, caller, job, console, .. } = helper;
        let (outcome, terminal) = with_terminal(outcome, console.as_ref());
        let mut file = None;
        let reply = match (outcome, self.containers.get_mut(&id)) {
            (_, None) => Reply::NotFound,
            (Err(why), Some(_)) => {
                if job == Job::Create {
                    self.forget(&id);
                }
                Reply::Error(why)
            }
            (Ok(pid), Some(container)) => match job {
                // Nobody has heard of it, and nobody will.
                Job::Create if !self.connections.contains_key(&caller) => return self.forget(&id),
                Job::Create => {
                    if let Some(master) = terminal {
                        container.on_terminal(master);
                    }
                    container.created(pid);
                    Reply::Container(container.record.clone())
                }
                Job::Start => {
                    container.started();
                    Reply::Container(container.record.clone())
                }
                Job::Exec => {
                    let pid = Pid::from_raw(pid);
                    self.commands.push(Command { pid, caller, outlives_caller: false });
                    if !self.connections.contains_key(&caller) {
                        let _ = kill(pid, Signal::SIGKILL);
                    }
                    return;
                }
                Job::Run => {
                    self.commands.push(Command { pid: Pid::from_raw(pid), caller, outlives_caller: true });
                    file = terminal;
                    Reply::Started
                }
            },
        };
        self.reply_with(caller, &reply, file.as_ref().map(AsFd::as_fd));
    }

    fn reap(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        loop {
            let (pid, code) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as i32),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            // A process becomes ours when the helper that made it has ended, so its report is in by now: hear it first.
            (0..self.helpers.len()).for_each(|index| self.listen_to(index));
            self.finish_helpers();
            self.ended(pid, code);
        }
    }

    fn ended(&mut self, pid: Pid, code: i32) {
        if self.namespaces.pause.as_ref().is_some_and(|pause| pause.pid == pid) {
            // The namespace ended with it, and no container can be made in it any more: nor is it a pod.
            self.ending = true;
            return;
        }
        if let Some(index) = self.helpers.iter().position(|helper| helper.pid == pid) {
            let helper = self.helpers.remove(index);
            return self.helped(helper, Err(format!("the helper ended with {code} and no report")));
        }
        if let Some(index) = self.commands.iter().position(|command| command.pid == pid) {
            let command = self.commands.remove(index);
            return self.reply(command.caller, &Reply::Exited(code));
        }
        let container = self.containers.values_mut().find(|c| c.is_running() && c.record.pid == pid.as_raw());
        if let Some(container) = container {
            container.ended(code, &self.tree);
            let changed = Reply::Container(container.record.clone());
            self.tell_watchers(&changed);
        }
    }

    fn signal(&mut self, id: &str, signal: i32) -> Reply {
        let Some(container) = self.containers.get(id) else { return Reply::NotFound };
        if !container.is_running() {
            return Reply::Done;
        }
        let Ok(signal) = Signal::try_from(signal) else { return Reply::Error(format!("no signal {signal}")) };
        if signal == Signal::SIGKILL {
            self.tree.kill_once(&container.group);
        }
        match kill(Pid::from_raw(container.record.pid), signal) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => Reply::Done,
            Err(error) => Reply::Error(format!("kill: {error}")),
        }
    }

    fn delete(&mut self, id: &str) -> Reply {
        match self.containers.get(id) {
            None => Reply::NotFound,
            Some(container) if container.is_running() || container.record.pid == 0 => {
                Reply::Error(format!("container {id} has not ended"))
            }
            Some(_) => {
                self.forget(id);
                Reply::Done
            }
        }
    }

    /// Removes what the machine still holds of a container that has ended, or never was.
    fn forget(&mut self, id: &str) {
        if let Some(container) = self.containers.remove(id) {
            self.tree.kill(&container.group);
            let _ = self.tree.remove(&container.group);
            let _ = images::remove_tree(&self.files.oci().join(id));
        }
    }

    fn kill_all(&mut self) {
        for container in self.containers.values().filter(|container| container.is_running()) {
            let _ = kill(Pid::from_raw(container.record.pid), Signal::SIGKILL);
            self.tree.kill_once(&container.group);
        }
        // Helpers, what they have made and not yet handed over, commands: all that this process started.
        for pid in self.helpers.iter().map(|helper| helper.pid).chain(process::children()) {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }

    fn is_done(&self) -> bool {
        let containers = self.containers.values().all(|container| !container.is_running());
        self.ending && containers && self.helpers.is_empty()
    }

    fn end(&mut self) {
        let ids: Vec<String> = self.containers.keys().cloned().collect();
        ids.iter().for_each(|id| self.forget(id));
        let _ = std::fs::remove_file(self.files.0.join(SOCKET));
        for caller in std::mem::take(&mut self.enders) {
            self.reply(caller, &Reply::Done);
        }
    }

    fn tell_watchers(&mut self, change: &Reply) {
        let watchers: Vec<u64> =
            self.connections.iter().filter(|(_, c)| c.watches).map(|(caller, _)| *caller).collect();
        watchers.into_iter().for_each(|caller| self.reply(caller, change));
    }

    /// Answers a caller, who is hung up on when it takes nothing: a shim never waits for anyone.
    pub(super) fn reply(&mut self, caller: u64, reply: &Reply) {
        self.reply_with(caller, reply, None);
    }

    /// The same with a file.
    pub(super) fn reply_with(&mut self, caller: u64, reply: &Reply, file: Option<BorrowedFd<'_>>) {
        let Some(connection) = self.connections.get_mut(&caller) else { return };
        if connection.send(reply, file).is_err() {
            self.hang_up(caller);
        }
    }
}

/// What a helper reports, and the terminal that it was to make. What it started without one is ended.
fn with_terminal(outcome: Outcome, console: Option<&Console>) -> (Outcome, Option<OwnedFd>) {
    match (outcome, console.map(Console::take)) {
        (Ok(pid), Some(Ok(master))) => (Ok(pid), Some(master)),
        (Ok(pid), Some(Err(error))) => {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            (Err(format!("terminal: {error}")), None)
        }
        (outcome, _) => (outcome, None),
    }
}
