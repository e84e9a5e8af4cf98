//! A caller's connection: frames in with the files that come along, frames out without waiting.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use crate::protocol::{self, Reply};

/// Most files that one call brings.
const MAX_FDS: usize = 3;

/// One caller.
pub(crate) struct Connection {
    pub(crate) socket: OwnedFd,
    /// Whether it is told of changes.
    pub(crate) watches: bool,
    received: Vec<u8>,
    fds: Vec<OwnedFd>,
}

/// What a read gave.
pub(crate) enum Incoming {
    Nothing,
    Frame(Vec<u8>),
    HungUp,
}

impl Connection {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, watches: false, received: Vec::new(), fds: Vec::new() }
    }

    /// The files that came with the last call.
    pub(crate) fn take_fds(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.fds)
    }

    /// Reads once.
    pub(crate) fn receive(&mut self) -> Incoming {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut buffer = [0; 4096];
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let count = match recvmsg(&self.socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) if message.bytes > 0 => message.bytes,
            Err(Errno::AGAIN | Errno::INTR) => return Incoming::Nothing,
            _ => return Incoming::HungUp,
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds);
            }
        }
        if self.fds.len() > MAX_FDS {
            return Incoming::HungUp;
        }
        self.received.extend_from_slice(&buffer[..count]);
        match protocol::take_frame(&mut self.received) {
            Ok(Some(frame)) => {
                self.received = Vec::new();
                Incoming::Frame(frame)
            }
            Ok(None) => Incoming::Nothing,
            Err(_) => Incoming::HungUp,
        }
    }

    /// Sends a frame whole, with a file if there is one, or fails: the socket's buffer holds far more than any reply.
    pub(crate) fn send(&mut self, reply: &Reply, file: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let frame = protocol::encode(reply)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let files: Vec<BorrowedFd<'_>> = file.into_iter().collect();
        if !files.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&files)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match sendmsg(&self.socket, &[IoSlice::new(&frame)], &mut ancillary, flags)? {
            sent if sent == frame.len() => Ok(()),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}
