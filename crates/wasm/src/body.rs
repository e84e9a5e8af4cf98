//! The body of a response, and the guest that writes it.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use tokio::task::AbortHandle;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use crate::component::Component;
use crate::run::{Ending, Run, WALL_TIME};
use crate::serve::ServeError;

/// A body that the guest has written by the time it ends is sent in one piece up to this size.
const WHOLE_BODY: usize = 64 << 10;

/// A response body as the guest writes it.
pub struct Body {
    component: Arc<Component>,
    source: Source,
    /// How the guest failed, to be told after what it had written.
    failed: Option<Ending>,
    /// Bytes that the guest announced and that have not been read. It writes that many, or the body breaks off: what a
    /// connection carried beyond or short of its announced length would be taken for a part of another answer.
    left: Option<u64>,
    /// Nobody reads it: its answer ends with the head.
    unread: bool,
    /// Everything that a client reads has been read.
    ended: bool,
}

enum Source {
    /// Everything that there is, until it is taken.
    Whole(Option<Bytes>),
    /// What the guest has written but not all that it will, and the guest while it runs.
    Guest { read: Vec<Frame<Bytes>>, body: HyperOutgoingBody, run: Option<Running> },
}

/// A response body broke off.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BodyError(String);

/// A guest that goes on after its response head. Whoever reads the body polls it; at its deadline it ends though nobody
/// does, as when a client has stopped reading.
struct Running {
    run: Arc<Mutex<Option<Run>>>,
    deadline: Option<AbortHandle>,
}

impl Running {
    fn new(run: Run) -> Self {
        let deadline = run.deadline();
        let run = Arc::new(Mutex::new(Some(run)));
        let deadline = deadline.zip(tokio::runtime::Handle::try_current().ok()).map(|(deadline, runtime)| {
            let run = run.clone();
            let end = async move {
                tokio::time::sleep_until(deadline.into()).await;
                let late = lock(&run).take();
                drop(late);
            };
            runtime.spawn(end).abort_handle()
        });
        Self { run, deadline }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<(), Ending>> {
        let mut run = lock(&self.run);
        let Some(running) = run.as_mut() else { return Poll::Ready(Err(WALL_TIME)) };
        let ended = ready!(Pin::new(running).poll(cx));
        *run = None;
        Poll::Ready(ended)
    }

    /// Whether it was ended at its deadline.
    fn is_late(&self) -> bool {
        lock(&self.run).is_none()
    }

    /// The guest, for somebody who polls it to its end.
    fn take(&self) -> Option<Run> {
        lock(&self.run).take()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(deadline) = &self.deadline {
            deadline.abort();
        }
    }
}

fn lock(run: &Mutex<Option<Run>>) -> MutexGuard<'_, Option<Run>> {
    run.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Body {
    pub(crate) fn new(
        component: Arc<Component>,
        body: HyperOutgoingBody,
        run: Option<Run>,
        failed: Option<Ending>,
        left: Option<u64>,
    ) -> Self {
        let source = Source::Guest { read: Vec::new(), body, run: run.map(Running::new) };
        Self { component, source, failed, left, unread: false, ended: left == Some(0) }
    }

    /// Says that its answer ends with the head. That must not end the guest.
    pub(crate) fn leave_unread(&mut self) {
        (self.unread, self.ended) = (true, true);
    }

    /// Puts a body that is already there as a whole into one piece: it is sent with its length, in one write.
    pub(crate) async fn settle(&mut self) {
        if let Source::Guest { run: None, .. } = &self.source
            && self.failed.is_none()
        {
            let whole = poll_fn(|cx| Poll::Ready(self.take_whole(cx))).await;
            if let Some(whole) = whole {
                self.source = Source::Whole(Some(whole).filter(|bytes| !bytes.is_empty()));
            }
        }
    }

    /// The body of a guest that has ended, if it is small, has no trailers and is as long as was said. What was read of
    /// another is kept.
    fn take_whole(&mut self, cx: &mut Context<'_>) -> Option<Bytes> {
        let Source::Guest { read, body, .. } = &mut self.source else { return None };
        let mut size = 0;
        let complete = loop {
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(None) => break self.left.is_none_or(|left| left == size as u64),
                Poll::Ready(Some(Ok(frame))) => {
                    let data = frame.data_ref().map(Bytes::len);
                    read.push(frame);
                    match data {
                        Some(length) if size + length <= WHOLE_BODY => size += length,
                        _ => break false,
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    self.failed = Some(Ending::Failed(error.to_string()));
                    break false;
                }
                Poll::Pending => break false,
            }
        };
        if !complete {
            read.reverse();
            return None;
        }
        let mut pieces = read.drain(..).filter_map(|frame| frame.into_data().ok());
        let first = pieces.next().unwrap_or_default();
        let mut rest = pieces.peekable();
        if rest.peek().is_none() {
            return Some(first);
        }
        let mut whole = BytesMut::with_capacity(size);
        whole.extend_from_slice(&first);
        rest.for_each(|piece| whole.extend_from_slice(&piece));
        Some(whole.freeze())
    }

    /// Runs the guest to its end; its body must have been read.
    pub(crate) async fn finish(mut self) -> Result<(), Ending> {
        if let Source::Guest { run, .. } = &mut self.source
            && let Some(run) = run.take().and_then(|running| running.take())
        {
            run.await?;
        }
        match self.failed.take() {
            Some(ending) => Err(ending),
            None => Ok(()),
        }
    }

    /// What the guest has written, after it was let write if that was nothing.
    fn poll_guest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Source::Guest { read, body, run } = &mut self.source else { return Poll::Ready(None) };
        if let Some(frame) = read.pop() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let mut frame = Pin::new(&mut *body).poll_frame(cx);
        if let (Poll::Pending, Some(running)) = (&frame, &*run) {
            if let Poll::Ready(ended) = running.poll(cx) {
                *run = None;
                self.failed = ended.err();
            }
            frame = Pin::new(body).poll_frame(cx);
        }
        // A body whose writer was taken away ends like one that was finished.
        if let (Poll::Ready(None), Some(running)) = (&frame, &*run)
            && running.is_late()
            && self.left != Some(0)
        {
            self.failed = Some(WALL_TIME);
        }
        frame.map_err(|error| BodyError(error.to_string()))
    }

