//! The server: store, CA, API, controllers and scheduler, put together. The controllers and the scheduler are clients of
//! the API like any other, over connections in memory under certificates of their own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use apimachinery::cidr::Cidr;
use apiserver::tls::{HttpsDialer, Listener, Presented, Sockets, client_verifier, server_config};
use apiserver::{
    ApiServer, Authenticators, Extension, InMemory, Limits, Options, Outgoing, ServiceAccounts, Tunnels,
};
use auth::TokenFile;
use client::Ambient;
use clock::{Panicked, Tasks};
use egress::{Connector, Policy};
use metrics::Metrics;
use pki::{Authority, Identity, Signer, TokenSigner};
use registry::{Registry, defaults};
use store::Encrypted;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::certificates::{Certificates, InUse, connect, identity_of};
use super::encryption::Keys;
use super::front_proxy::FrontProxy;
use super::peers::Peers;
use super::storage::Storage;
use super::{
    cluster_info, definitions, descriptors, end_with_parent, endpoints, service_cidr, stop_on_signal,
};
use crate::flags::{Api, Part, Server};
use crate::layout::{Layout, make_directory};
use crate::notify;
use crate::up::child::inherited_or_bound;

/// Who issues service accounts' tokens, and whom they are for where nobody is named: upstream's usual.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
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
    let at = SocketAddr::new(flags.bind_address, flags.api_port);
    let ([outer], further) = inherited_or_bound([at])?;
    // Pods come in by the further ones, where a supervisor says so.
    let listeners = std::iter::once(outer).chain(further).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(flags, &layout, listeners))
}

