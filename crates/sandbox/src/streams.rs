//! The node's end of commands, attached containers and ports: the files themselves, so that no byte goes through a shim
//! that need not.

use std::fs::File;
use std::io;
use std::net::TcpStream as StdTcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{AsyncRead, FutureExt};
use runtime::{Error, ReadStream, Resize, Session, StreamOptions, WriteStream};
use rustix::io::Errno;
use tokio::net::TcpStream;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::time::timeout;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};

use crate::link::{Link, PATIENCE};
use crate::protocol::{Call, Reply};
use crate::sandbox::Sandbox;
use crate::service::refused;

/// How long the pod's own loopback may take to answer.
const CONNECT: Duration = Duration::from_secs(10);
/// Bytes that a container's output may be ahead of an attached caller, where the system allows it.
const AHEAD: usize = 1 << 20;

fn failed(what: &'static str) -> impl Fn(io::Error) -> Error {
    move |error| Error::Failed(format!("{what}: {error}"))
}

/// The caller's end of a pipe, if it wants one, and the process's: nowhere, if it does not.
fn pipe(wanted: bool, process_reads: bool) -> io::Result<(Option<OwnedFd>, OwnedFd)> {
    if !wanted {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        return Ok((None, null.into()));
    }
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    Ok(if process_reads { (Some(writer), reader) } else { (Some(reader), writer) })
}

fn reading(file: Option<OwnedFd>) -> io::Result<Option<ReadStream>> {
    file.map(|file| Ok(Box::new(Receiver::from_owned_fd(file)?.compat()) as ReadStream)).transpose()
}

fn writing(file: Option<OwnedFd>) -> io::Result<Option<WriteStream>> {
    file.map(|file| Ok(Box::new(Sender::from_owned_fd(file)?.compat_write()) as WriteStream)).transpose()
}

/// Waits for word that something has begun.
async fn begun(link: &mut Link, id: &str) -> Result<(), Error> {
    let late = |_| Error::Timeout(format!("the sandbox's shim took over {PATIENCE:?}"));
    match timeout(PATIENCE, link.next()).await.map_err(late)?.map_err(failed("the sandbox's shim"))? {
        Reply::Started => Ok(()),
        reply => Err(refused(reply, id)),
    }
}

fn end_of(mut link: Link, id: &str) -> BoxFuture<'static, Result<i32, Error>> {
    let id = id.to_owned();
    async move {
        match link.next().await.map_err(failed("the sandbox's shim"))? {
            Reply::Exited(code) => Ok(code),
            reply => Err(refused(reply, &id)),
        }
    }
    .boxed()
}

/// Runs a command.
pub(crate) async fn exec(
    sandbox: &Sandbox,
    id: &str,
    command: Vec<String>,
    options: StreamOptions,
) -> Result<Session, Error> {
    let broken = failed("exec");
    let call = Call::Run { container: id.to_owned(), command, terminal: options.tty };
    if options.tty {
        let mut link = sandbox.open_link(call, &[]).await.map_err(&broken)?;
        begun(&mut link, id).await?;
        let master = link.take_file().ok_or_else(|| Error::Failed("exec: no terminal came".to_owned()))?;
        let terminal = Terminal::new(master).map_err(&broken)?;
        return Ok(Session {
            stdin: options.stdin.then(|| terminal.stdin()).transpose().map_err(&broken)?,
            stdout: options.stdout.then(|| terminal.stdout()).transpose().map_err(&broken)?,
            stderr: None,
            resize: Some(terminal.resize()),
            ended: end_of(link, id),
        });
    }
    let (stdin, input) = pipe(options.stdin, true).map_err(&broken)?;
    let (stdout, output) = pipe(options.stdout, false).map_err(&broken)?;
    let (stderr, errors) = pipe(options.stderr, false).map_err(&broken)?;
    let mut link =
        sandbox.open_link(call, &[input.as_fd(), output.as_fd(), errors.as_fd()]).await.map_err(&broken)?;
    drop((input, output, errors));
    begun(&mut link, id).await?;
    Ok(Session {
        stdin: writing(stdin).map_err(&broken)?,
        stdout: reading(stdout).map_err(&broken)?,
        stderr: reading(stderr).map_err(&broken)?,
        resize: None,
        ended: end_of(link, id),
    })
}

