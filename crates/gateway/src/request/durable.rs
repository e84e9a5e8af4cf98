//! Requests to durable components: each is an invocation with an id, which outlives the connection.
//!
//! The id comes in `Idempotency-Key` (IETF draft) or is made here. The first request with an id starts the invocation;
//! later ones attach to it or get its recorded reply. `Prefer: respond-async` and `wait` (RFC 7240) bound how long the
//! reply is waited for; then the answer is 202 with a `Location` where the reply can be had.

mod prefer;

use std::sync::Arc;
use std::time::Duration;

use ::durable::{Ending, Error, Submission, Worker};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, LOCATION, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::problem::problem;
use super::{Body, Edge, Target};
use prefer::Preference;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const INVOCATION: HeaderName = HeaderName::from_static("monoplane-invocation");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// Where recorded replies are, before `namespace/name/id`.
const RECORDED: &str = "/.well-known/monoplane/invocations/";
/// The longest wait for a reply on one connection.
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);

/// `namespace/name` of the component whose recorded reply a path names.
pub(super) fn recorded_path(path: &str) -> Option<&str> {
    recorded(path).map(|(name, _)| name)
}

fn recorded(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix(RECORDED)?;
    let slash = rest.find('/')?;
    let end = slash + 1 + rest[slash + 1..].find('/')?;
    Some((&rest[..end], &rest[end + 1..]))
}

impl Edge {
    pub(super) async fn invoke<B>(
        &self,
        target: &Target,
        component: &Arc<wasm::Component>,
        suspend_after: Duration,
        request: Request<B>,
    ) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Some(worker) = &self.worker else {
            return problem(StatusCode::SERVICE_UNAVAILABLE, "durable components do not run on this edge");
        };
        let prefer = Preference::of(request.headers());
        if let Some((name, id)) = recorded(request.uri().path())
            && name == target.name
        {
            return look_up(worker, request.method(), name, id, prefer).await;
        }
        let id = match self.id(request.headers()) {
            Ok(id) => id,
            Err(why) => return problem(StatusCode::BAD_REQUEST, why),
        };
        let request = match read(request, component, &id).await {
            Ok(request) => request,
            Err(reply) => return *reply,
        };
        match worker.submit(&component.revision(), &id, request, suspend_after).await {
            Ok(submission) => wait(&target.name, &id, submission, prefer).await,
            Err(error) => failed(&error),
        }
    }

    /// The id in a request's header, or a new one.
    fn id(&self, headers: &HeaderMap) -> Result<String, &'static str> {
        let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(self.random.uid()) };
        let text = value.to_str().map_err(|_| "Idempotency-Key must consist of visible ASCII characters")?;
        // The draft has a quoted string; the older custom is a bare one.
        let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        let fits = (1..=255).contains(&bare.len());
        // What would not survive in a path or a header has no place in a name.
        let plain = bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:+=@".contains(&byte));
        if !fits || !plain {
            return Err("Idempotency-Key must have 1 to 255 letters, digits or -._~:+=@");
        }
        Ok(bare.to_owned())
    }
}

/// Reads the request whole, as its journal will keep it.
async fn read<B>(
    request: Request<B>,
    component: &wasm::Component,
    id: &str,
) -> Result<Request<Bytes>, Box<Response<Body>>>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let limits = component.spec().limits;
    let limit = usize::try_from(limits.request_body).unwrap_or(usize::MAX);
    let (mut head, body) = request.into_parts();
    let collected = tokio::time::timeout(limits.wall_time, Limited::new(body, limit).collect()).await;
    let body = match collected {
        Err(_) => {
            return Err(Box::new(problem(StatusCode::REQUEST_TIMEOUT, "the request's body took too long")));
        }
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let detail = format!("the request's body has more than {limit} bytes");
            return Err(Box::new(problem(StatusCode::PAYLOAD_TOO_LARGE, &detail)));
        }
        Ok(Err(error)) => {
            let detail = format!("the request's body cannot be read: {error}");
            return Err(Box::new(problem(StatusCode::BAD_REQUEST, &detail)));
        }
        Ok(Ok(body)) => body.to_bytes(),
    };
    if let Ok(id) = HeaderValue::from_str(id) {
        head.headers.insert(IDEMPOTENCY_KEY, id);
    }
    Ok(Request::from_parts(head, body))
}

