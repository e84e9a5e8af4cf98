//! The path of a request: find its target, call it, answer.

mod authority;
mod body;
mod durable;
mod problem;

use std::net::SocketAddr;
use std::sync::Arc;

use ::durable::{Terms, Worker};
use arc_swap::ArcSwap;
use bytes::Bytes;
use clock::Random;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) use body::Body;

use crate::routing::Table;
use problem::problem;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// What else clients could say of where a request came from: nobody in front of this edge does.
const FORWARDED: [HeaderName; 5] = [
    HeaderName::from_static("forwarded"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-real-ip"),
];

/// What the table's routes lead to.
pub(crate) struct Target {
    /// `namespace/name`.
    pub(crate) name: String,
    pub(crate) state: State,
}

/// Whether a target can answer.
pub(crate) enum State {
    /// Each request gets an instance.
    Serving(Arc<wasm::Component>),
    /// Each request is a durable invocation under these terms.
    Durable(Arc<wasm::Component>, Terms),
    /// It cannot answer (yet).
    NotReady(String),
}

impl State {
    /// Whether a request would not notice the difference.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Serving(one), Self::Serving(other)) => Arc::ptr_eq(one, other),
            (Self::Durable(one, terms), Self::Durable(other, others)) => {
                Arc::ptr_eq(one, other) && terms == others
            }
            (Self::NotReady(one), Self::NotReady(other)) => one == other,
            _ => false,
        }
    }
}

/// The table that is swapped as components come and go.
pub(crate) type Routes = ArcSwap<Table<Arc<Target>>>;

/// The client's end of a connection.
pub(crate) struct Peer {
    address: HeaderValue,
    scheme: HeaderValue,
}

impl Peer {
    /// Of a connection without TLS.
    pub(crate) fn plain(peer: SocketAddr) -> Self {
        let address = peer.ip().to_canonical().to_string();
        Self {
            address: HeaderValue::try_from(address).unwrap_or(HeaderValue::from_static("unknown")),
            scheme: HeaderValue::from_static("http"),
        }
    }
}

/// What every connection shares.
pub(crate) struct Edge {
    pub(crate) routes: Routes,
    /// The durable worker, while there is one.
    pub(crate) worker: watch::Receiver<Option<Worker>>,
    /// Cancelled when those who still wait for a durable reply have to be sent away.
    pub(crate) leaving: CancellationToken,
    pub(crate) random: Arc<dyn Random>,
}

impl Edge {
    pub(crate) fn worker(&self) -> Option<Worker> {
        self.worker.borrow().clone()
    }

    /// Answers a request.
    pub(crate) async fn handle<B>(&self, peer: &Peer, mut request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let target = match self.find(&request) {
            Ok(target) => target,
            Err(reply) => return *reply,
        };
        // An edge is what clients reach first: what they say about themselves in these is not believed.
        claim_nothing(request.headers_mut());
        request.headers_mut().insert(FORWARDED_FOR, peer.address.clone());
        request.headers_mut().insert(FORWARDED_PROTO, peer.scheme.clone());
        if tracing::enabled!(tracing::Level::DEBUG) {
            return self.answer_logged(&target, request).await;
        }
        self.answer(&target, request).await
    }

    async fn answer<B>(&self, target: &Target, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match &target.state {
            State::Serving(component) => match component.serve(request).await {
                Ok(reply) => reply.map(Body::from_guest),
                Err(error) => refused(&target.name, &error),
            },
            State::Durable(component, _) => self.invoke(&target.name, component, request).await,
            State::NotReady(why) => {
                let detail = format!("component {} is not ready: {why}", target.name);
                problem(StatusCode::SERVICE_UNAVAILABLE, &detail)
            }
        }
    }

    async fn answer_logged<B>(&self, target: &Target, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let began = std::time::Instant::now();
        let reply = self.answer(target, request).await;
        let (status, elapsed) = (reply.status().as_u16(), began.elapsed());
        tracing::debug!(target: "gateway::access", component = target.name, %method, path, status, ?elapsed);
        reply
    }

    /// The target of a request, or the reply to one that has none.
    fn find<B>(&self, request: &Request<B>) -> Result<Arc<Target>, Box<Response<Body>>> {
        let host = authority::host(request).map_err(|why| Box::new(problem(StatusCode::BAD_REQUEST, why)))?;
        let path = request.uri().path();
        let routes = self.routes.load();
        // Before the routes: the one for all paths would hide where the recorded replies of another component are.
        if let Some(known) = durable::recorded_path(path)
            && let Some(target) = routes.on_host(&host).find(|target| target.name == known)
        {
            return Ok(target.clone());
        }
        if let Some(target) = routes.find(&host, path) {
            return Ok(target.clone());
        }
        let detail = format!("no component has a route for host {host:?} and path {path:?}");
        Err(Box::new(problem(StatusCode::NOT_FOUND, &detail)))
    }
}

/// Takes off what a client may not say.
fn claim_nothing(headers: &mut HeaderMap) {
    // Few clients say any of it: looking costs less than removing five.
    if headers.keys().any(|name| FORWARDED.contains(name)) {
        FORWARDED.iter().for_each(|name| drop(headers.remove(name)));
    }
}

/// The reply when a component gave none.
fn refused(name: &str, error: &wasm::ServeError) -> Response<Body> {
    let status = error.status();
    if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE {
        tracing::warn!(component = name, %error, "request failed");
    }
    problem(status, &error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_says_of_itself_is_taken_off() {
        let mut headers = HeaderMap::new();
        for name in ["forwarded", "x-forwarded-host", "x-forwarded-port", "x-real-ip", "accept"] {
            headers.append(name, HeaderValue::from_static("a"));
            headers.append(name, HeaderValue::from_static("b"));
        }
        claim_nothing(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }
}
