//! The gateway: where clients' requests enter, and how they reach components.
//!
//! Owns: the listeners and the threads that serve them, the immutable route table that is swapped as objects change, the
//! HTTP face of durable invocations, and the controller that turns Components and KeyValueStores of the API into the
//! component host's plain values and reports back in their status. It keeps serving when the API is away, and starts
//! from its own copy of the objects when it comes up without one.
//!
//! Never does: run guests itself (`wasm` does), record what they do (`durable` does), or read flags and environment. It
//! sees the world through `client`, as any user of the API.
//!
//! Begin with [`serve`]. [`routing`] decides where a request goes; `request` is what happens to it; `components` follows
//! the API.

mod components;
mod request;
pub mod routing;
mod server;

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use capabilities::Stores;
use client::{Ambient, Client};
use clock::Tasks;
use egress::Connector;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

pub use components::Maxima;
pub use server::ServerLimits;

use components::{Controller, Setup};
use request::Edge;

/// What a gateway is made of.
pub struct Options {
    /// Listening sockets, bound by whoever chose the ports. Plain HTTP/1.1, and HTTP/2 with prior knowledge.
    pub listeners: Vec<TcpListener>,
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
    /// The way out, for stores on other servers.
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
    // Not stopped with `stop`: what a component is must not change while the last requests are answered.
    let tasks = Tasks::default();
    let edge = Arc::new(Edge {
        routes: Default::default(),
        worker: options.worker,
        leaving: CancellationToken::new(),
        random: options.ambient.random.clone(),
    });
    let clock = options.ambient.clock.clone();
    let (leaving, timer, end) = (edge.leaving.clone(), clock.clone(), stop.clone());
    // Time enough for the word that they are sent away with to reach them.
    let patience = options.limits.drain * 4 / 5;
    tasks.spawn("leaving", async move {
        end.cancelled().await;
        timer.sleep(patience).await;
        leaving.cancel();
    });
    let setup = Setup {
        client: options.client,
        ambient: options.ambient,
        node: options.node,
        host: options.host,
        stores: options.stores,
        egress: options.egress,
        data_dir: options.data_dir.clone(),
        allow_files: options.allow_files,
        maxima: options.maxima,
    };
    let served = match Controller::open(setup, edge.clone(), &tasks).await {
        Ok(controller) => {
            let (starter, owner) = (controller.clone(), tasks.clone());
            let (settled, settling) = oneshot::channel();
            tasks.spawn("settling", async move {
                starter.start(&owner).await;
                // Nobody may be waiting any more.
                let _ = settled.send(());
            });
            tokio::select! {
                _ = settling => {}
                () = clock.sleep(SETTLING) => tracing::warn!("serving begins before every component is back"),
                () = stop.cancelled() => {}
            }
            accepting();
            server::serve(options.listeners, edge, options.limits, &stop).await.map_err(Error::Serve)
        }
        Err(error) => Err(Error::DataDir { path: options.data_dir, error }),
    };
    tasks.stop().await;
    served
}
