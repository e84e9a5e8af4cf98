//! Bodies that guests write, and the answers to their requests: how much of them the host holds, and for how long it
//! waits.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;
use wasmtime_wasi_http::{Error, WasiBody};

/// Chunks of a body that a guest may write before somebody has taken them, and their size: it seldom has to wait, and
/// cannot fill more memory than this.
const CHUNKS: usize = 16;
const CHUNK: usize = 64 << 10;
/// In durable guests it does not wait within what a body may have: whether it has to would depend on how fast the host
/// reads.
const DURABLE_CHUNKS: usize = 8 << 10;
const DURABLE_CHUNK: usize = 4 << 10;
/// Bodies at a time that may be as large as that: 8 MiB in all, 128 MiB in a durable guest. Each of the others gets the
/// least that works.
const PLENTY: usize = 8;
const DURABLE_PLENTY: usize = 4;
const LEAST: usize = 4 << 10;

/// Counts the bodies of one instance that hold memory: from the moment they are made until they are sent. One that is
/// thrown away unsent counts to the end.
pub(super) struct Bodies {
    durable: bool,
    /// Each body under way has a clone; made with the first that is sent.
    under_way: Option<Arc<()>>,
    /// Those not sent.
    unsent: usize,
}

impl Bodies {
    pub(super) fn new(durable: bool) -> Self {
        Self { durable, under_way: None, unsent: 0 }
    }

    fn many(&self) -> bool {
        let under_way = self.under_way.as_ref().map_or(0, |all| Arc::strong_count(all) - 1);
        let plenty = if self.durable { DURABLE_PLENTY } else { PLENTY };
        self.unsent + under_way > plenty
    }

    /// One more; how many chunks it may have.
    pub(super) fn made(&mut self) -> usize {
        self.unsent += 1;
        match (self.many(), self.durable) {
            (true, _) => 1,
            (false, true) => DURABLE_CHUNKS,
            (false, false) => CHUNKS,
        }
    }

    /// How large a chunk may be of the one that was made last.
    pub(super) fn chunk(&self) -> usize {
        match (self.many(), self.durable) {
            (true, _) => LEAST,
            (false, true) => DURABLE_CHUNK,
            (false, false) => CHUNK,
        }
    }

    /// One is on its way, until the result is dropped.
    pub(super) fn send(&mut self, body: WasiBody) -> Kept {
        // The empty body of a request that was given none was not made one here.
        if !body.is_end_stream() {
            self.unsent = self.unsent.saturating_sub(1);
        }
        Kept { body, _one: self.under_way.get_or_insert_default().clone() }
    }
}

/// A request's body while it is sent.
pub(super) struct Kept {
    pub(super) body: WasiBody,
    _one: Arc<()>,
}

impl Body for Kept {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body, whose pieces may be only so long in coming.
pub(super) struct Paced {
    body: Incoming,
    patience: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    pub(super) fn new(body: Incoming, patience: Duration) -> Self {
        Self { body, patience, timer: None }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.timer = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Error::from)));
        }
        let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(this.patience)));
        timer.as_mut().poll(cx).map(|()| Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Empty, StreamBody};

    use super::*;

    fn written() -> WasiBody {
        StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, Error>>()).boxed_unsync()
    }

    #[test]
    fn a_guest_that_hoards_bodies_gets_little_for_each() {
        let mut bodies = Bodies::new(false);
        for _ in 0..PLENTY {
            assert_eq!((bodies.made(), bodies.chunk()), (CHUNKS, CHUNK));
        }
        assert_eq!((bodies.made(), bodies.chunk()), (1, LEAST));
        let under_way: Vec<_> = (0..PLENTY).map(|_| bodies.send(written())).collect();
        assert_eq!((bodies.made(), bodies.chunk()), (1, LEAST));
        drop(bodies.send(Empty::new().map_err(|never| match never {}).boxed_unsync()));
        assert_eq!((bodies.made(), bodies.chunk()), (1, LEAST));
        // What has been sent is no longer held.
        drop(under_way);
        assert_eq!((bodies.made(), bodies.chunk()), (CHUNKS, CHUNK));
    }

    #[test]
    fn what_a_durable_guest_hoards_is_bounded_too() {
        let mut bodies = Bodies::new(true);
        let held = |bodies: &mut Bodies| bodies.made() * bodies.chunk();
        let all: usize = (0..100).map(|_| held(&mut bodies)).sum();
        assert!(all <= 129 << 20, "{all}");
        for _ in 0..100 {
            drop(bodies.send(written()));
        }
        assert_eq!(held(&mut bodies), DURABLE_CHUNKS * DURABLE_CHUNK);
    }
}
