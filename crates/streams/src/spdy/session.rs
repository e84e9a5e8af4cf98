//! A connection of SPDY streams that the client opens.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::codec::{Decoder, Encoder, Frame, Headers};
use crate::channel::{self, Feed, Input, OUTBOX, Outbox, Outgoing, Output};
use crate::session::{Activity, Terms, drive};

/// Streams at one time; further ones are refused. Two are needed for each forwarded connection.
const MAX_STREAMS: usize = 2048;
/// Streams that wait to be looked at.
const INCOMING: usize = 16;
/// Bytes that are gathered before they are written.
const GATHER: usize = 64 << 10;
/// Why a stream is refused.
const REFUSED_STREAM: u32 = 3;

/// A stream that the client has opened.
#[derive(Debug)]
pub struct Stream {
    /// What it is for.
    pub headers: Headers,
    /// From the client.
    pub input: Input,
    /// To the client.
    pub output: Output,
}

/// Serves a connection until it ends.
pub async fn run<S: Future<Output = ()>>(
    terms: &Terms,
    from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin,
    serve: impl FnOnce(mpsc::Receiver<Stream>) -> S,
) {
    let activity = Activity::new(&terms.clock);
    let (outbox, outgoing) = mpsc::channel(OUTBOX);
    let (incoming, opened) = mpsc::channel(INCOMING);
    let reader = Reader { outbox: outbox.clone(), incoming, streams: HashMap::new(), last: 0 };
    let reader = reader.run(from, &activity);
    let writer = write(to, outgoing, &activity);
    drive(terms, &activity, outbox, reader, writer, serve(opened)).await;
}

/// A stream that one of both sides has not let go of.
struct Open {
    /// `None`: nothing more comes.
    feed: Option<Feed>,
    reset: Arc<CancellationToken>,
}

impl Open {
    /// Whether whoever serves the stream has not let go of both its ends.
    fn is_served(&self) -> bool {
        let is_read = self.feed.as_ref().is_some_and(|feed| !feed.is_closed());
        is_read || Arc::strong_count(&self.reset) > 1
    }
}

struct Reader {
    outbox: Outbox,
    incoming: mpsc::Sender<Stream>,
    streams: HashMap<u32, Open>,
    /// The number of the newest stream.
    last: u32,
}

impl Reader {
    async fn run(mut self, mut from: impl AsyncRead + Unpin, activity: &Activity) -> io::Result<()> {
        let mut decoder = Decoder::default();
        loop {
            while let Some(frame) = decoder.decode().map_err(io::Error::other)? {
                self.take(frame).await?;
            }
            decoder.buffer().reserve(crate::PIECE);
            if from.read_buf(decoder.buffer()).await? == 0 {
                return Ok(());
            }
            activity.touch();
        }
    }

    async fn take(&mut self, frame: Frame) -> io::Result<()> {
        match frame {
            Frame::SynStream { stream, fin, headers } => self.open(stream, fin, headers).await?,
            Frame::Data { stream, fin, bytes } => self.data(stream, fin, bytes).await,
            Frame::RstStream { stream, .. } => {
                if let Some(open) = self.streams.remove(&stream) {
                    open.reset.cancel();
                }
            }
            // Ours would have even numbers, and we send none.
            Frame::Ping(id) if id % 2 == 1 => self.say(Outgoing::Pong(id)).await,
            Frame::Ping(_) | Frame::SynReply { .. } | Frame::GoAway(_) | Frame::Other(_) => {}
        }
        Ok(())
    }

    /// Says something, unless all has been said.
    async fn say(&self, outgoing: Outgoing) {
        let _ = self.outbox.send(outgoing).await;
    }

    async fn open(&mut self, stream: u32, fin: bool, headers: Headers) -> io::Result<()> {
        if stream.is_multiple_of(2) || stream <= self.last {
            return Err(io::Error::other(format!("stream {stream} cannot be opened after {}", self.last)));
        }
        self.last = stream;
        self.streams.retain(|_, open| open.is_served());
        if self.streams.len() >= MAX_STREAMS {
            self.say(Outgoing::Refuse(stream)).await;
            return Ok(());
        }
        let (feed, input) = channel::input();
        let reset = Arc::new(CancellationToken::new());
        let output = Output::new(stream, self.outbox.clone(), reset.clone());
        self.streams.insert(stream, Open { feed: (!fin).then_some(feed), reset });
        self.say(Outgoing::Accept(stream)).await;
        // Nobody takes streams any more: what was told of it is all that there is.
        let _ = self.incoming.send(Stream { headers, input, output }).await;
        Ok(())
    }

    async fn data(&mut self, stream: u32, fin: bool, bytes: bytes::Bytes) {
        let Some(open) = self.streams.get_mut(&stream) else { return };
        if let Some(feed) = &open.feed
            && !bytes.is_empty()
        {
            // Whoever reads it may have gone, and then it is nobody's.
            let _ = feed.send(bytes).await;
        }
        if fin {
            open.feed = None;
        }
    }
}

async fn write(
    mut to: impl AsyncWrite + Unpin,
    mut outgoing: mpsc::Receiver<Outgoing>,
    activity: &Activity,
) -> io::Result<()> {
    let (mut encoder, mut bytes) = (Encoder::default(), BytesMut::new());
    let mut ended = false;
    while !ended {
        let Some(first) = outgoing.recv().await else { return Ok(()) };
        let mut next = Some(first);
        while let Some(said) = next {
            ended = said == Outgoing::End;
            encoder.encode(&frame_of(said), &mut bytes).map_err(io::Error::other)?;
            next = if bytes.len() < GATHER && !ended { outgoing.try_recv().ok() } else { None };
        }
        to.write_all(&bytes).await?;
        to.flush().await?;
        bytes.clear();
        activity.touch();
    }
    to.shutdown().await
}

fn frame_of(outgoing: Outgoing) -> Frame {
    let none = Headers::default;
    match outgoing {
        Outgoing::Data(stream, bytes) => Frame::Data { stream, fin: false, bytes },
        Outgoing::Finish(stream) => Frame::Data { stream, fin: true, bytes: bytes::Bytes::new() },
        Outgoing::Accept(stream) => Frame::SynReply { stream, fin: false, headers: none() },
        Outgoing::Refuse(stream) => Frame::RstStream { stream, status: REFUSED_STREAM },
        Outgoing::Pong(id) => Frame::Ping(id),
        Outgoing::End => Frame::GoAway(0),
    }
}
