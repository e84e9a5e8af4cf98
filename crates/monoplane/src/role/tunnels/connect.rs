//! How a node's tunnel begins: HTTPS to a server under the node's certificate, and a request to change the protocol.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use apiserver::Duplex;
use apiserver::tunnels::{PATH, PROTOCOL};
use bytes::Bytes;
use client::Ambient;
use http::header::{CONNECTION, HOST, UPGRADE, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use pki::Credential;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a node proves itself by, and whom it believes.
pub struct Door(TlsConnector);

impl Door {
    /// By the node's certificate, to servers of that authority (PEM).
    ///
    /// # Errors
    /// When either cannot be used.
    pub fn new(authority: &str, credential: Credential) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
            roots.add(certificate.context("the authority's certificate")?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![credential.certificate], credential.key)
            .context("the node's certificate")?;
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// A connection on which the server may begin to speak.
    ///
    /// # Errors
    /// When there is no way to the server, or it does not want a tunnel.
    pub async fn connect(&self, server: &Uri, ambient: &Ambient) -> Result<impl Duplex + use<>> {
        tokio::select! {
            connected = self.ask(server) => connected,
            () = ambient.clock.sleep(PATIENCE) => anyhow::bail!("no answer in time"),
        }
    }

    async fn ask(&self, server: &Uri) -> Result<impl Duplex + use<>> {
        let authority = server.authority().context("no host")?;
        let (host, port) = (authority.host().trim_matches(['[', ']']), authority.port_u16().unwrap_or(443));
        let stream = TcpStream::connect((host, port)).await.context("connecting")?;
        // What comes out of a terminal is small, and somebody waits for it.
        stream.set_nodelay(true)?;
        let stream = self.0.connect(ServerName::try_from(host.to_owned())?, stream).await.context("TLS")?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::get(PATH)
            .header(HOST, authority.as_str())
            .header(USER_AGENT, "kubelet")
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, PROTOCOL)
            .body(Empty::<Bytes>::new())?;
        // The connection ends by giving itself away, or because nothing more is asked on it.
        let asked = async move { sender.send_request(request).await.map(|response| response.map(drop)) };
        let (response, ended) = tokio::join!(asked, connection.with_upgrades());
        let mut response = response?;
        let status = response.status();
        ensure!(status == StatusCode::SWITCHING_PROTOCOLS, "the server wants no tunnel: {status}");
        ended?;
        Ok(TokioIo::new(hyper::upgrade::on(&mut response).await?))
    }
}
