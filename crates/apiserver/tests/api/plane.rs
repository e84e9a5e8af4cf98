//! A whole API in a directory: store, registry, certificates, server and socket. The tests start one each; the example
//! `api` keeps one running.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use apiserver::tls::{HttpsDialer, Listener, Presented, Sockets, client_verifier, server_config};
use apiserver::{ApiServer, Authenticators, Connection, Limits, Options, Outgoing, ServiceAccounts, Tunnels};
use auth::TokenFile;
use clock::{Clock, SystemClock, SystemRandom, Tasks};
use pki::{Authority, Identity};
use registry::Registry;
use store::{Embedded, History};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub struct Plane {
    pub directory: PathBuf,
    pub authority: Authority,
    /// That of the certificate which servers of aggregated APIs are shown.
    pub front_proxies: Authority,
    pub server: Arc<ApiServer>,
    pub presented: Arc<Presented>,
    pub address: SocketAddr,
    pub clock: Arc<dyn Clock>,
    registry: Arc<Registry>,
    store: Arc<Embedded>,
    tasks: Tasks,
    stop: CancellationToken,
    listening: JoinHandle<()>,
}

/// Static tokens, those of service accounts, and bootstrap tokens.
fn authenticators(
    directory: &Path,
    verifier: Arc<dyn rustls::server::danger::ClientCertVerifier>,
    tokens: &str,
    now: jiff::Timestamp,
    registry: Arc<Registry>,
) -> Authenticators {
    let keys = pki::TokenKeys::open(directory, now).unwrap();
    let random = Arc::new(SystemRandom::default());
    let accounts = ServiceAccounts::new(ISSUER, keys, random, registry.clone());
    Authenticators::new(verifier, TokenFile::parse(tokens).unwrap())
        .with_service_accounts(Arc::new(accounts))
        .with_bootstrap_tokens(registry)
}

/// Who issues tokens of service accounts.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

impl Plane {
    /// Starts one on what the directory holds; `tokens` in the form of a token file.
    pub async fn start(directory: &Path, address: SocketAddr, tokens: &str, limits: Limits) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let now = clock.now();
        let tasks = Tasks::default();
        let options = disk::Options::new(directory.join("store.db"));
        let store = Arc::new(Embedded::open(&options, History::default()).unwrap());
        let mut options = registry::Options::new(clock.clone(), Arc::new(SystemRandom::default()));
        // Servers of tests are on this machine.
        let policy =
            egress::Policy { allow: vec!["127.0.0.1".parse().unwrap()], ..egress::Policy::default() };
        let proxies = Authority::open(&directory.join("front-proxy"), now).unwrap();
        let front_proxy = Presented::new(&proxies.client(&Identity::FrontProxy, now).unwrap()).unwrap();
        let connector = egress::Connector::new(policy);
        let outgoing = Outgoing::new(connector, Some(front_proxy), clock.clone(), &tasks);
        options.webhooks = outgoing.clone();
        let objects = registry::defaults::manifests(&options, address.port()).unwrap();
        let registry = Registry::open(store.clone(), options).await.unwrap();
        let authority = Authority::open(&directory.join("pki"), now).unwrap();
        let socket = TcpListener::bind(address).await.unwrap();
        let address = socket.local_addr().unwrap();
        let verifier = client_verifier(&authority).unwrap();
        let kubelet_client = authority.client(&Identity::KubeletClient, now).unwrap();
        let kubelet_client = Presented::new(&kubelet_client).unwrap();
        let tunnels = Tunnels::new(clock.clone());
        let server = ApiServer::start(
            Options {
                registry: registry.clone(),
                authenticators: authenticators(
                    &directory.join("pki"),
                    verifier.clone(),
                    tokens,
                    now,
                    registry.clone(),
                ),
                admission: admission::Chain::standard(clock.clone(), Arc::new(SystemRandom::default())),
                dialer: Arc::new(
                    HttpsDialer::new(&authority, kubelet_client, tunnels.clone(), clock.clone()).unwrap(),
                ),
                tunnels,
                outgoing,
                clock: clock.clone(),
                random: Arc::new(SystemRandom::default()),
                advertise: address.to_string(),
                limits,
            },
            &tasks,
        );
        let serving = authority.serving(&pki::api_server_names(Vec::<String>::new()), now).unwrap();
        let presented = Presented::new(&serving).unwrap();
        let tls = server_config(presented.clone(), verifier).unwrap();
        let stop = CancellationToken::new();
        let listener = Listener::new(socket, server.clone(), tls, Sockets::default());
        let listening = tokio::spawn(listener.run(stop.clone()));
        let directory = directory.to_owned();
        let plane = Self {
            directory,
            authority,
            front_proxies: proxies,
            server,
            presented,
            address,
            clock,
            registry,
            store,
            tasks,
            stop,
            listening,
        };
        plane.server.install(&plane.connection(&Identity::Bootstrap), &objects).await.unwrap();
        plane
    }

    /// A connection in memory under the identity's certificate.
    pub fn connection(&self, identity: &Identity) -> Connection {
        let credential = self.authority.client(identity, self.clock.now()).unwrap();
        self.server.connect(&[credential.certificate], None).unwrap()
    }

    /// A kubeconfig of the identity.
    pub fn kubeconfig(&self, identity: &Identity) -> String {
        let credential = self.authority.client(identity, self.clock.now()).unwrap();
        let server = format!("https://127.0.0.1:{}", self.address.port());
        pki::kubeconfig(self.authority.certificate_pem(), &server, &identity.common_name(), &credential)
    }

    /// Stops everything, in order.
    pub async fn stop(self) {
        self.stop.cancel();
        self.listening.await.unwrap();
        self.tasks.stop().await;
        self.registry.close().await;
        self.store.close().await.unwrap();
    }
}
