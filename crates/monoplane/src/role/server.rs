//! The server: store, CA, API, controllers and scheduler, put together. The controllers and the scheduler are clients of
//! the API like any other, over connections in memory under certificates of their own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use apiserver::tls::{HttpsDialer, Listener, Sockets, client_verifier, server_config};
use apiserver::{ApiServer, Authenticators, Connection, InMemory, Limits, Options};
use auth::TokenFile;
use client::{Ambient, Client};
use clock::{Clock, Tasks};
use jiff::Timestamp;
use pki::{Authority, Identity};
use registry::Registry;
use store::{Embedded, History};
use tokio::net::TcpListener;

use super::{definitions, descriptors, end_with_parent, stop_on_signal};
use crate::flags::Server;
use crate::layout::{Layout, make_directory, write_file};
use crate::notify;
use crate::up::child::inherited_or_bound;

/// Runs the server until it is told to stop.
///
/// # Errors
/// When its state cannot be opened or its address is taken.
pub fn run(flags: &Server) -> Result<()> {
    end_with_parent(flags.supervised)?;
    descriptors();
    let layout = Layout::new(&flags.at)?;
    let listener = inherited_or_bound(SocketAddr::new(flags.bind_address, flags.api_port))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(flags, &layout, listener))
}

async fn serve(flags: &Server, layout: &Layout, listener: std::net::TcpListener) -> Result<()> {
    let stop = stop_on_signal()?;
    let ambient = Ambient::system();
    let now = ambient.clock.now();
    let address = listener.local_addr()?;
    make_directory(&layout.server(), 0o700)?;
    let authority = Authority::open(&layout.server().join("pki"), now).context("opening the CA")?;
    let url = format!("https://{}", crate::up::reachable(address));
    issue(flags, layout, &authority, &url, now)?;

    let path = layout.server().join("store.db");
    let opened = Embedded::open(&disk::Options::new(&path), History::default());
    let store = Arc::new(opened.with_context(|| format!("opening {}", path.display()))?);
    let mut options = registry::Options::new(ambient.clock.clone(), ambient.random.clone());
    options.service_cidr.clone_from(&flags.api.service_cidr);
    let registry =
        Registry::open(store.clone(), options.clone()).await.map_err(said).context("opening the registry")?;

    let tasks = Tasks::default();
    let verifier = client_verifier(&authority)?;
    let dialer = HttpsDialer::new(
        &authority,
        &authority.client(&Identity::KubeletClient, now)?,
        ambient.clock.clone(),
    )?;
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
    let roles = Roles { server: &server, authority: &authority, clock: &*ambient.clock };
    let bootstrap = roles.connection(&Identity::Bootstrap)?;
    let objects = registry::defaults::manifests(&options, address.port()).map_err(said)?;
    server
        .install(&bootstrap, &objects)
        .await
        .map_err(said)
        .context("installing what every plane begins with")?;
    definitions::install(&client::transport::in_memory(InMemory::new(server.clone(), bootstrap))).await?;

    let serving = authority.serving(&names(flags, address), now)?;
    let socket = TcpListener::from_std(nonblocking(listener)?)?;
    let listening =
        Listener::new(socket, server.clone(), server_config(&serving, verifier)?, Sockets::default());
    // The front door closes first, so that nobody is cut off by what stops behind it.
    let listening = tokio::spawn(listening.run(stop.clone()));
    let working = tasks.child();
    roles.start_controllers(&ambient, &working)?;
    maintain(&store, &ambient, &working);
    notify::ready();

    stop.cancelled().await;
    listening.await.context("the listener panicked")?;
    working.stop().await;
    tasks.stop().await;
    registry.close().await;
    store.close().await.context("closing the store")
}

/// The roles that live in this process.
struct Roles<'a> {
    server: &'a Arc<ApiServer>,
    authority: &'a Authority,
    clock: &'a dyn Clock,
}

impl Roles<'_> {
    /// A connection under the identity's certificate, verified as over TLS.
    fn connection(&self, identity: &Identity) -> Result<Connection> {
        let credential = self.authority.client(identity, self.clock.now())?;
        Ok(self.server.connect(&[credential.certificate], None)?)
    }

    fn client(&self, identity: &Identity) -> Result<Client> {
        Ok(client::transport::in_memory(InMemory::new(self.server.clone(), self.connection(identity)?)))
    }

    fn start_controllers(&self, ambient: &Ambient, tasks: &Tasks) -> Result<()> {
        // No lease: the store has one owner, so nobody else can run controllers against this API server.
        let root_ca = Some(self.authority.certificate_pem().to_owned());
        let settings = controllers::Settings { root_ca, ..controllers::Settings::default() };
        let options = controllers::Options { identity: None, settings };
        let (client, own) = (self.client(&Identity::ControllerManager)?, ambient.clone());
        let stop = tasks.token().clone();
        tasks.spawn_graceful("controllers", controllers::run(client, own, options, stop));
        let (client, own) = (self.client(&Identity::Scheduler)?, ambient.clone());
        let stop = tasks.token().clone();
        tasks.spawn_graceful("scheduler", scheduler::run(client, own, scheduler::Options::default(), stop));
        Ok(())
    }
}

/// Lets the store forget old history and shrink, now and then.
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

/// Writes the kubeconfigs of everybody who connects from outside.
fn issue(flags: &Server, layout: &Layout, authority: &Authority, url: &str, now: Timestamp) -> Result<()> {
    let folder = layout.credentials();
    make_directory(&folder, 0o700)?;
    let kubeconfig = |identity: &Identity| -> Result<String> {
        let credential = authority.client(identity, now)?;
        Ok(pki::kubeconfig(authority, url, &identity.common_name(), &credential))
    };
    let admin = kubeconfig(&Identity::Admin)?;
    write_file(&folder.join("admin.kubeconfig"), admin.as_bytes(), 0o600)?;
    if flags.supervised.is_none() {
        write_file(&layout.admin_kubeconfig(), admin.as_bytes(), 0o600)?;
    }
    for wanted in &flags.issue_for {
        let Some((role, name)) = wanted.split_once('=') else {
            bail!("--issue-for {wanted}: not of the form ROLE=NAME")
        };
        let identity = match role {
            "node" => Identity::Node(name.to_owned()),
            "edge" => Identity::Edge(name.to_owned()),
            _ => bail!("--issue-for {wanted}: the role is `node` or `edge`"),
        };
        let text = kubeconfig(&identity)?;
        write_file(&folder.join(format!("{role}-{name}.kubeconfig")), text.as_bytes(), 0o600)?;
        if role == "node" {
            let names = pki::kubelet_names(name, [flags.bind_address.to_string()]);
            let serving = authority.kubelet_serving(name, &names, now)?;
            write_file(&folder.join(format!("kubelet-{name}.pem")), serving.to_pem().as_bytes(), 0o600)?;
        }
    }
    write_file(&folder.join("ca.crt"), authority.certificate_pem().as_bytes(), 0o644)
}

fn names(flags: &Server, address: SocketAddr) -> std::collections::BTreeSet<String> {
    let mut given = flags.api.tls_san.clone();
    if !address.ip().is_unspecified() {
        given.push(address.ip().to_string());
    }
    given.push(crate::up::host_name());
    pki::api_server_names(given)
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