/// Joins a container.
pub(crate) async fn attach(
    sandbox: &Sandbox,
    id: &str,
    tty: bool,
    options: StreamOptions,
) -> Result<Session, Error> {
    let broken = failed("attach");
    let (stdout, output) = pipe(options.stdout, false).map_err(&broken)?;
    let (stderr, errors) = pipe(options.stderr && !tty, false).map_err(&broken)?;
    for file in stdout.iter().chain(&stderr) {
        // Less will do.
        let _ = rustix::pipe::fcntl_setpipe_size(file, AHEAD);
    }
    let call = Call::Attach { container: id.to_owned(), stdin: options.stdin };
    let mut link = sandbox.open_link(call, &[output.as_fd(), errors.as_fd()]).await.map_err(&broken)?;
    drop((output, errors));
    begun(&mut link, id).await?;
    let input = link.take_file();
    let (stdin, resize) = match input {
        Some(master) if tty => {
            let terminal = Terminal::new(master).map_err(&broken)?;
            let stdin = options.stdin.then(|| terminal.stdin()).transpose().map_err(&broken)?;
            (stdin, Some(terminal.resize()))
        }
        input => (writing(input).map_err(&broken)?, None),
    };
    Ok(Session {
        stdin,
        stdout: reading(stdout).map_err(&broken)?,
        stderr: reading(stderr).map_err(&broken)?,
        resize,
        ended: end_of(link, id),
    })
}

/// Connects to a port on the pod's loopback, at its IPv4 address or else at its IPv6 address.
pub(crate) async fn connect(sandbox: &Sandbox, port: u16) -> Result<TcpStream, Error> {
    let mut errors = Vec::new();
    for ipv6 in [false, true] {
        match timeout(CONNECT, connect_to(sandbox, port, ipv6)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(Error::Unsupported(why))) => return Err(Error::Unsupported(why)),
            Ok(Err(error)) => errors.push(error.to_string()),
            Err(_) => errors.push(format!("no answer within {CONNECT:?}")),
        }
    }
    let why = errors.join("; IPv6: ");
    Err(Error::Failed(format!(
        "failed to connect to localhost:{port} inside sandbox {}, IPv4: {why}",
        sandbox.id
    )))
}

async fn connect_to(sandbox: &Sandbox, port: u16, ipv6: bool) -> Result<TcpStream, Error> {
    let plain = |error: io::Error| Error::Failed(error.to_string());
    let mut link = sandbox.open_link(Call::Connect { port, ipv6 }, &[]).await.map_err(plain)?;
    begun(&mut link, &sandbox.id).await?;
    let socket = link.take_file().ok_or_else(|| Error::Failed("no socket came".to_owned()))?;
    let stream = TcpStream::from_std(StdTcpStream::from(socket)).map_err(plain)?;
    stream.writable().await.map_err(plain)?;
    match stream.take_error().map_err(plain)? {
        Some(error) => Err(plain(error)),
        None => {
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
    }
}

/// The master of a terminal.
struct Terminal(File);

impl Terminal {
    fn new(master: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&master, true)?;
        Ok(Self(master.into()))
    }

    fn stdin(&self) -> io::Result<WriteStream> {
        Ok(Box::new(Sender::from_file_unchecked(self.0.try_clone()?)?.compat_write()))
    }

    fn stdout(&self) -> io::Result<ReadStream> {
        Ok(Box::new(Screen(Receiver::from_file_unchecked(self.0.try_clone()?)?.compat())))
    }

    fn resize(self) -> Resize {
        Box::new(move |columns, rows| {
            let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            Ok(rustix::termios::tcsetwinsize(&self.0, size)?)
        })
    }
}

/// What is written to a terminal. It ends with an error of its own kind, which is its end all the same.
struct Screen(Compat<Receiver>);

impl AsyncRead for Screen {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match ready!(Pin::new(&mut self.0).poll_read(cx, buffer)) {
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => Poll::Ready(Ok(0)),
            result => Poll::Ready(result),
        }
    }
}
