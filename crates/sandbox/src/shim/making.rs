//! Processes on their way: containers that are made and started, commands that begin. Each is a child of the shim that tells
//! by its socket how it goes, and the caller hears of it.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use container::process::ProcessNamespace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runtime::NamespaceMode;
use rustix::process::{PidfdFlags, pidfd_open};

use super::connection::Connection;
use super::container::{Container, Stdio};
use super::control::{self, Listener, Made, Word};
use super::creation::Creation;
use super::server::{Command, Server};
use super::tenant::Tenant;
use crate::protocol::Reply;

/// A process on its way.
pub(super) struct Making {
    /// Which the shim forked.
    pub(super) pid: Pid,
    /// The container's first, if that is another.
    first: Option<Pid>,
    /// Whether it is.
    is_between: bool,
    made: Option<Made>,
    pub(super) listener: Listener,
    pub(super) container: String,
    pub(super) caller: u64,
    pub(super) job: Job,
}

/// What it is to become.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Job {
    Create,
    Start,
    /// A command that ends with its caller.
    Exec,
    /// A command that does not.
    Run,
}

/// A command to run.
pub(super) struct Wanted<'a> {
    pub(super) job: Job,
    pub(super) command: &'a [String],
    pub(super) terminal: bool,
}

impl Making {
    fn new(pid: Pid, listener: Listener, container: String, caller: u64, job: Job) -> Self {
        Self { pid, first: None, is_between: false, made: None, listener, container, caller, job }
    }

    pub(super) fn kill(&self) {
        for pid in self.first.iter().chain([&self.pid]) {
            let _ = kill(*pid, Signal::SIGKILL);
        }
    }

    /// How it went, once that is known.
    fn outcome(&mut self) -> Option<Result<Pid, String>> {
        self.listener.listen();
        while let Some(word) = self.listener.next() {
            match word {
                Word::Process(pid) => self.first = Some(Pid::from_raw(pid)),
                Word::Created(made) => self.made = Some(made),
                Word::Terminal => {}
                Word::Failed(why) => return Some(Err(why)),
            }
        }
        let first = if self.is_between { self.first } else { Some(self.pid) };
        match (self.job, first) {
            (Job::Create, Some(first)) if self.made.is_some() => Some(Ok(first)),
            _ if !self.listener.closed => None,
            (Job::Create, _) => Some(Err("the container's first process ended while it was made".to_owned())),
            // It is the program's by now, which has nothing to say here.
            _ => Some(Ok(self.pid)),
        }
    }
}

impl Server {
    pub(super) fn create(&mut self, caller: u64, id: String) -> Option<Reply> {
        if self.containers.contains_key(&id) || self.ending {
            return Some(Reply::Error(format!("container {id} exists or the sandbox is ending")));
        }
        let group = format!("/{}/{id}", self.config.config.cgroup_parent.trim_matches('/'));
        let files = self.files.container(&id);
        let (container, stdio) = match Container::new(&id, files, group) {
            Ok(made) => made,
            Err(error) => return Some(Reply::Error(error.to_string())),
        };
        match self.fork_first(&container, &stdio) {
            Ok((pid, is_between, listener)) => {
                let making = Making::new(pid, listener, id.clone(), caller, Job::Create);
                self.makings.push(Making { is_between, ..making });
                self.containers.insert(id, container);
                None
            }
            Err(why) => Some(Reply::Error(why)),
        }
    }

