//! The way to kubelets: HTTPS, with the server's own client certificate, to a serving certificate of the plane's authority that
//! names the address dialled. Through the node's tunnel if it has one, for then its address may be another machine's here.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clock::Clock;
use futures::StreamExt;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyDataStream;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use pki::Authority;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Presented;
use super::config::{TlsError, provider, roots};
use crate::body::{BodyError, Sending};
use crate::dial::{DialError, Duplex, NodeAddress, NodeAnswer, NodeDialer, NodeReply};
use crate::tunnels::Tunnels;

/// How long connecting and the head of the answer may take; the body may go on for as long as it likes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Dials kubelets over HTTPS.
pub struct HttpsDialer {
    connector: TlsConnector,
    tunnels: Arc<Tunnels>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for HttpsDialer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("HttpsDialer")
    }
}

impl HttpsDialer {
    /// Trusts the authority, and shows this client certificate, as it is at each handshake.
    ///
    /// # Errors
    /// When the authority's certificate cannot be trusted.
    pub fn new(
        authority: &Authority,
        client: Arc<Presented>,
        tunnels: Arc<Tunnels>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, TlsError> {
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots(authority)?)
            .with_client_cert_resolver(client);
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), tunnels, clock })
    }

    /// Sends a request over a connection of its own; gives the answer's head, and what drives the connection.
    async fn ask(&self, node: &NodeAddress, mut request: Request<Sending>) -> Result<Sent, DialError> {
        let failed = |error: &dyn std::fmt::Display| DialError::Unreachable(error.to_string());
        let host = node.host.trim_matches(['[', ']']);
        let stream = self.connect(&node.name, host, node.port).await?;
        let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(&error))?;
        let tls = self.connector.connect(name, stream).await.map_err(|error| failed(&error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.map_err(|error| failed(&error))?;
        let host = HeaderValue::try_from(format!("{}:{}", node.host, node.port));
        request.headers_mut().insert(header::HOST, host.map_err(|error| failed(&error))?);
        // The connection is driven here until the answer has a head, and then by whoever reads the body: it needs no
        // task of its own, and ends when the reader goes.
        let mut driving: Driving = Box::pin(connection.with_upgrades());
        let mut has_ended = false;
        let response = {
            let mut response = std::pin::pin!(sender.send_request(request));
            tokio::select! {
                response = &mut response => response.map_err(|error| failed(&error))?,
                ended = &mut driving => {
                    has_ended = true;
                    let ended = ended.err().map_or_else(|| "connection closed".to_owned(), |error| error.to_string());
                    // The answer may have arrived with the end.
                    match futures::FutureExt::now_or_never(response) {
                        Some(Ok(response)) => response,
                        _ => return Err(DialError::Unreachable(ended)),
                    }
                }
            }
        };
        Ok(Sent { response, connection: (!has_ended).then_some(driving), sender })
    }

    /// Whichever way there is. A tunnel that comes while nobody answers is taken: its node may just have lost it.
    async fn connect(&self, node: &str, host: &str, port: u16) -> Result<Box<dyn Duplex>, DialError> {
        let direct = async {
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(stream)
        };
        if !self.tunnels.has(node) {
            tokio::select! {
                biased;
                () = self.tunnels.arrival(node) => {}
                stream = direct => {
                    let stream = stream.map_err(|error| DialError::Unreachable(error.to_string()))?;
                    return Ok(Box::new(stream));
                }
            }
        }
        match self.tunnels.open(node, host, port).await {
            Some(Ok(stream)) => Ok(Box::new(stream)),
            Some(Err(why)) => Err(DialError::Unreachable(why)),
            None => Err(DialError::Unreachable("its tunnel has just ended".to_owned())),
        }
    }

    async fn patiently<T>(
        &self,
        node: &NodeAddress,
        asked: impl Future<Output = Result<T, DialError>>,
    ) -> Result<T, DialError> {
        tokio::select! {
            answer = asked => answer,
            () = self.clock.sleep(PATIENCE) => {
                Err(DialError::Unreachable(format!("no answer from {}:{} in time", node.host, node.port)))
            }
        }
    }
}

/// Drives a connection to its end.
type Driving = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// A request that was answered.
struct Sent {
    response: Response<Incoming>,
    /// `None`: it has ended.
    connection: Option<Driving>,
    sender: SendRequest<Sending>,
}

impl Sent {
    fn answer(self) -> NodeAnswer {
        let Self { response, connection, sender } = self;
        let (head, body) = response.into_parts();
        let body = BodyDataStream::new(body);
        let state = (body, connection, sender);
        let body = futures::stream::unfold(state, |(mut body, mut connection, sender)| async move {
            let chunk = loop {
                let Some(driving) = connection.as_mut() else { break body.next().await };
                tokio::select! {
                    biased;
                    chunk = body.next() => break chunk,
                    _ = driving => connection = None,
                }
            };
            let chunk = chunk?.map_err(BodyError::from);
            Some((chunk, (body, connection, sender)))
        });
        NodeAnswer { head, body: body.boxed() }
    }

    async fn upgraded(self) -> Result<NodeReply, DialError> {
        let failed = |error: hyper::Error| DialError::Unreachable(error.to_string());
        let Self { mut response, connection, .. } = self;
        let headers = std::mem::take(response.headers_mut());
        // The connection ends by giving itself away.
        if let Some(connection) = connection {
            connection.await.map_err(failed)?;
        }
        let upgraded = hyper::upgrade::on(&mut response).await;
        Ok(NodeReply::Switched(headers, Box::new(TokioIo::new(upgraded.map_err(failed)?))))
    }
}

#[async_trait]
impl NodeDialer for HttpsDialer {
    async fn send(&self, node: &NodeAddress, request: Request<Sending>) -> Result<NodeReply, DialError> {
        let asked = async {
            let sent = self.ask(node, request).await?;
            match sent.response.status() {
                StatusCode::SWITCHING_PROTOCOLS => sent.upgraded().await,
                _ => Ok(NodeReply::Answered(sent.answer())),
            }
        };
        self.patiently(node, asked).await
    }
}
