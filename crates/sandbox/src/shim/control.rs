//! What the shim and a process that it made say to each other, over a pair of sockets whose child's end closes when the
//! process becomes the container's program.
//!
//! The process tells in frames ([`Word`]) how it goes; a container's then waits for one byte, the start. A process whose
//! shim is gone reads the end instead, and ends.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use container::process::{self, ProcessNamespace};
use nix::unistd::Pid;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

use crate::protocol;

/// What a process says on its way.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Word {
    /// The container's first process is not the one that the shim forked, but that one's child of this number.
    Process(i32),
    /// All is made, and waits for its start. A terminal comes along if there is one.
    Created(Made),
    /// The terminal that comes along is the command's.
    Terminal,
    /// It goes no further.
    Failed(String),
}

/// What is known of a container once its root has been looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Made {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
    /// The workload that runs it, if one does.
    pub(crate) workload: Option<String>,
}

/// The process' end.
pub(crate) struct Control(OwnedFd);

impl Control {
    pub(crate) fn say(&self, word: &Word, file: Option<BorrowedFd<'_>>) -> Result<(), String> {
        let gone = |error: &dyn std::fmt::Display| format!("the pod's shim: {error}");
        let frame = protocol::encode(word).map_err(|error| gone(&error))?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let files: Vec<BorrowedFd<'_>> = file.into_iter().collect();
        if !files.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(&files));
        }
        match sendmsg(&self.0, &[IoSlice::new(&frame)], &mut ancillary, SendFlags::NOSIGNAL) {
            Ok(sent) if sent == frame.len() => Ok(()),
            Ok(_) => Err(gone(&"it took a part of a word")),
            Err(error) => Err(gone(&error)),
        }
    }

    /// Waits for the start; an error when there will be none.
    pub(crate) fn wait_for_start(&self) -> Result<(), String> {
        let mut byte = [0; 1];
        loop {
            match rustix::io::read(&self.0, &mut byte) {
                Ok(1) => return Ok(()),
                Err(Errno::INTR) => {}
                Ok(_) => return Err("the pod's shim has ended".to_owned()),
                Err(error) => return Err(format!("the pod's shim: {error}")),
            }
        }
    }
}

/// The shim's end.
pub(crate) struct Listener {
    pub(crate) socket: OwnedFd,
    received: Vec<u8>,
    files: Vec<OwnedFd>,
    /// Whether the other end is closed: nothing more is to come.
    pub(crate) closed: bool,
}

impl Listener {
    fn new(socket: OwnedFd) -> Self {
        Self { socket, received: Vec::new(), files: Vec::new(), closed: false }
    }

    /// Takes what has been said so far.
    pub(crate) fn listen(&mut self) {
        while !self.closed {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let mut buffer = [0; 4096];
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
            match recvmsg(&self.socket, &mut parts, &mut ancillary, flags) {
                Ok(message) if message.bytes > 0 => {
                    for message in ancillary.drain() {
                        if let RecvAncillaryMessage::ScmRights(files) = message {
                            self.files.extend(files);
                        }
                    }
                    self.received.extend_from_slice(&buffer[..message.bytes]);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Ok(_) | Err(_) => self.closed = true,
            }
        }
    }

    /// The next word of what was taken.
    pub(crate) fn next(&mut self) -> Option<Word> {
        match protocol::take_frame(&mut self.received) {
            Ok(None) => None,
            Ok(Some(frame)) => {
                Some(serde_json::from_slice(&frame).unwrap_or_else(|error| Word::Failed(error.to_string())))
            }
            Err(length) => {
                self.received.clear();
                Some(Word::Failed(format!("a word of {length} bytes")))
            }
        }
    }

    /// The terminal that came along.
    pub(crate) fn take_terminal(&mut self) -> io::Result<Option<OwnedFd>> {
        let Some(master) = self.files.pop() else { return Ok(None) };
        rustix::io::ioctl_fionbio(&master, true)?;
        Ok(Some(master))
    }

    /// Lets a container begin that waits for it.
    pub(crate) fn start(&self) -> rustix::io::Result<()> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        rustix::net::send(&self.socket, b"s", flags).map(drop)
    }
}

