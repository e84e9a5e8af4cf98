//! The path of a request: find its target, call it, answer.

mod authority;
mod body;
mod durable;
mod headers;
mod problem;
mod relay;
mod transfer;
mod tunnel;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use ::durable::{Terms, Worker};
use clock::Random;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use ipnet::IpNet;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use body::Body;
pub(crate) use transfer::Upload;

use crate::board::Board;
use crate::instruments::{Answerer, Instruments};
use crate::upstream::{Backend, Ways};
use problem::problem;

/// What the table's routes lead to.
pub(crate) struct Target {
    /// `namespace/name`; of a Service with its port.
    pub(crate) name: String,
    pub(crate) state: State,
}

impl Target {
    fn is_component(&self, name: &str) -> bool {
        self.name == name && !matches!(self.state, State::Service(_))
    }
}

/// Whether a target can answer.
pub(crate) enum State {
    /// Each request goes to an endpoint.
    Service(Arc<Backend>),
    /// Each request gets an instance.
    Serving(Arc<wasm::Component>),
    /// Each request is a durable invocation under these terms.
    Durable(Arc<wasm::Component>, Terms),
    /// It cannot answer (yet).
    NotReady(String),
}

impl State {
    fn answerer(&self) -> Answerer {
        match self {
            Self::Service(_) => Answerer::Service,
            Self::Serving(_) => Answerer::Component,
            Self::Durable(..) => Answerer::Durable,
            Self::NotReady(_) => Answerer::None,
        }
    }

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

/// Where a connection comes from, as endpoints and guests are told.
pub(crate) struct Origin {
    address: HeaderValue,
    scheme: HeaderValue,
    /// Whether it is a proxy whose own word is taken.
    trusted: bool,
}

impl Origin {
    pub(crate) fn new(peer: SocketAddr, secure: bool, trusted: &[IpNet]) -> Self {
        let address = peer.ip().to_canonical();
        let text = HeaderValue::try_from(address.to_string());
        Self {
            address: text.unwrap_or(HeaderValue::from_static("unknown")),
            scheme: HeaderValue::from_static(if secure { "https" } else { "http" }),
            trusted: trusted.iter().any(|network| network.contains(&address)),
        }
    }
}

/// The client's end of a connection, for as long as anything of it goes on.
pub(crate) struct Peer {
    pub(crate) origin: Origin,
    /// The thread that serves it.
    pub(crate) thread: usize,
    /// The tasks of that thread, which it waits for at its end.
    pub(crate) tasks: TaskTracker,
    /// Its place among the connections at a time.
    pub(crate) _place: Box<dyn Send + Sync>,
}

/// What every connection shares.
pub(crate) struct Edge {
    /// Who claims which hosts and paths, and the table that follows.
    pub(crate) board: Board,
    /// The way to what stands behind Services.
    pub(crate) ways: Arc<Ways>,
    /// Networks of proxies in front of this edge.
    pub(crate) trusted: Vec<IpNet>,
    /// The durable worker, while there is one.
    pub(crate) worker: watch::Receiver<Option<Worker>>,
    /// Cancelled when those who still wait for a durable reply have to be sent away, and upgraded connections end.
    pub(crate) leaving: CancellationToken,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) instruments: Arc<Instruments>,
}

impl Edge {
    pub(crate) fn worker(&self) -> Option<Worker> {
        self.worker.borrow().clone()
    }

    /// Answers a request.
    pub(crate) async fn handle(&self, peer: &Arc<Peer>, mut request: Request<Incoming>) -> Response<Body> {
        let began = Instant::now();
        let (answerer, reply) = match self.find(&request) {
            Ok(target) => {
                headers::tell_origin(request.headers_mut(), &peer.origin);
                (target.state.answerer(), self.answer_and_log(peer, &target, request).await)
            }
            Err(reply) => (Answerer::None, *reply),
        };
        self.instruments.note(answerer, reply.status(), began.elapsed());
        reply
    }

    async fn answer(&self, peer: &Arc<Peer>, target: &Target, request: Request<Incoming>) -> Response<Body> {
        match &target.state {
            State::Service(backend) => self.relay(peer, backend, request).await,
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

    /// With the access log, a line a request.
    async fn answer_and_log(
        &self,
        peer: &Arc<Peer>,
        target: &Target,
        request: Request<Incoming>,
    ) -> Response<Body> {
        if !tracing::enabled!(target: "gateway::access", tracing::Level::DEBUG) {
            return self.answer(peer, target, request).await;
        }
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let host = authority::host(&request).map(|host| host.into_owned()).unwrap_or_default();
        let began = Instant::now();
        let reply = self.answer(peer, target, request).await;
        let (status, elapsed, client) = (reply.status().as_u16(), began.elapsed(), &peer.origin.address);
        tracing::debug!(target: "gateway::access", to = target.name, ?client, host, %method, path, status, ?elapsed);
        reply
    }

    /// The target of a request, or the reply to one that has none.
    fn find<B>(&self, request: &Request<B>) -> Result<Arc<Target>, Box<Response<Body>>> {
        let host = authority::host(request).map_err(|why| Box::new(problem(StatusCode::BAD_REQUEST, why)))?;
        if request.method() == Method::CONNECT {
            let refusal = problem(StatusCode::METHOD_NOT_ALLOWED, "the gateway is no proxy of its clients");
            return Err(Box::new(refusal));
        }
        let path = request.uri().path();
        let routes = self.board.routes.load();
        // Before the routes: the one for all paths would hide where the recorded replies of another component are.
        if let Some(known) = durable::recorded_path(path)
            && let Some(target) = routes.on_host(&host).find(|target| target.is_component(known))
        {
            return Ok(target.clone());
        }
        if let Some(target) = routes.find(&host, path) {
            return Ok(target.clone());
        }
        let detail = format!("nothing has a route for host {host:?} and path {path:?}");
        Err(Box::new(problem(StatusCode::NOT_FOUND, &detail)))
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
