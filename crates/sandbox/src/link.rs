//! The node's end of the protocol with a shim.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use runtime::Error;
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::files::{SOCKET, SandboxFiles};
use crate::protocol::{self, Call, Reply, Request, VERSIONS};

/// How long a shim may take for any call but exec and the making of a container.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How long the making of a container may take: a workload may have to compile its program first.
const MAKING: Duration = Duration::from_secs(150);

/// A connection with one call on its way.
pub(crate) struct Link {
    stream: UnixStream,
    received: Vec<u8>,
    files: Vec<OwnedFd>,
}

impl Link {
    /// Connects and sends a call, with files if it takes some.
    pub(crate) async fn open(
        files: &SandboxFiles,
        version: u32,
        call: Call,
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<Self> {
        let stream = connect(&files.0).await?;
        let frame = protocol::encode(&Request { version, call })?;
        let mut sent = 0;
        while sent < frame.len() {
            let part = &frame[sent..];
            let with = if sent == 0 { fds } else { &[] };
            sent += stream.async_io(Interest::WRITABLE, || send(&stream, part, with)).await?;
        }
        Ok(Self { stream, received: Vec::new(), files: Vec::new() })
    }

    /// The next answer; an error of kind `UnexpectedEof` when the shim hung up.
    pub(crate) async fn next(&mut self) -> io::Result<Reply> {
        loop {
            let too_long = |_| io::Error::new(io::ErrorKind::InvalidData, "a frame too long");
            if let Some(frame) = protocol::take_frame(&mut self.received).map_err(too_long)? {
                return Ok(serde_json::from_slice(&frame)?);
            }
            let mut piece = [0; 4096];
            let (count, files) =
                self.stream.async_io(Interest::READABLE, || receive(&self.stream, &mut piece)).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.received.extend_from_slice(&piece[..count]);
            self.files.extend(files);
        }
    }

    /// The file that came with the answers so far.
    pub(crate) fn take_file(&mut self) -> Option<OwnedFd> {
        self.files.pop()
    }
}

/// Finds the version to speak with a shim. One of the first release does not know the question, and speaks version 1.
pub(crate) async fn agree(files: &SandboxFiles) -> io::Result<u32> {
    let hello = Call::Hello { min: *VERSIONS.start(), max: *VERSIONS.end() };
    let (min, max) = match Link::open(files, *VERSIONS.start(), hello, &[]).await?.next().await? {
        Reply::Hello { min, max } => (min, max),
        _ => (1, 1),
    };
    protocol::common_version(min, max).ok_or_else(|| {
        let words = format!(
            "it speaks versions {min} to {max} of the shims' protocol, and this program {VERSIONS:?}"
        );
        io::Error::new(io::ErrorKind::Unsupported, words)
    })
}

/// Makes a call and waits for its answer.
pub(crate) async fn call(files: &SandboxFiles, version: u32, call: Call) -> Result<Reply, Error> {
    let what = format!("{call:?}");
    let patience = if matches!(call, Call::Create { .. }) { MAKING } else { PATIENCE };
    let answer = async {
        let mut link = Link::open(files, version, call, &[]).await?;
        link.next().await
    };
    match timeout(patience, answer).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(error)) => Err(Error::Failed(format!("the sandbox's shim does not answer: {error}"))),
        Err(_) => Err(Error::Timeout(format!("the sandbox's shim took over {patience:?} for {what}"))),
    }
}

fn send(stream: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many files"));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    Ok(sendmsg(stream.as_fd(), &[IoSlice::new(bytes)], &mut ancillary, flags)?)
}

fn receive(stream: &UnixStream, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let count = recvmsg(stream.as_fd(), &mut [IoSliceMut::new(bytes)], &mut ancillary, flags)?.bytes;
    let files = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    Ok((count, files.flatten().collect()))
}

/// Connects by way of a descriptor of the directory: its path may be longer than a socket's address can be.
async fn connect(directory: &Path) -> io::Result<UnixStream> {
    use std::os::fd::AsRawFd;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory: OwnedFd = rustix::fs::open(directory, flags, Mode::empty())?;
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd())).await
}
