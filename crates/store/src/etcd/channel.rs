//! The way to etcd: one connection at a time, to the first of its members that serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clock::Tasks;
use http::Uri;
use http::uri::Scheme;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::messages::{Member, STATUS};
use super::stream::{Failure, Incoming, Outgoing, open, said};
use crate::Error;

/// To connect to one member, and to hear that it serves.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// How long a member may be silent over a read before another is asked.
const READ_SILENCE: Duration = Duration::from_secs(4);
/// And over a write, which nobody else can be asked for: longer than a member itself waits for the others.
const WRITE_SILENCE: Duration = Duration::from_secs(8);
/// No attempt begins later than so after the first.
const TRY_FOR: Duration = Duration::from_secs(8);
/// The pause between attempts, which doubles.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often a connection with calls on it is asked whether it is alive, and for how long. etcd cuts off who asks more often
/// than every 5 s.
const PING: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));
/// What may be on its way to us unread: of one stream, and of all together.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 32 << 20;

/// gRPC's codes.
const DEADLINE_EXCEEDED: u32 = 4;
const UNAVAILABLE: u32 = 14;
/// What etcd says before it has done anything.
const NOTHING_DONE: [&str; 2] = ["etcdserver: no leader", "etcdserver: too many requests"];

/// Whether a call may be made again when nobody knows what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It changes nothing, or twice is as good as once.
    Always,
    /// Only when nothing can have happened.
    IfUnsent,
}

/// Where one member is.
#[derive(Clone, Debug)]
struct Endpoint {
    authority: String,
    host: String,
    port: u16,
    secure: bool,
}

/// All members, and the connection to one of them.
pub(super) struct Channel {
    endpoints: Vec<Endpoint>,
    tls: Option<Arc<rustls::ClientConfig>>,
    /// Which is tried next.
    next: AtomicUsize,
    pub(super) current: Mutex<Option<Connection>>,
    tasks: Tasks,
}

/// A connection that serves.
#[derive(Clone)]
pub(super) struct Connection {
    sender: SendRequest<Outgoing>,
    authority: String,
    /// Whether the member's word on a watch's progress can be relied on.
    pub(super) tells_progress: bool,
    /// Cancelled when others go another way: what is under way may end, what is to last moves.
    pub(super) left: CancellationToken,
}

impl Connection {
    /// Calls a method whose answer goes on.
    pub(super) async fn stream(&mut self, method: &'static str, body: Outgoing) -> Result<Incoming, Failure> {
        open(&mut self.sender, &self.authority, method, body).await
    }

    /// Calls a method. Each step of the answer may take so long.
    async fn call(
        &mut self,
        method: &'static str,
        request: &[u8],
        silence: Duration,
    ) -> Result<Bytes, Failure> {
        let silent = |_| Failure::Lost(format!("{} is silent", self.authority));
        let opening = open(&mut self.sender, &self.authority, method, Outgoing::one(request));
        let mut incoming = timeout(silence, opening).await.map_err(silent)??;
        timeout(silence, incoming.message()).await.map_err(silent)?
    }
}

impl Channel {
    /// # Errors
    /// When an endpoint is not of the form `http://HOST:PORT` or `https://HOST:PORT`, or one of the latter lacks the means.
    pub(super) fn new(
        endpoints: &[String],
        tls: Option<Arc<rustls::ClientConfig>>,
        tasks: Tasks,
    ) -> Result<Self, Error> {
        let endpoints: Vec<_> = endpoints.iter().map(|text| endpoint(text)).collect::<Result<_, _>>()?;
        if endpoints.is_empty() {
            return Err(Error::Unavailable("no etcd server is named".into()));
        }
        if tls.is_none() && endpoints.iter().any(|endpoint| endpoint.secure) {
            return Err(Error::Unavailable(
                "etcd's certificates are of an authority that is not named".into(),
            ));
        }
        Ok(Self { endpoints, tls, next: AtomicUsize::new(0), current: Mutex::default(), tasks })
    }

