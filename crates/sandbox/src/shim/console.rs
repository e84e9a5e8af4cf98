//! How a terminal gets here: whoever makes it, within the container's namespaces, hands its master over through a socket.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, SocketFlags,
    SocketType, recvmsg,
};

/// A socket that waits for one terminal.
pub(crate) struct Console {
    listener: OwnedFd,
    pub(crate) path: PathBuf,
}

impl Console {
    pub(crate) fn listen(directory: &Path, number: u64) -> io::Result<Self> {
        let name = format!("console-{number}");
        let listener = listen(directory, &name)?;
        Ok(Self { listener, path: directory.join(name) })
    }

    /// The terminal, which has been handed over by now or never will be.
    pub(crate) fn take(&self) -> io::Result<OwnedFd> {
        let sender = rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut name = [0; 128];
        recvmsg(&sender, &mut [IoSliceMut::new(&mut name)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        let mut files = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut files) => files.next(),
            _ => None,
        });
        let master = files.next().ok_or(io::ErrorKind::NotFound)?;
        rustix::io::ioctl_fionbio(&master, true)?;
        Ok(master)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A listening socket in a directory. An address holds 107 bytes, and a data directory's path may be longer; the shim's
/// own working directory is nobody's business but its.
pub(crate) fn listen(directory: &Path, name: &str) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    std::env::set_current_dir(directory)?;
    let bound = rustix::net::bind(&listener, &SocketAddrUnix::new(name)?);
    std::env::set_current_dir("/")?;
    bound?;
    rustix::net::listen(&listener, 64)?;
    Ok(listener)
}
