//! Resolving, judging, connecting.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::machine::Machine;
use crate::policy::{Policy, Refusal};
use crate::tls::client_config;

/// A TLS connection.
pub type TlsStream = tokio_rustls::client::TlsStream<TcpStream>;

/// Addresses of one name that are tried; a name with more is not helped by trying them all.
const ADDRESSES_TRIED: usize = 8;
/// How long nothing may come before the other side is asked whether it is still there, and again.
const PROBED: Duration = Duration::from_secs(15);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name has no address.
    #[error("cannot resolve {host}: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// All of its addresses are refused.
    #[error("connecting to {host} is refused: {address} is {refusal}")]
    Refused {
        /// The name.
        host: String,
        /// The first of its addresses.
        address: IpAddr,
        /// Why it is refused.
        refusal: Refusal,
    },
    /// Nobody answers at the addresses that may be used.
    #[error("cannot connect to {host}:{port}: {source}")]
    Connect {
        /// The name.
        host: String,
        /// The port.
        port: u16,
        /// What the system said of the last address.
        source: io::Error,
    },
    /// It took too long; the text says what.
    #[error("{what} {host} took longer than {} ms", limit.as_millis())]
    Timeout {
        /// What was being done.
        what: &'static str,
        /// The name.
        host: String,
        /// How long that may take.
        limit: Duration,
    },
    /// TLS was not agreed on, or the certificate is not the name's.
    #[error("TLS with {host}: {source}")]
    Tls {
        /// The name.
        host: String,
        /// What TLS said.
        source: io::Error,
    },
}

/// Opens connections to where a [`Policy`] allows. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connector {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    policy: Policy,
    machine: Machine,
    timeout: Duration,
    /// Made at first use: its list of authorities costs memory that a process without HTTPS need not have.
    tls: OnceLock<Arc<ClientConfig>>,
}

impl Connector {
    /// A connector whose resolving, connecting and TLS handshake may each take ten seconds.
    pub fn new(policy: Policy) -> Self {
        Self::with_timeout(policy, Duration::from_secs(10))
    }

    /// A connector with another limit for each of its steps.
    pub fn with_timeout(policy: Policy, timeout: Duration) -> Self {
        Self {
            shared: Arc::new(Shared { policy, machine: Machine::default(), timeout, tls: OnceLock::new() }),
        }
    }

    /// The same connector with other TLS settings, for servers that have their own authority.
    #[must_use]
    pub fn with_tls(&self, config: Arc<ClientConfig>) -> Self {
        let shared = Shared {
            policy: self.shared.policy.clone(),
            timeout: self.shared.timeout,
            tls: config.into(),
            machine: Machine::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The same connector, for what a node has said of itself and its pods: that may be this machine.
    #[must_use]
    pub fn reaching_own(&self) -> Self {
        let shared = Shared {
            policy: Policy { own: true, ..self.shared.policy.clone() },
            timeout: self.shared.timeout,
            tls: self.shared.tls.clone(),
            machine: Machine::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Connects to `host` (a name or an address, IPv6 with or without brackets).
    pub async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, Error> {
        let host = bare(host);
        let mut last = None;
        for address in self.addresses(host, port).await? {
            match timeout(self.shared.timeout, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    prepare(&stream);
                    return Ok(stream);
                }
                Ok(Err(error)) => last = Some(Error::Connect { host: host.into(), port, source: error }),
                Err(_) => last = Some(self.timed_out("connecting to", host)),
            }
        }
        Err(last.unwrap_or_else(|| self.timed_out("connecting to", host)))
    }

    /// Connects to `host` and speaks TLS with it, offering HTTP/1.1.
    pub async fn connect_tls(&self, host: &str, port: u16) -> Result<TlsStream, Error> {
        self.connect_tls_for(host, host, port).await
    }

    /// The same with a server whose certificate is to be for `name`, whatever name or address it is reached at.
    pub async fn connect_tls_for(&self, name: &str, host: &str, port: u16) -> Result<TlsStream, Error> {
        let stream = self.connect(host, port).await?;
        self.secure(name, host, stream).await
    }

    /// Speaks TLS over a connection to `host`, whose certificate is to be for `name`.
    ///
    /// # Errors
    /// When it is not, or no TLS is spoken there.
    pub async fn secure<S>(
        &self,
        name: &str,
        host: &str,
        stream: S,
    ) -> Result<tokio_rustls::client::TlsStream<S>, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (name, host) = (bare(name), bare(host));
        let failed = |source| Error::Tls { host: host.into(), source };
        let name = ServerName::try_from(name.to_owned()).map_err(|error| failed(io::Error::other(error)))?;
        let config = match self.shared.tls.get() {
            Some(config) => config.clone(),
            None => {
                let config = client_config().map_err(|error| failed(io::Error::other(error)))?;
                self.shared.tls.get_or_init(|| config).clone()
            }
        };
        let handshake = tokio_rustls::TlsConnector::from(config).connect(name, stream);
        match timeout(self.shared.timeout, handshake).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => Err(self.timed_out("the TLS handshake with", host)),
        }
    }

    /// Whether it would connect to `host`, for who reaches it by another way.
    ///
    /// # Errors
    /// Why not.
    pub async fn judge(&self, host: &str, port: u16) -> Result<(), Error> {
        self.addresses(bare(host), port).await.map(drop)
    }

    /// The addresses of `host` that may be used: at least one.
    async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
        let resolved: Vec<SocketAddr> = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => match timeout(self.shared.timeout, tokio::net::lookup_host((host, port))).await {
                Ok(Ok(addresses)) => addresses.collect(),
                Ok(Err(source)) => return Err(Error::Resolve { host: host.into(), source }),
                Err(_) => return Err(self.timed_out("resolving", host)),
            },
        };
        let is_own = |address| self.shared.machine.has(address);
        let judged = resolved
            .iter()
            .map(|address| (address, self.shared.policy.judge(host, address.ip(), port, is_own)));
        let mut refused = None;
        let mut allowed = Vec::new();
        for (address, verdict) in judged {
            match verdict {
                Ok(()) => allowed.push(*address),
                Err(refusal) => {
                    refused.get_or_insert((address.ip(), refusal));
                }
            }
        }
        allowed.truncate(ADDRESSES_TRIED);
        match (allowed.is_empty(), refused) {
            (false, _) => Ok(allowed),
            (true, Some((address, refusal))) => Err(Error::Refused { host: host.into(), address, refusal }),
            (true, None) => {
                let source = io::Error::new(io::ErrorKind::NotFound, "it has no address");
                Err(Error::Resolve { host: host.into(), source })
            }
        }
    }

    fn timed_out(&self, what: &'static str, host: &str) -> Error {
        Error::Timeout { what, host: host.into(), limit: self.shared.timeout }
    }
}

/// Sends at once, and notices when the other machine is gone.
fn prepare(stream: &TcpStream) {
    // Requests and replies are written whole; waiting to join small ones only delays them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let probes = TcpKeepalive::new().with_time(PROBED).with_interval(PROBED);
    if let Err(error) = SockRef::from(stream).set_tcp_keepalive(&probes) {
        tracing::debug!(%error, "cannot set SO_KEEPALIVE");
    }
}

/// Without the brackets that an IPv6 address wears in a URI.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}
