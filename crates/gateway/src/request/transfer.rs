//! Bodies on their way through: passed on frame by frame, never gathered. One that stands still for too long, or grows too
//! large, ends with an error.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use crate::upstream::Lease;

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the body is larger than {0} bytes")]
    TooLarge(u64),
    #[error("the body stood still for longer than {0:?}")]
    Still(Duration),
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

/// A body that has to move.
struct Moving {
    body: Incoming,
    patience: Duration,
    /// Runs while nothing comes.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Moving {
    /// The next frame. What comes over a connection on loan comes as it is moved on.
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        lease: Option<&mut Lease>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let mut polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_pending()
            && let Some(lease) = lease
        {
            lease.move_on(cx);
            polled = Pin::new(&mut self.body).poll_frame(cx);
        }
        if let Poll::Ready(frame) = polled {
            self.timer = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Broken::from)));
        }
        let patience = self.patience;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(Broken::Still(patience))))
    }
}

/// The body of a request to an endpoint.
pub(crate) struct Upload(Option<Limited>);

struct Limited {
    moving: Moving,
    limit: u64,
    left: u64,
}

impl Upload {
    pub(crate) fn none() -> Self {
        Self(None)
    }

    pub(crate) fn of(body: Incoming, limit: u64, patience: Duration) -> Self {
        let moving = Moving { body, patience, timer: None };
        Self(Some(Limited { moving, limit, left: limit }))
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        let frame = ready!(body.moving.poll_frame(cx, None));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            match body.left.checked_sub(data.remaining() as u64) {
                Some(left) => body.left = left,
                None => return Poll::Ready(Some(Err(Broken::TooLarge(body.limit)))),
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|body| body.moving.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or(SizeHint::with_exact(0), |body| body.moving.body.size_hint())
    }
}

/// The body of an endpoint's reply. When it was read to its end, its connection may be used again; when it is dropped
/// before, the connection is closed.
pub(crate) struct Download {
    moving: Moving,
    lease: Option<Lease>,
}

impl Download {
    pub(crate) fn of(body: Incoming, lease: Lease, patience: Duration) -> Self {
        let mut download = Self { moving: Moving { body, patience, timer: None }, lease: Some(lease) };
        download.settle();
        download
    }

    /// Gives the connection back once nothing more comes.
    fn settle(&mut self) {
        if self.moving.body.is_end_stream()
            && let Some(lease) = self.lease.take()
        {
            lease.give_back();
        }
    }
}

impl HttpBody for Download {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Self { moving, lease } = &mut *self;
        let frame = ready!(moving.poll_frame(cx, lease.as_mut()));
        match &frame {
            Some(Ok(_)) => self.settle(),
            Some(Err(error)) => {
                tracing::debug!(%error, "a reply broke off");
                self.lease = None;
            }
            None => {
                if let Some(lease) = self.lease.take() {
                    lease.give_back();
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.moving.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.moving.body.size_hint()
    }
}
