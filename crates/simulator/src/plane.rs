//! The server: the real one, over the simulated disk. Killed, it is started again on what the disk holds.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, anyhow};
use apiserver::tls::{HttpsDialer, Presented, client_verifier};
use apiserver::{ApiServer, Authenticators, Connection, Limits, Options, Outgoing, Tunnels};
use auth::TokenFile;
use clock::{Clock, Random, Tasks};
use jiff::Timestamp;
use pki::{Authority, Identity};
use registry::Registry;
use rustls_pki_types::CertificateDer;
use serde_json::Value;
use store::{Memory, Store};
use tokio_util::sync::CancellationToken;

use crate::chance::Chance;
use crate::time::SimulatedClock;

/// The machines that there are.
pub const NODES: [&str; 4] = ["node-a", "node-b", "node-c", "node-d"];

/// When every simulation begins.
pub fn beginning() -> Timestamp {
    Timestamp::from_second(1_767_322_835).unwrap_or_default()
}

/// What all simulations of a process have in common: keys, and what every plane's store holds in the beginning. It takes far
/// longer to make than the rest, and does not depend on any seed.
pub struct Foundation {
    authority: Authority,
    certificates: Vec<(String, CertificateDer<'static>)>,
    objects: Memory,
    _directory: tempfile::TempDir,
}

impl std::fmt::Debug for Foundation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Foundation")
    }
}

impl Foundation {
    /// That of this process; made when it is first asked for.
    ///
    /// # Errors
    /// When there is no place for the keys, or a plane does not start.
    pub fn get() -> Result<&'static Self> {
        static FOUNDATION: OnceLock<Result<Foundation, String>> = OnceLock::new();
        let foundation = FOUNDATION.get_or_init(|| Self::lay().map_err(|error| format!("{error:#}")));
        foundation.as_ref().map_err(|error| anyhow!("{error}"))
    }

    fn lay() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let authority = Authority::open(directory.path(), beginning())?;
        let nodes = NODES.iter().map(|&name| Identity::Node(name.to_owned()));
        let others = [Identity::Bootstrap, Identity::Admin, Identity::ControllerManager, Identity::Scheduler];
        let certificates = others.into_iter().chain(nodes).map(|identity| {
            let credential = authority.client(&identity, beginning())?;
            Ok((identity.common_name(), credential.certificate))
        });
        let certificates = certificates.collect::<Result<_>>()?;
        let foundation = Self { authority, certificates, objects: Memory::default(), _directory: directory };
        let clock = Arc::new(SimulatedClock::new(beginning(), 0));
        let (store, random) = (Arc::new(foundation.objects.clone()), Chance::random(0, "foundation"));
        let began = Server::start(&foundation, store, clock.clone(), random);
        crate::run::block_on(&clock, async {
            began.await?.kill().await;
            Ok(())
        })?;
        Ok(foundation)
    }

    /// What a store holds in the beginning.
    pub fn objects(&self) -> Memory {
        self.objects.fork()
    }
}

/// One life of the server.
pub struct Server {
    /// The handler.
    pub api: Arc<ApiServer>,
    /// Cancelled when it is killed.
    pub killed: CancellationToken,
    registry: Arc<Registry>,
    connections: BTreeMap<String, Connection>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Server")
    }
}

/// What the API said, as an error of this program.
fn said(status: apimachinery::status::Status) -> anyhow::Error {
    anyhow!("{}", status.message)
}

impl Server {
    /// Starts one on what the store holds.
    ///
    /// # Errors
    /// When the store fails: it may be tried again.
    pub async fn start(
        foundation: &Foundation,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self> {
        let tasks = Tasks::default();
        let mut options = registry::Options::new(clock.clone(), random.clone());
        let connector = egress::Connector::new(egress::Policy::default());
        let outgoing = Outgoing::new(connector, None, clock.clone(), &tasks);
        options.webhooks = outgoing.clone();
        let objects: Vec<Value> = registry::defaults::manifests(&options, 6443).map_err(said)?;
        let registry = Registry::open(store, options).await.map_err(said).context("opening the registry")?;
        let authority = &foundation.authority;
        let kubelet_client = Presented::new(&authority.client(&Identity::KubeletClient, beginning())?)?;
        let tunnels = Tunnels::new(clock.clone());
        let api = ApiServer::start(
            Options {
                registry: registry.clone(),
                authenticators: Authenticators::new(client_verifier(authority)?, TokenFile::default()),
                admission: admission::Chain::standard(clock.clone(), random.clone()),
                dialer: Arc::new(HttpsDialer::new(
                    authority,
                    kubelet_client,
                    tunnels.clone(),
                    clock.clone(),
                )?),
                tunnels,
                outgoing,
                clock,
                random,
                advertise: "127.0.0.1:6443".to_owned(),
                limits: Limits::default(),
            },
            &tasks,
        );
        let mut connections = BTreeMap::new();
        for (name, certificate) in &foundation.certificates {
            connections.insert(name.clone(), api.connect(std::slice::from_ref(certificate), None)?);
        }
        let server = Self { api, killed: tasks.token().clone(), registry, connections };
        let installed = match server.connection(&Identity::Bootstrap) {
            Some(bootstrap) => server.api.install(bootstrap, &objects).await.map_err(said),
            None => Err(anyhow!("nobody to install as")),
        };
        if let Err(error) = installed {
            server.kill().await;
            return Err(error.context("installing what every plane begins with"));
        }
        Ok(server)
    }

    /// A connection under an identity.
    pub fn connection(&self, identity: &Identity) -> Option<&Connection> {
        self.connections.get(&identity.common_name())
    }

    /// Ends it where it is: what it was doing is not finished, and nobody is told.
    pub async fn kill(&self) {
        self.killed.cancel();
        self.registry.close().await;
    }
}
