//! How a machine becomes a node or an edge of a plane that runs elsewhere, and stays one: by a token it gets a certificate, by
//! that a node gets the others; it renews them by itself, and says so when it has another address.
//!
//! Begin with [`Joined::enter`].

mod discover;
mod files;
mod request;
mod servers;

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use api::k8s::api::core::v1::Node;
use auth::bootstrap_token::Token;
use client::{Ambient, Api, Client, Servers};
use clock::Tasks;
use http::Uri;
use pki::{Credential, Held};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::flags::Join;
use crate::layout::Layout;
use files::{Certificate, Files};
use request::certificate;

pub use discover::{NAME as CLUSTER_INFO, NAMESPACE as PUBLIC};

/// How often it is looked whether anything has changed, and how soon first: a node with another address than its certificate
/// has just told the API of that.
const EVERY: Duration = Duration::from_secs(5);
const FIRST: Duration = Duration::from_secs(1);
/// How long after a failure it is tried again to renew something.
const AGAIN: Duration = Duration::from_secs(60);

/// What a machine joins as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A node.
    Node,
    /// An edge.
    Edge,
}

impl Kind {
    fn files(self, layout: &Layout) -> Files {
        Files::at(&match self {
            Self::Node => layout.node(),
            Self::Edge => layout.edge(),
        })
    }

    /// What it gets by a token.
    fn first(self) -> Certificate {
        match self {
            Self::Node => Certificate::Kubelet,
            Self::Edge => Certificate::Edge,
        }
    }

    /// What it gets by that.
    fn others(self) -> &'static [Certificate] {
        match self {
            Self::Node => &[Certificate::Proxy, Certificate::Serving],
            Self::Edge => &[],
        }
    }

    fn all(self) -> impl Iterator<Item = Certificate> {
        std::iter::once(self.first()).chain(self.others().iter().copied())
    }

    /// How tokens for it are made.
    fn token(self) -> &'static str {
        match self {
            Self::Node => "monoplane token create",
            Self::Edge => "monoplane token create --edge",
        }
    }
}

/// A node or an edge of a plane that runs elsewhere.
pub struct Joined {
    kind: Kind,
    name: String,
    server: String,
    /// It, and all that there are beside it.
    servers: Servers,
    files: Files,
    ambient: Ambient,
}

impl Joined {
    /// What the flags make of this machine, or what it was made before; `None` where it was issued what it needs.
    ///
    /// # Errors
    /// When it cannot join.
    pub async fn enter(
        kind: Kind,
        flags: &Join,
        layout: &Layout,
        name: &str,
        ambient: &Ambient,
    ) -> Result<Option<Self>> {
        let files = kind.files(layout);
        let before = files.joined();
        let Some(server) = flags.join.clone().or_else(|| before.as_ref().map(|(server, _)| server.clone()))
        else {
            return Ok(None);
        };
        let uri: Uri = server.parse().with_context(|| format!("the server {server}"))?;
        let mut all = servers::with(&uri, files.remembered());
        // What was said last is asked first.
        all.rotate_right(1);
        let servers = Servers::new(all);
        let (name, ambient) = (name.to_owned(), ambient.clone());
        let joined = Self { kind, name, server, servers, files, ambient };
        if let Some((_, authority)) = &before {
            joined.is_of(flags, authority)?;
        }
        match (before, joined.held(kind.first())) {
            (Some((_, authority)), Some(_)) => joined.files.join(&joined.server, &authority)?,
            _ => joined.be_admitted(flags).await?,
        }
        for which in kind.all() {
            if let Some((credential, _)) = joined.held(which) {
                // The server may be another one than before.
                joined.files.kubeconfig(which, &joined.name, &credential)?;
            }
        }
        Ok(Some(joined))
    }

    fn held(&self, which: Certificate) -> Option<(Credential, Held)> {
        self.files.held(which, &self.name, self.ambient.clock.now())
    }

    /// Whether the flags, or what is kept, make this machine one of a plane that runs elsewhere.
    pub fn is_meant(kind: Kind, flags: &Join, layout: &Layout) -> bool {
        flags.join.is_some() || kind.files(layout).joined().is_some()
    }

