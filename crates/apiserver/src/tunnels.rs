//! Tunnels that nodes keep to this server: the way to those that it could not reach itself.
//!
//! Owns: which node a tunnel is of (its certificate says so, and nothing else that it sends), how many each may have, and which
//! one is taken. What goes through is as secret and as proven as without: TLS to the kubelet is spoken inside.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apimachinery::status::Status;
use clock::Clock;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio_util::sync::CancellationToken;
use tunnel::{Error, Opener, Stream};

use crate::body::Body;
use crate::dial::Duplex;
use crate::relay::client_of;
use crate::respond::Answer;
use crate::server::{ApiServer, Call};

/// Where a node asks for one, which RBAC knows as a path of no resource.
pub const PATH: &str = "/monoplane/tunnel";
/// What the connection is upgraded to.
pub const PROTOCOL: &str = "monoplane-tunnel-1";

/// Tunnels of one node: it may know this server by several addresses, and have lost some that did not notice yet.
const OF_ONE_NODE: usize = 4;
/// How long a stream may take to be opened.
const PATIENCE: Duration = Duration::from_secs(10);

/// The tunnels that there are.
pub struct Tunnels {
    clock: Arc<dyn Clock>,
    /// By the node's name, the newest last.
    nodes: Mutex<HashMap<String, Vec<Held>>>,
    has_come: Notify,
}

struct Held {
    opener: Opener,
    /// Tells it to end; also what it is known by.
    end: Arc<CancellationToken>,
}

impl std::fmt::Debug for Tunnels {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tunnels").field("count", &self.count()).finish_non_exhaustive()
    }
}

impl Tunnels {
    /// None yet.
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, nodes: Mutex::default(), has_come: Notify::new() })
    }

    /// A stream to an address as the node sees it; `None`: the node has no tunnel.
    pub(crate) async fn open(&self, node: &str, host: &str, port: u16) -> Option<Result<Stream, String>> {
        let address = match host.contains(':') {
            true => format!("[{}]:{port}", host.trim_matches(['[', ']'])),
            false => format!("{host}:{port}"),
        };
        loop {
            let (opener, end) = self.newest(node)?;
            let opened = tokio::select! {
                opened = opener.open(&address) => opened,
                () = self.clock.sleep(PATIENCE) => return Some(Err("i/o timeout".to_owned())),
            };
            match opened {
                // Another one may be whole.
                Err(Error::Broken(_)) => self.remove(node, &end),
                opened => return Some(opened.map_err(|error| error.to_string())),
            }
        }
    }

    /// Returns once the node has a tunnel.
    pub(crate) async fn arrival(&self, node: &str) {
        loop {
            let mut come = std::pin::pin!(self.has_come.notified());
            come.as_mut().enable();
            if self.has(node) {
                return;
            }
            come.await;
        }
    }

    /// Whether the node has one.
    pub(crate) fn has(&self, node: &str) -> bool {
        self.nodes().contains_key(node)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.nodes().values().map(Vec::len).sum()
    }

    /// Keeps a tunnel of the node over a connection that it made, until either ends.
    pub(crate) async fn keep(&self, node: &str, connection: impl Duplex) {
        let (opener, tunnel) = match Opener::over(connection, self.clock.clone()).await {
            Ok(made) => made,
            Err(error) => return tracing::debug!(node, %error, "a node's tunnel did not begin"),
        };
        let held = self.hold(node, opener);
        tracing::info!(node, "the node has a tunnel");
        tokio::select! {
            ended = tunnel => match ended {
                Some(error) => tracing::info!(node, %error, "a tunnel of the node has ended"),
                None => tracing::info!(node, "a tunnel of the node has ended"),
            },
            () = held.end.cancelled() => tracing::info!(node, "a tunnel of the node ends: it has newer ones"),
        }
    }

    fn hold<'a>(&'a self, node: &'a str, opener: Opener) -> Holding<'a> {
        let end = Arc::new(CancellationToken::new());
        let mut nodes = self.nodes();
        let all = nodes.entry(node.to_owned()).or_default();
        if all.len() >= OF_ONE_NODE {
            all.remove(0).end.cancel();
        }
        all.push(Held { opener, end: end.clone() });
        drop(nodes);
        self.has_come.notify_waiters();
        Holding { tunnels: self, node, end }
    }

    fn newest(&self, node: &str) -> Option<(Opener, Arc<CancellationToken>)> {
        let nodes = self.nodes();
        let held = nodes.get(node)?.last()?;
        Some((held.opener.clone(), held.end.clone()))
    }

    fn remove(&self, node: &str, end: &Arc<CancellationToken>) {
        let mut nodes = self.nodes();
        let Some(all) = nodes.get_mut(node) else { return };
        all.retain(|held| !Arc::ptr_eq(&held.end, end));
        if all.is_empty() {
            nodes.remove(node);
        }
    }

    fn nodes(&self) -> MutexGuard<'_, HashMap<String, Vec<Held>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A tunnel that is among those of its node for as long as this lives.
