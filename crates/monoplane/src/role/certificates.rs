//! The certificates of the server and of everybody whom it issues one: checked every hour, and renewed while they are in
//! use. Nothing here knows how long a certificate lives; `pki` says when one will no longer do.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use apiserver::tls::Presented;
use apiserver::{ApiServer, Connection, InMemory, ServiceAccounts};
use clock::Clock;
use jiff::Timestamp;
use pki::{Authority, Credential, Identity, Signer, TokenKeys, TokenSigner};

use super::endpoints;
use crate::flags::{Part, Server};
use crate::layout::{Layout, keep_file, make_directory};

/// How often certificates are looked at. Renewal is due months before they expire, but a laptop sleeps for weeks.
pub const EVERY: Duration = Duration::from_secs(60 * 60);

/// What is issued, and to whom.
pub struct Certificates {
    flags: Server,
    layout: Layout,
    url: String,
    names: BTreeSet<String>,
}

impl Certificates {
    /// Those of a server that listens on this address, and is reached by the others from inside the cluster.
    pub fn new(
        flags: &Server,
        layout: &Layout,
        address: SocketAddr,
        inside: impl IntoIterator<Item = IpAddr>,
    ) -> Self {
        Self {
            flags: flags.clone(),
            layout: layout.clone(),
            url: format!("https://{}", crate::up::reachable(address)),
            names: names(flags, address, inside),
        }
    }

    /// The authority, renewed where that is due.
    pub fn authority(&self, now: Timestamp) -> Result<Authority> {
        Authority::open(&self.layout.server().join("pki"), now).context("opening the CA")
    }

    /// The API's own certificate.
    pub fn serving(&self, authority: &Authority, now: Timestamp) -> Result<Credential> {
        Ok(authority.serving(&self.names, now)?)
    }

    /// The keys that sign service accounts' tokens, with a new one where that is due.
    pub fn token_keys(&self, now: Timestamp) -> Result<TokenKeys> {
        TokenKeys::open(&self.layout.server().join("pki"), now).context("opening the keys of tokens")
    }

    /// Writes the kubeconfigs of everybody who connects from outside.
    pub fn issue(&self, authority: &Authority, now: Timestamp) -> Result<()> {
        let folder = self.layout.credentials();
        make_directory(&folder, 0o700)?;
        let kubeconfig = |identity: &Identity| -> Result<String> {
            let credential = authority.client(identity, now)?;
            Ok(pki::kubeconfig(authority.certificate_pem(), &self.url, &identity.common_name(), &credential))
        };
        let admin = kubeconfig(&Identity::Admin)?;
        keep_file(&folder.join("admin.kubeconfig"), admin.as_bytes(), 0o600)?;
        if self.flags.supervised.is_none() {
            keep_file(&self.layout.admin_kubeconfig(), admin.as_bytes(), 0o600)?;
        }
        for part in &self.flags.disable {
            let (file, text) = (format!("{}.kubeconfig", part.program()), kubeconfig(&identity_of(*part))?);
            keep_file(&folder.join(file), text.as_bytes(), 0o600)?;
        }
        for wanted in &self.flags.issue_for {
            let Some((role, name)) = wanted.split_once('=') else {
                bail!("--issue-for {wanted}: not of the form ROLE=NAME")
            };
            let identity = match role {
                "node" => Identity::Node(name.to_owned()),
                "edge" => Identity::Edge(name.to_owned()),
                _ => bail!("--issue-for {wanted}: the role is `node` or `edge`"),
            };
            let text = kubeconfig(&identity)?;
            keep_file(&folder.join(format!("{role}-{name}.kubeconfig")), text.as_bytes(), 0o600)?;
            if role == "node" {
                let proxy = kubeconfig(&Identity::Proxy(name.to_owned()))?;
                keep_file(&folder.join(format!("proxy-{name}.kubeconfig")), proxy.as_bytes(), 0o600)?;
                let names =
                    pki::kubelet_names(name, [endpoints::of_node(self.flags.bind_address).to_string()]);
                let serving = authority.kubelet_serving(name, &names, now)?;
                keep_file(&folder.join(format!("kubelet-{name}.pem")), serving.to_pem().as_bytes(), 0o600)?;
            }
        }
        keep_file(&folder.join("ca.crt"), authority.certificate_pem().as_bytes(), 0o644)
    }
}

