//! The node's HTTPS server: logs of its containers, commands in them, their ports, and what they use, for those whose client
//! certificate admits them.

mod command;
mod find;
mod log;
mod metrics;
mod notices;
mod ports;
mod query;
mod route;
mod summary;
mod tail;
mod upgrade;

use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;

use crate::context::Context;
use crate::run::{Admits, Error, Serving};
pub(crate) use notices::Notices;
pub(crate) use tail::Tail;

/// Connections at one time.
const CONNECTIONS: usize = 256;
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A socket that listens, and how it is secured.
pub(crate) struct Listener {
    listener: tokio::net::TcpListener,
    port: u16,
    acceptor: TlsAcceptor,
    admits: Admits,
}

impl Listener {
    pub(crate) fn new(listener: std::net::TcpListener, serving: &Serving) -> Result<Self, Error> {
        listener.set_nonblocking(true).map_err(Error::Listen)?;
        let port = listener.local_addr().map_err(Error::Listen)?.port();
        let listener = tokio::net::TcpListener::from_std(listener).map_err(Error::Listen)?;
        let acceptor = TlsAcceptor::from(Arc::new(secured(serving).map_err(Error::Tls)?));
        Ok(Self { listener, port, acceptor, admits: serving.admits.clone() })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) async fn run(self, cx: Arc<Context>) {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            // Never closed, so it is always had.
            let Ok(place) = room.clone().acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let (acceptor, admits, own) = (self.acceptor.clone(), self.admits.clone(), cx.clone());
                    cx.tasks.spawn("kubelet connection", async move {
                        serve(stream, acceptor, admits, own, Arc::new(place)).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    cx.ambient.clock.sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

fn secured(serving: &Serving) -> Result<ServerConfig, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let certificates = |pem: &str| {
        CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| text(&error))
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for authority in certificates(&serving.client_authority_pem)? {
        roots.add(authority).map_err(|error| text(&error))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let key = PrivateKeyDer::from_pem_slice(serving.key_pem.as_bytes()).map_err(|error| text(&error))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| text(&error))?
        .with_client_cert_verifier(verifier.map_err(|error| text(&error))?)
        .with_single_cert(certificates(&serving.certificate_pem)?, key)
        .map_err(|error| text(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Serves a connection. Its place is held until it ends, also by what it is upgraded to.
async fn serve(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    admits: Admits,
    cx: Arc<Context>,
    place: Arc<OwnedSemaphorePermit>,
) {
    // Answers are small and often last: waiting to fill a packet would only delay them.
    let _ = stream.set_nodelay(true);
    let stream = tokio::select! {
        stream = acceptor.accept(stream) => stream,
        () = cx.ambient.clock.sleep(HANDSHAKE) => return,
    };
    let Ok(stream) = stream else { return };
    let (_, session) = stream.get_ref();
    let peer = session.peer_certificates().and_then(|certificates| certificates.first());
    let admitted = peer.is_some_and(|certificate| admits(certificate));
    let service = service_fn(move |request| route::answer(cx.clone(), admitted, request, place.clone()));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE);
    builder.http2().timer(TokioTimer::new());
    if let Err(error) = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection ended");
    }
}
