//! Whether anything goes on on a connection.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use clock::{Clock, Instant};
use http_body::{Frame, SizeHint};

use crate::{Body, BodyError};

/// The requests of one connection.
pub(super) struct Activity {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    /// Requests that have no answer yet, and answers that go on until somebody ends them.
    under_way: usize,
    /// When a request came, or a client took a part of its answer, last.
    last: Instant,
}

impl Activity {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let state = Mutex::new(State { under_way: 0, last: clock.monotonic() });
        Arc::new(Self { clock, state })
    }

    /// A request has come. It is under way until what comes back is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        self.touch().under_way += 1;
        UnderWay(self.clone())
    }

    /// Returns when nothing has been under way for so long. An answer of known length that its client does not take
    /// counts as nothing: it would hold the server's memory for as long as the client likes.
    pub(super) async fn rested(&self, period: Duration) {
        loop {
            let now = self.clock.monotonic();
            let since = {
                let state = self.state();
                if state.under_way > 0 { now } else { state.last }
            };
            if now >= since + period {
                return;
            }
            self.clock.sleep_until(since + period).await;
        }
    }

    fn touch(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        state.last = self.clock.monotonic();
        state
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request or an endless answer.
pub(super) struct UnderWay(Arc<Activity>);

impl UnderWay {
    /// The request's answer.
    pub(super) fn answer(self, body: Body) -> Answering {
        let activity = self.0.clone();
        let is_endless = http_body::Body::size_hint(&body).exact().is_none();
        Answering { body, activity, _under_way: is_endless.then_some(self) }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.touch().under_way -= 1;
    }
}

/// A body on its way to the client.
pub(super) struct Answering {
    body: Body,
    activity: Arc<Activity>,
    _under_way: Option<UnderWay>,
}

impl http_body::Body for Answering {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        drop(self.activity.touch());
        Pin::new(&mut self.body).poll_frame(context)
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
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_connection_rests_when_nothing_is_under_way() {
        let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
        let activity = Activity::new(clock.clone());
        let period = Duration::from_secs(10);
        let has_rested = || activity.rested(period).now_or_never().is_some();
        assert!(!has_rested());
        let request = activity.begin();
        clock.advance(period * 2);
        assert!(!has_rested());
        // An answer that has an end is the client's to take; one that has none is not over because nothing happens.
        let answer = request.answer(Body::whole("all"));
        assert!(!has_rested());
        clock.advance(period);
        assert!(has_rested());
        drop(answer);
        let watch = activity.begin().answer(Body::stream(futures::stream::pending()));
        clock.advance(period * 2);
        assert!(!has_rested());
        drop(watch);
        assert!(!has_rested());
        clock.advance(period);
        assert!(has_rested());
    }
}
