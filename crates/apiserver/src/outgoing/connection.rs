//! Connections to one server, kept while nobody uses them.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use clock::{Clock, Instant};
use egress::Connector;
use http::{HeaderValue, Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::services::{self, Endpoint};
use super::{Outgoing, Place, Server, Trust};
use crate::body::{BodyError, Sending};
use crate::dial::Duplex;
use crate::tls::Presented;

/// Connections kept to one server.
const KEPT: usize = 16;
/// How long one is kept that nobody uses: less than servers of Go keep theirs, so that seldom one is found closed.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// Its server's address may not be used.
    #[error("{0}")]
    Refused(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl SendError {
    pub(crate) fn of(error: &dyn std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}

/// One server.
pub(crate) struct Peer {
    server: Server,
    connector: Result<Connector, String>,
    idle: Mutex<Vec<(SendRequest<Sending>, Instant)>>,
    turn: AtomicUsize,
}

impl Peer {
    pub(super) fn new(server: Server, connector: &Connector, identity: Option<Arc<Presented>>) -> Self {
        let connector = match server.place {
            Place::Reported { .. } => connector.reaching_own(),
            _ => connector.clone(),
        };
        let config = server.trust.config(identity);
        let connector = config.map(|config| match config {
            Some(config) => connector.with_tls(config),
            None => connector,
        });
        Self { server, connector, idle: Mutex::default(), turn: AtomicUsize::new(0) }
    }

    /// A connection that was kept, the one used last first.
    fn kept(&self, now: Instant) -> Option<SendRequest<Sending>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((sender, since)) = idle.pop() {
            if now.since(since) < KEPT_FOR && !sender.is_closed() {
                return Some(sender);
            }
        }
        None
    }

    fn keep(&self, sender: SendRequest<Sending>, now: Instant) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(kept, since)| now.since(*since) < KEPT_FOR && !kept.is_closed());
        if idle.len() < KEPT && !sender.is_closed() {
            idle.push((sender, now));
        }
    }

    /// A new connection, driven by a task of the client's.
    async fn connect(&self, outgoing: &Outgoing) -> Result<SendRequest<Sending>, SendError> {
        let connector = self.connector.as_ref().map_err(|why| SendError::of(why))?;
        let mut last = None;
        for endpoint in self.places(outgoing).await.map_err(SendError::Failed)? {
            match self.connect_to(outgoing, connector, &endpoint).await {
                Ok(sender) => return Ok(sender),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| SendError::of(&"no address to connect to")))
    }

    async fn connect_to(
        &self,
        outgoing: &Outgoing,
        connector: &Connector,
        endpoint: &Endpoint,
    ) -> Result<SendRequest<Sending>, SendError> {
        let name = self.server.place.server_name();
        let stream = outgoing.reach(connector, endpoint, &name).await?;
        if self.server.trust == Trust::Plain {
            return speak(outgoing, stream).await;
        }
        let stream = connector.secure(&name, &endpoint.host, stream).await;
        speak(outgoing, stream.map_err(|error| why(&error, &name))?).await
    }

    async fn places(&self, outgoing: &Outgoing) -> Result<Vec<Endpoint>, String> {
        match &self.server.place {
            Place::Host { host, port } => {
                Ok(vec![Endpoint { host: host.clone(), port: *port, node: String::new() }])
            }
            Place::Reported { host, port, node } => {
                Ok(vec![Endpoint { host: host.clone(), port: *port, node: node.clone() }])
            }
            Place::Service { namespace, name, port } => {
                let registry = outgoing.registry.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
                let registry = registry.ok_or("Services are not known yet")?;
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                services::endpoints(&registry, (namespace, name, *port), turn).await
            }
        }
    }

    fn prepare(&self, request: &mut Request<Sending>) -> Result<(), SendError> {
        if !request.headers().contains_key(header::HOST) {
            let host = HeaderValue::try_from(self.server.place.authority());
            request.headers_mut().insert(header::HOST, host.map_err(|error| SendError::of(&error))?);
        }
        Ok(())
    }
}

impl Outgoing {
    /// A connection to an endpoint: through its node's tunnel if there is one.
    async fn reach(
        &self,
        connector: &Connector,
        endpoint: &Endpoint,
        name: &str,
    ) -> Result<Box<dyn Duplex>, SendError> {
        let Endpoint { host, port, node } = endpoint;
        let failed = |error: egress::Error| why(&error, name);
        let tunnels = self.tunnels.get().filter(|tunnels| tunnels.has(node));
        let Some(tunnels) = tunnels else {
            return Ok(Box::new(connector.connect(host, *port).await.map_err(failed)?));
        };
        connector.judge(host, *port).await.map_err(failed)?;
        let opened = tunnels.open(node, host, *port).await;
        let opened = opened.unwrap_or_else(|| Err("the tunnel of its node has just ended".to_owned()));
        let at = Place::Host { host: host.clone(), port: *port }.authority();
        Ok(Box::new(opened.map_err(|error| SendError::Failed(format!("dial tcp {at}: connect: {error}")))?))
    }
}