struct Holding<'a> {
    tunnels: &'a Tunnels,
    node: &'a str,
    end: Arc<CancellationToken>,
}

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        self.tunnels.remove(self.node, &self.end);
    }
}

/// Whether a request is for a tunnel.
pub(crate) fn is_asked_for(path: &str) -> bool {
    path == PATH
}

/// Answers a node that offers a tunnel. It is kept until the node's certificate expires, if not less.
pub(crate) fn serve(
    server: &Arc<ApiServer>,
    call: &Call<'_>,
    until: Option<Timestamp>,
    permit: OwnedSemaphorePermit,
) -> Answer {
    if call.parts.method != Method::GET {
        return Err(Status::no_such_path());
    }
    let node = call.user.node().map(str::to_owned);
    let node = node.ok_or_else(|| {
        Status::bad_request("a tunnel leads to the node that asks for it, and this is none")
    })?;
    let wanted =
        call.parts.headers.get(UPGRADE).is_some_and(|wanted| wanted.as_bytes() == PROTOCOL.as_bytes());
    let client = client_of(call.parts)?;
    if !wanted {
        return Err(Status::bad_request(format!("want an upgrade to {PROTOCOL}")));
    }
    let lasts = until.map_or(Duration::MAX, |until| {
        Duration::try_from(until.duration_since(call.now)).unwrap_or_default()
    });
    let own = server.clone();
    server.upgraded.spawn("tunnel", async move {
        match client.await {
            Ok(client) => tokio::select! {
                () = own.tunnels.keep(&node, TokioIo::new(client)) => {}
                () = own.clock.sleep(lasts) => tracing::info!(node, "a tunnel ends with the node's certificate"),
                () = own.stopping.cancelled() => {}
            },
            Err(error) => tracing::debug!(%error, "a node did not begin its tunnel"),
        }
        drop(permit);
    });
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use clock::SystemClock;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::task::JoinHandle;

    use super::*;

    /// A machine's end, which connects to nothing but says which one it is.
    fn machine(number: u8) -> (DuplexStream, JoinHandle<Result<(), Error>>) {
        let (near, far) = duplex(1 << 14);
        let dial = move |_| async move {
            let (near, mut far) = duplex(8);
            far.write_u8(number).await.map_err(|error| error.to_string())?;
            Ok(near)
        };
        (near, tokio::spawn(tunnel::answer(far, Arc::new(SystemClock::default()), dial)))
    }

    fn kept(tunnels: &Arc<Tunnels>, node: &'static str, connection: DuplexStream) -> JoinHandle<()> {
        let tunnels = tunnels.clone();
        tokio::spawn(async move { tunnels.keep(node, connection).await })
    }

    async fn who(tunnels: &Tunnels, node: &str) -> Option<u8> {
        let mut stream = tunnels.open(node, "192.0.2.1", 1).await?.unwrap();
        Some(stream.read_u8().await.unwrap())
    }

    #[tokio::test]
    async fn the_newest_whole_tunnel_is_taken_and_a_node_has_few() {
        let tunnels = Tunnels::new(Arc::new(SystemClock::default()));
        assert!(who(&tunnels, "n").await.is_none());
        let mut all = Vec::new();
        for number in 1..=5 {
            let (connection, machine) = machine(number);
            all.push((kept(&tunnels, "n", connection), machine));
            while who(&tunnels, "n").await != Some(number) {
                tokio::task::yield_now().await;
            }
        }
        let (kept_other, _machine) = {
            let (connection, machine) = machine(9);
            (kept(&tunnels, "other", connection), machine)
        };
        tunnels.arrival("other").await;
        // The first had to go.
        let (first, _) = all.remove(0);
        first.await.unwrap();
        assert_eq!(tunnels.count(), OF_ONE_NODE + 1);
        for number in [4, 3, 2] {
            let (kept, machine) = all.pop().unwrap();
            machine.abort();
            kept.await.unwrap();
            assert_eq!(who(&tunnels, "n").await, Some(number));
        }
        let (kept, machine) = all.pop().unwrap();
        machine.abort();
        kept.await.unwrap();
        assert!(who(&tunnels, "n").await.is_none());
        assert_eq!(who(&tunnels, "other").await, Some(9));
        kept_other.abort();
        let _ = kept_other.await;
        assert_eq!(tunnels.count(), 0);
    }
}
