//! The gateway: where clients' requests enter, and how they reach components and Services.
//!
//! Owns: the listeners and the threads that serve them, TLS with clients, the immutable route table that is swapped as
//! objects change, the connections to endpoints of Services, the HTTP face of durable invocations, and two controllers.
//! One turns Components and KeyValueStores of the API into the component host's plain values, the other Ingresses into
//! routes, endpoints and certificates; both report back in their objects' status. It keeps serving when the API is away,
//! and starts components from its own copy of the objects when it comes up without one.
//!
//! Never does: run guests itself (`wasm` does), record what they do (`durable` does), or read flags and environment. It
//! sees the world through `client`, as any user of the API.
//!
//! Begin with [`serve`]. [`routing`] decides where a request goes; `request` is what happens to it; `upstream` is the way
//! to endpoints; `components` and `ingress` follow the API.

mod board;
mod components;
mod ingress;
mod instruments;
mod joined;
mod request;
pub mod routing;
mod secrets;
mod server;
mod upstream;

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use capabilities::Stores;
use client::{Ambient, Client, EventRecorder};
use clock::Tasks;
use egress::Connector;
use ipnet::IpNet;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

pub use components::Maxima;
pub use ingress::CONTROLLER as INGRESS_CONTROLLER;
pub use server::ServerLimits;
pub use upstream::ProxyLimits;

use components::{Controller, Setup};
use request::Edge;
use server::Entrance;
use server::tls::{Certificates, certified, stand_in};
use upstream::Ways;

/// What a gateway is made of.
pub struct Options {
    /// Listening sockets, bound by whoever chose the ports. Plain HTTP/1.1, and HTTP/2 with prior knowledge.
    pub listeners: Vec<TcpListener>,
    /// The same for HTTP over TLS.
    pub tls_listeners: Vec<TcpListener>,
    /// The certificates and the key, as PEM, for clients that ask for a name that has none; without, one that nobody
    /// trusts is made.
    pub default_certificate: Option<(Vec<u8>, Vec<u8>)>,
    /// Where clients reach the gateway: addresses or names, for the status of Ingresses.
    pub addresses: Vec<String>,
    /// Networks of proxies in front of the gateway, whose word on where a request came from is taken.
    pub trusted: Vec<IpNet>,
    /// The API, as this edge's identity.
    pub client: Client,
    /// Time and chance.
    pub ambient: Ambient,
    /// The name of this machine, for events.
    pub node: Option<String>,
    /// Runs components.
    pub host: wasm::Host,
    /// The key-value stores that they are given.
    pub stores: Arc<Stores>,
    /// The way out, for stores on other servers and for endpoints of Services.
    pub egress: Connector,
    /// Runs durable components; while there is none they answer 503.
    pub worker: watch::Receiver<Option<durable::Worker>>,
    /// A folder of the gateway's own: its copy of the objects, and embedded stores.
    pub data_dir: PathBuf,
    /// Whether components may name files of this machine as their source. For development: whoever may write a
    /// Component can then have any file read that this process can.
    pub allow_files: bool,
    /// The most that components may ask for in their limits.
    pub maxima: Maxima,
    /// Bounds.
    pub limits: ServerLimits,
    /// Bounds of requests to Services.
    pub proxy: ProxyLimits,
    /// Where Prometheus may ask what was counted.
    pub metrics: Option<TcpListener>,
}

/// Why the gateway could not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory cannot be used.
    #[error("the gateway's data directory {}: {error}", .path.display())]
    DataDir {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The listeners or their threads.
    #[error("the gateway cannot serve: {0}")]
    Serve(std::io::Error),
    /// The certificate for names that have none.
    #[error("the default certificate: {0}")]
    Certificate(std::io::Error),
}

/// How long connections wait for the components that were served before a restart to be served again.
const SETTLING: Duration = Duration::from_secs(5);

/// Serves until `stop` is cancelled, then finishes what is under way within [`ServerLimits::drain`].
///
/// # Errors
/// When it cannot begin.
pub async fn serve(options: Options, stop: CancellationToken) -> Result<(), Error> {
    serve_and_tell(options, || (), stop).await
}

