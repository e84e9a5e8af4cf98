//! The process that shims are forked from. The program is started, linked and relocated here once; shims share the memory
//! that this takes, and begin at once.
//!
//! It has one thread, and waits at its standard input: a socket of the node's process, of which each message is a
//! sandbox's directory with a pipe for the new shim's first words. When the node's process has ended, so does this;
//! its shims live on.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};

use crate::files::SandboxFiles;
use crate::process;

/// The longest path that the kernel takes.
const MAX_PATH: usize = 4096;

/// A sandbox that wants a shim.
struct Wanted {
    files: SandboxFiles,
    /// Where its first words go.
    pipe: OwnedFd,
}

/// Forks shims that do `work` until the other end of the standard input closes.
pub(super) fn run(work: impl Fn(&SandboxFiles, File) -> i32) -> io::Result<()> {
    // A name of its own in ps, beside the program's.
    let _ = nix::sys::prctl::set_name(c"shim-spawner");
    // It waits for none of its shims, and none is to wait for it.
    process::ignore_children();
    while let Some(wanted) = next(rustix::stdio::stdin())? {
        spawn(wanted, &work);
    }
    Ok(())
}

/// Waits for the next message; `None` when there will be no more.
fn next(socket: impl AsFd) -> io::Result<Option<Wanted>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut path = [0; MAX_PATH];
    let (length, mut fds, flags) = loop {
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut path)];
        let message = match recvmsg(&socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) if message.bytes == 0 => return Ok(None),
            Err(Errno::INTR) => continue,
            message => message?,
        };
        let fds = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        break (message.bytes, fds.flatten().collect::<Vec<OwnedFd>>(), message.flags);
    };
    let (Some(pipe), false) = (fds.pop(), flags.contains(ReturnFlags::TRUNC)) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message that is none"));
    };
    let path = PathBuf::from(OsStr::from_bytes(&path[..length]));
    Ok(Some(Wanted { files: SandboxFiles(path), pipe }))
}

/// Forks a shim, which leads a session of its own.
fn spawn(wanted: Wanted, work: &impl Fn(&SandboxFiles, File) -> i32) {
    let shim = process::fork(move || {
        process::heed_children();
        match nix::unistd::setsid() {
            Ok(_) => work(&wanted.files, File::from(wanted.pipe)),
            Err(_) => 1,
        }
    });
    // Whoever asked hears that the pipe is closed.
    if let Err(error) = shim {
        let _ = writeln!(io::stderr(), "a shim could not be forked: {error}");
    }
}
