//! HTTP/1.1 to registries: connections through `egress`, kept for as long as an image takes; redirects; patience.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::RegistryError;
use super::config::Hosts;
use super::url::{Origin, Url};

/// How many redirects are followed.
const REDIRECTS: usize = 10;
/// Connections to one origin that are kept.
const KEPT: usize = 8;
/// How much of a file is read at once.
const PIECE: usize = 256 << 10;
const AGENT: HeaderValue = HeaderValue::from_static("monoplane");

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// What is sent; it can be sent again.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    None,
    Bytes(Bytes),
    /// A part of a file.
    File {
        path: PathBuf,
        offset: u64,
        size: u64,
    },
}

impl Payload {
    fn len(&self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Bytes(bytes) => Some(bytes.len() as u64),
            Self::File { size, .. } => Some(*size),
        }
    }

    /// The body; what has gone out is counted.
    async fn body(&self, sent: &Arc<AtomicU64>) -> std::io::Result<Body> {
        let (path, offset, size) = match self {
            Self::None => return Ok(Empty::new().map_err(|never| match never {}).boxed_unsync()),
            Self::Bytes(bytes) => {
                return Ok(Full::new(bytes.clone()).map_err(|never| match never {}).boxed_unsync());
            }
            Self::File { path, offset, size } => (path, *offset, *size),
        };
        let mut file = tokio::fs::File::open(path).await?;
        file.seek(std::io::SeekFrom::Start(offset)).await?;
        let sent = sent.clone();
        let pieces = futures::stream::try_unfold((file.take(size), sent), |(mut file, sent)| async move {
            let mut piece = bytes::BytesMut::with_capacity(PIECE);
            let count = file.read_buf(&mut piece).await?;
            sent.fetch_add(count as u64, Ordering::Relaxed);
            Ok((count > 0).then(|| (Frame::data(piece.freeze()), (file, sent))))
        });
        Ok(StreamBody::new(pieces).boxed_unsync())
    }
}

/// Ends its task when nobody needs the connection any more.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Connection {
    sender: SendRequest<Body>,
    driver: Arc<Driver>,
}

/// An answer, whose body is still to come.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Who really answered.
    pub(crate) url: Url,
    body: Incoming,
    patience: Duration,
    _driver: Arc<Driver>,
}

