//! The server: store, CA, API, controllers and scheduler, put together. The controllers and the scheduler are clients of
//! the API like any other, over connections in memory under certificates of their own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use apiserver::tls::{HttpsDialer, Listener, Presented, Sockets, client_verifier, server_config};
use apiserver::{ApiServer, Authenticators, InMemory, Limits, Options};
use auth::TokenFile;
use client::Ambient;
use clock::{Panicked, Tasks};
use pki::{Authority, Identity};
use registry::Registry;
use store::{Embedded, History};
use tokio::net::TcpListener;

use super::certificates::{Certificates, InUse, connect};
use super::{definitions, descriptors, end_with_parent, stop_on_signal};
use crate::flags::Server;
use crate::layout::{Layout, make_directory};
use crate::notify;
use crate::up::child::inherited_or_bound;

/// How long a server that has failed is given to end in order.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// Runs the server until it is told to stop.
///
/// # Errors
/// When its state cannot be opened or its address is taken, and when it cannot go on: its disk failed, or a part panicked.
pub fn run(flags: &Server) -> Result<()> {
    end_with_parent(flags.supervised)?;
    descriptors();
    let layout = Layout::new(&flags.at)?;
    let [listener] = inherited_or_bound([SocketAddr::new(flags.bind_address, flags.api_port)])?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(flags, &layout, listener))
}

async fn serve(flags: &Server, layout: &Layout, listener: std::net::TcpListener) -> Result<()> {
    let stop = stop_on_signal()?;
    let ambient = Ambient::system();
    let now = ambient.clock.now();
    let address = listener.local_addr()?;
    make_directory(&layout.server(), 0o700)?;
    let certificates = Certificates::new(flags, layout, address);
    let authority = certificates.authority(now)?;
    certificates.issue(&authority, now)?;

    let path = layout.server().join("store.db");
    let opened = Embedded::open(&disk::Options::new(&path), History::default());
    let store = Arc::new(opened.with_context(|| format!("opening {}", path.display()))?);
    let mut options = registry::Options::new(ambient.clock.clone(), ambient.random.clone());
    options.service_cidr.clone_from(&flags.api.service_cidr);
    let registry =
        Registry::open(store.clone(), options.clone()).await.map_err(said).context("opening the registry")?;

    let tasks = Tasks::default();
    let verifier = client_verifier(&authority)?;
    let kubelet_client = Presented::new(&authority.client(&Identity::KubeletClient, now)?)?;
    let dialer = HttpsDialer::new(&authority, kubelet_client.clone(), ambient.clock.clone())?;
    let server = ApiServer::start(
        Options {
            registry: registry.clone(),
            authenticators: Authenticators::new(
                verifier.clone(),
                tokens(flags.api.token_auth_file.as_deref())?,
            ),
            admission: admission::Chain::standard(),
            dialer: Arc::new(dialer),
            clock: ambient.clock.clone(),
            advertise: address.to_string(),
            limits: Limits::default(),
        },
        &tasks,
    );
    let bootstrap = connect(&server, &authority, &Identity::Bootstrap, now)?;
    let mut objects = registry::defaults::manifests(&options, address.port()).map_err(said)?;
    objects.push(definitions::ingress_class(!flags.api.no_default_ingress_class));
    server
        .install(&bootstrap, &objects)
        .await
        .map_err(said)
        .context("installing what every plane begins with")?;
    definitions::install(&client::transport::in_memory(InMemory::new(server.clone(), bootstrap))).await?;

    let serving = Presented::new(&certificates.serving(&authority, now)?)?;
    let socket = TcpListener::from_std(nonblocking(listener)?)?;
    let tls = server_config(serving.clone(), verifier)?;
    let listening = Listener::new(socket, server.clone(), tls, Sockets::default());
    // The front door closes first, so that nobody is cut off by what stops behind it.
    let listening = tokio::spawn(listening.run(stop.clone()));
    let working = tasks.child();
    let roles = start_roles(&server, &authority, &ambient, &working)?;
    let in_use = InUse { certificates, server: server.clone(), serving, kubelet_client, roles };
    working.spawn("certificates", in_use.keep(ambient.clock.clone()));
    maintain(&store, &ambient, &working);
    notify::ready();

    let failure = tokio::select! {
        () = stop.cancelled() => None,
        error = store.failed() => Some(anyhow!(error).context("the store takes no writes any more")),
        panicked = tasks.failed() => Some(panicked.into()),
    };
    stop.cancel();
    let ended = async {
        listening.await.context("the listener panicked")?;
        working.stop().await;
        tasks.stop().await;
        registry.close().await;
        store.close().await.context("closing the store")
    };
    let Some(failure) = failure else { return ended.await };
    // In order as far as that goes. What is broken must not keep the supervisor from starting a whole server.
    tokio::select! {
        _ = ended => {}
        () = ambient.clock.sleep(PATIENCE) => {}
    }
    Err(failure)
}