/// Waits for the end of an invocation as long as the client wishes.
async fn wait(name: &str, id: &str, submission: Submission, prefer: Preference) -> Response<Body> {
    let patience = prefer.patience().unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
    // One that has already ended is told at once even to those who would not wait.
    let ended = tokio::time::timeout(patience, submission.ending()).await;
    let mut reply = match ended {
        Ok(ending) => end(ending),
        Err(_) => accepted(name, id, prefer),
    };
    name_invocation(reply.headers_mut(), name, id);
    reply
}

/// The recorded reply of an invocation, or word that there is none yet.
async fn look_up(
    worker: &Worker,
    method: &Method,
    name: &str,
    id: &str,
    prefer: Preference,
) -> Response<Body> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return problem(StatusCode::METHOD_NOT_ALLOWED, "a recorded reply can only be read");
    }
    let patience = prefer.patience().unwrap_or(Duration::ZERO).min(LONGEST_WAIT);
    let mut reply = match worker.status(name, id) {
        Ok(None) => return problem(StatusCode::NOT_FOUND, "no such invocation"),
        Err(error) => return failed(&error),
        Ok(Some(status)) if status.invocation.phase.ended().is_none() && patience.is_zero() => {
            accepted(name, id, prefer)
        }
        Ok(Some(status)) => {
            let patience = if status.invocation.phase.ended().is_some() { LONGEST_WAIT } else { patience };
            match tokio::time::timeout(patience, worker.await_reply(name, id)).await {
                Ok(ending) => end(ending),
                Err(_) => accepted(name, id, prefer),
            }
        }
    };
    name_invocation(reply.headers_mut(), name, id);
    reply
}

fn end(ending: Result<Ending, Error>) -> Response<Body> {
    match ending {
        Ok(Ending::Completed(recorded)) => {
            let mut reply = recorded.map(Body::whole);
            for name in [CONNECTION, KEEP_ALIVE, TRANSFER_ENCODING, UPGRADE, CONTENT_LENGTH] {
                reply.headers_mut().remove(name);
            }
            reply
        }
        Ok(Ending::Failed { attempts, error }) => {
            let detail = format!("the invocation was given up after {attempts} attempts: {error}");
            problem(StatusCode::BAD_GATEWAY, &detail)
        }
        Ok(Ending::Cancelled) => problem(StatusCode::CONFLICT, "the invocation was cancelled"),
        Err(error) => failed(&error),
    }
}

fn accepted(name: &str, id: &str, prefer: Preference) -> Response<Body> {
    let location = format!("{RECORDED}{name}/{id}");
    let body = serde_json::json!({ "invocation": format!("{name}/{id}"), "location": location });
    let mut reply = Response::new(Body::whole(body.to_string()));
    *reply.status_mut() = StatusCode::ACCEPTED;
    let headers = reply.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(location) = HeaderValue::try_from(location) {
        headers.insert(LOCATION, location);
    }
    if let Some(applied) = prefer.applied() {
        headers.insert(PREFERENCE_APPLIED, applied);
    }
    reply
}

fn name_invocation(headers: &mut HeaderMap, name: &str, id: &str) {
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(IDEMPOTENCY_KEY, value);
    }
    if let Ok(value) = HeaderValue::try_from(format!("{name}/{id}")) {
        headers.insert(INVOCATION, value);
    }
}

fn failed(error: &Error) -> Response<Body> {
    let status = match error {
        Error::Mismatch(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Error::InvalidId => StatusCode::BAD_REQUEST,
        Error::NotFound => StatusCode::NOT_FOUND,
        Error::Ended => StatusCode::CONFLICT,
        Error::Full(_) | Error::Stopped | Error::Storage(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    problem(status, &error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_path_names_component_and_id() {
        assert_eq!(recorded("/.well-known/monoplane/invocations/ns/a/id"), Some(("ns/a", "id")));
        assert_eq!(recorded("/.well-known/monoplane/invocations/ns/a"), None);
        assert_eq!(recorded("/x"), None);
    }
}
