//! The node's end of the process that shims are forked from ([`crate::shim`]): started with the first sandbox, and again
//! when it has ended. It ends with this process; its shims do not.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Stdio;
use std::time::Duration;

use runtime::Error;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg,
    socketpair,
};
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::config::ShimCommand;
use crate::files::SandboxFiles;
use crate::manager::failed;

/// How long a shim may take to become reachable.
const SHIM_START: Duration = Duration::from_secs(20);
/// Most that a shim says before it can be reached.
const MAX_WORDS: u64 = 4096;

/// Starts shims.
pub(crate) struct Spawner {
    /// The program, held.
    program: OwnedFd,
    command: ShimCommand,
    running: Mutex<Option<Running>>,
}

struct Running {
    /// Killed when this value goes.
    _child: Child,
    socket: UnixStream,
}

impl Spawner {
    pub(crate) fn new(program: OwnedFd, command: ShimCommand) -> Self {
        Self { program, command, running: Mutex::default() }
    }

    /// Starts the shim of a sandbox and waits until it can be reached.
    pub(crate) async fn start_shim(&self, files: &SandboxFiles) -> Result<(), Error> {
        let words = timeout(SHIM_START, self.ask(files)).await;
        let late = |_| Error::Timeout(format!("the sandbox's shim did not start within {SHIM_START:?}"));
        let words = words.map_err(late)?.map_err(failed(&self.command.executable.display()))?;
        match words.as_str() {
            "ready" => Ok(()),
            why => {
                let why = if why.is_empty() { "it ended at once" } else { why };
                Err(Error::Failed(format!("the sandbox's shim did not start: {why}")))
            }
        }
    }

    async fn ask(&self, files: &SandboxFiles) -> io::Result<String> {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        {
            let mut running = self.running.lock().await;
            let sent = match running.as_ref() {
                Some(running) => running.send(files, &writer).await,
                None => Err(io::ErrorKind::NotConnected.into()),
            };
            // It may have ended meanwhile; a fresh one has not.
            if sent.is_err() {
                let fresh = self.start()?;
                fresh.send(files, &writer).await?;
                *running = Some(fresh);
            }
        }
        drop(writer);
        let mut words = String::new();
        Receiver::from_owned_fd(reader)?.take(MAX_WORDS).read_to_string(&mut words).await?;
        Ok(words)
    }

    fn start(&self) -> io::Result<Running> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        // The descriptor closes when the program runs, and its name is looked up before that.
        let mut command = Command::new(format!("/proc/self/fd/{}", self.program.as_raw_fd()));
        command.arg0(&self.command.executable).args(&self.command.args).arg("--spawner");
        // Nothing of ours is for it, and shims live long: whatever secrets an environment holds do not.
        command.env_clear();
        command.stdin(theirs).stdout(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
        let child = command.spawn()?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        // It is no stream: it keeps messages apart. What is used of it here, waiting for room, is the same.
        Ok(Running { _child: child, socket: UnixStream::from_std(ours.into())? })
    }
}

impl Running {
    /// One message: the directory, and the pipe for the shim's first words.
    async fn send(&self, files: &SandboxFiles, pipe: &OwnedFd) -> io::Result<()> {
        let path = files.0.as_os_str().as_encoded_bytes();
        let send = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            let fds = [pipe.as_fd()];
            if !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            Ok(sendmsg(&self.socket, &[IoSlice::new(path)], &mut ancillary, flags)?)
        };
        match self.socket.async_io(Interest::WRITABLE, send).await? {
            sent if sent == path.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }
}