/// Under whose name a part of the server asks, ours or upstream's.
pub fn identity_of(part: Part) -> Identity {
    match part {
        Part::Controllers => Identity::ControllerManager,
        Part::Scheduler => Identity::Scheduler,
        Part::Metrics => Identity::MetricsServer,
    }
}

fn names(flags: &Server, address: SocketAddr, inside: impl IntoIterator<Item = IpAddr>) -> BTreeSet<String> {
    let mut given = flags.api.tls_san.clone();
    given.extend(inside.into_iter().map(|address| address.to_string()));
    if !address.ip().is_unspecified() {
        given.push(address.ip().to_string());
    }
    given.push(crate::up::host_name());
    pki::api_server_names(given)
}

/// A connection under the identity's certificate, verified as over TLS.
pub fn connect(
    server: &ApiServer,
    authority: &Authority,
    identity: &Identity,
    now: Timestamp,
) -> Result<Connection> {
    let credential = authority.client(identity, now)?;
    Ok(server.connect(&[credential.certificate], None)?)
}

/// What this process uses certificates for.
pub struct InUse {
    /// All that are issued.
    pub certificates: Certificates,
    /// Who listens.
    pub server: Arc<ApiServer>,
    /// The certificate under which it does.
    pub serving: Arc<Presented>,
    /// The certificate under which it asks kubelets.
    pub kubelet_client: Arc<Presented>,
    /// Who issues tokens.
    pub accounts: Arc<ServiceAccounts>,
    /// Who signs certificates for those who ask.
    pub signer: Arc<Signer>,
    /// Who signs the tokens that are kept in Secrets.
    pub tokens: Arc<TokenSigner>,
    /// The connections of the roles in this process.
    pub roles: Vec<(Identity, InMemory)>,
}

