//! Connections to a container, and to what it names instead.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use api::k8s::api::core::v1::TCPSocketAction;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
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
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(egress::anybody())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect(ServerName::from(host), stream).await.map_err(failed)
}