    /// What a machine keeps of another plane is no use in this one.
    fn is_of(&self, flags: &Join, authority: &str) -> Result<()> {
        match &flags.ca_hash {
            Some(pin) if *pin != pki::pin(authority)? => self.files.forget(),
            _ => Ok(()),
        }
    }

    /// Gets the first certificate by a token.
    async fn be_admitted(&self, flags: &Join) -> Result<()> {
        let (server, name, first) = (&self.server, &self.name, self.kind.first());
        let text = match &flags.token_file {
            Some(file) => {
                std::fs::read_to_string(file).with_context(|| format!("--token-file {}", file.display()))?
            }
            None => flags.token.clone().with_context(|| {
                format!(
                    "this machine has no valid certificate of {server}: it needs --token and --ca-hash; `{}` on the server prints \
                     the whole command",
                    self.kind.token()
                )
            })?,
        };
        let token = Token::parse(text.trim()).ok_or_else(|| {
            anyhow!("--token: want six characters, a dot and sixteen characters, all of them digits or small letters")
        })?;
        let pin = flags.ca_hash.as_ref();
        let pin = pin.context("--token needs --ca-hash, so that it is shown to no other server")?;
        let authority = discover::authority(server, &token, pin, &self.ambient).await?;
        let cluster = json!({ "certificate-authority-data": discover::encoded(&authority) });
        let user = json!({ "token": text.trim() });
        let client =
            client::transport::from_kubeconfig(&discover::kubeconfig(server, &cluster, &user)).await?;
        if self.kind == Kind::Node {
            self.is_free(&client).await?;
        }
        let credential = certificate(&client, first, name, &BTreeSet::new(), &self.ambient).await?;
        self.files.forget()?;
        self.files.join(server, &authority)?;
        self.files.keep(first, name, &credential)
    }

    /// Nobody takes the name of a node that is there.
    async fn is_free(&self, client: &Client) -> Result<()> {
        let nodes: Api<Node> = Api::all(client.clone());
        let found = match nodes.get_opt(&self.name).await {
            Err(client::Error::Api(status)) if status.code == 401 => {
                bail!("{} does not take the token: it has expired, or was taken away", self.server)
            }
            // Not every token may look.
            Err(client::Error::Api(status)) if status.code == 403 => return Ok(()),
            other => other.context("looking for a node of the same name")?,
        };
        let conditions = found.and_then(|node| node.status?.conditions).unwrap_or_default();
        let ready =
            conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
        ensure!(
            !ready,
            "a node {0} is there already and ready: give this one another name with --node-name, or `kubectl delete node {0}` \
             once that machine is gone",
            self.name
        );
        Ok(())
    }

    /// The servers that there are.
    pub fn servers(&self) -> &Servers {
        &self.servers
    }

    /// The certificate (PEM) of the servers' authority, and what the node proves to them that it is itself by.
    ///
    /// # Errors
    /// When it has none: it is being renewed, or somebody took it away.
    pub fn proof(&self) -> Result<(String, Credential)> {
        let (_, authority) = self.files.joined().context("this machine has joined no server")?;
        let held = self.held(Certificate::Kubelet);
        Ok((authority, held.context("the node's certificate is missing")?.0))
    }

    /// Whether the machine has everything by which it runs, so that it need not wait for its server.
    pub fn is_equipped(&self) -> bool {
        self.kind.all().all(|which| self.held(which).is_some())
    }

    /// Gets the certificates that it has not, once the API knows the node by these addresses.
    ///
    /// # Errors
    /// When one is refused.
    pub async fn equip(&self, client: &Client, addresses: &[IpAddr]) -> Result<()> {
        for which in self.kind.others() {
            if self.held(*which).is_none() {
                self.renew(client, *which, addresses).await?;
            }
        }
        Ok(())
    }

    async fn renew(&self, client: &Client, which: Certificate, addresses: &[IpAddr]) -> Result<()> {
        let names = self.names(which, addresses);
        let credential = certificate(client, which, &self.name, &names, &self.ambient).await?;
        self.files.keep(which, &self.name, &credential)
    }

