//! Bodies that end when nothing comes of them for too long.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use clock::Clock;
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body::{Body, Frame, SizeHint};

use crate::body::BodyError;

/// A body that fails when nothing comes for so long, be it to a client or from one.
pub(crate) struct Idle<B> {
    body: Pin<Box<B>>,
    clock: Arc<dyn Clock>,
    limit: Duration,
    /// Is done when it was too long; `None` while something comes.
    waiting: Option<BoxFuture<'static, ()>>,
}

impl<B> Idle<B> {
    pub(crate) fn new(body: B, clock: Arc<dyn Clock>, limit: Duration) -> Self {
        Self { body: Box::pin(body), clock, limit, waiting: None }
    }
}

impl<B> Body for Idle<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = self.body.as_mut().poll_frame(context) {
            self.waiting = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let (clock, limit) = (self.clock.clone(), self.limit);
        let waiting = self.waiting.get_or_insert_with(|| async move { clock.sleep(limit).await }.boxed());
        match waiting.poll_unpin(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                self.waiting = None;
                Poll::Ready(Some(Err(format!("nothing came for {} s", limit.as_secs()).into())))
            }
        }
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
    use clock::ManualClock;
    use futures::{StreamExt, stream};
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    #[tokio::test]
    async fn a_body_of_which_nothing_comes_fails() {
        let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
        let pieces = stream::iter([Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"a")))]);
        let body = StreamBody::new(pieces.chain(stream::pending()));
        let mut body = Idle::new(body, clock.clone(), Duration::from_secs(5));
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "a");
        let next = tokio::spawn(async move { body.frame().await.unwrap().map(drop) });
        clock.until_sleepers(1).await;
        assert!(!next.is_finished());
        clock.advance(Duration::from_secs(5));
        assert_eq!(next.await.unwrap().unwrap_err().to_string(), "nothing came for 5 s");
    }
}
