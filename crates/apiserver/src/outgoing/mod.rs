//! Requests to servers that objects name: webhooks, the servers behind APIServices, pods. The one place where this crate
//! speaks as a client to somebody whom an object's author chose.
//!
//! Owns: where such a server is (a URL, or the endpoints of a Service), what its certificate must be, the connections that
//! are kept to it, and the words for what goes wrong. Connections go through `egress`. Every wait is bounded by the caller,
//! and what is kept by count and age. Begin with [`Outgoing`]; a webhook's call is in `post`.

mod connection;
mod conversion;
mod post;
pub(crate) mod services;
mod trust;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use clock::{Clock, Tasks};
use egress::Connector;
use http::{Request, Response, Uri};
use registry::Registry;
use serde_json::Value;

pub(crate) use connection::{Leased, SendError};
pub use post::{CallError, Post};
pub use trust::Trust;

use crate::body::Sending;
use crate::tls::Presented;
use crate::tunnels::Tunnels;
use connection::Peer;

/// Peers to which connections are kept, as many as upstream keeps clients for.
const PEERS: usize = 200;
/// The port of a webhook that names none.
const HTTPS: u16 = 443;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A host and port, as a URL names them.
    Host {
        /// Name or address; IPv6 without brackets.
        host: String,
        /// Port.
        port: u16,
    },
    /// A host and port that a node has reported of itself or of a pod, which may be this machine's.
    Reported {
        /// Name or address; IPv6 without brackets.
        host: String,
        /// Port.
        port: u16,
        /// The node.
        node: String,
    },
    /// A port of a Service: one of its ready endpoints is asked.
    Service {
        /// The Service's namespace.
        namespace: String,
        /// The Service's name.
        name: String,
        /// The Service's port.
        port: u16,
    },
}

impl Place {
    /// Host and port, as a URL shows them.
    pub(crate) fn authority(&self) -> String {
        match self {
            Self::Host { host, port } | Self::Reported { host, port, .. } if host.contains(':') => {
                format!("[{host}]:{port}")
            }
            Self::Host { host, port } | Self::Reported { host, port, .. } => format!("{host}:{port}"),
            Self::Service { namespace, name, port } => format!("{name}.{namespace}.svc:{port}"),
        }
    }

    /// The name that the server's certificate must be for.
    fn server_name(&self) -> String {
        match self {
            Self::Host { host, .. } | Self::Reported { host, .. } => host.clone(),
            Self::Service { namespace, name, .. } => format!("{name}.{namespace}.svc"),
        }
    }
}

/// A server: where it is, and by what it is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// Where it is.
    pub place: Place,
    /// Whose certificate it must have.
    pub trust: Trust,
    /// Whether it is shown who we are: the front proxy.
    pub shown_who: bool,
}

/// A webhook, as its `clientConfig` describes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Webhook {
    /// The server.
    pub server: Server,
    /// The path there; begins with a slash.
    pub path: String,
}

impl Webhook {
    /// Reads a `clientConfig` (of an admission webhook or a conversion) that has passed validation.
    ///
    /// # Errors
    /// In upstream's words, when there is no place in it, or a caBundle without a certificate.
    pub fn of(config: &Value) -> Result<Self, CallError> {
        let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let trust = Trust::of_bundle(config.get("caBundle").and_then(Value::as_str).unwrap_or_default())?;
        let (place, path) = match (config.get("service"), text(config, "url")) {
            (Some(service), _) if service.is_object() => {
                let port = service.get("port").and_then(Value::as_u64);
                let place = Place::Service {
                    namespace: text(service, "namespace").unwrap_or_default(),
                    name: text(service, "name").unwrap_or_default(),
                    port: port.and_then(|port| u16::try_from(port).ok()).unwrap_or(HTTPS),
                };
                (place, text(service, "path").unwrap_or_default())
            }
            (_, Some(url)) => of_url(&url)?,
            _ => return Err(CallError::of("webhook configuration must have either service or URL")),
        };
        let path = if path.starts_with('/') { path } else { format!("/{path}") };
        Ok(Self { server: Server { place, trust, shown_who: false }, path })
    }
}

fn of_url(url: &str) -> Result<(Place, String), CallError> {
    let unreadable = |why: &dyn std::fmt::Display| CallError::of(format!("Unparsable URL: {why}"));
    let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| unreadable(&error))?;
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| unreadable(&"no host"))?;
    let host = host.trim_matches(['[', ']']).to_owned();
    let place = Place::Host { host, port: uri.port_u16().unwrap_or(HTTPS) };
    Ok((place, uri.path().to_owned()))
}

