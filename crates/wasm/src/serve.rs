//! Serving a request: the caller's task runs the guest.
//!
//! The guest is polled in place, without a task of its own: until it gives its response head, then whenever the body is
//! polled. Dropping the future or the body ends it. A guest that has more to do after its body's end goes on in a task of
//! the runtime, within the same limits.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::oneshot;
use wasmtime_wasi_http::Error;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use crate::component::Component;
use crate::run::{Answer, Ending, Run};

/// A body that the guest has written by the time it ends is sent in one piece up to this size.
const WHOLE_BODY: usize = 64 << 10;

/// Why a request got no response from the guest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServeError {
    /// No place was free for it in time.
    #[error("component {0} is busy")]
    Busy(String),
    /// The component runs only as a durable invocation.
    #[error("component {0} is durable")]
    Durable(String),
    /// The request cannot be passed on: it names no host.
    #[error("invalid request: {0}")]
    RequestInvalid(&'static str),
    /// A limit of the component was hit.
    #[error("component {component} exceeded its limit of {limit}")]
    LimitExceeded {
        /// Whose.
        component: String,
        /// `memory`, `cpu time`, `wall time`, `stack` or `request body`.
        limit: &'static str,
    },
    /// The guest trapped.
    #[error("component {component} failed: {reason}")]
    Failed {
        /// Which.
        component: String,
        /// How.
        reason: String,
    },
    /// The guest ended, or gave up its answer, without a response.
    #[error("component {0} gave no response")]
    NoResponse(String),
}

impl ServeError {
    /// The HTTP status that tells a client.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::RequestInvalid(_) => StatusCode::BAD_REQUEST,
            Self::LimitExceeded { limit: "wall time", .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::LimitExceeded { limit: "request body", .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Durable(_) | Self::LimitExceeded { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Failed { .. } | Self::NoResponse(_) => StatusCode::BAD_GATEWAY,
        }
    }

    pub(crate) fn from_ending(ending: Ending, component: &Component) -> Self {
        let component = component.name().to_owned();
        match ending {
            Ending::Busy => Self::Busy(component),
            Ending::Limit(limit) => Self::LimitExceeded { component, limit },
            Ending::Failed(reason) => Self::Failed { component, reason },
            // Only a recorder halts, and there is none here.
            Ending::Halted(halt) => Self::Failed { component, reason: halt.to_string() },
        }
    }
}

impl Component {
    /// Answers a request on a fresh instance. The request needs an authority, in its URI or its `Host` header.
    pub async fn serve<B>(self: &Arc<Self>, request: Request<B>) -> Result<Response<Body>, ServeError>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if self.spec.durable {
            return Err(ServeError::Durable(self.name().to_owned()));
        }
        if request.uri().authority().is_none() && !request.headers().contains_key(header::HOST) {
            return Err(ServeError::RequestInvalid("it names no host"));
        }
        let limit = self.spec.limits.request_body;
        if request.body().size_hint().lower() > limit {
            return Err(ServeError::LimitExceeded {
                component: self.name().to_owned(),
                limit: "request body",
            });
        }
        let places = self.enter().await.ok_or_else(|| ServeError::Busy(self.name().to_owned()))?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let bodiless = request.method() == Method::HEAD;
        let request = request.map(|body| Limited::new(body, limit).map_err(body_error));
        let (run, answer) = Run::new(self.clone(), request, None, places);
        let answered = respond(self, run, answer).await.map(|mut response| {
            // No client reads the body of such an answer, and that must not end the guest.
            response.body_mut().ended |= bodiless;
            response
        });
        answered.map_err(|ending| {
            let error = match ending {
                Some(ending) => ServeError::from_ending(ending, self),
                None => ServeError::NoResponse(self.name().to_owned()),
            };
            tracing::debug!(component = %self.name, %error, "request not answered");
            error
        })
    }
}

fn body_error(error: Box<dyn std::error::Error + Send + Sync>) -> Error {
    if error.is::<LengthLimitError>() {
        Error::HttpRequestBodySize(None)
    } else {
        Error::ConnectionTerminated
    }
}

