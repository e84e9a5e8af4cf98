//! HTTP requests of guests, on their way out.

mod bodies;

use std::fmt;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use effects::{Class, Halt};
use http::header::{HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use self::bodies::{Bodies, Paced};
use crate::choke::{Function, Outcome, Recording, through_as};
use crate::component::Component;
use crate::interfaces::replay::IDEMPOTENCY_KEY;

/// Requests of one instance under way at a time; the others wait.
const CONCURRENCY: usize = 32;
/// Where the guest sets no time limits of its own.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(60);
/// Time between two pieces of an answer.
const BETWEEN_BYTES_TIMEOUT: Duration = Duration::from_secs(60);

const HANDLE: Function = Function::new("wasi:http/outgoing-handler", "handle");

type Driver = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = Result<(Response<WasiBody>, Driver), Error>;

/// Sends the requests of one instance. Most instances send none, and nothing is made for them.
pub(crate) struct Outgoing {
    component: Arc<Component>,
    recording: Recording,
    /// What the next request of a durable guest waits for before it is sent.
    held: Option<oneshot::Receiver<()>>,
    /// Why the instance has to end; found by a request's own task.
    halt: Option<Arc<OnceLock<Halt>>>,
    places: Option<Arc<Semaphore>>,
    bodies: Bodies,
}

impl Outgoing {
    pub(crate) fn new(component: Arc<Component>, recording: Recording) -> Self {
        let bodies = Bodies::new(recording.is_some());
        Self { component, recording, held: None, halt: None, places: None, bodies }
    }

    pub(crate) fn hold_next(&mut self, until: oneshot::Receiver<()>) {
        self.held = Some(until);
    }

    pub(crate) fn halt(&self) -> Option<Halt> {
        self.halt.as_ref()?.get().cloned()
    }
}

impl WasiHttpHooks for Outgoing {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Driver,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let component = self.component.clone();
        match (&self.recording, self.held.take()) {
            (Some(_), Some(held)) => {
                let recording = self.recording.clone();
                let halt = self.halt.get_or_insert_with(Arc::default).clone();
                // It is read whole into memory of its own, which has a limit of its own.
                let (head, body) = request.into_parts();
                let request = Request::from_parts(head, self.bodies.send(body).body);
                Box::new(send_recorded(component, recording, halt, held, request, options))
            }
            _ => {
                let places = self.places.get_or_insert_with(|| Arc::new(Semaphore::new(CONCURRENCY))).clone();
                let request = request.map(|body| self.bodies.send(body));
                Box::new(async move {
                    let _place = places.acquire_owned().await;
                    let (response, driver) = exchange(&component, request, &Limits::new(options)).await?;
                    let driver: Driver = Box::new(driver);
                    Ok((response.map(BodyExt::boxed_unsync), driver))
                })
            }
        }
    }

    /// Called once for each body, before its chunk size is asked for.
    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        self.bodies.made()
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        self.bodies.chunk()
    }

    fn p2_error_from_hyper(
        &mut self,
        error: &hyper::Error,
    ) -> wasmtime_wasi_http::p2::bindings::http::types::ErrorCode {
        tracing::debug!(component = %self.component.name, %error, "request of a guest failed");
        wasmtime_wasi_http::p2::bindings::http::types::ErrorCode::HttpProtocolError
    }
}

struct Limits {
    connect: Duration,
    first_byte: Duration,
    between_bytes: Duration,
}

impl Limits {
    fn new(options: Option<RequestOptions>) -> Self {
        let options = options.unwrap_or_default();
        Self {
            connect: options.connect_timeout.unwrap_or(CONNECT_TIMEOUT),
            first_byte: options.first_byte_timeout.unwrap_or(FIRST_BYTE_TIMEOUT),
            between_bytes: options.between_bytes_timeout.unwrap_or(BETWEEN_BYTES_TIMEOUT),
        }
    }
}

/// Why a request got no answer: what is told to the guest, and recorded.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Failure {
    Denied,
    Prohibited,
    Unresolved(String),
    Unconnected,
    ConnectTimeout,
    AnswerTimeout,
    Tls,
    Protocol,
    BodyTooLarge,
    Invalid(String),
}