impl InUse {
    /// Renews what has to be, for as long as the server runs. What fails is tried again: there is time enough.
    pub async fn keep(self, clock: Arc<dyn Clock>) {
        loop {
            clock.sleep(EVERY).await;
            if let Err(error) = self.renew(clock.now()) {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "certificates could not be renewed; trying again"
                );
            }
        }
    }

    fn renew(&self, now: Timestamp) -> Result<()> {
        let authority = self.certificates.authority(now)?;
        self.certificates.issue(&authority, now)?;
        self.serving.renew(&self.certificates.serving(&authority, now)?)?;
        self.kubelet_client.renew(&authority.client(&Identity::KubeletClient, now)?)?;
        self.accounts.renew(self.certificates.token_keys(now)?);
        self.tokens.renew(self.certificates.token_keys(now)?);
        for (identity, role) in &self.roles {
            role.renew(connect(&self.server, &authority, identity, now)?);
        }
        self.signer.renew(authority);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::path::Path;

    use apiserver::tls::{HttpsDialer, client_verifier};
    use apiserver::{Authenticators, Limits, Options, Outgoing, Tunnels};
    use clap::Parser;
    use clock::{ManualClock, SystemRandom, Tasks};
    use store::{Embedded, History};

    use super::*;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        server: Server,
    }

    /// Waits until the one who slept on the clock has woken up, done its work and gone to sleep again.
    async fn asleep_again(clock: &ManualClock) {
        while clock.next_deadline().is_none_or(|deadline| deadline <= clock.monotonic()) {
            tokio::task::yield_now().await;
        }
    }

    async fn in_use(directory: &Path, clock: Arc<ManualClock>) -> InUse {
        let flags = ["server", "--data-dir", directory.to_str().unwrap(), "--issue-for", "node=one,edge=one"];
        let flags = Words::parse_from(flags).server;
        let layout = Layout::new(&flags.at).unwrap();
        make_directory(&layout.server(), 0o700).unwrap();
        let certificates = Certificates::new(&flags, &layout, ([127, 0, 0, 1], 6443).into(), []);
        let now = clock.now();
        let authority = certificates.authority(now).unwrap();
        certificates.issue(&authority, now).unwrap();
        let serving = Presented::new(&certificates.serving(&authority, now).unwrap()).unwrap();
        let kubelet_client = authority.client(&Identity::KubeletClient, now).unwrap();
        let kubelet_client = Presented::new(&kubelet_client).unwrap();
        let store = disk::Options::new(layout.server().join("store.db"));
        let store = Arc::new(Embedded::open(&store, History::default()).unwrap());
        let options = registry::Options::new(clock.clone(), Arc::new(SystemRandom::default()));
        let registry = registry::Registry::open(store, options).await.unwrap();
        let verifier = client_verifier(&authority).unwrap();
        let tunnels = Tunnels::new(clock.clone());
        let dialer =
            HttpsDialer::new(&authority, kubelet_client.clone(), tunnels.clone(), clock.clone()).unwrap();
        let (keys, random) = (certificates.token_keys(now).unwrap(), Arc::new(SystemRandom::default()));
        let accounts = Arc::new(ServiceAccounts::new("https://test", keys, random, registry.clone()));
        let connector = egress::Connector::new(egress::Policy::default());
        let server = ApiServer::start(
            Options {
                registry,
                authenticators: Authenticators::new(verifier, auth::TokenFile::default())
                    .with_service_accounts(accounts.clone()),
                admission: admission::Chain::standard(clock.clone(), Arc::new(SystemRandom::default())),
                dialer: Arc::new(dialer),
                tunnels,
                outgoing: Outgoing::new(connector, None, clock.clone(), &Tasks::default()),
                clock,
                random: Arc::new(SystemRandom::default()),
                advertise: String::new(),
                limits: Limits::default(),
            },
            &Tasks::default(),
        );
        let role = InMemory::new(
            server.clone(),
            connect(&server, &authority, &Identity::Scheduler, now).unwrap(),
            "test",
        );
        let roles = vec![(Identity::Scheduler, role)];
        let signer = Arc::new(Signer::new(authority));
        let tokens = Arc::new(TokenSigner::new(certificates.token_keys(now).unwrap()));
        InUse { certificates, server, serving, kubelet_client, accounts, signer, tokens, roles }
    }

    #[tokio::test]
    async fn a_plane_that_runs_for_years_keeps_its_certificates_valid() {
        let directory = tempfile::tempdir().unwrap();
        let start = "2026-11-22T10:00:00Z".parse().unwrap();
        // The server sleeps for many reasons: what renews has a clock of its own, so that the test knows when it is done.
        let (clock, hours) = (Arc::new(ManualClock::new(start)), Arc::new(ManualClock::new(start)));
        let in_use = in_use(directory.path(), clock.clone()).await;
        let client = client::transport::in_memory(in_use.roles[0].1.clone());
        let folder = in_use.certificates.layout.credentials();
        let issued = || {
            let files = ["admin.kubeconfig", "node-one.kubeconfig", "edge-one.kubeconfig", "kubelet-one.pem"];
            files.map(|file| std::fs::read_to_string(folder.join(file)).unwrap())
        };
        let keeping = tokio::spawn(in_use.keep(hours.clone()));
        hours.until_sleepers(1).await;
        let pass = async |time: Duration| {
            clock.advance(time);
            hours.advance(time);
            asleep_again(&hours).await;
        };
        for _ in 0..3 {
            let before = issued();
            pass(EVERY).await;
            assert_eq!(issued(), before, "what is still good is kept");
            pass(Duration::from_secs(300 * 24 * 60 * 60)).await;
            assert!(before.iter().zip(issued()).all(|(before, after)| *before != after));
            // No roles are installed here, so it may not; but it is known, as it is not once its certificate has expired.
            let refused = client.apiserver_version().await.unwrap_err().to_string();
            assert!(refused.contains("User \"system:kube-scheduler\" cannot get"), "{refused}");
        }
        keeping.abort();
    }
}
