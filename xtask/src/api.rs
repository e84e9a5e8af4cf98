//! A client of the API for benchmarks and soaks: hyper and rustls and nothing else, so that what is measured is the server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use harness::Plane;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// The longest that an answer's head may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the API is, whom it trusts and who asks.
#[derive(Clone)]
pub struct Api {
    address: SocketAddr,
    connector: TlsConnector,
    token: Arc<str>,
}

impl Api {
    /// The API of this plane, for the owner of a token.
    ///
    /// # Errors
    /// When the plane's certificate cannot be read.
    pub fn new(plane: &Plane, token: &str) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        let trust = plane.data().join("server/pki/ca.crt");
        roots.add(CertificateDer::from_pem_file(&trust).with_context(|| trust.display().to_string())?)?;
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let url = plane.endpoint("api");
        let address = url.trim_start_matches("https://").parse().with_context(|| url.clone())?;
        Ok(Self { address, connector: TlsConnector::from(Arc::new(config)), token: token.into() })
    }

    /// A connection of its own, over which requests go one after the other.
    ///
    /// # Errors
    /// When there is none.
    pub async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::IpAddress(self.address.ip().into());
        let stream = self.connector.connect(name, stream).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Ends with its sender; what it has to say is said to the request that it breaks.
        tokio::spawn(connection);
        Ok(Connection { sender, token: self.token.clone() })
    }
}

/// One connection.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    token: Arc<str>,
}

impl Connection {
    /// Sends a request and gives the head of what comes back.
    ///
    /// # Errors
    /// When the connection breaks, or nothing comes within a minute.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Response<Incoming>> {
        self.sender.ready().await?;
        let form = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", form)
            .body(Full::new(body.into()))?;
        Ok(tokio::time::timeout(PATIENCE, self.sender.send_request(request)).await??)
    }

    /// The same, and reads the whole answer.
    ///
    /// # Errors
    /// As [`Connection::send`]'s.
    pub async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<(StatusCode, Bytes)> {
        let answer = self.send(method, path, body).await?;
        let status = answer.status();
        let body = tokio::time::timeout(PATIENCE, answer.into_body().collect()).await??.to_bytes();
        Ok((status, body))
    }

    /// The same, and insists on success.
    ///
    /// # Errors
    /// As [`Connection::send`]'s, and when the server says no.
    pub async fn must(&mut self, method: Method, path: &str, body: impl Into<Bytes>) -> Result<Bytes> {
        let (status, answer) = self.ask(method, path, body).await?;
        if !status.is_success() {
            bail!("{path}: {status}: {}", String::from_utf8_lossy(&answer));
        }
        Ok(answer)
    }
}