/// Told to the guest, which knows what to make of a peer that does not answer.
impl Outcome for Failure {}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Denied => Self::HttpRequestDenied,
            Failure::Prohibited => Self::DestinationIpProhibited,
            Failure::Unresolved(why) => Self::DnsError { rcode: Some(why), info_code: None },
            Failure::Unconnected => Self::ConnectionRefused,
            Failure::ConnectTimeout => Self::ConnectionTimeout,
            Failure::AnswerTimeout => Self::ConnectionReadTimeout,
            Failure::Tls => Self::TlsProtocolError,
            Failure::Protocol => Self::HttpProtocolError,
            Failure::BodyTooLarge => Self::HttpResponseBodySize(None),
            Failure::Invalid(why) => Self::InternalError(Some(why)),
        }
    }
}

impl From<egress::Error> for Failure {
    fn from(error: egress::Error) -> Self {
        match error {
            egress::Error::Resolve { .. } => Self::Unresolved(error.to_string()),
            egress::Error::Refused { .. } => Self::Prohibited,
            egress::Error::Connect { .. } => Self::Unconnected,
            egress::Error::Timeout { .. } => Self::ConnectTimeout,
            egress::Error::Tls { .. } => Self::Tls,
        }
    }
}

/// Where a request goes.
struct Target {
    https: bool,
    host: String,
    port: u16,
}

impl Target {
    fn of(uri: &Uri) -> Result<Self, Failure> {
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(Failure::Invalid("scheme must be http or https".into())),
        };
        let authority = uri.authority().ok_or_else(|| Failure::Invalid("no host".into()))?;
        let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
        Ok(Self { https, host: authority.host().to_ascii_lowercase(), port })
    }
}

/// Sends a request, if the component may, over a connection of its own.
async fn exchange<B>(
    component: &Component,
    mut request: Request<B>,
    limits: &Limits,
) -> Result<(Response<Paced>, Connection), Failure>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let target = Target::of(request.uri())?;
    let allowed = &component.spec.allowed_outbound_hosts;
    let open = component.spec.surroundings.network;
    if !open && !allowed.iter().any(|allowed| allowed.admits(target.https, &target.host, target.port)) {
        let (component, host, port) = (&component.name, &target.host, target.port);
        tracing::info!(%component, host, port, "request refused: the host is not among those allowed");
        return Err(Failure::Denied);
    }
    // Over a connection to the server itself the target is the path; the host stands in its header.
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    let egress = &component.host.egress;
    if target.https {
        let connecting = egress.connect_tls(&target.host, target.port);
        let stream = timeout(limits.connect, connecting).await.map_err(|_| Failure::ConnectTimeout)??;
        speak(stream, request, limits).await
    } else {
        let connecting = egress.connect(&target.host, target.port);
        let stream = timeout(limits.connect, connecting).await.map_err(|_| Failure::ConnectTimeout)??;
        speak(stream, request, limits).await
    }
}

async fn speak<B>(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<B>,
    limits: &Limits,
) -> Result<(Response<Paced>, Connection), Failure>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|_| Failure::Protocol)?;
    // A task of its own, ended with the request: the connection has to be driven while the guest does other things.
    let driver = spawn(async move { connection.await.map_err(Error::from) });
    match timeout(limits.first_byte, sender.send_request(request)).await {
        Ok(Ok(response)) => {
            Ok((response.map(|body| Paced::new(body, limits.between_bytes)), Connection(driver)))
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "request of a guest failed");
            Err(Failure::Protocol)
        }
        Err(_) => Err(Failure::AnswerTimeout),
    }
}

/// Drives a connection; ends when the connection does.
struct Connection(AbortOnDropJoinHandle<Result<(), Error>>);

impl Future for Connection {
    type Output = Result<(), Error>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0).poll(cx)
    }
}

