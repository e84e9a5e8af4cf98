//! The shim's loop: calls, processes on their way, children that end, output to log.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::attachment;
use super::connection::{Connection, Incoming};
use super::container::Container;
use super::listener;
use super::making::{Job, Making};
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

/// A command that runs in a container; its caller waits for its end.
pub(super) struct Command {
    pub(super) pid: Pid,
    pub(super) caller: u64,
    pub(super) outlives_caller: bool,
}

/// A running shim.
pub(crate) struct Server {
    pub(super) files: SandboxFiles,
    pub(super) config: ShimConfig,
    pub(super) tree: Tree,
    listener: OwnedFd,
    signals: SignalFd,
    pub(super) connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    pub(super) containers: BTreeMap<String, Container>,
    pub(super) makings: Vec<Making>,
    pub(super) commands: Vec<Command>,
    /// Whether the sandbox is coming to its end.
    pub(super) ending: bool,
    /// Who asked for it, and hears of it.
    enders: Vec<u64>,
    pub(super) namespaces: Namespaces,
    pub(super) workloads: Workloads,
}

/// What a descriptor that became ready belongs to.
#[derive(Clone)]
enum Source {
    Listener,
    Signals,
    Connection(u64),
    /// A process on its way.
    Making,
    Output(String, usize),
    /// Somebody who is attached to a container takes more.
    Attachment,
}

impl Server {
    pub(crate) fn new(
        files: SandboxFiles,
        config: ShimConfig,
        tree: Tree,
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
        let listener = listener::listen(&files.0, SOCKET)?;
        Ok(Self {
            files,
            config,
            tree,
            listener,
            signals,
            connections: BTreeMap::new(),
            next_connection: 0,
            containers: BTreeMap::new(),
            makings: Vec::new(),
            commands: Vec::new(),
            ending: false,
            enders: Vec::new(),
            namespaces,
            workloads,
        })
    }

    /// Serves until the sandbox is shut down, and returns the exit code.
    pub(crate) fn run(mut self) -> i32 {
        // Those of its making that ended before it listened for that.
        self.reap();
        while !self.is_done() {
            for source in self.wait() {
                match source {
                    Source::Listener => self.accept(),
                    Source::Signals => self.reap(),
                    Source::Connection(caller) => self.receive(caller),
                    Source::Output(container, index) => {
                        if let Some(container) = self.containers.get_mut(&container) {
                            container.pump(index);
                        }
                    }
                    Source::Attachment | Source::Making => {}
                }
            }
            self.pass_on();
            self.finish_makings();
            self.containers.values_mut().for_each(|container| container.end_the_rest(&self.tree));
            if self.ending {
                self.kill_all();
            }
        }
        self.end();
        0
    }

    /// Waits until something is ready. Of a container's outputs, the last come first: handling one may remove it and move
    /// those behind it.
    fn wait(&self) -> Vec<Source> {
        let mut sources = vec![Source::Signals];
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        for making in &self.makings {
            sources.push(Source::Making);
            fds.push(PollFd::new(&making.listener.socket, PollFlags::IN));
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
        // Nobody waits for that container, and nobody will know of it: its process' end makes it forgotten.
        let abandoned = |making: &&Making| making.caller == caller && making.job == Job::Create;
        self.makings.iter().filter(abandoned).for_each(Making::kill);
    }

    fn call(&mut self, caller: u64, call: Call) {
        let reply = match call {
            Call::Hello { .. } => Some(Reply::Hello { min: *VERSIONS.start(), max: *VERSIONS.end() }),
            Call::State => Some(Reply::State(self.containers.values().map(|c| c.record.clone()).collect())),
            Call::Watch => return self.watch(caller),
            Call::Create { container } => self.create(caller, container),
            Call::Start { container } => self.start(caller, container),
            Call::Exec { container, command } => self.exec(caller, container, Job::Exec, &command),
            Call::Run { container, command, terminal: false } => {
                self.exec(caller, container, Job::Run, &command)
            }
            Call::Run { container, command, terminal: true } => {
                self.run_on_terminal(caller, container, &command)
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

    fn reap(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        loop {
            let (pid, code) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as i32),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            // What it had to say it has said: hear it first.
            self.finish_makings();
            self.ended(pid, code);
        }
    }

    fn ended(&mut self, pid: Pid, code: i32) {
        if self.namespaces.pause.as_ref().is_some_and(|pause| pause.pid == pid) {
            // The namespace ended with it, and no container can be made in it any more: nor is it a pod.
            self.namespaces.pause = None;
            self.ending = true;
            return;
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
    pub(super) fn forget(&mut self, id: &str) {
        if let Some(container) = self.containers.remove(id)
            && self.tree.remove_idle(&container.group).is_err()
        {
            self.tree.kill(&container.group);
            let _ = self.tree.remove(&container.group);
        }
    }

    fn kill_all(&mut self) {
        for container in self.containers.values().filter(|container| container.is_running()) {
            let _ = kill(Pid::from_raw(container.record.pid), Signal::SIGKILL);
            self.tree.kill_once(&container.group);
        }
        // Those on their way, commands: all that this process started.
        for pid in process::children() {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }

    fn is_done(&self) -> bool {
        let containers = self.containers.values().all(|container| !container.is_running());
        self.ending && containers && self.makings.is_empty()
    }

    fn end(&mut self) {
        let ids: Vec<String> = self.containers.keys().cloned().collect();
        ids.iter().for_each(|id| self.forget(id));
        // Until somebody has waited for it, it counts in the shims' control group.
        if let Some(pause) = self.namespaces.pause.take() {
            let _ = kill(pause.pid, Signal::SIGKILL);
            let _ = waitpid(pause.pid, None);
        }
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