/// The client. It is made before the registry, which converts through it; the server then lets it look Services up there.
pub struct Outgoing {
    connector: Connector,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    /// What a server is shown that wants to know who we are.
    identity: Option<Arc<Presented>>,
    registry: Mutex<Weak<Registry>>,
    tunnels: OnceLock<Arc<Tunnels>>,
    peers: Mutex<Peers>,
}

#[derive(Default)]
struct Peers {
    known: HashMap<Server, (Arc<Peer>, u64)>,
    /// Counts uses: the peer that was used longest ago goes first.
    uses: u64,
}

impl std::fmt::Debug for Outgoing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Outgoing")
    }
}

impl Outgoing {
    /// A client whose connections are made by this connector and driven by tasks below these. `identity` is the certificate
    /// of the front proxy, for servers of aggregated APIs.
    pub fn new(
        connector: Connector,
        identity: Option<Arc<Presented>>,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Arc<Self> {
        Arc::new(Self {
            connector,
            clock,
            tasks: tasks.child(),
            identity,
            registry: Mutex::default(),
            tunnels: OnceLock::new(),
            peers: Mutex::default(),
        })
    }

    /// Looks Services and their endpoints up in this registry from now on, and reaches pods through these tunnels.
    pub(crate) fn resolve_in(&self, registry: &Arc<Registry>, tunnels: &Arc<Tunnels>) {
        // Once set, they are the same.
        self.tunnels.get_or_init(|| tunnels.clone());
        *self.registry.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(registry);
    }

    /// Sends a request; gives the answer's head, and its body as it comes. The caller bounds how long that may take.
    pub(crate) async fn send(
        &self,
        server: &Server,
        request: Request<Sending>,
    ) -> Result<Response<Leased>, SendError> {
        let peer = self.peer(server);
        connection::send(self, &peer, request).await
    }

    /// A connection on which the request was answered by a change of protocols, or the answer that refuses that.
    pub(crate) async fn upgrade(
        &self,
        server: &Server,
        request: Request<Sending>,
    ) -> Result<Response<hyper::body::Incoming>, SendError> {
        connection::upgrade(self, &self.peer(server), request).await
    }

    /// The peer of that description: known, or made and then known.
    fn peer(&self, server: &Server) -> Arc<Peer> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.uses += 1;
        let now = peers.uses;
        if let Some((peer, used)) = peers.known.get_mut(server) {
            *used = now;
            return peer.clone();
        }
        if peers.known.len() >= PEERS {
            let oldest = peers.known.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(server, _)| server.clone()) {
                peers.known.remove(&oldest);
            }
        }
        let identity = self.identity.clone().filter(|_| server.shown_who);
        let peer = Arc::new(Peer::new(server.clone(), &self.connector, identity));
        peers.known.insert(server.clone(), (peer.clone(), now));
        peer
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn where_a_webhook_is() {
        let at =
            |config: Value| Webhook::of(&config).map(|found| (found.server.place.authority(), found.path));
        let ok = |authority: &str, path: &str| Ok((authority.to_owned(), path.to_owned()));
        assert_eq!(at(json!({"url": "https://a.example/x/y"})), ok("a.example:443", "/x/y"));
        assert_eq!(at(json!({"url": "https://[::1]:8443"})), ok("[::1]:8443", "/"));
        let service = json!({"namespace": "n", "name": "s", "port": 8443, "path": "/p"});
        assert_eq!(at(json!({"service": service})), ok("s.n.svc:8443", "/p"));
        assert_eq!(at(json!({"service": {"namespace": "n", "name": "s"}})), ok("s.n.svc:443", "/"));
        assert!(at(json!({})).is_err());
        assert!(at(json!({"url": "https://"})).is_err());
    }

    #[tokio::test]
    async fn no_more_peers_are_kept_than_may_be() {
        let clock: Arc<dyn Clock> = Arc::new(clock::SystemClock::default());
        let outgoing =
            Outgoing::new(Connector::new(egress::Policy::default()), None, clock, &Tasks::default());
        let server = |number: usize| Server {
            place: Place::Host { host: format!("h{number}"), port: 1 },
            trust: Trust::Anything,
            shown_who: false,
        };
        let first = outgoing.peer(&server(0));
        for number in 0..=PEERS {
            outgoing.peer(&server(number));
        }
        assert_eq!(outgoing.peers.lock().unwrap().known.len(), PEERS);
        assert!(!Arc::ptr_eq(&first, &outgoing.peer(&server(0))));
    }
}
