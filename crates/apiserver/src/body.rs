//! The body of an answer: stored bytes in large frames, or a stream that goes on.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyDataStream, BodyExt, Empty};
use tokio::sync::OwnedSemaphorePermit;

/// What ends a body early.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request to somebody else.
pub type Sending = UnsyncBoxBody<Bytes, BodyError>;

/// No body.
pub(crate) fn nothing() -> Sending {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Pieces are gathered into frames of this size: small enough to be reused by the allocator, large enough that a frame's
/// cost does not count.
const FRAME: usize = 256 * 1024;

/// The body of an answer.
#[derive(Default)]
pub struct Body {
    inner: Inner,
    /// The request's place among those in flight, given back when the client has taken the body or gone away.
    _permit: Option<OwnedSemaphorePermit>,
}

#[derive(Default)]
enum Inner {
    #[default]
    Empty,
    Whole(Bytes),
    Pieces {
        pieces: std::vec::IntoIter<Bytes>,
        left: u64,
    },
    Stream(Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>),
}

impl Body {
    /// All of it at once.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Inner::Whole(bytes.into()).into()
    }

    /// Many pieces that belong together, copied into frames one after the other as the client takes them.
    pub fn pieces(pieces: Vec<Bytes>) -> Self {
        let left = pieces.iter().map(|piece| piece.len() as u64).sum();
        Inner::Pieces { pieces: pieces.into_iter(), left }.into()
    }

    /// Whatever the stream gives, until it ends.
    pub fn stream(stream: impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static) -> Self {
        Inner::Stream(Box::pin(stream)).into()
    }

    /// The same body, which ends when that does.
    pub(crate) fn until(self, end: impl Future<Output = ()> + Send + 'static) -> Self {
        Self::stream(BodyDataStream::new(self).take_until(end))
    }

    /// The same body, which keeps the permit for as long as it lives.
    pub(crate) fn holding(self, permit: OwnedSemaphorePermit) -> Self {
        Self { _permit: Some(permit), ..self }
    }
}

impl From<Inner> for Body {
    fn from(inner: Inner) -> Self {
        Self { inner, _permit: None }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Body")
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let next = match &mut self.inner {
            Inner::Empty => None,
            Inner::Whole(bytes) => Some(Ok(std::mem::take(bytes))).filter(|bytes| !is_empty(bytes)),
            Inner::Pieces { pieces, left } => next_frame(pieces, left).map(Ok),
            Inner::Stream(stream) => match stream.as_mut().poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(next) => next,
            },
        };
        if next.is_none() || matches!(self.inner, Inner::Whole(_)) {
            self.inner = Inner::Empty;
        }
        Poll::Ready(next.map(|bytes| bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Empty => true,
            Inner::Whole(bytes) => bytes.is_empty(),
            Inner::Pieces { left, .. } => *left == 0,
            Inner::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Empty => SizeHint::with_exact(0),
            Inner::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Pieces { left, .. } => SizeHint::with_exact(*left),
            Inner::Stream(_) => SizeHint::default(),
        }
    }
}

fn is_empty(bytes: &Result<Bytes, BodyError>) -> bool {
    bytes.as_ref().is_ok_and(Bytes::is_empty)
}

fn next_frame(pieces: &mut std::vec::IntoIter<Bytes>, left: &mut u64) -> Option<Bytes> {
    let size = usize::try_from(*left).unwrap_or(FRAME).min(FRAME);
    if size == 0 {
        return None;
    }
    // A piece may reach over the frame's end: room for it beats cutting it.
    let mut frame = BytesMut::with_capacity(size);
    while frame.len() < FRAME {
        match pieces.as_slice().first() {
            Some(piece) if frame.is_empty() || frame.len() + piece.len() <= FRAME => {
                frame.extend_from_slice(piece)
            }
            _ => break,
        }
        pieces.next();
    }
    *left = left.saturating_sub(frame.len() as u64);
    if frame.is_empty() { None } else { Some(frame.freeze()) }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn pieces_arrive_whole_and_in_order() {
        let pieces: Vec<Bytes> =
            (0..2000u32).map(|n| Bytes::from(vec![(n % 251) as u8; (n as usize * 37) % 3000])).collect();
        let all: Vec<u8> = pieces.concat();
        let mut body = Body::pieces(pieces);
        assert_eq!(body.size_hint().exact(), Some(all.len() as u64));
        let (mut received, mut frames) = (Vec::new(), 0);
        while let Some(frame) = body.frame().await {
            received.extend_from_slice(&frame.unwrap().into_data().unwrap());
            frames += 1;
        }
        assert_eq!(received, all);
        assert!(frames <= all.len() / (FRAME - 3000) + 1, "{frames} frames");
    }

    #[tokio::test]
    async fn one_piece_larger_than_a_frame_stays_whole() {
        let body =
            Body::pieces(vec![Bytes::from(vec![1; FRAME * 2]), Bytes::new(), Bytes::from_static(b"x")]);
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), FRAME * 2 + 1);
    }
}
