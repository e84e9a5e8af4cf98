//! Connections to ports, many over one connection.

use std::collections::HashMap;
use std::future::Future;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::channel::{Input, Output};
use crate::negotiate::Protocol;
use crate::session::Terms;
use crate::spdy::{self, Stream};
use crate::websocket::{self, Spelling};

/// Connections that wait to be made, and halves that wait for their other half.
const WAITING: usize = 64;
/// Ports of one WebSocket: each takes two of its channels.
const MAX_PORTS: usize = 64;

/// A connection that the client wants made.
#[derive(Debug)]
pub struct Forward {
    /// To which port.
    pub port: u16,
    /// What the client sends.
    pub input: Input,
    /// What it is sent.
    pub output: Output,
    /// What went wrong, for people; nothing, if nothing did. Finished last.
    pub error: Output,
    /// Whether the client is told when nothing more comes, and may go on sending. If not, that is the connection's end.
    pub half_closes: bool,
}

/// Serves a connection that was upgraded for ports, until it ends. `ports` are those that the request names, which
/// WebSocket channels are about; SPDY streams name theirs.
pub async fn port_forward<S: Future<Output = ()>>(
    terms: &Terms,
    io: impl AsyncRead + AsyncWrite + Unpin + Send,
    protocol: Protocol,
    ports: &[u16],
    serve: impl FnOnce(mpsc::Receiver<Forward>) -> S,
) {
    let (forwards, asked) = mpsc::channel(WAITING);
    match protocol {
        Protocol::Channels { base64, .. } => {
            let ports = ports.get(..MAX_PORTS).unwrap_or(ports);
            let numbered = || ports.iter().zip((0u8..).step_by(2));
            let inputs: Vec<u8> = numbered().map(|(_, number)| number).collect();
            let spelling = Spelling { base64, closes: false };
            websocket::run(terms, io, spelling, &inputs, async |mut channels| {
                let announce = async move {
                    for (port, number) in numbered() {
                        let (output, error) = (channels.output(number), channels.output(number + 1));
                        let Some(input) = channels.input(number) else { continue };
                        // Each channel begins with the port that it is about.
                        let name = Bytes::copy_from_slice(&port.to_le_bytes());
                        if output.send(name.clone()).await.is_err() || error.send(name).await.is_err() {
                            return;
                        }
                        let _ = forwards
                            .send(Forward { port: *port, input, output, error, half_closes: false })
                            .await;
                    }
                };
                tokio::join!(announce, serve(asked));
            })
            .await;
        }
        Protocol::Spdy { .. } => {
            let (from, to) = tokio::io::split(io);
            spdy::run(terms, from, to, |opened| pair(terms, opened, forwards, serve(asked))).await;
        }
        Protocol::Tunnel => {
            let (from, to) = websocket::tunnel(io).await;
            spdy::run(terms, from, to, |opened| pair(terms, opened, forwards, serve(asked))).await;
        }
    }
}

/// A connection of which one stream is here.
#[derive(Default)]
struct Half {
    data: Option<Stream>,
    error: Option<Stream>,
    since: Option<clock::Instant>,
}

/// Puts the two streams of each connection together while connections are served.
async fn pair(
    terms: &Terms,
    mut opened: mpsc::Receiver<Stream>,
    forwards: mpsc::Sender<Forward>,
    serve: impl Future<Output = ()>,
) {
    let pairing = async move {
        let mut halves: HashMap<String, Half> = HashMap::new();
        while let Some(stream) = opened.recv().await {
            let now = terms.clock.monotonic();
            halves.retain(|_, half| half.since.is_some_and(|since| now < since + terms.creation));
            let Ok(port) = stream.headers.get("port").parse::<u16>() else {
                let message = format!("{:?} is not a port", stream.headers.get("port"));
                refuse(stream, message).await;
                continue;
            };
            let request = match stream.headers.get("requestid") {
                // Clients before 1.2 name none: their streams come in pairs.
                "" => format!("port {port}"),
                request => request.to_owned(),
            };
            if halves.len() >= WAITING && !halves.contains_key(&request) {
                refuse(stream, "too many connections wait for their second stream".to_owned()).await;
                continue;
            }
            let half = halves.entry(request.clone()).or_default();
            half.since.get_or_insert(now);
            match stream.headers.get("streamtype") {
                "data" => half.data = Some(stream),
                "error" => half.error = Some(stream),
                other => {
                    let message = format!("invalid stream type {other:?}");
                    refuse(stream, message).await;
                    continue;
                }
            }
            if half.data.is_none() || half.error.is_none() {
                continue;
            }
            let Some(Half { data: Some(data), error: Some(error), .. }) = halves.remove(&request) else {
                continue;
            };
            let (error, half_closes) = (error.output, true);
            let forward = Forward { port, input: data.input, output: data.output, error, half_closes };
            if forwards.send(forward).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(pairing, serve);
}

async fn refuse(stream: Stream, message: String) {
    // A client that has gone needs no answer.
    let _ = stream.output.send(message.into()).await;
    stream.output.finish().await;
}