/// Runs the guest until it has given a response head. The error is why it ended without one; `None`: it just did.
pub(crate) async fn respond(
    component: &Arc<Component>,
    run: Run,
    mut answer: oneshot::Receiver<Answer>,
) -> Result<Response<Body>, Option<Ending>> {
    let mut running = Some(run);
    let (outcome, answered) = poll_fn(|cx| {
        let mut outcome = None;
        if let Some(run) = &mut running
            && let Poll::Ready(ended) = Pin::new(run).poll(cx)
        {
            // The instance goes here, and its end of the channel with it.
            running = None;
            outcome = Some(ended);
        }
        if running.is_none() {
            // Looked at, not polled: the runtime's cooperative budget may say "later" to a poll, and there is no later.
            return Poll::Ready((outcome, answer.try_recv().ok()));
        }
        Pin::new(&mut answer).poll(cx).map(|answered| (outcome, answered.ok()))
    })
    .await;
    match (answered, outcome) {
        (Some(Ok(response)), outcome) => {
            let failed = outcome.and_then(Result::err);
            let length = content_length(response.headers());
            let response = response.map(|body| Body::new(component.clone(), body, running, failed, length));
            Ok(settle(response).await)
        }
        (_, Some(Err(ending))) => Err(Some(ending)),
        (Some(Err(code)), _) => {
            tracing::debug!(component = %component.name, ?code, "the guest answered with an error");
            Err(None)
        }
        (None, _) => Err(None),
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Puts a body that is already there as a whole into one piece: it is sent with its length, in one write.
async fn settle(mut response: Response<Body>) -> Response<Body> {
    let body = response.body_mut();
    if let Source::Guest { run: None, .. } = &body.source
        && body.failed.is_none()
    {
        let whole = poll_fn(|cx| Poll::Ready(body.take_whole(cx))).await;
        if let Some(whole) = whole {
            body.source = Source::Whole(Some(whole).filter(|bytes| !bytes.is_empty()));
        }
    }
    response
}

/// A response body as the guest writes it.
pub struct Body {
    component: Arc<Component>,
    source: Source,
    /// How the guest failed, to be told after what it had written.
    failed: Option<Ending>,
    /// Bytes that the guest announced and that have not been read.
    left: Option<u64>,
    /// Everything that a client reads has been read.
    ended: bool,
}

enum Source {
    /// Everything that there is, until it is taken.
    Whole(Option<Bytes>),
    /// What the guest has written but not all that it will, and the guest while it runs.
    Guest { read: Vec<Frame<Bytes>>, body: HyperOutgoingBody, run: Option<Run> },
}

/// A response body broke off.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BodyError(String);

impl Body {
    fn new(
        component: Arc<Component>,
        body: HyperOutgoingBody,
        run: Option<Run>,
        failed: Option<Ending>,
        left: Option<u64>,
    ) -> Self {
        let source = Source::Guest { read: Vec::new(), body, run };
        Self { component, source, failed, left, ended: left == Some(0) }
    }

    /// The body of a guest that has ended, if it is small and has no trailers. What was read of another is kept.
    fn take_whole(&mut self, cx: &mut Context<'_>) -> Option<Bytes> {
        let Source::Guest { read, body, .. } = &mut self.source else { return None };
        let mut size = 0;
        loop {
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(None) => break,
                Poll::Ready(Some(Ok(frame))) => {
                    size += frame.data_ref().map_or(usize::MAX, Bytes::len);
                    read.push(frame);
                    if size > WHOLE_BODY {
                        read.reverse();
                        return None;
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    self.failed = Some(Ending::Failed(error.to_string()));
                    read.reverse();
                    return None;
                }
                Poll::Pending => {
                    read.reverse();
                    return None;
                }
            }
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
            && let Some(run) = run.take()
        {
            run.await?;
        }
        match self.failed.take() {
            Some(ending) => Err(ending),
            None => Ok(()),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let frame = match &mut this.source {
            Source::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Guest { read, body, run } => {
                if let Some(frame) = read.pop() {
                    return Poll::Ready(Some(Ok(frame)));
                }
                let frame = Pin::new(&mut *body).poll_frame(cx);
                match run {
                    // Nothing to read yet: let the guest write.
                    Some(running) if frame.is_pending() => {
                        if let Poll::Ready(ended) = Pin::new(running).poll(cx) {
                            *run = None;
                            this.failed = ended.err();
                        }
                        Pin::new(body).poll_frame(cx)
                    }
                    _ => frame,
                }
            }
        };
        let frame = match frame {
            Poll::Ready(None) => this
                .failed
                .clone()
                .map(|ending| Err(BodyError(ServeError::from_ending(ending, &this.component).to_string()))),
            Poll::Ready(Some(frame)) => Some(frame.map_err(|error| BodyError(error.to_string()))),
            Poll::Pending => return Poll::Pending,
        };
        // Who was told a length reads that much and not the end after it.
        if let (Some(left), Some(Ok(frame))) = (&mut this.left, &frame) {
            *left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.len() as u64));
        }
        this.ended |= frame.is_none() || this.left == Some(0);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Whole(bytes) => bytes.is_none(),
            Source::Guest { read, body, run } => {
                run.is_none() && self.failed.is_none() && read.is_empty() && body.is_end_stream()
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
            && let Some(run) = run.take()
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