/// Sends over a kept connection, or else a new one. A kept one that turns out to be closed before anything was written is
/// no failure.
pub(super) async fn send(
    outgoing: &Outgoing,
    peer: &Arc<Peer>,
    mut request: Request<Sending>,
) -> Result<Response<Leased>, SendError> {
    peer.prepare(&mut request)?;
    let is_sent = Arc::new(AtomicBool::new(false));
    let mut request = request.map(|body| Watched { body, is_sent: is_sent.clone() }.boxed_unsync());
    loop {
        let kept = peer.kept(outgoing.clock.monotonic());
        let is_kept = kept.is_some();
        let mut sender = match kept {
            Some(sender) => sender,
            None => peer.connect(outgoing).await?,
        };
        if sender.ready().await.is_err() && is_kept {
            continue;
        }
        match sender.try_send_request(request).await {
            Ok(response) => {
                let lease = Lease { clock: outgoing.clock.clone(), peer: peer.clone(), sender, is_sent };
                return Ok(response.map(|body| Leased { body, lease: Some(lease) }));
            }
            Err(mut error) => match error.take_message().filter(|_| is_kept) {
                Some(unsent) => request = unsent,
                None => return Err(SendError::of(&error.into_error())),
            },
        }
    }
}

/// Sends over a connection of its own.
pub(super) async fn upgrade(
    outgoing: &Outgoing,
    peer: &Arc<Peer>,
    mut request: Request<Sending>,
) -> Result<Response<Incoming>, SendError> {
    peer.prepare(&mut request)?;
    let mut sender = peer.connect(outgoing).await?;
    sender.send_request(request).await.map_err(|error| SendError::of(&error))
}

/// The connection that an answer comes over.
struct Lease {
    clock: Arc<dyn Clock>,
    peer: Arc<Peer>,
    sender: SendRequest<Sending>,
    /// Whether the request has been sent to its end.
    is_sent: Arc<AtomicBool>,
}

/// A request's body, of which it is noted when the connection is done with it.
struct Watched {
    body: Sending,
    is_sent: Arc<AtomicBool>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.is_sent.store(true, Ordering::Release);
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body. Once it has been read to its end its connection is kept; if it is dropped before, that is closed.
pub(crate) struct Leased {
    body: Incoming,
    lease: Option<Lease>,
}

impl Body for Leased {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let ended = matches!(&polled, Poll::Ready(None)) || self.body.is_end_stream();
        if ended
            && let Some(Lease { clock, peer, sender, is_sent }) = self.lease.take()
            // One that was answered early still takes what it was sent: nobody waits for that.
            && is_sent.load(Ordering::Acquire)
        {
            peer.keep(sender, clock.monotonic());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        // Asked once more it gives its connection back.
        self.lease.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// HTTP/1.1 over a connection, driven by a task of the client's.
async fn speak<S>(outgoing: &Outgoing, stream: S) -> Result<SendRequest<Sending>, SendError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let made = http1::Builder::new().handshake(TokioIo::new(stream)).await;
    let (sender, connection) = made.map_err(|error| SendError::of(&error))?;
    outgoing.tasks.spawn("connection to a server that an object names", async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection ended");
        }
    });
    Ok(sender)
}

fn why(error: &egress::Error, name: &str) -> SendError {
    match error {
        egress::Error::Refused { .. } => SendError::Refused(words(error, name)),
        _ => SendError::Failed(words(error, name)),
    }
}

/// What went wrong, in the words in which clients know it.
fn words(error: &egress::Error, name: &str) -> String {
    use egress::Error::{Connect, Refused, Resolve, Timeout, Tls};
    match error {
        Connect { host, port, source } => {
            let at = Place::Host { host: host.clone(), port: *port }.authority();
            match source.kind() {
                std::io::ErrorKind::ConnectionRefused => {
                    format!("dial tcp {at}: connect: connection refused")
                }
                _ => format!("dial tcp {at}: connect: {source}"),
            }
        }
        Resolve { host, .. } => format!("dial tcp: lookup {host}: no such host"),
        Refused { .. } => format!("{error} (see the server's --webhook-allow)"),
        Timeout { .. } => "context deadline exceeded".to_owned(),
        Tls { source, .. } => {
            let inner = source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            match inner {
                Some(rustls::Error::InvalidCertificate(why)) => {
                    format!("tls: failed to verify certificate: x509: {}", unfit(why, name))
                }
                Some(error) => format!("tls: {error}"),
                None => format!("tls: {source}"),
            }
        }
    }
}

fn unfit(why: &rustls::CertificateError, name: &str) -> String {
    use rustls::CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet,
        NotValidYetContext, UnknownIssuer,
    };
    match why {
        UnknownIssuer | BadSignature => "certificate signed by unknown authority".to_owned(),
        Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. } => {
            "certificate has expired or is not yet valid".to_owned()
        }
        NotValidForName | NotValidForNameContext { .. } => {
            format!("certificate is not valid for any names, but wanted to match {name}")
        }
        other => other.to_string(),
    }
}

/// The future, or that it took too long.
pub(super) async fn within<T>(
    outgoing: &Outgoing,
    patience: Duration,
    work: impl Future<Output = T>,
) -> Result<T, SendError> {
    tokio::select! {
        biased;
        done = work => Ok(done),
        () = outgoing.clock.sleep(patience) => Err(SendError::of(&"context deadline exceeded")),
    }
}