/// An answer as it is recorded.
#[derive(Serialize, Deserialize)]
struct Answer {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

/// What the journal recognises a request by.
#[derive(Serialize)]
struct Fingerprint<'a> {
    method: &'a str,
    uri: String,
    headers: Vec<(&'a str, &'a [u8])>,
    body: [u8; 32],
}

/// Sends a durable guest's request, whole, when it is let go, and records the answer, whole.
async fn send_recorded(
    component: Arc<Component>,
    recording: Recording,
    halt: Arc<OnceLock<Halt>>,
    held: oneshot::Receiver<()>,
    request: Request<WasiBody>,
    options: Option<RequestOptions>,
) -> Sent {
    let limit = component.spec.limits.buffered_body;
    let (parts, body) = request.into_parts();
    let body = collect(body, limit).await.map_err(|_| Error::HttpRequestBodySize(Some(limit)))?;
    let (Some(recorder), Ok(())) = (recording, held.await) else {
        return Err(Error::InternalError(None));
    };
    let class = match parts.method {
        Method::GET | Method::HEAD => Class::RemoteRead,
        _ => Class::Write,
    };
    let fingerprint = Fingerprint {
        method: parts.method.as_str(),
        uri: parts.uri.to_string(),
        headers: parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect(),
        body: Sha256::digest(&body).into(),
    };
    let perform = |key: Option<String>| {
        let mut request = Request::from_parts(parts.clone(), Full::new(body.clone()));
        if class == Class::Write {
            identify(&mut request, key.as_deref());
        }
        let component = &component;
        async move { exchange_whole(component, request, &Limits::new(options), limit).await }
    };
    match through_as(&recorder, class, HANDLE, &fingerprint, perform).await {
        Ok(Ok(answer)) => answer.into_response(),
        Ok(Err(failure)) => Err(failure.into()),
        Err(error) => {
            let text = error.to_string();
            match error.downcast::<Halt>() {
                Ok(found) => drop(halt.set(found)),
                Err(error) => {
                    tracing::warn!(component = %component.name, %error, "recording a request failed")
                }
            }
            Err(Error::InternalError(Some(text)))
        }
    }
}

/// Gives a request its key, unless the guest has.
fn identify<B>(request: &mut Request<B>, key: Option<&str>) {
    if let Some(key) = key.and_then(|key| HeaderValue::from_str(key).ok()) {
        request.headers_mut().entry(IDEMPOTENCY_KEY).or_insert(key);
    }
}

async fn exchange_whole(
    component: &Component,
    request: Request<Full<Bytes>>,
    limits: &Limits,
    body_limit: u64,
) -> Result<Answer, Failure> {
    let (response, _connection) = exchange(component, request, limits).await?;
    let (parts, body) = response.into_parts();
    let body = match timeout(limits.first_byte, collect(body, body_limit)).await {
        Ok(body) => body?,
        Err(_) => return Err(Failure::AnswerTimeout),
    };
    Ok(Answer {
        status: parts.status.as_u16(),
        headers: parts
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
            .collect(),
        body: body.into(),
    })
}

async fn collect<B>(body: B, limit: u64) -> Result<Bytes, Failure>
where
    B: hyper::body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + fmt::Display,
{
    let limited = Limited::new(body, usize::try_from(limit).unwrap_or(usize::MAX));
    match limited.collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(Failure::BodyTooLarge),
        Err(error) if matches!(error.downcast_ref(), Some(Error::ConnectionReadTimeout)) => {
            Err(Failure::AnswerTimeout)
        }
        Err(_) => Err(Failure::Protocol),
    }
}

impl Answer {
    fn into_response(self) -> Sent {
        let mut response =
            Response::new(Full::new(Bytes::from(self.body)).map_err(Error::from).boxed_unsync());
        *response.status_mut() =
            http::StatusCode::from_u16(self.status).map_err(|_| Error::HttpProtocolError)?;
        for (name, value) in self.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Error::HttpProtocolError)?;
            let value = HeaderValue::from_bytes(&value).map_err(|_| Error::HttpProtocolError)?;
            response.headers_mut().append(name, value);
        }
        Ok((response, Box::new(std::future::ready(Ok(())))))
    }
}
