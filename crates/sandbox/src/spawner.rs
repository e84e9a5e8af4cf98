//! The node's end of the process that shims are forked from ([`crate::shim`]): started with the first sandbox, and again
//! when it has ended or answers no more. It ends with this process; its shims do not.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runtime::Error;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    recv, sendmsg, socketpair,
};
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use crate::config::ShimCommand;
use crate::files::SandboxFiles;
use crate::manager::failed;

/// How long a shim may take to become reachable.
const SHIM_START: Duration = Duration::from_secs(20);
/// How long a spawner that is waited for may be silent before another one takes its place.
const SILENCE: Duration = Duration::from_secs(3);
/// The same for one that has not been heard of yet: its program has to be loaded, and the machine may be busy.
const FIRST_SILENCE: Duration = Duration::from_secs(8);
/// How long it takes at most until one that ends has closed all that it held, in whatever order.
const CLOSING: Duration = Duration::from_secs(1);
/// How many spawners may end before a start is given up.
const SPAWNERS: usize = 3;
/// Most that a shim says before it can be reached.
const MAX_WORDS: u64 = 4096;

/// Starts shims.
pub(crate) struct Spawner {
    /// The program, held.
    program: OwnedFd,
    command: ShimCommand,
    running: Mutex<Option<Arc<Running>>>,
}

struct Running {
    socket: UnixStream,
    state: Mutex<State>,
}

struct State {
    /// Killed when this value goes.
    child: Child,
    /// When one of its shims was last heard of.
    heard: Option<Instant>,
    replaced: bool,
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

    /// Has a shim forked and returns its first words.
    async fn ask(&self, files: &SandboxFiles) -> io::Result<String> {
        for _ in 0..SPAWNERS {
            let spawner = self.spawner()?;
            let mut words = String::new();
            let said = async {
                let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
                spawner.send(files, writer).await?;
                Receiver::from_owned_fd(reader)?.take(MAX_WORDS).read_to_string(&mut words).await
            };
            let said = tokio::select! {
                said = said => said,
                never = self.replace_if_silent(&spawner) => match never {},
            };
            match said {
                // Whether it had read the message or not, nobody has this pipe any more: there is no shim.
                Ok(0) | Err(_) if spawner.ends().await => self.forget(&spawner),
                Ok(_) => {
                    spawner.state().heard = Some(Instant::now());
                    return Ok(words);
                }
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("the process that forks shims ends whenever it is asked to"))
    }

    /// The one that runs, or a fresh one.
    fn spawner(&self) -> io::Result<Arc<Running>> {
        let mut running = self.running();
        if let Some(running) = running.as_ref() {
            return Ok(Arc::clone(running));
        }
        Ok(Arc::clone(running.insert(Arc::new(self.start()?))))
    }

    fn running(&self) -> MutexGuard<'_, Option<Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next to ask gets another one.
    fn forget(&self, spawner: &Arc<Running>) {
        self.running().take_if(|running| Arc::ptr_eq(running, spawner));
    }

    /// Waits until a spawner owes an answer for too long, and kills it: its shims live on, and who waits for it hears
    /// that his pipe is closed. One that answers others is at work, however slowly.
    async fn replace_if_silent(&self, spawner: &Arc<Running>) -> Infallible {
        let asked = Instant::now();
        loop {
            let heard = spawner.state().heard;
            let patience = if heard.is_some() { SILENCE } else { FIRST_SILENCE };
            tokio::time::sleep_until(heard.map_or(asked, |heard| heard.max(asked)) + patience).await;
            if spawner.state().heard != heard {
                continue;
            }
            self.forget(spawner);
            if spawner.replace() {
                tracing::warn!(
                    "the process that forks shims was silent for {patience:?}: another takes its place"
                );
            }
            return std::future::pending().await;
        }
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
        let state = State { child, heard: None, replaced: false };
        Ok(Running { socket: UnixStream::from_std(ours.into())?, state: Mutex::new(state) })
    }
}

impl Running {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills it, and says whether this was not done before.
    fn replace(&self) -> bool {
        let mut state = self.state();
        if let Err(error) = state.child.start_kill() {
            tracing::debug!(%error, "the process that forks shims cannot be killed");
        }
        !std::mem::replace(&mut state.replaced, true)
    }

    /// Whether it is about to end: the pipe that it held may be closed a little before its socket.
    async fn ends(&self) -> bool {
        let ended = async {
            while !self.has_ended() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(CLOSING, ended).await.is_ok()
    }

    /// Whether it can fork no more shims. It never says anything, so the end is all that can be read; or, where it left a
    /// message unread, that the connection was reset. The kernel is asked: what the runtime knows of the socket is older.
    fn has_ended(&self) -> bool {
        let read = recv(&self.socket, &mut [0_u8], RecvFlags::DONTWAIT);
        self.state().replaced || !matches!(read, Err(Errno::AGAIN | Errno::INTR))
    }

    /// One message: the directory, and the pipe for the shim's first words, which we then hold no longer.
    async fn send(&self, files: &SandboxFiles, pipe: OwnedFd) -> io::Result<()> {
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
