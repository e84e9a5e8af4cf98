//! gRPC over one HTTP/2 stream: messages behind five bytes each, and a status in the trailers.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::client::conn::http2::SendRequest;
use tokio::sync::mpsc;

use super::wire::Malformed;

/// The longest message that is taken: whoever asks for more asks for less of it at a time.
pub(super) const MAX_MESSAGE: usize = 64 << 20;
const HEAD: usize = 5;

/// Why a call brought nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Nothing has reached etcd.
    #[error("{0}")]
    Unsent(String),
    /// etcd's own word.
    #[error("{message} (code {code})")]
    Refused {
        /// gRPC's number of it.
        code: u32,
        /// In etcd's words.
        message: String,
    },
    /// It broke off. What was asked for may have happened.
    #[error("{0}")]
    Lost(String),
    /// The answer is longer than [`MAX_MESSAGE`].
    #[error("the answer is {0} bytes long")]
    TooLong(usize),
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        Failure::Lost(malformed.to_string())
    }
}

/// What a call sends: one message, and what comes later where it goes on.
pub(super) struct Outgoing {
    first: Option<Bytes>,
    later: Option<mpsc::Receiver<Bytes>>,
}

impl Outgoing {
    pub(super) fn one(message: &[u8]) -> Self {
        Self { first: Some(framed(message)), later: None }
    }

    /// One message, and those that are sent later. It ends with the sender.
    pub(super) fn open(message: &[u8]) -> (Self, mpsc::Sender<Bytes>) {
        let (sender, later) = mpsc::channel(4);
        (Self { first: Some(framed(message)), later: Some(later) }, sender)
    }
}

/// A message with its head.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(HEAD + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(message);
    framed.freeze()
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        match &mut self.later {
            None => Poll::Ready(None),
            Some(later) => {
                later.poll_recv(context).map(|message| message.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.later.is_none()
    }
}

/// What comes back.
pub(super) struct Incoming {
    body: hyper::body::Incoming,
    buffer: BytesMut,
}

/// Calls a method.
pub(super) async fn open(
    sender: &mut SendRequest<Outgoing>,
    authority: &str,
    method: &'static str,
    body: Outgoing,
) -> Result<Incoming, Failure> {
    let uri = Uri::builder().scheme("http").authority(authority).path_and_query(method).build();
    let request = Request::builder()
        .method(Method::POST)
        .uri(uri.map_err(unsent)?)
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        // A member that knows of no leader says so at once, before it does anything.
        .header("hasleader", "true")
        .body(body)
        .map_err(unsent)?;
    let response = sender.try_send_request(request).await.map_err(|error| {
        let text = said(error.error());
        if error.message().is_some() { Failure::Unsent(text) } else { Failure::Lost(text) }
    })?;
    if response.status() != StatusCode::OK {
        return Err(Failure::Lost(format!("it answered {}", response.status())));
    }
    if let Some(failure) = refused(response.headers()) {
        return Err(failure);
    }
    Ok(Incoming { body: response.into_body(), buffer: BytesMut::new() })
}

impl Incoming {
    /// The next message. A stream that ends well has no more to say, which is a failure for whoever expects something.
    pub(super) async fn message(&mut self) -> Result<Bytes, Failure> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(message);
            }
            let Some(frame) = self.body.frame().await else {
                return Err(Failure::Lost("the stream ended".into()));
            };
            let frame = frame.map_err(|error| Failure::Lost(said(&error)))?;
            match frame.into_data() {
                Ok(data) if self.buffer.is_empty() && data.len() > HEAD => self.buffer = data.into(),
                Ok(data) => self.buffer.extend_from_slice(&data),
                Err(frame) => {
                    if let Some(failure) = frame.trailers_ref().and_then(refused) {
                        return Err(failure);
                    }
                }
            }
        }
    }

    fn take(&mut self) -> Result<Option<Bytes>, Failure> {
        let Some((mut head, rest)) = self.buffer.split_at_checked(HEAD) else { return Ok(None) };
        if head.get_u8() != 0 {
            return Err(Failure::Lost("the answer is compressed, though nobody asked for that".into()));
        }
        let length = head.get_u32() as usize;
        if length > MAX_MESSAGE {
            return Err(Failure::TooLong(length));
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.buffer.advance(HEAD);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

/// The failure that headers or trailers tell of.
fn refused(headers: &HeaderMap) -> Option<Failure> {
    let code = headers.get("grpc-status")?.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let message = headers.get("grpc-message").map(|value| unescaped(value.as_bytes())).unwrap_or_default();
    (code != 0).then_some(Failure::Refused { code, message })
}

/// Messages of statuses are percent-encoded.
fn unescaped(text: &[u8]) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some((first, behind)) = rest.split_first() {
        let code = (*first == b'%').then(|| digit(behind.first()).zip(digit(behind.get(1)))).flatten();
        let code = code.and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { behind.get(2..).unwrap_or_default() } else { behind };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn unsent(error: impl std::fmt::Display) -> Failure {
    Failure::Unsent(error.to_string())
}

/// An error with what it came of.
pub(super) fn said(error: &dyn std::error::Error) -> String {
    let (mut text, mut source) = (error.to_string(), error.source());
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read() {
        let headers = |status: &str, message: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-status", status.parse().unwrap());
            headers.insert("grpc-message", message.parse().unwrap());
            headers
        };
        assert!(refused(&HeaderMap::new()).is_none());
        assert!(refused(&headers("0", "")).is_none());
        let Some(Failure::Refused { code, message }) = refused(&headers("11", "100%25 gone%2")) else {
            panic!("not refused")
        };
        assert_eq!((code, message.as_str()), (11, "100% gone%2"));
        assert!(matches!(refused(&headers("what", "")), Some(Failure::Refused { code: 2, .. })));
    }
}
