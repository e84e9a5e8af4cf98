//! One container of a shim: its record, its output, its end.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::io::Errno;

use super::attachment::Attachment;
use super::control::{Listener, Made};
use super::log::{Log, Stream};
use crate::cgroup::Tree;
use crate::files::{self, ContainerFiles, Plan};
use crate::process;
use crate::protocol::ContainerRecord;

/// How long the outputs of one that has ended may stay open for those who are attached, in nanoseconds.
const LAST_WORDS: i64 = 1_000_000_000;

/// One output pipe.
pub(crate) struct Output {
    pub(crate) fd: OwnedFd,
    /// 0 for output, 1 for errors.
    number: usize,
    stream: Stream,
}

/// A container, from the call to create it until it is forgotten.
pub(crate) struct Container {
    pub(crate) record: ContainerRecord,
    pub(crate) files: ContainerFiles,
    /// The container whose process namespace it joins.
    pub(crate) pid_target: Option<String>,
    /// Its control group.
    pub(crate) group: String,
    pub(crate) outputs: Vec<Output>,
    log: Log,
    /// Whether something of it may still run although its first process has ended.
    pub(crate) lingers: bool,
    /// When its start was asked for, nanoseconds since the Unix epoch; 0: not yet.
    starting_at: i64,
    /// The writing end of its standard input, where that is to stay open.
    stdin: Option<OwnedFd>,
    stdin_once: bool,
    /// Whether its standard files are a terminal.
    tty: bool,
    /// Who takes its output as it comes.
    attachments: Vec<Attachment>,
    /// Whether a workload is asked to run it.
    pub(crate) is_offered: bool,
    /// Whether mounts that are made in it show on the machine somewhere.
    pub(crate) shares_mounts: bool,
    /// Who its processes are, once it is made.
    pub(crate) made: Made,
    /// What its first process waits at for the start.
    pub(crate) control: Option<Listener>,
}

/// The container's ends of its pipes: input, output, errors. Dropped when it has them.
pub(crate) struct Stdio {
    pub(crate) input: OwnedFd,
    pub(crate) output: OwnedFd,
    pub(crate) errors: OwnedFd,
}