/// [`serve`], and calls `accepting` when the first connection may be accepted: once everything that this edge served
/// before it was restarted is served again, or cannot be in a few seconds. Until then clients wait in the listeners'
/// queues.
///
/// # Errors
/// When it cannot begin.
pub async fn serve_and_tell(
    options: Options,
    accepting: impl FnOnce(),
    stop: CancellationToken,
) -> Result<(), Error> {
    let certificates = Arc::new(Certificates::new(default_certificate(&options)?));
    let acceptor =
        certificates.acceptor().map_err(|error| Error::Certificate(std::io::Error::other(error)))?;
    let entrance = |tls: Option<_>| move |listener| Entrance { listener, tls: tls.clone() };
    let plain = options.listeners.into_iter().map(entrance(None));
    let entrances = plain.chain(options.tls_listeners.into_iter().map(entrance(Some(acceptor)))).collect();
    // Not stopped with `stop`: what is served must not change while the last requests are answered.
    let tasks = Tasks::default();
    let ways =
        Ways { connector: options.egress.clone(), limits: options.proxy, threads: options.limits.threads };
    let edge = Arc::new(Edge {
        board: Default::default(),
        ways: Arc::new(ways),
        trusted: options.trusted,
        worker: options.worker,
        leaving: CancellationToken::new(),
        random: options.ambient.random.clone(),
        instruments: Default::default(),
    });
    if let Some(listener) = options.metrics {
        instruments::serve(listener, edge.instruments.clone(), &tasks).map_err(Error::Serve)?;
    }
    send_away(&edge, &options.ambient, options.limits.drain, &stop, &tasks);
    let (client, ambient) = (options.client, options.ambient);
    let node = options.node.as_deref();
    let events = EventRecorder::start(client.clone(), "monoplane-edge", node, ambient.clone(), &tasks);
    let clock = ambient.clock.clone();
    let ingresses = ingress::Setup {
        client: client.clone(),
        ambient: ambient.clone(),
        events: events.clone(),
        edge: edge.clone(),
        certificates,
        addresses: options.addresses,
        data_dir: options.data_dir.clone(),
    };
    let setup = Setup {
        client,
        ambient,
        events,
        host: options.host,
        stores: options.stores,
        egress: options.egress,
        data_dir: options.data_dir.clone(),
        allow_files: options.allow_files,
        maxima: options.maxima,
    };
    let served = match Controller::open(setup, edge.clone(), &tasks).await {
        Ok(controller) => {
            let settling = settling(controller, ingress::start(ingresses, &tasks).await, &tasks);
            tokio::select! {
                _ = settling => {}
                () = clock.sleep(SETTLING) => tracing::warn!("serving begins before everything is back"),
                () = stop.cancelled() => {}
            }
            accepting();
            server::serve(entrances, edge, options.limits, &stop).await.map_err(Error::Serve)
        }
        Err(error) => Err(Error::DataDir { path: options.data_dir, error }),
    };
    tasks.stop().await;
    served
}

/// Sends away who still waits when the time for draining is nearly over: there is enough left for the word to reach them.
fn send_away(edge: &Edge, ambient: &Ambient, drain: Duration, stop: &CancellationToken, tasks: &Tasks) {
    let (leaving, clock, stop) = (edge.leaving.clone(), ambient.clock.clone(), stop.clone());
    tasks.spawn("leaving", async move {
        stop.cancelled().await;
        clock.sleep(drain * 4 / 5).await;
        leaving.cancel();
    });
}

/// Starts the components; tells once they and the Ingresses are served.
fn settling(
    controller: Arc<Controller>,
    mut ingresses: watch::Receiver<bool>,
    tasks: &Tasks,
) -> oneshot::Receiver<()> {
    let owner = tasks.clone();
    let (settled, settling) = oneshot::channel();
    tasks.spawn("settling", async move {
        controller.start(&owner).await;
        // Its sender goes with the gateway; and nobody may be waiting any more.
        let _ = ingresses.wait_for(|settled| *settled).await;
        let _ = settled.send(());
    });
    settling
}

fn default_certificate(options: &Options) -> Result<Arc<rustls::sign::CertifiedKey>, Error> {
    match &options.default_certificate {
        Some((chain, key)) => certified(chain, key).map_err(std::io::Error::other),
        None => stand_in(),
    }
    .map_err(Error::Certificate)
}
