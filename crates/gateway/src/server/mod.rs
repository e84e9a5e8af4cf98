//! Listeners, the threads that serve their connections, and the end of both.

mod connection;
mod patient;
mod place;
pub(crate) mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::request::{Edge, Origin, Peer};
use place::Places;

/// Bounds of the listeners and their connections.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Threads that serve connections, each with a runtime of its own.
    pub threads: usize,
    /// Connections at a time, over all listeners. More wait in the kernel's queue.
    pub connections: usize,
    /// How long a client may take over a request's head, and between requests.
    pub head_timeout: Duration,
    /// How long a write may get no further: whoever does not read is let go.
    pub write_timeout: Duration,
    /// How long connections may take to finish what is under way when the gateway stops.
    pub drain: Duration,
    /// Requests at a time on one HTTP/2 connection.
    pub streams: u32,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            connections: 16_384,
            head_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            drain: Duration::from_secs(10),
            streams: 256,
        }
    }
}

/// A listening socket, and what is spoken there.
pub(crate) struct Entrance {
    pub(crate) listener: std::net::TcpListener,
    /// Where there is TLS, how.
    pub(crate) tls: Option<TlsAcceptor>,
}

/// A connection on its way to a thread.
struct Accepted {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    room: OwnedSemaphorePermit,
}

/// A thread that serves connections.
struct Thread {
    connections: mpsc::Sender<Accepted>,
    open: Arc<AtomicUsize>,
    handle: JoinHandle<()>,
}

/// Serves the listeners until `stop` is cancelled, then finishes what is under way.
pub(crate) async fn serve(
    entrances: Vec<Entrance>,
    edge: Arc<Edge>,
    limits: ServerLimits,
    stop: &CancellationToken,
) -> std::io::Result<()> {
    // Threads end with this call, however it ends.
    let stop = stop.child_token();
    let _stop = stop.clone().drop_guard();
    let places = Places::of(limits.threads);
    let threads: Vec<Thread> = (0..limits.threads.max(1))
        .map(|number| start(number, places, edge.clone(), limits.clone(), stop.clone()))
        .collect::<std::io::Result<_>>()?;
    let room = Arc::new(Semaphore::new(limits.connections));
    let listeners: Vec<(TcpListener, Option<TlsAcceptor>)> = entrances
        .into_iter()
        .map(|Entrance { listener, tls }| {
            listener.set_nonblocking(true)?;
            Ok((TcpListener::from_std(listener)?, tls))
        })
        .collect::<std::io::Result<_>>()?;
    let accepting = listeners.iter().map(|(listener, tls)| accept(listener, tls.as_ref(), &threads, &room));
    stop.run_until_cancelled(futures::future::join_all(accepting)).await;
    drop(listeners);
    for thread in threads {
        drop(thread.connections);
        let joined = tokio::task::spawn_blocking(move || thread.handle.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("a thread of the gateway ended by a panic");
        }
    }
    Ok(())
}

/// Accepts connections for ever and gives each to the thread that has the fewest.
async fn accept(
    listener: &TcpListener,
    tls: Option<&TlsAcceptor>,
    threads: &[Thread],
    room: &Arc<Semaphore>,
) {
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or a peer that gave up: neither may end the listener, nor spin.
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let stream = match stream.into_std() {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be handed over");
                continue;
            }
        };
        let Some(thread) = threads.iter().min_by_key(|thread| thread.open.load(Ordering::Relaxed)) else {
            return;
        };
        thread.open.fetch_add(1, Ordering::Relaxed);
        let accepted = Accepted { stream, peer, tls: tls.cloned(), room: permit };
        if thread.connections.send(accepted).await.is_err() {
            return;
        }
    }
}

fn start(
    number: usize,
    places: Option<Places>,
    edge: Arc<Edge>,
    limits: ServerLimits,
    stop: CancellationToken,
) -> std::io::Result<Thread> {
    // The runtime is made here so that its failure is an error and no panic in a thread.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    if let Some(places) = places {
        // Those of its blocking tasks.
        runtime.on_thread_start(move || places.leave());
    }
    let runtime = runtime.enable_all().build()?;
    let (connections, mut receiver) = mpsc::channel::<Accepted>(64);
    let open = Arc::new(AtomicUsize::new(0));
    let count = open.clone();
    let main = async move {
        let tasks = TaskTracker::new();
        let builder = connection::builder(&limits);
        while let Some(accepted) = receiver.recv().await {
            let Accepted { stream, peer, tls, room } = accepted;
            let peer = Arc::new(Peer {
                origin: Origin::new(peer, tls.is_some(), &edge.trusted),
                thread: number,
                tasks: tasks.clone(),
                _place: Box::new((Closed(count.clone()), room)),
            });
            let stream = match prepare(stream) {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::debug!(%error, "a connection was lost before it was served");
                    continue;
                }
            };
            let (builder, edge, limits, stop) = (builder.clone(), edge.clone(), limits.clone(), stop.clone());
            match tls {
                None => drop(tasks.spawn(connection::serve(builder, stream, peer, edge, limits, stop))),
                Some(tls) => drop(tasks.spawn(async move {
                    let shaken = timeout(limits.head_timeout, tls.accept(stream));
                    match stop.run_until_cancelled(shaken).await {
                        Some(Ok(Ok(stream))) => {
                            connection::serve(builder, stream, peer, edge, limits, stop).await;
                        }
                        Some(Ok(Err(error))) => tracing::debug!(%error, "TLS with a client failed"),
                        Some(Err(_)) | None => {}
                    }
                })),
            }
        }
        tasks.close();
        tasks.wait().await;
    };
    let thread = std::thread::Builder::new().name(format!("gateway-{number}"));
    let handle = thread.spawn(move || {
        if let Some(places) = places {
            places.take(number);
        }
        runtime.block_on(main);
        // Guests that go on after their reply's end are bounded by their wall time, which is not waited for.
        runtime.shutdown_background();
    })?;
    Ok(Thread { connections, open, handle })
}

fn prepare(stream: std::net::TcpStream) -> std::io::Result<TcpStream> {
    // Replies are written whole: waiting for more only delays the last segment.
    stream.set_nodelay(true)?;
    TcpStream::from_std(stream)
}

/// Counts a connection out.
struct Closed(Arc<AtomicUsize>);

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
