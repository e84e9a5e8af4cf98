//! Streams of commands, containers and ports, as whoever asked for them holds them.

use futures::future::BoxFuture;
use futures::io::{AsyncRead, AsyncWrite};

use crate::Error;

/// Bytes that a process writes. It ends when nothing holds the other end any more.
pub type ReadStream = Box<dyn AsyncRead + Send + Unpin>;
/// Bytes that a process reads. Closing or dropping it ends them.
pub type WriteStream = Box<dyn AsyncWrite + Send + Unpin>;
/// Tells a terminal its columns and rows.
pub type Resize = Box<dyn Fn(u16, u16) -> std::io::Result<()> + Send + Sync>;

/// Which streams are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamOptions {
    /// Input.
    pub stdin: bool,
    /// Output.
    pub stdout: bool,
    /// Errors. On a terminal they come with the output.
    pub stderr: bool,
    /// A command's: it runs on a terminal. A container's is what it was made with.
    pub tty: bool,
}

/// A command that runs, or a container that somebody is attached to. Dropping it ends neither.
pub struct Session {
    /// `None`: not asked for, or there is none.
    pub stdin: Option<WriteStream>,
    /// `None`: not asked for.
    pub stdout: Option<ReadStream>,
    /// `None`: not asked for, or on a terminal.
    pub stderr: Option<ReadStream>,
    /// Where there is a terminal.
    pub resize: Option<Resize>,
    /// The end of the process, with its exit code; 128 + signal when a signal ended it.
    pub ended: BoxFuture<'static, Result<i32, Error>>,
}

/// A connection, each way of which is closed by itself.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}