    /// A connection that serves: the one that others use, or a new one.
    pub(super) async fn connection(&self) -> Result<Connection, Failure> {
        let mut current = self.current.lock().await;
        if let Some(connection) = &*current
            && !connection.sender.is_closed()
            && !connection.left.is_cancelled()
        {
            return Ok(connection.clone());
        }
        let mut reasons = Vec::new();
        for _ in 0..self.endpoints.len() {
            let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.endpoints.len();
            let Some(endpoint) = self.endpoints.get(turn) else { continue };
            match timeout(CONNECT_WITHIN, self.connect(endpoint)).await {
                Ok(Ok(connection)) => {
                    *current = Some(connection.clone());
                    return Ok(connection);
                }
                Ok(Err(failure)) => reasons.push(format!("{}: {failure}", endpoint.authority)),
                Err(_) => reasons.push(format!("{} does not answer", endpoint.authority)),
            }
        }
        *current = None;
        Err(Failure::Unsent(reasons.join("; ")))
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<Connection, Failure> {
        let failed = |error: std::io::Error| Failure::Unsent(said(&error));
        let socket = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await.map_err(failed)?;
        if socket.local_addr().ok() == socket.peer_addr().ok() {
            // Where nobody listens on this machine, TCP may connect a port with itself.
            return Err(Failure::Unsent("nobody listens there".into()));
        }
        socket.set_nodelay(true).map_err(failed)?;
        let sender = match self.tls.as_ref().filter(|_| endpoint.secure) {
            None => self.converse(socket).await?,
            Some(tls) => {
                let name = ServerName::try_from(endpoint.host.clone());
                let name = name.map_err(|error| Failure::Unsent(error.to_string()))?;
                let connector = TlsConnector::from(tls.clone());
                self.converse(connector.connect(name, socket).await.map_err(failed)?).await?
            }
        };
        let (authority, left) = (endpoint.authority.clone(), CancellationToken::new());
        let mut connection = Connection { sender, authority, tells_progress: false, left };
        let member = Member::decode(connection.call(STATUS, &[], CONNECT_WITHIN).await?)?;
        if member.leader == 0 {
            return Err(Failure::Unsent("it knows of no leader".into()));
        }
        if member.forgets() {
            tracing::warn!(
                "etcd {} forgets acknowledged writes when it is killed under load: use 3.5.3 or a later release",
                member.version
            );
        }
        connection.tells_progress = member.tells_progress();
        Ok(connection)
    }

    async fn converse(
        &self,
        socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<SendRequest<Outgoing>, Failure> {
        let mut builder = Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).keep_alive_interval(PING.0).keep_alive_timeout(PING.1);
        builder.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
        let (sender, connection) =
            builder.handshake(TokioIo::new(socket)).await.map_err(|error| Failure::Unsent(said(&error)))?;
        self.tasks.spawn("etcd connection", async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = said(&error), "a connection to etcd ended");
            }
        });
        Ok(sender)
    }

    /// Calls a method, again where that is right. The failure is the last one.
    pub(super) async fn call(
        &self,
        method: &'static str,
        request: &[u8],
        repeat: Repeat,
    ) -> Result<Bytes, Failure> {
        let (began, mut pause) = (Instant::now(), PAUSE);
        loop {
            let failure = match self.attempt(method, request, repeat).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let again = match &failure {
                Failure::Unsent(_) => true,
                Failure::Lost(_) => repeat == Repeat::Always,
                Failure::TooLong(_) => false,
                Failure::Refused { message, .. } if NOTHING_DONE.contains(&message.as_str()) => true,
                Failure::Refused { code, .. } => {
                    repeat == Repeat::Always && matches!(*code, UNAVAILABLE | DEADLINE_EXCEEDED)
                }
            };
            if !again || began.elapsed() + pause > TRY_FOR {
                return Err(failure);
            }
            tracing::debug!(method, %failure, "asking etcd again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn attempt(&self, method: &'static str, request: &[u8], repeat: Repeat) -> Result<Bytes, Failure> {
        let mut connection = self.connection().await?;
        let silence = if repeat == Repeat::Always { READ_SILENCE } else { WRITE_SILENCE };
        let answered = connection.call(method, request, silence).await;
        let member_fails = match &answered {
            Err(Failure::Refused { code, .. }) => *code == UNAVAILABLE,
            Err(Failure::Unsent(_) | Failure::Lost(_)) => true,
            Ok(_) | Err(Failure::TooLong(_)) => false,
        };
        if member_fails {
            connection.left.cancel();
        }
        answered
    }
}

fn endpoint(text: &str) -> Result<Endpoint, Error> {
    let malformed =
        || Error::Unavailable(format!("etcd server {text:?} is not of the form https://HOST:PORT"));
    let uri: Uri = text.trim_end_matches('/').parse().map_err(|_| malformed())?;
    let secure = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => true,
        Some(scheme) if *scheme == Scheme::HTTP => false,
        _ => return Err(malformed()),
    };
    let authority = uri.authority().ok_or_else(malformed)?;
    let port = authority.port_u16().ok_or_else(malformed)?;
    if !matches!(uri.path(), "" | "/") || authority.as_str().contains('@') || authority.host().is_empty() {
        return Err(malformed());
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(Endpoint { authority: authority.to_string(), host, port, secure })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read() {
        let read = |text: &str| endpoint(text).map(|found| (found.host, found.port, found.secure)).ok();
        assert_eq!(read("http://127.0.0.1:2379"), Some(("127.0.0.1".into(), 2379, false)));
        assert_eq!(read("https://etcd.example:2379/"), Some(("etcd.example".into(), 2379, true)));
        assert_eq!(read("https://[::1]:2379"), Some(("::1".into(), 2379, true)));
        for bad in
            ["", "127.0.0.1:2379", "http://a", "ftp://a:1", "http://a:1/b", "http://u:p@a:1", "http://:1"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