impl Container {
    pub(crate) fn new(id: &str, files: ContainerFiles, group: String) -> io::Result<(Self, Stdio)> {
        let plan: Plan = files::read_record(&files.plan())?;
        let log = Log::open(&plan.log).map_err(|error| {
            io::Error::new(error.kind(), format!("log file {}: {error}", plan.log.display()))
        })?;
        let null = || std::fs::File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from);
        let mut container = Self {
            record: ContainerRecord { id: id.to_owned(), ..ContainerRecord::default() },
            files,
            pid_target: plan.pid_target,
            group,
            outputs: Vec::new(),
            log,
            lingers: false,
            starting_at: 0,
            stdin: None,
            stdin_once: plan.stdin_once,
            tty: plan.tty,
            attachments: Vec::new(),
            is_offered: plan.workload.is_some(),
            shares_mounts: plan.shares_mounts,
            made: Made::default(),
            control: None,
        };
        if plan.tty {
            // Its terminal, which its own process makes, takes their place.
            return Ok((container, Stdio { input: null()?, output: null()?, errors: null()? }));
        }
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
        let (output_reader, output) = pipe()?;
        let (errors_reader, errors) = pipe()?;
        let input = match plan.stdin {
            true => {
                let (reader, writer) = pipe()?;
                container.stdin = Some(writer);
                reader
            }
            false => null()?,
        };
        for (number, (fd, name)) in
            [(output_reader, "stdout"), (errors_reader, "stderr")].into_iter().enumerate()
        {
            rustix::io::ioctl_fionbio(&fd, true)?;
            container.outputs.push(Output { fd, number, stream: Stream::new(name) });
        }
        Ok((container, Stdio { input, output, errors }))
    }

    /// Its terminal is here.
    pub(crate) fn on_terminal(&mut self, master: OwnedFd) {
        self.outputs = vec![Output { fd: master, number: 0, stream: Stream::new("stdout") }];
    }

    /// Adds a caller who takes its output, and gives what its input is written to: the terminal, or the pipe if it was
    /// asked for. An input that ends with its first caller is that caller's alone.
    pub(crate) fn attach(&mut self, attachment: Attachment, stdin: bool) -> io::Result<Option<OwnedFd>> {
        let input = match (self.tty, stdin) {
            (true, _) => self.outputs.first().map(|output| output.fd.try_clone()).transpose()?,
            (false, true) if self.stdin_once => self.stdin.take(),
            (false, true) => self.stdin.as_ref().map(OwnedFd::try_clone).transpose()?,
            (false, false) => None,
        };
        self.attachments.push(attachment);
        Ok(input)
    }

    pub(crate) fn detach(&mut self, caller: u64) {
        self.attachments.retain(|attachment| attachment.caller != caller);
    }

    /// Whether output is to wait for those who are attached.
    pub(crate) fn is_held_up(&self) -> bool {
        !self.attachments.iter().all(Attachment::has_taken_all)
    }

    /// Whether nothing more is to come of one that has ended: what it wrote last may be on its way through a terminal
    /// still, and somebody else may hold its outputs open for ever.
    fn has_said_all(&self) -> bool {
        self.outputs.is_empty() || now().saturating_sub(self.record.finished_at) > LAST_WORDS
    }

    /// Whether somebody who is attached is to be told soon of its end.
    pub(crate) fn is_leaving(&self) -> bool {
        self.record.finished_at > 0 && !self.attachments.is_empty()
    }

    /// What those who are attached are to take something from.
    pub(crate) fn pending(&self) -> impl Iterator<Item = &OwnedFd> {
        self.attachments.iter().flat_map(Attachment::pending)
    }

    /// Passes on what waits. Those who leave are given back: with the exit code when it has ended and they have all of its
    /// output, without when they are stuck.
    pub(crate) fn pass_on(&mut self) -> Vec<(u64, Option<i32>)> {
        let ended = (self.record.finished_at > 0 && self.has_said_all()).then_some(self.record.exit_code);
        let mut left = Vec::new();
        self.attachments.retain_mut(|attachment| {
            attachment.flush();
            let goes = if attachment.is_stuck() {
                Some(None)
            } else {
                ended.filter(|_| attachment.has_taken_all()).map(Some)
            };
            left.extend(goes.map(|code| (attachment.caller, code)));
            goes.is_none()
        });
        left
    }

    pub(crate) fn is_running(&self) -> bool {
        self.record.pid != 0 && self.record.finished_at == 0
    }

    pub(crate) fn created(&mut self, pid: i32) {
        self.record.pid = pid;
        self.record.start_ticks = process::start_ticks(pid).ok().flatten().unwrap_or_default();
        self.record.created_at = now();
        self.save();
    }

    /// Somebody asked for its start.
    pub(crate) fn starting(&mut self) {
        self.starting_at = now();
    }

    pub(crate) fn started(&mut self) {
        // It may have ended before its start was reported.
        if self.record.started_at == 0 {
            self.record.started_at = now();
        }
        self.save();
    }

    /// Its first process has ended: nothing of it may go on, and what it wrote last is still to be logged.
    pub(crate) fn ended(&mut self, exit_code: i32, tree: &Tree) {
        self.record.exit_code = exit_code;
        self.record.oom_killed = tree.memory_kills(&self.group) > 0;
        self.record.finished_at = now();
        // A quick one ends before its start is reported, and what is told of its end is not taken back.
        if self.record.started_at == 0 {
            self.record.started_at = self.starting_at;
        }
        self.lingers = tree.kill_once(&self.group);
        for index in 0..self.outputs.len() {
            self.drain(index);
        }
        self.save();
    }

    /// Kills again what a kill has missed, until nothing of it runs.
    pub(crate) fn end_the_rest(&mut self, tree: &Tree) {
        self.lingers = self.lingers && tree.kill_once(&self.group);
    }

    /// Logs what lies in an output, and not what is written meanwhile by somebody who does not stop.
    fn drain(&mut self, index: usize) {
        let waiting = self.outputs.get(index).and_then(|output| rustix::io::ioctl_fionread(&output.fd).ok());
        let mut left = waiting.unwrap_or(0);
        // Once more than that, which finds the end where there is one.
        while let Some(count @ 1..) = self.read_output(index)
            && left > 0
        {
            left = left.saturating_sub(count);
        }
    }

    /// Reads once from an output and logs it. How much there was; `None`: it has ended.
    fn read_output(&mut self, index: usize) -> Option<u64> {
        let mut buffer = [0; 8192];
        let output = self.outputs.get_mut(index)?;
        let (time, mut records) = (timestamp(), Vec::new());
        let more = match rustix::io::read(&output.fd, &mut buffer) {
            Ok(0) => None,
            Ok(count) => {
                output.stream.feed(&buffer[..count], &time, &mut records);
                let bytes = &buffer[..count];
                self.attachments.iter_mut().for_each(|attachment| attachment.pass(output.number, bytes));
                Some(count as u64)
            }
            Err(Errno::AGAIN | Errno::INTR) => Some(0),
            Err(_) => None,
        };
        if more.is_none() {
            output.stream.finish(&time, &mut records);
        }
        if !records.is_empty() {
            self.log.write(&records, &time);
        }
        more
    }

    /// Reads what is ready once; an output that has ended is closed.
    pub(crate) fn pump(&mut self, index: usize) {
        if self.read_output(index).is_none() && index < self.outputs.len() {
            self.outputs.remove(index);
        }
    }

    pub(crate) fn reopen_log(&mut self) -> io::Result<()> {
        self.log.reopen()
    }

    fn save(&self) {
        // Read only when the shim is gone; a shim that lives answers itself.
        let _ = files::overwrite_record(&self.files.state(), &self.record);
    }
}

pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn timestamp() -> String {
    format!("{:.9}", jiff::Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_ends_before_its_start_is_reported_has_started() {
        let directory = tempfile::tempdir().unwrap();
        let files = ContainerFiles(directory.path().to_owned());
        let plan = Plan { log: directory.path().join("log"), ..Plan::default() };
        files::write_record(&files.plan(), &plan).unwrap();
        let tree = Tree::V2(directory.path().to_owned());
        let (mut container, stdio) = Container::new("c", files, "/group".to_owned()).unwrap();
        container.created(i32::MAX);
        container.starting();
        // What somebody else holds open and does not stop writing to keeps nobody.
        rustix::io::write(&stdio.output, b"last words").unwrap();
        container.ended(0, &tree);
        let told = container.record.clone();
        container.started();
        assert_eq!(container.record, told);
        assert!(told.started_at > 0 && told.started_at <= told.finished_at);
    }
}
