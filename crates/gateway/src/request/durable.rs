//! Requests to durable components: each is an invocation with an id, which outlives the connection.
//!
//! The id comes in `Idempotency-Key` (IETF draft) or is made here. The first request with an id starts the invocation;
//! later ones attach to it or get its recorded reply. `Prefer: respond-async` and `wait` (RFC 7240) bound how long the
//! reply is waited for; then the answer is 202 with a `Location` where the reply can be had.

mod prefer;

use std::time::Duration;

use ::durable::{Ending, Error};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, LOCATION, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::problem::problem;
use super::{Body, Edge, State};
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
        name: &str,
        component: &wasm::Component,
        request: Request<B>,
    ) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let prefer = Preference::of(request.headers());
        let path = request.uri().path();
        let known = recorded(path).filter(|(of, _)| *of == name).map(|(_, id)| id.to_owned());
        let (id, reply) = match known {
            Some(id) => {
                let reply = self.look_up(&request, name, &id, prefer).await;
                (id, reply)
            }
            None => {
                let id = match self.id(request.headers()) {
                    Ok(id) => id,
                    Err(why) => return problem(StatusCode::BAD_REQUEST, why),
                };
                let reply = match read(request, component, &id).await {
                    Ok(request) => self.submit(name, &id, request, prefer).await,
                    Err(reply) => *reply,
                };
                (id, reply)
            }
        };
        named(reply, name, &id)
    }

    /// Begins the invocation, or attaches to it, and waits for its end as long as the client wishes.
    async fn submit(
        &self,
        name: &str,
        id: &str,
        request: Request<Bytes>,
        prefer: Preference,
    ) -> Response<Body> {
        // The component may have changed while the body was on its way, and its old revision be gone.
        let target = match self.find(&request) {
            Ok(target) => target,
            Err(reply) => return *reply,
        };
        let (component, terms) = match &target.state {
            State::Durable(component, terms) if target.name == name => (component, *terms),
            _ => return problem(StatusCode::SERVICE_UNAVAILABLE, "the component changed meanwhile"),
        };
        let Some(worker) = self.worker() else { return failed(&Error::Stopped) };
        let submission = match worker.submit(component.revision(), id, request, terms).await {
            Ok(submission) => submission,
            Err(error) => return failed(&error),
        };
        drop(worker);
        let patience = prefer.patience().unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
        // One that has already ended is told at once even to those who would not wait.
        self.wait(submission.ending(), patience).await.unwrap_or_else(|| accepted(name, id, prefer))
    }

    /// The recorded reply of an invocation, or word that there is none yet.
    async fn look_up<B>(
        &self,
        request: &Request<B>,
        name: &str,
        id: &str,
        prefer: Preference,
    ) -> Response<Body> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return problem(StatusCode::METHOD_NOT_ALLOWED, "a recorded reply can only be read");
        }
        let Some(worker) = self.worker() else { return failed(&Error::Stopped) };
        let invocation = match worker.status(name, id) {
            // Whose it is not is not told that there is one.
            Ok(found) => found.map(|found| found.invocation).filter(|of| of.was_begun_by(request.headers())),
            Err(error) => return failed(&error),
        };
        let Some(invocation) = invocation else {
            return problem(StatusCode::NOT_FOUND, "no such invocation was begun with these credentials");
        };
        let patience = match invocation.phase.ended() {
            Some(_) => LONGEST_WAIT,
            None => prefer.patience().unwrap_or(Duration::ZERO).min(LONGEST_WAIT),
        };
        let ending = async move { worker.await_reply(name, id).await };
        self.wait(ending, patience).await.unwrap_or_else(|| accepted(name, id, prefer))
    }

    /// The reply to an ending that comes in time; `None`: it did not.
    async fn wait(
        &self,
        ending: impl Future<Output = Result<Ending, Error>>,
        patience: Duration,
    ) -> Option<Response<Body>> {
        tokio::select! {
            biased;
            ended = tokio::time::timeout(patience, ending) => ended.ok().map(end),
            () = self.leaving.cancelled() => Some(failed(&Error::Stopped)),
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

/// Every reply says which invocation it is about, so that one can ask again.
fn named(mut reply: Response<Body>, name: &str, id: &str) -> Response<Body> {
    let headers = reply.headers_mut();
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(IDEMPOTENCY_KEY, value);
    }
    if let Ok(value) = HeaderValue::try_from(format!("{name}/{id}")) {
        headers.insert(INVOCATION, value);
    }
    reply
}

fn failed(error: &Error) -> Response<Body> {
    let status = match error {
        Error::Mismatch(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Error::InvalidId => StatusCode::BAD_REQUEST,
        Error::NotFound => StatusCode::NOT_FOUND,
        Error::Ended => StatusCode::CONFLICT,
        Error::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        Error::Full(_) => StatusCode::TOO_MANY_REQUESTS,
        Error::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
        Error::Stopped | Error::Storage(_) => StatusCode::SERVICE_UNAVAILABLE,
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