impl Answer {
    /// The next bytes of the body; `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            let frame = timeout(self.patience, self.body.frame()).await;
            match frame.map_err(|_| stalled(&self.url, self.patience))? {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
                Some(Err(error)) => return Err(RegistryError::broken(&self.url, Chain(&error))),
            }
        }
    }

    /// The whole body, which may have so many bytes.
    pub(crate) async fn bytes(&mut self, limit: u64) -> Result<Vec<u8>, RegistryError> {
        let mut whole = Vec::new();
        while let Some(bytes) = self.chunk().await? {
            if (whole.len() + bytes.len()) as u64 > limit {
                return Err(RegistryError::protocol(
                    &self.url,
                    format!("an answer of more than {limit} bytes"),
                ));
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(whole)
    }

    pub(crate) fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// A client for as long as one image takes.
pub(crate) struct Http {
    hosts: Arc<Hosts>,
    idle: Mutex<HashMap<Origin, Vec<Connection>>>,
    /// How long nothing may happen.
    patience: Duration,
}

impl Http {
    pub(crate) fn new(hosts: Arc<Hosts>, patience: Duration) -> Self {
        Self { hosts, idle: Mutex::default(), patience }
    }

    /// Sends a request. Reading follows redirects, and takes no authorization to another origin.
    pub(crate) async fn send(
        &self,
        method: &Method,
        url: &Url,
        mut headers: HeaderMap,
        payload: &Payload,
    ) -> Result<Answer, RegistryError> {
        let mut url = url.clone();
        for _ in 0..=REDIRECTS {
            let answer = self.once(method, &url, &headers, payload).await?;
            let reads = matches!(*method, Method::GET | Method::HEAD);
            let location = answer.header(LOCATION).filter(|_| reads && answer.status.is_redirection());
            let Some(location) = location else { return Ok(answer) };
            let next = url.join(location)?;
            if url.origin.https && !next.origin.https {
                return Err(RegistryError::protocol(&url, format!("a redirect from https to {next}")));
            }
            if next.origin != url.origin {
                headers.remove(AUTHORIZATION);
            }
            url = next;
        }
        Err(RegistryError::protocol(&url, format!("more than {REDIRECTS} redirects")))
    }

    async fn once(
        &self,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
        payload: &Payload,
    ) -> Result<Answer, RegistryError> {
        let broken = |error: &dyn std::error::Error| RegistryError::broken(url, Chain(error));
        loop {
            let (mut connection, fresh) = match self.kept(&url.origin) {
                Some(connection) => (connection, false),
                None => (self.connect(&url.origin).await?, true),
            };
            let sent = Arc::new(AtomicU64::new(0));
            let mut request = Request::new(payload.body(&sent).await.map_err(|error| broken(&error))?);
            *request.method_mut() = method.clone();
            *request.uri_mut() = url.path.parse().map_err(|_| RegistryError::protocol(url, "not a path"))?;
            *request.headers_mut() = headers.clone();
            let host = HeaderValue::from_str(&url.origin.authority());
            let host = host.map_err(|_| RegistryError::protocol(url, "not a host name"))?;
            request.headers_mut().insert(HOST, host);
            request.headers_mut().insert(USER_AGENT, AGENT);
            if let Some(length) = payload.len() {
                request.headers_mut().insert(CONTENT_LENGTH, length.into());
            }
            let answer = connection.sender.send_request(request);
            let response = match self.patiently(answer, &sent).await {
                None => return Err(stalled(url, self.patience)),
                Some(Ok(response)) => response,
                // It was closed while it lay idle: that says nothing of the server.
                Some(Err(error)) if !fresh && (error.is_canceled() || error.is_closed()) => continue,
                Some(Err(error)) => return Err(broken(&error)),
            };
            let (head, body) = response.into_parts();
            let driver = connection.driver.clone();
            self.keep(&url.origin, connection);
            return Ok(Answer {
                status: head.status,
                headers: head.headers,
                url: url.clone(),
                body,
                patience: self.patience,
                _driver: driver,
            });
        }
    }

    /// Waits for as long as something happens; `None`: nothing does.
    async fn patiently<F: Future>(&self, future: F, sent: &AtomicU64) -> Option<F::Output> {
        let mut future = std::pin::pin!(future);
        let mut before = 0;
        loop {
            if let Ok(output) = timeout(self.patience, future.as_mut()).await {
                return Some(output);
            }
            let now = sent.load(Ordering::Relaxed);
            if now == before {
                return None;
            }
            before = now;
        }
    }

    fn kept(&self, origin: &Origin) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.get_mut(origin)?;
        kept.retain(|connection| !connection.sender.is_closed());
        // One whose answer is still being read is not ready.
        let ready = kept.iter().position(|connection| connection.sender.is_ready())?;
        Some(kept.swap_remove(ready))
    }

    fn keep(&self, origin: &Origin, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.entry(origin.clone()).or_default();
        if kept.len() < KEPT {
            kept.push(connection);
        }
    }

    async fn connect(&self, origin: &Origin) -> Result<Connection, RegistryError> {
        let connector = self.hosts.connector(&origin.authority());
        let (host, port) = (origin.host.as_str(), origin.port);
        if origin.https {
            speak(connector.connect_tls(host, port).await?, origin).await
        } else {
            speak(connector.connect(host, port).await?, origin).await
        }
    }
}

async fn speak<S>(stream: S, origin: &Origin) -> Result<Connection, RegistryError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let broken = |error: hyper::Error| RegistryError::broken(&origin.authority(), error);
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let driver = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to a registry ended badly");
        }
    });
    Ok(Connection { sender, driver: Arc::new(Driver(driver)) })
}

fn stalled(url: &Url, patience: Duration) -> RegistryError {
    RegistryError::broken(url, format!("nothing came for {} s", patience.as_secs()))
}

/// An error with what it comes from: hyper's own words say little.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