async fn serve(flags: &Server, layout: &Layout, listeners: Vec<std::net::TcpListener>) -> Result<()> {
    let stop = stop_on_signal()?;
    let ambient = Ambient::system();
    let now = ambient.clock.now();
    let address = listeners.first().context("no socket to listen on")?.local_addr()?;
    make_directory(&layout.server(), 0o700)?;
    let mut options = registry::Options::new(ambient.clock.clone(), ambient.random.clone());
    options.service_cidr.clone_from(&flags.api.service_cidr);
    let tasks = Tasks::default();
    let front_proxy = FrontProxy::open(layout, now)?;
    let presented = Some(front_proxy.presented());
    let outgoing = Outgoing::new(connector(&flags.api)?, presented, ambient.clock.clone(), &tasks);
    options.webhooks = outgoing.clone();
    let advertised = flags.api.advertise_address.or_else(|| endpoints::outward(address.ip()));
    let service = defaults::api_address(&options).map_err(said)?;
    let certificates = Certificates::new(flags, layout, address, advertised.into_iter().chain([service]));
    let authority = certificates.authority(now)?;
    certificates.issue(&authority, now)?;

    let storage = Storage::open(&flags.etcd, layout).await?;
    options.shared_store = storage.is_shared();
    let secrets = Arc::new(Keys::open(&flags.api.keys.path()?)?);
    let store = Arc::new(Encrypted::new(storage.store(), registry::secret_prefixes(), secrets.clone()));
    let registry =
        Registry::open(store.clone(), options.clone()).await.map_err(said).context("opening the registry")?;

    let verifier = client_verifier(&authority)?;
    let kubelet_client = Presented::new(&authority.client(&Identity::KubeletClient, now)?)?;
    let tunnels = Tunnels::new(ambient.clock.clone());
    let dialer =
        HttpsDialer::new(&authority, kubelet_client.clone(), tunnels.clone(), ambient.clock.clone())?;
    let (keys, random) = (certificates.token_keys(now)?, ambient.random.clone());
    let accounts = Arc::new(ServiceAccounts::new(ISSUER, keys, random, registry.clone()));
    let server = ApiServer::start(
        Options {
            registry: registry.clone(),
            authenticators: Authenticators::new(
                verifier.clone(),
                tokens(flags.api.token_auth_file.as_deref())?,
            )
            .with_service_accounts(accounts.clone())
            .with_bootstrap_tokens(registry.clone()),
            admission: admission::Chain::standard(ambient.clock.clone(), ambient.random.clone()),
            dialer: Arc::new(dialer),
            tunnels,
            outgoing,
            clock: ambient.clock.clone(),
            random: ambient.random.clone(),
            advertise: address.to_string(),
            limits: Limits::default(),
        },
        &tasks,
    );
    let measured = storage.clone();
    server.measure(move |page| measured.measure(page));
    let bootstrap = connect(&server, &authority, &Identity::Bootstrap, now)?;
    let mut objects = defaults::manifests(&options, address.port()).map_err(said)?;
    objects.push(definitions::ingress_class(!flags.api.no_default_ingress_class));
    objects.push(definitions::storage_class(!flags.api.no_default_storage_class));
    objects.push(definitions::runtime_class());
    server
        .install(&bootstrap, &objects)
        .await
        .map_err(said)
        .context("installing what every plane begins with")?;
    let bootstrap = InMemory::new(server.clone(), bootstrap, "monoplane");
    let installer = client::transport::in_memory(bootstrap.clone());
    definitions::install(&installer).await?;

    let serving = Presented::new(&certificates.serving(&authority, now)?)?;
    // The front doors close first, so that nobody is cut off by what stops behind them.
    let mut listening = JoinSet::new();
    for listener in listeners {
        let socket = TcpListener::from_std(nonblocking(listener)?)?;
        let tls = server_config(serving.clone(), verifier.clone())?;
        let door = Listener::new(socket, server.clone(), tls, Sockets::default());
        listening.spawn(door.run(stop.clone()));
    }
    let working = tasks.child();
    let identity = storage.is_shared().then(|| identity(&ambient));
    // Opened for it alone: it is exchanged, when it has been renewed, while it is in use.
    let signer = Arc::new(Signer::new(certificates.authority(now)?));
    let tokens = Arc::new(TokenSigner::new(certificates.token_keys(now)?));
    let scheduling = flags.api.scheduling.config()?;
    let lead = Lead {
        identity: identity.clone(),
        signer: signer.clone(),
        tokens: tokens.clone(),
        api: &flags.api,
        scheduling,
    };
    let mut roles = start_roles(&flags.disable, &server, &authority, &ambient, &working, &lead)?;
    roles.push((Identity::Bootstrap, bootstrap));
    let cidrs = defaults::service_cidrs(&options).map_err(said)?;
    let keeping = service_cidr::keep(installer.clone(), cidrs, ambient.clock.clone());
    working.spawn("default range of Services", keeping);
    if let Some(ip) = advertised {
        let (address, clock) = (SocketAddr::new(ip, address.port()), ambient.clock.clone());
        let servers = match &identity {
            None => endpoints::Servers::One(address),
            Some(identity) => endpoints::Servers::Many(Box::new(Peers::new(
                installer.clone(),
                address,
                identity,
                clock.clone(),
            ))),
        };
        working.spawn("endpoints of the API", endpoints::keep(installer.clone(), servers, clock));
    }
    let reached = SocketAddr::new(
        advertised.filter(|_| !address.ip().is_loopback()).unwrap_or(address.ip()),
        address.port(),
    );
    let (url, pem) =
        (format!("https://{}", crate::up::reachable(reached)), authority.certificate_pem().to_owned());
    working
        .spawn("cluster information", cluster_info::keep(installer.clone(), url, pem, ambient.clock.clone()));
    let clients = authority.certificate_pem().to_owned();
    working.spawn("front proxy", front_proxy.keep(installer.clone(), clients, ambient.clock.clone()));
    let in_use = InUse {
        certificates,
        server: server.clone(),
        serving,
        kubelet_client,
        accounts,
        signer,
        tokens,
        roles,
    };
    working.spawn("certificates", in_use.keep(ambient.clock.clone()));
    working.spawn("encryption", secrets.keep(store, ambient.clock.clone()));
    storage.maintain(&ambient, &working);
    notify::ready();

    let failure = tokio::select! {
        () = stop.cancelled() => None,
        error = storage.failed(layout, &*ambient.clock) => Some(anyhow!(error).context("the store takes no writes any more")),
        panicked = tasks.failed() => Some(panicked.into()),
    };
    stop.cancel();
    let ended = async {
        while let Some(ended) = listening.join_next().await {
            ended.context("a listener panicked")?;
        }
        working.stop().await;
        tasks.stop().await;
        registry.close().await;
        storage.close().await
    };
    let Some(failure) = failure else { return ended.await };
    // In order as far as that goes. What is broken must not keep the supervisor from starting a whole server.
    tokio::select! {
        _ = ended => {}
        () = ambient.clock.sleep(PATIENCE) => {}
    }
    Err(failure)
}

