//! Sockets: accepting, TLS, and one HTTP connection after the other, each bounded in number and in time.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use clock::Tasks;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::activity::{Activity, Answering};
use super::strangers::{Stranger, Strangers};
use crate::{ApiServer, Connection};

/// Bounds on connections.
#[derive(Clone, Copy, Debug)]
pub struct Sockets {
    /// How many at once; further ones wait to be accepted.
    pub connections: usize,
    /// How many of them may be of clients that have not said who they are, by certificate or token.
    pub strangers: usize,
    /// How long a handshake may take.
    pub handshake: Duration,
    /// How long a connection may be idle, or take to send the head of a request, or not take what it was answered.
    pub idle: Duration,
    /// The same for a client that has not said who it is.
    pub strangers_idle: Duration,
    /// How long requests under way may go on when the server stops.
    pub drain: Duration,
    /// Bytes of ciphertext that may wait for a slow client.
    pub buffer: usize,
    /// Requests at once on one HTTP/2 connection.
    pub streams: u32,
}

impl Default for Sockets {
    fn default() -> Self {
        Self {
            connections: 4096,
            strangers: 1024,
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(90),
            strangers_idle: Duration::from_secs(10),
            drain: Duration::from_secs(5),
            // rustls cuts off at 64 KiB by itself, which costs large lists a third of their speed.
            buffer: 1024 * 1024,
            streams: 250,
        }
    }
}

/// A listening socket for one server.
pub struct Listener {
    socket: TcpListener,
    server: Arc<ApiServer>,
    acceptor: TlsAcceptor,
    sockets: Sockets,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Listener").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Listener {
    /// Serves the API over this socket.
    pub fn new(
        socket: TcpListener,
        server: Arc<ApiServer>,
        tls: Arc<ServerConfig>,
        sockets: Sockets,
    ) -> Self {
        Self { socket, server, acceptor: TlsAcceptor::from(tls), sockets }
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// When the system cannot say.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts until `stop`; then lets requests under way end, for as long as they may.
    pub async fn run(self, stop: CancellationToken) {
        let connections = Tasks::under(&CancellationToken::new());
        let places = Arc::new(Semaphore::new(self.sockets.connections));
        let strangers = Strangers::new(self.sockets.strangers);
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { break };
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = stop.cancelled() => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, mostly: wait for some to be given back.
                    tracing::warn!(%error, "cannot accept a connection");
                    self.server.clock.sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let one = One {
                server: self.server.clone(),
                acceptor: self.acceptor.clone(),
                sockets: self.sockets,
                stop: stop.clone(),
            };
            let stranger = strangers.admit();
            connections.spawn("connection", async move {
                one.serve(stream, peer, stranger).await;
                drop(place);
            });
        }
        self.server.begin_to_stop();
        let clock = self.server.clock.clone();
        let deadline = clock.monotonic() + self.sockets.drain;
        while connections.running() > 0 && clock.monotonic() < deadline {
            clock.sleep(Duration::from_millis(20)).await;
        }
        connections.stop().await;
    }
}

/// One connection on its way.
struct One {
    server: Arc<ApiServer>,
    acceptor: TlsAcceptor,
    sockets: Sockets,
    stop: CancellationToken,
}

impl One {
    async fn serve(self, stream: TcpStream, peer: SocketAddr, stranger: Stranger) {
        // Without this the last segment of a large answer waits for the client's delayed acknowledgement.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
        }
        let handshake = self.acceptor.accept(stream);
        let mut tls = tokio::select! {
            done = handshake => match done {
                Ok(tls) => tls,
                Err(error) => {
                    tracing::debug!(%peer, %error, "TLS handshake failed");
                    return;
                }
            },
            () = self.server.clock.sleep(self.sockets.handshake) => return,
            () = stranger.ousted() => return,
            () = self.stop.cancelled() => return,
        };
        tls.get_mut().1.set_buffer_limit(Some(self.sockets.buffer));
        let is_http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        let chain = tls.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
        let connection = match self.server.connect(&chain, Some(peer)) {
            Ok(connection) => Arc::new(connection),
            Err(error) => {
                tracing::debug!(%peer, %error, "connection refused");
                return;
            }
        };
        let activity = Activity::new(self.server.clock.clone());
        let service = service(&self.server, connection.clone(), activity.clone());
        let io = TokioIo::new(tls);
        let outcome = if is_http2 {
            let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .max_concurrent_streams(self.sockets.streams)
                .keep_alive_interval(Duration::from_secs(30))
                .keep_alive_timeout(Duration::from_secs(15))
                .max_send_buf_size(self.sockets.buffer);
            let serving = builder.serve_connection(io, service);
            self.drive(serving, |serving| serving.graceful_shutdown(), &connection, &activity, stranger).await
        } else {
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(self.sockets.idle);
            let serving = builder.serve_connection(io, service).with_upgrades();
            self.drive(serving, |serving| serving.graceful_shutdown(), &connection, &activity, stranger).await
        };
        if let Err(error) = outcome {
            tracing::debug!(%peer, %error, "connection ended");
        }
    }

    /// Serves the connection until either side ends it, it is given to another protocol, or nothing has happened on it for long enough.
    async fn drive<C, E>(
        &self,
        serving: C,
        shut_down: impl Fn(Pin<&mut C>),
        connection: &Connection,
        activity: &Activity,
        stranger: Stranger,
    ) -> Result<(), E>
    where
        C: Future<Output = Result<(), E>>,
    {
        let mut serving = std::pin::pin!(serving);
        let over = async {
            tokio::select! {
                () = connection.known() => {}
                () = stranger.ousted() => return Over::AtOnce,
                () = activity.rested(self.sockets.strangers_idle) => return Over::Gracefully,
            }
            drop(stranger);
            activity.rested(self.sockets.idle).await;
            Over::Gracefully
        };
        tokio::select! {
            outcome = serving.as_mut() => return outcome,
            () = self.stop.cancelled() => {
                shut_down(serving.as_mut());
                return serving.await;
            }
            over = over => match over {
                Over::AtOnce => return Ok(()),
                Over::Gracefully => shut_down(serving.as_mut()),
            },
        }
        tokio::select! {
            outcome = serving => outcome,
            () = self.server.clock.sleep(self.sockets.drain) => Ok(()),
        }
    }
}

/// How the server ends a connection.
enum Over {
    /// Somebody else needs its place.
    AtOnce,
    /// It has rested for long enough; a request that comes at this very moment is still answered.
    Gracefully,
}

/// The server, as HTTP sees it from one connection.
fn service(
    server: &Arc<ApiServer>,
    connection: Arc<Connection>,
    activity: Arc<Activity>,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = Response<Answering>,
    Error = Infallible,
    Future = BoxFuture<'static, Result<Response<Answering>, Infallible>>,
> {
    let server = server.clone();
    service_fn(move |request| {
        let (server, connection) = (server.clone(), connection.clone());
        let under_way = activity.begin();
        async move {
            let response = server.handle(request, &connection).await;
            Ok(response.map(|body| under_way.answer(body)))
        }
        .boxed()
    })
}
