//! What a node has to know before it can run: who it is, where it is, and which addresses its pods get. A node that was there
//! before knows all that without anybody's help.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::k8s::api::core::v1::Node as Object;
use client::{Ambient, Api, Backoff, Client};
use kubelet::Serving;
use pki::Credential;

use super::credentials::Credentials;
use super::endpoints;
use super::join::{Joined, Kind, connected};
use super::marks::Marks;
use crate::flags::Node;
use crate::layout::Layout;
use crate::ranges;

/// The group that the API server's certificate for kubelets carries.
const CALLERS: &str = "system:monoplane:kubelet-clients";

/// How long a node that knows its addresses waits to be told that they are others now.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often a node without addresses for its pods looks for them, and when it says so first.
const LOOK: Duration = Duration::from_millis(250);
const SAY_AFTER: u32 = 40;

/// What it is.
pub struct Prepared {
    /// Time and chance.
    pub ambient: Ambient,
    /// Its files, where somebody else renews them.
    pub credentials: Credentials,
    /// The API, as the node.
    pub client: Client,
    /// How it keeps being a node, where nobody else sees to that.
    pub joined: Option<Joined>,
    /// How its server proves itself.
    pub serving: Serving,
    /// Its name.
    pub node: String,
    /// By which others reach it.
    pub address: IpAddr,
    /// Its pods' addresses.
    pub pod_cidr: String,
    /// The API, as the node's proxy.
    pub proxy: Client,
}

impl Prepared {
    /// Finds all of it out, however long that takes.
    ///
    /// # Errors
    /// When it cannot be a node.
    pub async fn new(flags: &Node, layout: &Layout) -> Result<Self> {
        let (ambient, folder) = (Ambient::system(), layout.node());
        let node = flags.machine.node_name.clone().unwrap_or_else(crate::up::host_name);
        let joined = Joined::enter(Kind::Node, &flags.join, layout, &node, &ambient).await?;
        let kubeconfig = flags.node_kubeconfig.clone().unwrap_or_else(|| folder.join("kubeconfig"));
        let proxy_kubeconfig =
            flags.proxy_kubeconfig.clone().unwrap_or_else(|| folder.join("proxy.kubeconfig"));
        let files = ["kubelet.pem", "ca.crt"].map(|file| folder.join(file));
        let kubeconfigs = [kubeconfig.clone(), proxy_kubeconfig.clone()];
        let credentials = Credentials::read(files.into_iter().chain(kubeconfigs));
        let client = connected(joined.as_ref(), &kubeconfig, "kubelet").await?;
        let address = address(flags, joined.as_ref(), &ambient).await;
        let remembered = Marks::read(layout)?.map(|marks| marks.pod_cidr).filter(|cidr| !cidr.is_empty());
        let known = flags.machine.pod_cidr.clone().or(remembered);
        let asks = Asks { client: &client, node: &node, ambient: &ambient };
        let is_equipped = joined.as_ref().is_none_or(Joined::is_equipped);
        if known.is_none() || !is_equipped {
            asks.introduce(address).await;
        }
        if let Some(joined) = &joined {
            joined.equip(&client, &[address]).await?;
        }
        let proxy = connected(joined.as_ref(), &proxy_kubeconfig, "kube-proxy").await?;
        let serving = serving(&folder)?;
        let pod_cidr = match known {
            Some(known) if flags.machine.pod_cidr.is_some() => known,
            Some(known) => asks.still(known).await?,
            None => asks.given().await?,
        };
        ranges::of_pods(&pod_cidr).map_err(|why| {
            anyhow::anyhow!(
                "the range {pod_cidr} of the node {node} (spec.podCIDRs) cannot be its pods': {why}"
            )
        })?;
        Ok(Self { ambient, credentials, client, joined, serving, node, address, pod_cidr, proxy })
    }
}

/// The kubelet's serving certificate, and who may call it: the API server under its own certificate, nobody else.
fn serving(folder: &Path) -> Result<Serving> {
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    };
    let credential = Credential::from_pem(&read("kubelet.pem")?).context("kubelet.pem")?;
    Ok(Serving {
        certificate_pem: credential.certificate_pem,
        key_pem: credential.key_pem,
        client_authority_pem: read("ca.crt")?,
        admits: Arc::new(|certificate: &[u8]| {
            auth::user_of_certificate(certificate)
                .is_ok_and(|certified| certified.user.groups.iter().any(|group| group == CALLERS))
        }),
    })
}

/// By which others reach this machine.
async fn address(flags: &Node, joined: Option<&Joined>, ambient: &Ambient) -> IpAddr {
    if let Some(said) = flags.node_ip {
        return said;
    }
    let bound = flags.bind_address.unwrap_or(Ipv4Addr::LOCALHOST.into());
    let Some(joined) = joined.filter(|_| flags.bind_address.is_none_or(|at| at.is_unspecified())) else {
        return endpoints::of_node(bound);
    };
    let mut is_told = false;
    loop {
        if let Some(found) = joined.address().await {
            return found;
        }
        if !std::mem::replace(&mut is_told, true) {
            tracing::warn!("there is no way from this machine to its server; waiting for one");
        }
        ambient.clock.sleep(LOOK).await;
    }
}

/// What the node asks the API.
struct Asks<'a> {
    client: &'a Client,
    node: &'a str,
    ambient: &'a Ambient,
}

impl Asks<'_> {
    /// Makes the API know the node.
    async fn introduce(&self, address: IpAddr) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        while let Err(error) = kubelet::introduce(self.client, self.node, &[address]).await {
            tracing::warn!(%error, "the API does not know this node yet; trying again");
            self.ambient.clock.sleep(backoff.next(self.ambient.random.u64())).await;
        }
    }

    async fn cidrs(&self) -> Result<String, client::Error> {
        let nodes: Api<Object> = Api::all(self.client.clone());
        let spec = nodes.get_opt(self.node).await?.and_then(|node| node.spec).unwrap_or_default();
        let first = spec.pod_cidr.into_iter().collect::<Vec<_>>();
        Ok(spec.pod_cidrs.filter(|all| !all.is_empty()).unwrap_or(first).join(","))
    }

    /// What the node is given, once it is.
    async fn given(&self) -> Result<String> {
        for looks in 0_u32.. {
            match self.cidrs().await {
                Ok(cidrs) if !cidrs.is_empty() => return Ok(cidrs),
                Err(error) => tracing::debug!(%error, "the node cannot be looked at"),
                Ok(_) => {}
            }
            if looks == SAY_AFTER {
                tracing::warn!(
                    "the node {} has no range of addresses for its pods yet: the controllers give it a part of --cluster-cidr, \
                     or --pod-cidr says one",
                    self.node
                );
            }
            self.ambient.clock.sleep(LOOK).await;
        }
        Ok(String::new())
    }

    /// What it was given before, unless that is another by now. A server that does not answer keeps nobody waiting.
    async fn still(&self, known: String) -> Result<String> {
        let now = tokio::select! {
            cidrs = self.cidrs() => cidrs.unwrap_or_default(),
            () = self.ambient.clock.sleep(PATIENCE) => String::new(),
        };
        ensure!(
            now.is_empty() || now == known,
            "this machine's pods have addresses of {known}, and the node {} is now given {now}: `monoplane clean` ends the pods, \
             and then it can start with these",
            self.node
        );
        Ok(known)
    }
}
