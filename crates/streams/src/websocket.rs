//! WebSocket connections: as channels, each message led by the number of its own, or as one stream of bytes that
//! another protocol goes through.

use std::future::Future;
use std::io;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes};
use futures::{Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

use crate::channel::{self, Feed, Input, OUTBOX, Outgoing, Output};
use crate::session::{Activity, Terms, drive};

/// The longest message that is taken. Clients cut what they send into pieces, some of them into few.
const MAX_MESSAGE: usize = 16 << 20;
/// With this number a message ends the channel that its next byte names (version 5).
const CLOSE: u8 = 255;

/// How messages on channels are spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spelling {
    /// As text: the channel's digit, then base64.
    pub(crate) base64: bool,
    /// Whether a client can end a channel by itself.
    pub(crate) closes: bool,
}

/// Channels by number.
pub(crate) struct Channels {
    outbox: mpsc::Sender<Outgoing>,
    inputs: Vec<Option<Input>>,
}

impl Channels {
    /// What comes on a channel. Only of those that were asked for, and once each.
    pub(crate) fn input(&mut self, number: u8) -> Option<Input> {
        self.inputs.get_mut(usize::from(number)).and_then(Option::take)
    }

    pub(crate) fn output(&self, number: u8) -> Output {
        Output::new(u32::from(number), self.outbox.clone(), Arc::default())
    }
}

async fn accept<IO: AsyncRead + AsyncWrite + Unpin>(io: IO) -> WebSocketStream<IO> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
        .read_buffer_size(crate::PIECE)
        .write_buffer_size(crate::PIECE)
        .max_write_buffer_size(MAX_MESSAGE);
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// Serves a connection of channels until it ends. What comes on others than `inputs` is thrown away.
pub(crate) async fn run<S: Future<Output = ()>>(
    terms: &Terms,
    io: impl AsyncRead + AsyncWrite + Unpin,
    spelling: Spelling,
    inputs: &[u8],
    serve: impl FnOnce(Channels) -> S,
) {
    let activity = Activity::new(&terms.clock);
    let (sink, stream) = accept(io).await.split();
    let (outbox, outgoing) = mpsc::channel(OUTBOX);
    let count = inputs.iter().max().map_or(0, |highest| usize::from(*highest) + 1);
    let (mut feeds, mut taken): (Vec<Option<Feed>>, Vec<Option<Input>>) =
        (0..count).map(|_| (None, None)).unzip();
    for number in inputs {
        let (feed, input) = channel::input();
        feeds[usize::from(*number)] = Some(feed);
        taken[usize::from(*number)] = Some(input);
    }
    let channels = Channels { outbox: outbox.clone(), inputs: taken };
    let reader = read(stream, feeds, spelling, &activity);
    let writer = write(sink, outgoing, spelling, &activity);
    drive(terms, &activity, outbox, reader, writer, serve(channels)).await;
}

async fn read(
    mut stream: impl Stream<Item = Result<Message, Error>> + Unpin,
    mut feeds: Vec<Option<Feed>>,
    spelling: Spelling,
    activity: &Activity,
) -> io::Result<()> {
    while let Some(message) = stream.next().await {
        activity.touch();
        let Some((number, bytes)) =
            message.map_err(io::Error::other).and_then(|message| heard(message, spelling))?
        else {
            continue;
        };
        if number == CLOSE && spelling.closes {
            if let Some(feed) = bytes.first().and_then(|number| feeds.get_mut(usize::from(*number))) {
                *feed = None;
            }
            continue;
        }
        if let Some(Some(feed)) = feeds.get(usize::from(number))
            && !bytes.is_empty()
        {
            // Whoever reads it may have gone, and then it is nobody's.
            let _ = feed.send(bytes).await;
        }
    }
    Ok(())
}

/// The channel of a message and what it says; `None`: a message of the connection's own.
fn heard(message: Message, spelling: Spelling) -> io::Result<Option<(u8, Bytes)>> {
    let mut bytes = match message {
        Message::Binary(bytes) => bytes,
        Message::Text(text) => Bytes::from(text),
        _ => return Ok(None),
    };
    let Some(first) = bytes.first().copied() else { return Ok(None) };
    bytes.advance(1);
    if !spelling.base64 {
        return Ok(Some((first, bytes)));
    }
    let bytes = STANDARD.decode(&bytes).map_err(io::Error::other)?;
    Ok(Some((first.wrapping_sub(b'0'), bytes.into())))
}

fn said(number: u8, bytes: &[u8], spelling: Spelling) -> Message {
    if spelling.base64 {
        let mut text = String::with_capacity(1 + bytes.len().div_ceil(3) * 4);
        text.push(char::from(b'0'.wrapping_add(number)));
        STANDARD.encode_string(bytes, &mut text);
        return Message::text(text);
    }
    let mut message = Vec::with_capacity(1 + bytes.len());
    message.push(number);
    message.extend_from_slice(bytes);
    Message::binary(message)
}

async fn write(
    mut sink: impl Sink<Message, Error = Error> + Unpin,
    mut outgoing: mpsc::Receiver<Outgoing>,
    spelling: Spelling,
    activity: &Activity,
) -> io::Result<()> {
    while let Some(next) = outgoing.recv().await {
        let number = |stream: u32| u8::try_from(stream).unwrap_or(CLOSE - 1);
        match next {
            Outgoing::Data(stream, bytes) => {
                sink.feed(said(number(stream), &bytes, spelling)).await.map_err(io::Error::other)?;
            }
            Outgoing::End => {
                // Clients take any other code, or none, for a failure.
                let close = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
                return sink.send(Message::Close(Some(close))).await.map_err(io::Error::other);
            }
            // Clients know no end of a channel before the connection's.
            _ => {}
        }
        if outgoing.is_empty() {
            sink.flush().await.map_err(io::Error::other)?;
        }
        activity.touch();
    }
    Ok(())
}

/// The bytes of binary messages, one after the other, both ways.
pub(crate) async fn tunnel(
    io: impl AsyncRead + AsyncWrite + Unpin + Send,
) -> (impl AsyncRead + Unpin, impl AsyncWrite + Unpin) {
    let (sink, stream) = accept(io).await.split();
    let stream = stream.filter_map(|message| {
        futures::future::ready(match message {
            Ok(Message::Binary(bytes)) => Some(Ok(bytes)),
            Ok(_) => None,
            Err(error) => Some(Err(io::Error::other(error))),
        })
    });
    let sink = sink
        .sink_map_err(io::Error::other)
        .with(|bytes: Bytes| futures::future::ready(Ok::<_, io::Error>(Message::Binary(bytes))));
    (StreamReader::new(stream), SinkWriter::new(CopyToBytes::new(sink)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_spelled_both_ways() {
        for (base64, spelled) in [(false, Message::binary(&b"\x02hi"[..])), (true, Message::text("2aGk="))] {
            let spelling = Spelling { base64, closes: true };
            assert_eq!(said(2, b"hi", spelling), spelled);
            assert_eq!(heard(spelled, spelling).unwrap(), Some((2, Bytes::from_static(b"hi"))));
        }
        let base64 = Spelling { base64: true, closes: false };
        assert!(heard(Message::text("0*"), base64).is_err());
        assert_eq!(heard(Message::text(""), base64).unwrap(), None);
    }
}