    /// Forks what becomes a container's first process, and says whether that is a child of it.
    fn fork_first(&self, container: &Container, stdio: &Stdio) -> Result<(Pid, bool, Listener), String> {
        let joined = self.pid_namespace_of(container.pid_target.as_deref())?;
        let shared = self.namespaces.pause.as_ref().map(|pause| &pause.namespace).or(joined.as_ref());
        let process_namespace = match (shared, self.config.config.pid) {
            (Some(shared), _) => ProcessNamespace::Of(shared.as_fd()),
            (None, NamespaceMode::Node) => ProcessNamespace::Inherited,
            (None, _) => ProcessNamespace::New,
        };
        let user_namespace = self.namespaces.user.as_ref().map(AsFd::as_fd);
        let machine = container.shares_mounts.then_some(&self.namespaces.machine);
        let creation = Creation {
            files: &container.files,
            tree: &self.tree,
            process_namespace,
            user_namespace,
            machine: machine.map(AsFd::as_fd),
            is_offered: container.is_offered,
            workloads: self.workloads,
        };
        let kept: Vec<RawFd> =
            shared.into_iter().chain(&self.namespaces.user).chain(machine).map(AsRawFd::as_raw_fd).collect();
        let files = [stdio.input.as_fd(), stdio.output.as_fd(), stdio.errors.as_fd()];
        let work = |control: &control::Control| creation.run(control);
        let (pid, listener) = control::spawn(creation.namespace_of_first(), files, &kept, work)
            .map_err(|error| format!("cannot fork: {error}"))?;
        Ok((pid, creation.is_between(), listener))
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

    /// Lets a container begin.
    pub(super) fn start(&mut self, caller: u64, id: String) -> Option<Reply> {
        let Some(container) = self.containers.get_mut(&id) else { return Some(Reply::NotFound) };
        if !container.is_running() {
            return Some(Reply::Error(format!("container {id} is not running")));
        }
        let Some(listener) = container.control.take() else {
            return Some(Reply::Error(format!("container {id} has been started")));
        };
        container.starting();
        // One that is killed at this moment ends as others do.
        let _ = listener.start();
        let pid = Pid::from_raw(container.record.pid);
        self.makings.push(Making::new(pid, listener, id, caller, Job::Start));
        None
    }

    /// Begins a command on the files that came along.
    pub(super) fn exec(&mut self, caller: u64, id: String, job: Job, command: &[String]) -> Option<Reply> {
        let fds = self.connections.get_mut(&caller).map(Connection::take_fds).unwrap_or_default();
        let [input, output, errors] = fds.as_slice() else {
            return Some(Reply::Error("exec needs three files".to_owned()));
        };
        let stdio = [input.as_fd(), output.as_fd(), errors.as_fd()];
        self.begin(caller, id, Wanted { job, command, terminal: false }, stdio)
    }

    /// Begins a command in a container that runs.
    pub(super) fn begin(
        &mut self,
        caller: u64,
        id: String,
        wanted: Wanted<'_>,
        stdio: [BorrowedFd<'_>; 3],
    ) -> Option<Reply> {
        let Some(container) = self.containers.get(&id) else { return Some(Reply::NotFound) };
        if !container.is_running() {
            return Some(Reply::Error(format!("container {id} is not running")));
        }
        // Nobody else waits for it, so its number is its own.
        let first = rustix::process::Pid::from_raw(container.record.pid)
            .ok_or(rustix::io::Errno::SRCH)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
        let first = match first {
            Ok(first) => first,
            Err(error) => return Some(Reply::Error(format!("container {id}: {error}"))),
        };
        let tenant = Tenant {
            files: &container.files,
            tree: &self.tree,
            group: &container.group,
            made: &container.made,
            first: first.as_fd(),
            has_user_namespace: self.namespaces.user.is_some(),
            command: wanted.command,
            terminal: wanted.terminal,
        };
        let namespace = ProcessNamespace::Of(first.as_fd());
        let work = |control: &control::Control| tenant.run(control);
        match control::spawn(namespace, stdio, &[first.as_raw_fd()], work) {
            Ok((pid, listener)) => {
                self.makings.push(Making::new(pid, listener, id, caller, wanted.job));
                None
            }
            Err(error) => Some(Reply::Error(format!("cannot fork: {error}"))),
        }
    }

    /// Acts on what those on their way have said.
    pub(super) fn finish_makings(&mut self) {
        let mut index = 0;
        while index < self.makings.len() {
            match self.makings[index].outcome() {
                Some(outcome) => {
                    let making = self.makings.remove(index);
                    self.finished(making, outcome);
                }
                None => index += 1,
            }
        }
    }

    fn finished(&mut self, mut making: Making, outcome: Result<Pid, String>) {
        let (caller, job) = (making.caller, making.job);
        let terminal = making.listener.take_terminal();
        let (outcome, terminal) = match (outcome, terminal) {
            (Ok(_), Err(error)) => {
                making.kill();
                (Err(format!("terminal: {error}")), None)
            }
            (outcome, terminal) => (outcome, terminal.ok().flatten()),
        };
        let id = std::mem::take(&mut making.container);
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
                    container.made = making.made.take().unwrap_or_default();
                    container.control = Some(making.listener);
                    container.created(pid.as_raw());
                    Reply::Container(container.record.clone())
                }
                Job::Start => {
                    container.started();
                    Reply::Container(container.record.clone())
                }
                Job::Exec => {
                    self.commands.push(Command { pid, caller, outlives_caller: false });
                    if !self.connections.contains_key(&caller) {
                        let _ = kill(pid, Signal::SIGKILL);
                    }
                    return;
                }
                Job::Run => {
                    self.commands.push(Command { pid, caller, outlives_caller: true });
                    file = terminal;
                    Reply::Started
                }
            },
        };
        self.reply_with(caller, &reply, file.as_ref().map(AsFd::as_fd));
    }
}