/// Forks a process that does `work`, whose files are the standard ones and those of `kept`, and which ends when the work
/// does: an error of the work is its last word.
pub(crate) fn spawn(
    namespace: ProcessNamespace<'_>,
    stdio: [BorrowedFd<'_>; 3],
    kept: &[RawFd],
    work: impl FnOnce(&Control) -> Result<(), String>,
) -> io::Result<(Pid, Listener)> {
    let (own, child) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let pid = process::fork_into(namespace, move || {
        let number = child.as_raw_fd();
        let control = Control(child);
        end_with(&control, || {
            arrange(stdio, &[kept, &[number]].concat())?;
            work(&control)
        })
    })?;
    Ok((pid, Listener::new(own)))
}

/// Does the work of a process, whose exit code is returned.
pub(crate) fn end_with(control: &Control, work: impl FnOnce() -> Result<(), String>) -> i32 {
    match work() {
        Ok(()) => 0,
        Err(why) => {
            let _ = control.say(&Word::Failed(why), None);
            1
        }
    }
}

/// Makes a fresh fork of the shim one that holds nothing of the shim's, and that nobody looks into.
fn arrange(stdio: [BorrowedFd<'_>; 3], kept: &[RawFd]) -> Result<(), String> {
    let arranged = || -> io::Result<()> {
        rustix::stdio::dup2_stdin(stdio[0])?;
        rustix::stdio::dup2_stdout(stdio[1])?;
        rustix::stdio::dup2_stderr(stdio[2])?;
        process::close_all_but(kept)?;
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
        // The shim's own groups are the machine's: a container has those that it asks for.
        Ok(nix::unistd::setgroups(&[])?)
    };
    process::default_signals();
    arranged().map_err(|error| format!("a process of the container's: {error}"))
}

/// Makes the pipes among the standard files the container's, which may open them by name (`/dev/stdout`).
pub(crate) fn own_pipes((uid, gid): (u32, u32)) {
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    let files = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    for file in files {
        let kind = rustix::fs::fstat(file).map(|found| rustix::fs::FileType::from_raw_mode(found.st_mode));
        if kind == Ok(rustix::fs::FileType::Fifo) {
            // A program that finds them closed by name still has them open.
            let _ = rustix::fs::fchown(file, Some(uid), Some(gid));
        }
    }
}

/// Where the AppArmor profile of the next program is written. To be opened while the machine's `/proc` is there, by the
/// process that it is about.
pub(crate) fn open_apparmor(profile: Option<&String>) -> Result<Option<File>, String> {
    if profile.is_none() {
        return Ok(None);
    }
    let open = |path: &str| File::options().write(true).open(path);
    // Kernels before 5.8 have but one such file.
    let opened =
        open("/proc/thread-self/attr/apparmor/exec").or_else(|_| open("/proc/thread-self/attr/exec"));
    opened.map(Some).map_err(|error| format!("AppArmor: {error}"))
}

/// Has the next program that the process executes run under a profile.
pub(crate) fn confine_by_apparmor(file: Option<&File>, profile: Option<&String>) -> Result<(), String> {
    let (Some(file), Some(profile)) = (file, profile) else { return Ok(()) };
    let written = rustix::io::write(file.as_fd(), format!("exec {profile}").as_bytes());
    written.map(drop).map_err(|error| format!("AppArmor profile {profile:?}: {error}"))
}

/// Sets how soon the process is killed where memory ends. Where root lacks SYS_RESOURCE, and so may not lower it, what it
/// has stays.
pub(crate) fn set_oom_score(score: Option<i32>) {
    let _ = score.map(|score| std::fs::write("/proc/self/oom_score_adj", score.to_string()));
}

/// `NAME=value` pairs with what a program expects beside them.
pub(crate) fn completed(environment: &[String], home: &str, terminal: bool) -> Vec<String> {
    let mut environment = environment.to_vec();
    let given = |pair: &String| pair.strip_prefix("HOME=").is_some_and(|home| !home.is_empty());
    if !environment.iter().any(given) {
        environment.retain(|pair| !pair.starts_with("HOME="));
        environment.push(format!("HOME={home}"));
    }
    // Programs on a terminal want to know of what kind it is.
    if terminal && !environment.iter().any(|pair| pair.starts_with("TERM=")) {
        environment.push("TERM=xterm".to_owned());
    }
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_is_completed_and_not_overruled() {
        let completed = |given: &[&str], terminal| {
            let given: Vec<String> = given.iter().map(|pair| (*pair).to_owned()).collect();
            completed(&given, "/home", terminal)
        };
        assert_eq!(completed(&["A=1"], true), ["A=1", "HOME=/home", "TERM=xterm"]);
        assert_eq!(completed(&["HOME=/x", "TERM=dumb"], true), ["HOME=/x", "TERM=dumb"]);
        assert_eq!(completed(&["HOME=", "HOMES=2"], false), ["HOMES=2", "HOME=/home"]);
    }

    #[test]
    fn words_come_whole_and_then_the_end() {
        let null = File::open("/dev/null").unwrap();
        let stdio = [null.as_fd(); 3];
        let (own, child) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        let (mut listener, control) = (Listener::new(own), Control(child));
        control.say(&Word::Process(7), None).unwrap();
        control.say(&Word::Terminal, Some(stdio[0])).unwrap();
        listener.listen();
        assert_eq!(listener.next(), Some(Word::Process(7)));
        assert_eq!((listener.next(), listener.next()), (Some(Word::Terminal), None));
        assert!(listener.take_terminal().unwrap().is_some() && !listener.closed);
        listener.start().unwrap();
        control.wait_for_start().unwrap();
        assert_eq!(end_with(&control, || Err("why".to_owned())), 1);
        drop(control);
        listener.listen();
        assert_eq!((listener.next(), listener.closed), (Some(Word::Failed("why".to_owned())), true));
        let (own, child) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        drop(own);
        assert!(Control(child).wait_for_start().unwrap_err().contains("ended"));
    }
}
