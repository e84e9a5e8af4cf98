//! The streams of a command: what it reads, what it writes, how large its terminal is, and how it ended.

use std::future::Future;

use bytes::{Buf, Bytes, BytesMut};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::channel::{Input, Output};
use crate::negotiate::Protocol;
use crate::session::Terms;
use crate::spdy::{self, Stream};
use crate::websocket::{self, Spelling};

/// The longest text of sizes without one whole size in it.
const MAX_SIZE_TEXT: usize = 4096;

/// Channels of a WebSocket.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;

/// The streams that a client asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// It sends input.
    pub stdin: bool,
    /// It takes output.
    pub stdout: bool,
    /// It takes errors.
    pub stderr: bool,
    /// The command runs on a terminal, and the client tells how large that is.
    pub tty: bool,
}

/// A command's streams.
#[derive(Debug)]
pub struct RemoteCommand {
    /// From the client.
    pub stdin: Option<Input>,
    /// To the client.
    pub stdout: Option<Output>,
    /// To the client.
    pub stderr: Option<Output>,
    /// Sizes of the terminal.
    pub resizes: Option<Resizes>,
    /// How it ended: a `Status` from version 4 on, before that a text where something failed.
    pub error: Output,
}

/// Serves a connection that was upgraded for a command, until it ends.
pub async fn remote_command<S: Future<Output = ()>>(
    terms: &Terms,
    io: impl AsyncRead + AsyncWrite + Unpin,
    protocol: Protocol,
    wanted: Wanted,
    serve: impl FnOnce(RemoteCommand) -> S,
) {
    match protocol {
        Protocol::Channels { version, base64 } => {
            let spelling = Spelling { base64, closes: version >= 5 };
            let inputs = [(wanted.stdin, STDIN), (wanted.tty, RESIZE)];
            let inputs: Vec<u8> =
                inputs.iter().filter(|(asked, _)| *asked).map(|(_, number)| *number).collect();
            websocket::run(terms, io, spelling, &inputs, |mut channels| {
                let output = |asked: bool, number| asked.then(|| channels.output(number));
                let (stdout, stderr) = (output(wanted.stdout, STDOUT), output(wanted.stderr, STDERR));
                let error = channels.output(ERROR);
                let stdin = channels.input(STDIN);
                serve(RemoteCommand {
                    stdin,
                    stdout,
                    stderr,
                    resizes: channels.input(RESIZE).map(Resizes::new),
                    error,
                })
            })
            .await;
        }
        Protocol::Spdy { .. } | Protocol::Tunnel => {
            let (from, to) = tokio::io::split(io);
            spdy::run(terms, from, to, async |mut opened| {
                let resizes = wanted.tty && protocol.version() >= 3;
                let gathered = tokio::select! {
                    gathered = gather(&mut opened, wanted, resizes) => gathered,
                    () = terms.clock.sleep(terms.creation) => {
                        tracing::debug!("timed out waiting for client to create streams");
                        None
                    }
                };
                if let Some(command) = gathered {
                    serve(command).await;
                }
            })
            .await;
        }
    }
}

/// Waits for the streams that were asked for. `None`: the client went, or opened something else.
async fn gather(opened: &mut mpsc::Receiver<Stream>, wanted: Wanted, resizes: bool) -> Option<RemoteCommand> {
    let (mut stdin, mut stdout, mut stderr, mut resize, mut error) = (None, None, None, None, None);
    loop {
        let is_whole = |asked: bool, stream: &Option<Stream>| !asked || stream.is_some();
        if is_whole(wanted.stdin, &stdin)
            && is_whole(wanted.stdout, &stdout)
            && is_whole(wanted.stderr, &stderr)
            && is_whole(resizes, &resize)
            && error.is_some()
        {
            break;
        }
        let stream = opened.recv().await?;
        let place = match stream.headers.get("streamtype") {
            "stdin" => &mut stdin,
            "stdout" => &mut stdout,
            "stderr" => &mut stderr,
            "resize" => &mut resize,
            "error" => &mut error,
            other => {
                tracing::debug!(other, "unexpected stream type");
                continue;
            }
        };
        *place = Some(stream);
    }
    Some(RemoteCommand {
        stdin: stdin.filter(|_| wanted.stdin).map(|stream| stream.input),
        stdout: stdout.filter(|_| wanted.stdout).map(|stream| stream.output),
        stderr: stderr.filter(|_| wanted.stderr).map(|stream| stream.output),
        resizes: resize.map(|stream| Resizes::new(stream.input)),
        error: error?.output,
    })
}

/// How large a terminal is, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct WindowSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// The sizes that a terminal takes, one after the other.
#[derive(Debug)]
pub struct Resizes {
    input: Input,
    text: BytesMut,
}

impl Resizes {
    fn new(input: Input) -> Self {
        Self { input, text: BytesMut::new() }
    }

    /// The next size; `None`: there will be none.
    pub async fn next(&mut self) -> Option<WindowSize> {
        loop {
            let mut sizes = serde_json::Deserializer::from_slice(&self.text).into_iter::<WindowSize>();
            let next = sizes.next();
            let taken = sizes.byte_offset();
            match next {
                Some(Ok(size)) => {
                    self.text.advance(taken);
                    return Some(size);
                }
                Some(Err(error)) if !error.is_eof() => return None,
                _ => {}
            }
            let piece: Bytes = self.input.next().await?;
            if self.text.len() + piece.len() > MAX_SIZE_TEXT {
                return None;
            }
            self.text.extend_from_slice(&piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel;

    #[tokio::test]
    async fn sizes_are_read_however_they_are_cut() {
        let (feed, input) = channel::input();
        let mut sizes = Resizes::new(input);
        for piece in ["{\"Width\":80,\"Hei", "ght\":24}\n{\"Width\":1,\"Height\":2}", "nonsense"] {
            feed.send(Bytes::from(piece)).await.unwrap();
        }
        assert_eq!(sizes.next().await, Some(WindowSize { width: 80, height: 24 }));
        assert_eq!(sizes.next().await, Some(WindowSize { width: 1, height: 2 }));
        assert_eq!(sizes.next().await, None);
    }
}
