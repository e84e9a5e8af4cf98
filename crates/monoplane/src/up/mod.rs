//! `monoplane up`: a small supervisor that runs the three roles on one machine exactly as an operator would run them on
//! many. It holds the listening sockets, so a client that comes while a role restarts waits instead of being refused.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::flags::{Disabled, Role, Up};
use crate::layout::{Endpoints, Layout, make_directory, write_file};
use crate::say;

pub mod child;
mod credentials;
pub mod identity;
mod keeper;
mod recipes;

use keeper::State;
pub use recipes::{can_run_node, host_name};

/// A port of a plane that was killed a moment ago may take so long to become free.
const BIND_WITHIN: Duration = Duration::from_secs(3);

/// Runs the plane until it is told to stop.
pub fn run(flags: &Up, log: &str) -> Result<()> {
    let layout = Layout::new(&flags.at)?;
    make_directory(layout.root(), 0o755)?;
    let _lock = lock(layout.root(), "up")?;
    let mut flags = flags.clone();
    if flags.machine.pod_cidr.is_none() {
        flags.machine.pod_cidr = Some(flags.api.pods.first().map_err(anyhow::Error::msg)?);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(supervise(&flags, log, &layout))
}

/// One plane a data directory, and one node: the lock goes with the process.
///
/// # Errors
/// When another runs there.
pub fn lock(directory: &Path, verb: &str) -> Result<std::fs::File> {
    let path = directory.join("lock");
    let file = std::fs::File::create(&path).with_context(|| format!("opening {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            bail!(
                "another `monoplane {verb}` runs in {}; give this one its own --data-dir",
                directory.display()
            )
        }
        Err(std::fs::TryLockError::Error(error)) => Err(error).context(format!("locking {}", path.display())),
    }
}

async fn supervise(flags: &Up, log: &str, layout: &Layout) -> Result<()> {
    let wanted = |role| !flags.disable.contains(&Disabled::Role(role));
    let api = bind(SocketAddr::new(flags.bind_address, flags.api_port)).await?;
    let gateway = match wanted(Role::Edge) {
        true => Some([
            bind(SocketAddr::new(flags.bind_address, flags.http_port)).await?,
            bind(SocketAddr::new(flags.bind_address, flags.https_port)).await?,
        ]),
        false => None,
    };
    let endpoints = Endpoints {
        api: format!("https://{}", reachable(api.local_addr()?)),
        gateway: match &gateway {
            Some([listener, _]) => Some(format!("http://{}", reachable(listener.local_addr()?))),
            None => None,
        },
        gateway_tls: match &gateway {
            Some([_, listener]) => Some(format!("https://{}", reachable(listener.local_addr()?))),
            None => None,
        },
        kubeconfig: layout.admin_kubeconfig(),
    };
    write_file(&layout.endpoints(), &serde_json::to_vec_pretty(&endpoints)?, 0o644)?;

    if recipes::can_run_node() {
        // Before the first thing of that name is made, which is the edge's cgroup.
        let pods = flags.machine.pod_cidr.as_deref().unwrap_or_default();
        crate::role::marks::Marks::settle(layout, &flags.machine, pods, &flags.api.service_cidr)?;
    }
    // What the node could not read is said here, once, and not by a node that is started again and again.
    let room = &flags.machine.room;
    room.reserved().and_then(|_| room.eviction()).map_err(anyhow::Error::msg)?;
    let names = recipes::Names::of(flags);
    let recipes = recipes::Recipes { flags, layout, log, names: &names };
    let mut plane = Plane::new()?;
    if wanted(Role::Server) {
        let server = plane.start(recipes.server(api)?);
        if plane.until(ready(server)).await?.is_none() {
            return plane.stop().await;
        }
        credentials::hand_out(layout, &names)?;
    }
    let mut others = Vec::new();
    if wanted(Role::Node) && recipes::can_run_node() {
        others.push(ready(plane.start(recipes.node()?)));
    }
    if let Some(listeners) = gateway {
        others.push(ready(plane.start(recipes.edge(listeners)?)));
    }
    if plane.until(futures::future::join_all(others)).await?.is_some() {
        say::up(&endpoints, wanted(Role::Node) && !recipes::can_run_node());
        let states = plane.states.clone();
        let renewing = async {
            if wanted(Role::Server) {
                credentials::keep_handing_out(layout, &names).await;
            }
        };
        plane.until(async { tokio::join!(record(layout, states), renewing) }).await?;
    }
    plane.stop().await
}

/// The roles that run here.
struct Plane {
    keepers: JoinSet<Result<()>>,
    states: Vec<(&'static str, watch::Receiver<State>)>,
    stop: CancellationToken,
    interrupt: Interrupt,
}

impl Plane {
    fn new() -> Result<Self> {
        let (keepers, stop) = (JoinSet::new(), CancellationToken::new());
        Ok(Self { keepers, states: Vec::new(), stop, interrupt: Interrupt::new()? })
    }

    fn start(&mut self, recipe: child::Recipe) -> watch::Receiver<State> {
        let (sender, receiver) = watch::channel(State::default());
        self.states.push((recipe.role, receiver.clone()));
        self.keepers.spawn(keeper::keep(recipe, sender, self.stop.clone()));
        receiver
    }

    /// Waits for `work`; `None` when the plane was told to stop first.
    async fn until<T>(&mut self, work: impl Future<Output = T>) -> Result<Option<T>> {
        tokio::select! {
            done = work => Ok(Some(done)),
            () = self.interrupt.wait() => Ok(None),
            Some(ended) = self.keepers.join_next() => {
                ended.context("a role's keeper ended")??;
                Ok(None)
            }
        }
    }

    async fn stop(mut self) -> Result<()> {
        self.stop.cancel();
        while let Some(ended) = self.keepers.join_next().await {
            ended.context("a role's keeper ended")??;
        }
        Ok(())
    }
}

/// Keeps `processes.json` true. Ends never.
async fn record(layout: &Layout, mut states: Vec<(&'static str, watch::Receiver<State>)>) {
    loop {
        let mut processes = serde_json::Map::new();
        processes.insert("up".to_owned(), serde_json::json!({ "pid": std::process::id() }));
        for (role, state) in &mut states {
            let state = *state.borrow_and_update();
            processes.insert(
                (*role).to_owned(),
                serde_json::json!({ "pid": state.pid, "ready": state.ready, "restarts": state.restarts }),
            );
        }
        let text = serde_json::Value::Object(processes).to_string();
        if let Err(error) = write_file(&layout.processes(), text.as_bytes(), 0o644) {
            tracing::warn!(error = format!("{error:#}"), "cannot record the processes");
        }
        let changes = states.iter_mut().map(|(_, state)| Box::pin(state.changed()));
        let (changed, _, _) = futures::future::select_all(changes).await;
        if changed.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Until the role serves; for ever when its keeper ended, which is reported elsewhere.
async fn ready(mut state: watch::Receiver<State>) {
    if state.wait_for(|s| s.ready).await.is_err() {
        std::future::pending().await
    }
}

/// The address a client on this machine uses for a listener.
pub fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

async fn bind(address: SocketAddr) -> Result<TcpListener> {
    let until = Instant::now() + BIND_WITHIN;
    loop {
        match TcpListener::bind(address) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("listening on {address} (another program may have it; --api-port, --http-port and --https-port choose others, 0 any free one)")
                });
            }
        }
    }
}

/// The signals that end a plane.
struct Interrupt {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Interrupt {
    fn new() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("watching for SIGINT")?,
            terminate: signal(SignalKind::terminate()).context("watching for SIGTERM")?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