    /// Counts what is read against what was announced.
    fn count(&mut self, frame: &Frame<Bytes>) -> Result<(), BodyError> {
        let (Some(left), Some(data)) = (&mut self.left, frame.data_ref()) else { return Ok(()) };
        let wrong = BodyError("the guest wrote more than its content-length".into());
        *left = left.checked_sub(data.len() as u64).ok_or(wrong)?;
        // Who was told a length reads that much and not the end after it.
        self.ended |= *left == 0;
        Ok(())
    }

    fn end(&mut self) -> Option<BodyError> {
        self.ended = true;
        if let Some(ending) = self.failed.clone() {
            return Some(BodyError(ServeError::from_ending(ending, &self.component).to_string()));
        }
        let short = self.left.take().is_some_and(|left| left > 0);
        short.then(|| BodyError("the guest wrote less than its content-length".into()))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.unread {
            return Poll::Ready(None);
        }
        if let Source::Whole(bytes) = &mut self.source {
            let bytes = bytes.take();
            self.ended = true;
            return Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))));
        }
        Poll::Ready(match ready!(self.poll_guest(cx)) {
            Some(Ok(frame)) => Some(self.count(&frame).map(|()| frame)),
            Some(Err(error)) => Some(Err(error)),
            None => self.end().map(Err),
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            _ if self.unread => true,
            Source::Whole(bytes) => bytes.is_none(),
            Source::Guest { read, body, run } => {
                let whole = run.is_none() && self.failed.is_none() && self.left.is_none_or(|left| left == 0);
                whole && read.is_empty() && body.is_end_stream()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Source::Guest { .. } => SizeHint::default(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        // Not read to its end: nobody listens, and the guest ends here. Read to its end: the guest may have things to
        // put in order, and has the rest of its time for them.
        if self.ended
            && let Source::Guest { run, .. } = &mut self.source
            && let Some(run) = run.take().and_then(|running| running.take())
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let component = self.component.clone();
            runtime.spawn(async move {
                if let Err(ending) = run.await {
                    let error = ServeError::from_ending(ending, &component);
                    tracing::info!(component = %component.name, %error, "failed after its response");
                }
            });
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("component", &self.component.name).field("ended", &self.ended).finish()
    }
}
