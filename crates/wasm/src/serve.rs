//! Serving a request: the caller's task runs the guest.
//!
//! The guest is polled in place, without a task of its own: until it gives its response head, then whenever the body is
//! polled. Dropping the future or the body ends it. A guest that has more to do after its body's end goes on in a task of
//! the runtime, within the same limits.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::oneshot;
use wasmtime_wasi_http::Error;

use crate::body::Body;
use crate::component::Component;
use crate::run::{Answer, Ending, Run};

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
        let method = request.method().clone();
        let request = request.map(|body| Limited::new(body, limit).map_err(body_error));
        let (run, answer) = Run::new(self.clone(), request, None, places);
        let answered = respond(self, &method, run, answer).await.map(|mut response| {
            if has_no_body(&method, response.status()) {
                response.body_mut().leave_unread();
                // Only an answer to HEAD says how long the body would be that is not there.
                if method != Method::HEAD {
                    response.headers_mut().remove(header::CONTENT_LENGTH);
                }
            }
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
    method: &Method,
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
            let length = content_length(response.headers()).map_err(Some)?;
            let length = length.filter(|_| !has_no_body(method, response.status()));
            let mut response =
                response.map(|body| Body::new(component.clone(), body, running, failed, length));
            response.body_mut().settle().await;
            Ok(response)
        }
        (_, Some(Err(ending))) => Err(Some(ending)),
        (Some(Err(code)), _) => {
            tracing::debug!(component = %component.name, ?code, "the guest answered with an error");
            Err(None)
        }
        (None, _) => Err(None),
    }
}

/// Whether an answer ends with its head, whatever its length says.
fn has_no_body(method: &Method, status: StatusCode) -> bool {
    *method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// The length that a head announces. One that could be read in two ways is none.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Ending> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return match headers.contains_key(header::CONTENT_LENGTH) {
            true => Err(Ending::Failed("its answer has more than one content-length".into())),
            false => Ok(None),
        };
    };
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.and_then(|digits| digits.parse().ok()) {
        Some(length) => Ok(Some(length)),
        None => Err(Ending::Failed("its answer's content-length is not a number".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_one_number_or_none() {
        let read = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_LENGTH, http::HeaderValue::from_static(value));
            }
            content_length(&headers).ok()
        };
        assert_eq!(read(&[]), Some(None));
        assert_eq!(read(&["12"]), Some(Some(12)));
        for wrong in [&["+5"][..], &[""], &["5", "5"], &["5, 6"], &["-1"], &["99999999999999999999"]] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }
}
