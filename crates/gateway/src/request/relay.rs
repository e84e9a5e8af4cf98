//! A request that goes to an endpoint of a Service, and its reply.
//!
//! What fails is asked of another endpoint while that is safe: when nothing was sent, or when the method may be repeated
//! (RFC 9110, 9.2.2), the request has no body and no byte of a reply has come.

use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{CONNECTION, HOST, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::transfer::{Broken, Download, Upload};
use super::{Body, Edge, Peer, headers, problem, tunnel};
use crate::upstream::{Backend, Endpoint, Lease, Protocol, Sent};

/// How many endpoints are asked at most, and how often altogether: a connection that was found dead is no answer.
const ENDPOINTS: usize = 4;
const ATTEMPTS: usize = 8;

/// The head of a request as an endpoint gets it; kept while it may have to be sent again.
#[derive(Clone)]
struct Head {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Head {
    /// With the body that goes with it, for an endpoint of that protocol.
    fn with(self, body: Upload, protocol: Protocol) -> Request<Upload> {
        let Self { method, uri, mut headers } = self;
        let mut request = Request::new(body);
        *request.method_mut() = method;
        match protocol {
            Protocol::Http1 => *request.uri_mut() = uri,
            Protocol::Http2 => {
                let host = headers.remove(HOST);
                let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
                *request.uri_mut() = absolute(uri, authority);
                *request.version_mut() = Version::HTTP_2;
            }
        }
        *request.headers_mut() = headers;
        request
    }
}

fn absolute(uri: Uri, authority: Option<Authority>) -> Uri {
    let mut parts = uri.into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority.unwrap_or(Authority::from_static("localhost")));
    Uri::from_parts(parts).unwrap_or_default()
}

/// What a request still is when the endpoint that was asked could not take it.
enum Pending {
    /// All of it: no byte has left.
    Whole(Box<Request<Upload>>),
    /// Its head, which is all there is of it.
    Again,
}

impl Edge {
    /// Has an endpoint of the backend answer.
    pub(super) async fn relay(
        &self,
        peer: &Arc<Peer>,
        backend: &Backend,
        mut request: Request<Incoming>,
    ) -> Response<Body> {
        if let Some(refusal) = self.too_large(&request) {
            return refusal;
        }
        let version = request.version();
        let wanted = if version == Version::HTTP_11 { headers::upgrade(request.headers()) } else { None };
        let client = wanted.is_some().then(|| hyper::upgrade::on(&mut request));
        let (head, body) = prepare(request, peer, wanted);
        let upload = if body.is_end_stream() {
            Upload::none()
        } else {
            let limits = &self.ways.limits;
            Upload::of(body, limits.request_body, limits.idle)
        };
        let mut exchange = Exchange::new(peer, backend, head, &upload, client.is_some());
        match exchange.run(upload).await {
            Ok((reply, lease)) => self.pass_on(peer, reply, lease, client),
            Err(refusal) => *refusal,
        }
    }

    fn too_large(&self, request: &Request<Incoming>) -> Option<Response<Body>> {
        let limit = self.ways.limits.request_body;
        (request.body().size_hint().lower() > limit)
            .then(|| problem(StatusCode::PAYLOAD_TOO_LARGE, &Broken::TooLarge(limit).to_string()))
    }

    fn pass_on(
        &self,
        peer: &Arc<Peer>,
        mut reply: Response<Incoming>,
        lease: Lease,
        client: Option<OnUpgrade>,
    ) -> Response<Body> {
        if reply.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some((client, protocol)) = client.zip(reply.headers().get(UPGRADE).cloned()) else {
                return problem(
                    StatusCode::BAD_GATEWAY,
                    "the endpoint changes protocols and was not asked to",
                );
            };
            let endpoint = hyper::upgrade::on(&mut reply);
            let idle = self.ways.limits.idle;
            let joined = tunnel::join(client, endpoint, lease, idle, self.leaving.clone());
            let connection = peer.clone();
            peer.tasks.spawn(async move {
                joined.await;
                // It is the client's connection still, and counts as one.
                drop(connection);
            });
            headers::strip_hop_by_hop(reply.headers_mut());
            reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
            reply.headers_mut().insert(UPGRADE, protocol);
            return reply.map(|_| Body::whole(""));
        }
        headers::strip_hop_by_hop(reply.headers_mut());
        let idle = self.ways.limits.idle;
        let mut reply = reply.map(|body| Body::Relayed(Download::of(body, lease, idle)));
        *reply.version_mut() = Version::HTTP_11;
        *reply.extensions_mut() = http::Extensions::new();
        reply
    }
}

/// The head as endpoints get it, and the body as it came.
fn prepare(request: Request<Incoming>, peer: &Peer, upgrade: Option<HeaderValue>) -> (Head, Incoming) {
    let (parts, body) = request.into_parts();
    let (uri, mut headers) = (parts.uri, parts.headers);
    // A request in absolute form, as all are over HTTP/2, says there which host it is for.
    let authority = uri.authority().map(Authority::as_str);
    if let Some(host) = authority.and_then(|authority| HeaderValue::from_str(authority).ok()) {
        headers.insert(HOST, host);
    }
    if !(peer.origin.trusted && headers.contains_key(headers::FORWARDED_HOST))
        && let Some(host) = headers.get(HOST).cloned()
    {
        headers.insert(headers::FORWARDED_HOST, host);
    }
    headers::strip_hop_by_hop(&mut headers);
    headers::strip_expectation(&mut headers);
    if let Some(protocol) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
    let uri = if uri.scheme().is_none() && uri.authority().is_none() { uri } else { relative(uri) };
    (Head { method: parts.method, uri, headers }, body)
}

