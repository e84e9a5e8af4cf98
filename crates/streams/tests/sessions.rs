//! Whole connections, against a client made of the codec itself.

#![allow(clippy::unwrap_used, clippy::panic)] // a test

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clock::SystemClock;
use streams::spdy::{Decoder, Encoder, Frame, Headers};
use streams::{Protocol, RemoteCommand, Terms, Wanted, port_forward, remote_command};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

struct Client {
    io: DuplexStream,
    encoder: Encoder,
    decoder: Decoder,
}

impl Client {
    fn new(io: DuplexStream) -> Self {
        Self { io, encoder: Encoder::default(), decoder: Decoder::default() }
    }

    async fn send(&mut self, frame: Frame) {
        let mut bytes = BytesMut::new();
        self.encoder.encode(&frame, &mut bytes).unwrap();
        self.io.write_all(&bytes).await.unwrap();
    }

    async fn open(&mut self, stream: u32, headers: &[(&str, &str)]) {
        let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        self.send(Frame::SynStream { stream, fin: false, headers: Headers(headers) }).await;
        let reply = Frame::SynReply { stream, fin: false, headers: Headers::default() };
        assert_eq!(self.next().await, Some(reply));
    }

    async fn data(&mut self, stream: u32, text: &str, fin: bool) {
        self.send(Frame::Data { stream, fin, bytes: Bytes::copy_from_slice(text.as_bytes()) }).await;
    }

    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.decode().unwrap() {
                return Some(frame);
            }
            if self.io.read_buf(self.decoder.buffer()).await.unwrap() == 0 {
                return None;
            }
        }
    }

    async fn heard(&mut self, stream: u32, text: &str, fin: bool) {
        let frame = Frame::Data { stream, fin, bytes: Bytes::copy_from_slice(text.as_bytes()) };
        assert_eq!(self.next().await, Some(frame));
    }
}

fn terms() -> Terms {
    Terms::new(Arc::new(SystemClock::default()))
}

#[tokio::test]
async fn a_command_over_spdy() {
    let (server, client) = tokio::io::duplex(1 << 16);
    let wanted = Wanted { stdin: true, stdout: true, ..Wanted::default() };
    let serving = tokio::spawn(async move {
        let protocol = Protocol::Spdy { version: 4 };
        remote_command(&terms(), server, protocol, wanted, async |streams: RemoteCommand| {
            let RemoteCommand { stdin, stdout, error, stderr, .. } = streams;
            assert!(stderr.is_none());
            let (mut stdin, stdout) = (stdin.unwrap(), stdout.unwrap());
            while let Some(piece) = stdin.next().await {
                stdout.send(piece).await.unwrap();
            }
            stdout.finish().await;
            error.send("over".into()).await.unwrap();
            error.finish().await;
        })
        .await;
    });
    let mut client = Client::new(client);
    for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout")] {
        client.open(stream, &[("streamtype", kind)]).await;
    }
    client.send(Frame::Ping(1)).await;
    assert_eq!(client.next().await, Some(Frame::Ping(1)));
    client.data(3, "there and back", false).await;
    client.heard(5, "there and back", false).await;
    client.data(3, "", true).await;
    client.heard(5, "", true).await;
    client.heard(1, "over", false).await;
    client.heard(1, "", true).await;
    assert_eq!(client.next().await, Some(Frame::GoAway(0)));
    assert_eq!(client.next().await, None);
    // The server waits for the client to close.
    assert!(!serving.is_finished());
    drop(client);
    serving.await.unwrap();
}

#[tokio::test]
async fn streams_that_do_not_come_are_not_waited_for_for_ever() {
    let (server, client) = tokio::io::duplex(1 << 16);
    let mut terms = terms();
    terms.creation = Duration::from_millis(20);
    let serving = tokio::spawn(async move {
        let wanted = Wanted { stdin: true, ..Wanted::default() };
        remote_command(&terms, server, Protocol::Spdy { version: 4 }, wanted, async |_| panic!("served"))
            .await;
    });
    let mut client = Client::new(client);
    client.open(1, &[("streamtype", "error")]).await;
    assert_eq!(client.next().await, Some(Frame::GoAway(0)));
    drop(client);
    serving.await.unwrap();
}

#[tokio::test]
async fn a_connection_ends_when_its_client_has_gone_or_says_nothing() {
    for says_nothing in [false, true] {
        let (server, client) = tokio::io::duplex(1 << 16);
        let mut terms = terms();
        if says_nothing {
            terms.idle = Duration::from_millis(20);
        }
        let serving = tokio::spawn(async move {
            let protocol = Protocol::Spdy { version: 4 };
            let serve = async |streams: RemoteCommand| {
                let _held = streams;
                std::future::pending::<()>().await;
            };
            remote_command(&terms, server, protocol, Wanted::default(), serve).await;
        });
        let mut client = Client::new(client);
        client.open(1, &[("streamtype", "error")]).await;
        if !says_nothing {
            drop(client);
        }
        serving.await.unwrap();
    }
}

#[tokio::test]
async fn forwarded_ports_come_in_pairs_of_streams() {
    let (server, client) = tokio::io::duplex(1 << 16);
    let serving = tokio::spawn(async move {
        let protocol = Protocol::Spdy { version: 1 };
        port_forward(&terms(), server, protocol, &[], async |mut asked| {
            while let Some(mut forward) = asked.recv().await {
                let text = forward.input.next().await.unwrap();
                assert_eq!((forward.port, text), (80, "ask".into()));
                // A client that throws its stream away is no longer written to.
                forward.output.gone().await;
                assert!(forward.output.send("x".into()).await.is_err());
                forward.error.finish().await;
            }
        })
        .await;
    });
    let mut client = Client::new(client);
    let headers = |kind, request| [("streamtype", kind), ("port", "80"), ("requestid", request)];
    client.open(1, &headers("error", "0")).await;
    client.open(3, &headers("error", "1")).await;
    client.open(5, &headers("data", "1")).await;
    client.data(5, "ask", true).await;
    client.send(Frame::RstStream { stream: 5, status: 5 }).await;
    client.heard(3, "", true).await;
    client.open(7, &[("streamtype", "data"), ("port", "no")]).await;
    client.heard(7, "\"no\" is not a port", false).await;
    client.heard(7, "", true).await;
    drop(client);
    serving.await.unwrap();
}