/// Starts the roles that live in this process; gives the connections that they use.
fn start_roles(
    server: &Arc<ApiServer>,
    authority: &Authority,
    ambient: &Ambient,
    tasks: &Tasks,
) -> Result<Vec<(Identity, InMemory)>> {
    let connection = |identity| -> Result<InMemory> {
        let connection = connect(server, authority, &identity, ambient.clock.now())?;
        Ok(InMemory::new(server.clone(), connection))
    };
    // No lease: the store has one owner, so nobody else can run controllers against this API server.
    let root_ca = Some(authority.certificate_pem().to_owned());
    let settings = controllers::Settings { root_ca, ..controllers::Settings::default() };
    let options = controllers::Options { identity: None, settings };
    let manager = connection(Identity::ControllerManager)?;
    let (client, own) = (client::transport::in_memory(manager.clone()), ambient.clone());
    let stop = tasks.token().clone();
    spawn_whole("controllers", controllers::run(client, own, options, stop), tasks);
    let scheduler = connection(Identity::Scheduler)?;
    let (client, own) = (client::transport::in_memory(scheduler.clone()), ambient.clone());
    let stop = tasks.token().clone();
    spawn_whole("scheduler", scheduler::run(client, own, scheduler::Options::default(), stop), tasks);
    Ok(vec![(Identity::ControllerManager, manager), (Identity::Scheduler, scheduler)])
}

/// Runs a part that owns tasks itself; when one of those panics, so has this.
fn spawn_whole(
    name: &'static str,
    part: impl Future<Output = Result<(), Panicked>> + Send + 'static,
    tasks: &Tasks,
) {
    let owner = tasks.clone();
    tasks.spawn_graceful(name, async move {
        if let Err(panicked) = part.await {
            owner.fail(panicked);
        }
    });
}

/// Lets the store forget old history, now and then. Its file does not shrink: the space is used again.
fn maintain(store: &Arc<Embedded>, ambient: &Ambient, tasks: &Tasks) {
    const EVERY: std::time::Duration = std::time::Duration::from_secs(60);
    let (store, clock) = (store.clone(), ambient.clock.clone());
    tasks.spawn("store maintenance", async move {
        loop {
            clock.sleep(EVERY).await;
            if let Err(error) = store.maintain(clock.monotonic()).await {
                tracing::warn!(%error, "store maintenance failed");
            }
        }
    });
}

fn tokens(file: Option<&Path>) -> Result<TokenFile> {
    let Some(file) = file else { return Ok(TokenFile::default()) };
    let text =
        std::fs::read_to_string(file).with_context(|| format!("--token-auth-file {}", file.display()))?;
    TokenFile::parse(&text).with_context(|| format!("--token-auth-file {}", file.display()))
}

fn nonblocking(listener: std::net::TcpListener) -> Result<std::net::TcpListener> {
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// What the API said, as an error of this program.
fn said(status: apimachinery::status::Status) -> anyhow::Error {
    anyhow::anyhow!("{}", status.message)
}