/// Who this process is among those that lead in turn: another at each start, as upstream's.
pub fn identity(ambient: &Ambient) -> String {
    format!("{}_{}", crate::up::host_name(), ambient.random.uid())
}

/// What the roles of this process lead with.
struct Lead<'a> {
    /// With one they lead in turn with those of other servers; without, the store has one owner, so nobody else can run them
    /// against this API server.
    identity: Option<String>,
    /// Who signs certificates.
    signer: Arc<Signer>,
    /// Who signs the tokens that are kept in Secrets.
    tokens: Arc<TokenSigner>,
    /// What addresses there are.
    api: &'a Api,
    /// How pods are placed.
    scheduling: scheduler::Config,
}

impl Lead<'_> {
    fn settings(&self, root_ca: String) -> Result<controllers::Settings> {
        let services = self.api.service_cidr.split(',').filter_map(Cidr::parse_leniently);
        Ok(controllers::Settings {
            root_ca: Some(root_ca),
            signer: Some(self.signer.clone()),
            tokens: Some(self.tokens.clone()),
            pod_ranges: self.api.pods.ranges().map_err(anyhow::Error::msg)?,
            service_ranges: services.collect(),
            node_grace: self.api.node_monitor_grace_period,
            ..controllers::Settings::default()
        })
    }
}

/// Starts the roles that live in this process; gives the connections that they use.
fn start_roles(
    without: &[Part],
    server: &Arc<ApiServer>,
    authority: &Authority,
    ambient: &Ambient,
    tasks: &Tasks,
    lead: &Lead<'_>,
) -> Result<Vec<(Identity, InMemory)>> {
    let mut roles = Vec::new();
    for part in [Part::Controllers, Part::Scheduler, Part::Metrics] {
        if without.contains(&part) {
            continue;
        }
        let identity = identity_of(part);
        let connection = connect(server, authority, &identity, ambient.clock.now())?;
        let connection = InMemory::new(server.clone(), connection, part.program());
        let (client, own) = (client::transport::in_memory(connection.clone()), ambient.clone());
        let stop = tasks.token().clone();
        match part {
            Part::Controllers => {
                let settings = lead.settings(authority.certificate_pem().to_owned())?;
                let counted = settings.instruments.clone();
                server.measure(move |page| counted.write(page));
                let options = controllers::Options { identity: lead.identity.clone(), settings };
                spawn_whole("controllers", controllers::run(client, own, options, stop), tasks);
            }
            Part::Scheduler => {
                let options = scheduler::Options {
                    identity: lead.identity.clone(),
                    config: lead.scheduling.clone(),
                    ..scheduler::Options::default()
                };
                let counted = options.instruments.clone();
                server.measure(move |page| counted.write(page));
                spawn_whole("scheduler", scheduler::run(client, own, options, stop), tasks);
            }
            Part::Metrics => server.extend(extension(Metrics::start(client, own, tasks))),
        }
        roles.push((identity, connection));
    }
    Ok(roles)
}

/// The API that tells what nodes and pods use, as a part of this server.
fn extension(metrics: Arc<Metrics>) -> Extension {
    Extension::new(metrics::GROUP, metrics::VERSION, move |request| {
        let metrics = metrics.clone();
        Box::pin(async move { metrics.answer(&request).await })
    })
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

/// What opens connections to webhooks and to servers of aggregated APIs.
fn connector(flags: &Api) -> Result<Connector> {
    let mut policy = Policy::default();
    for text in &flags.webhook_allow {
        policy.allow.push(text.parse().with_context(|| format!("--webhook-allow {text}"))?);
    }
    Ok(Connector::new(policy))
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
