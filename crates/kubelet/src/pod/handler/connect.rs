//! Connections to a container, and to what it names instead.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use api::k8s::api::core::v1::TCPSocketAction;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{Target, Trouble, failed};

impl Target {
    /// Connects.
    pub(crate) async fn tcp(&self, action: &TCPSocketAction) -> Result<(), Trouble> {
        let port = self.port(&action.port)?;
        self.connect(action.host.as_deref(), port).await.map(drop)
    }

    /// Connects to the pod itself, or for a pod on the node's network to the node's loopback; or to what was named
    /// instead, if whoever writes a pod may have the node reach that.
    pub(super) async fn connect(&self, host: Option<&str>, port: u16) -> Result<TcpStream, Trouble> {
        match self.own(host)? {
            Ok(address) => TcpStream::connect((address, port)).await.map_err(failed),
            Err(host) => self.connector.connect(host, port).await.map_err(|error| match error {
                egress::Error::Refused { .. } => Trouble::CannotAsk(error.to_string()),
                error => failed(error),
            }),
        }
    }

    /// The address of the pod, if that is what is asked for; else what is.
    fn own<'a>(&self, host: Option<&'a str>) -> Result<Result<IpAddr, &'a str>, Trouble> {
        let own = self.pod_ip.ok_or_else(|| failed("the pod has no address"))?;
        let Some(host) = host.filter(|host| !host.is_empty()) else { return Ok(Ok(own)) };
        let named = if host == "localhost" { Ok(Ipv4Addr::LOCALHOST.into()) } else { host.parse::<IpAddr>() };
        Ok(match named {
            Ok(address) if address == own || (self.host_network && address.is_loopback()) => Ok(address),
            _ => Err(host),
        })
    }
}

/// Speaks TLS with whoever is there. As upstream, a certificate proves nothing here: a pod's is its own affair.
pub(super) async fn secured(stream: TcpStream, host: IpAddr) -> Result<TlsStream<TcpStream>, Trouble> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect(ServerName::from(host), stream).await.map_err(failed)
}

/// Takes every certificate; the other side still has to hold its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