fn relative(uri: Uri) -> Uri {
    let mut parts = uri.into_parts();
    (parts.scheme, parts.authority) = (None, None);
    parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    Uri::from_parts(parts).unwrap_or_default()
}

/// One request, and all who are asked to answer it.
struct Exchange<'a> {
    peer: &'a Peer,
    backend: &'a Backend,
    /// The head while it is needed: at first, and as long as it may have to be sent again.
    head: Option<Head>,
    may_repeat: bool,
    only_http1: bool,
    tried: Vec<SocketAddr>,
    /// What the last one said or did.
    failure: Option<String>,
}

type Refusal = Box<Response<Body>>;

impl<'a> Exchange<'a> {
    fn new(peer: &'a Peer, backend: &'a Backend, head: Head, body: &Upload, upgrade: bool) -> Self {
        let may_repeat = head.method.is_idempotent() && body.is_end_stream() && !upgrade;
        let (tried, failure) = (Vec::new(), None);
        Self { peer, backend, head: Some(head), may_repeat, only_http1: upgrade, tried, failure }
    }

    async fn run(&mut self, body: Upload) -> Result<(Response<Incoming>, Lease), Refusal> {
        let mut body = Some(body);
        let mut returned: Option<Box<Request<Upload>>> = None;
        for _ in 0..ATTEMPTS {
            if self.tried.len() >= ENDPOINTS {
                break;
            }
            let Some(endpoint) = self.backend.pick(&self.tried) else { break };
            let mut lease = match Lease::take(endpoint.begin(), self.peer.thread, self.may_repeat).await {
                Ok(lease) => lease,
                Err(why) => {
                    tracing::debug!(backend = self.backend.name, why, "an endpoint cannot be reached");
                    endpoint.failed();
                    self.give_up(&endpoint, why);
                    continue;
                }
            };
            let request = match returned.take() {
                Some(request) => *request,
                None => self.request(body.take().unwrap_or_else(Upload::none), endpoint.protocol)?,
            };
            let pending = match lease.send(request).await {
                Sent::Reply(reply) => return Ok((reply, lease)),
                Sent::Back(request) => Pending::Whole(request),
                Sent::Lost(error) => self.lost(&error)?,
                Sent::Late => return Err(late(&endpoint)),
            };
            if let Pending::Whole(request) = pending {
                returned = Some(request);
            }
            if lease.reused {
                // It had closed the connection: that says nothing of what it does with a new one.
                lease.discard();
            } else {
                self.give_up(&endpoint, format!("{} closed the connection", endpoint.address));
            }
        }
        Err(Box::new(self.nobody()))
    }

    fn request(&mut self, body: Upload, protocol: Protocol) -> Result<Request<Upload>, Refusal> {
        if self.only_http1 && protocol == Protocol::Http2 {
            let why = "the backend speaks HTTP/2, which has no such upgrade";
            return Err(Box::new(problem(StatusCode::NOT_IMPLEMENTED, why)));
        }
        let head = if self.may_repeat { self.head.clone() } else { self.head.take() };
        let lost = || Box::new(problem(StatusCode::BAD_GATEWAY, "the request cannot be sent again"));
        head.map(|head| head.with(body, protocol)).ok_or_else(lost)
    }

    /// What to do when a request was sent and nothing came back.
    fn lost(&mut self, error: &hyper::Error) -> Result<Pending, Refusal> {
        if let Some(broken) = error.source().and_then(|source| source.downcast_ref::<Broken>()) {
            let status = match broken {
                Broken::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
                Broken::Still(_) => StatusCode::REQUEST_TIMEOUT,
                Broken::Http(_) => StatusCode::BAD_REQUEST,
            };
            return Err(Box::new(problem(status, &broken.to_string())));
        }
        if self.may_repeat && !error.is_parse() {
            return Ok(Pending::Again);
        }
        let detail = format!("the endpoint of {} gave no reply: {error}", self.backend.name);
        tracing::debug!(detail);
        Err(Box::new(problem(StatusCode::BAD_GATEWAY, &detail)))
    }

    fn give_up(&mut self, endpoint: &Endpoint, why: String) {
        self.tried.push(endpoint.address);
        self.failure = Some(why);
    }

    /// The reply when there is nobody left to ask.
    fn nobody(&mut self) -> Response<Body> {
        match self.failure.take() {
            Some(why) => problem(StatusCode::BAD_GATEWAY, &format!("{}: {why}", self.backend.name)),
            None => {
                let why = match self.backend.why_none() {
                    why if why.is_empty() => "every endpoint has as many requests as it may".to_owned(),
                    why => why,
                };
                problem(StatusCode::SERVICE_UNAVAILABLE, &format!("{}: {why}", self.backend.name))
            }
        }
    }
}

fn late(endpoint: &Endpoint) -> Refusal {
    let detail = format!("the endpoint {} takes too long to reply", endpoint.address);
    Box::new(problem(StatusCode::GATEWAY_TIMEOUT, &detail))
}