    fn names(&self, which: Certificate, addresses: &[IpAddr]) -> BTreeSet<String> {
        match which {
            Certificate::Serving => pki::kubelet_names(&self.name, addresses.iter().map(IpAddr::to_string)),
            _ => BTreeSet::new(),
        }
    }

    /// A client of whichever server takes connections, as a kubeconfig says.
    async fn client(&self, kubeconfig: &Path, agent: &'static str) -> Result<Client> {
        let client = client::transport::from_kubeconfig_file_over(kubeconfig, agent, &self.servers).await;
        client.with_context(|| format!("reading {}", kubeconfig.display()))
    }

    /// Learns of further servers, as somebody who may look at endpoints.
    ///
    /// # Errors
    /// When it has joined none.
    pub fn follow(&self, client: Client, tasks: &Tasks) -> Result<()> {
        let (servers, files) = (self.servers.clone(), self.files.clone());
        servers::follow(client, self.server.parse()?, servers, files, &self.ambient, tasks);
        Ok(())
    }

    /// The address by which this machine reaches a server, and so others may reach it. `None` while there is no way.
    pub async fn address(&self) -> Option<IpAddr> {
        // In this order whichever is in use: who has several ways must not move for that.
        let joined = self.server.parse().ok();
        for server in joined.into_iter().chain(self.servers.all()) {
            if let Some(address) = way_to(&server).await {
                return Some(address);
            }
        }
        None
    }

    /// Renews what is due, for as long as the role runs; returns when it is to begin anew, and why: it has something new to
    /// prove who it is by, or another address.
    pub async fn until_changed(&self, client: &Client, addresses: &[IpAddr], moves: bool) -> &'static str {
        let mut pause = FIRST;
        loop {
            self.ambient.clock.sleep(pause).await;
            pause = EVERY;
            if moves && self.address().await.is_some_and(|now| Some(&now) != addresses.first()) {
                return "it has another address";
            }
            for which in self.kind.all() {
                if !self.is_due(which, addresses) {
                    continue;
                }
                match self.renew(client, which, addresses).await {
                    Ok(()) => return "a certificate has been renewed",
                    Err(error) => {
                        let error = format!("{error:#}");
                        tracing::warn!(error, ?which, "the certificate is not renewed yet; trying again");
                        pause = AGAIN;
                    }
                }
            }
        }
    }

    /// Runs the role until it ends, or is to begin anew: then it is told to end, in order, and why is given.
    ///
    /// # Errors
    /// The role's own.
    pub async fn guard(
        &self,
        role: impl Future<Output = Result<()>>,
        changed: impl Future<Output = &'static str>,
        life: &CancellationToken,
    ) -> Result<Option<&'static str>> {
        let mut role = std::pin::pin!(role);
        let why = tokio::select! {
            ended = &mut role => return ended.map(|()| None),
            why = changed => why,
        };
        life.cancel();
        role.await?;
        Ok(Some(why))
    }

    fn is_due(&self, which: Certificate, addresses: &[IpAddr]) -> bool {
        let now = self.ambient.clock.now();
        let held = self.held(which);
        held.is_none_or(|(_, held)| held.renewal <= now || held.names != self.names(which, addresses))
    }
}

/// The API as a kubeconfig says; where there are several servers, whichever serves.
///
/// # Errors
/// When it cannot be read.
pub async fn connected(joined: Option<&Joined>, kubeconfig: &Path, agent: &'static str) -> Result<Client> {
    if let Some(joined) = joined {
        return joined.client(kubeconfig, agent).await;
    }
    let client = client::transport::from_kubeconfig_file(kubeconfig, agent).await;
    client.with_context(|| format!("reading {}", kubeconfig.display()))
}

/// The address of this machine by which it reaches a server.
async fn way_to(server: &Uri) -> Option<IpAddr> {
    let host = server.host()?.trim_matches(['[', ']']).to_owned();
    let at = tokio::net::lookup_host((host, server.port_u16()?)).await.ok()?.next()?;
    // Nothing is sent by that.
    let socket = UdpSocket::bind(if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).ok()?;
    socket.connect(at).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_unspecified())
}
