//! Pod networking on one machine: a bridge, an address and a veth pair for each pod, virtual addresses of Services,
//! policies, masquerading to the outside.
//!
//! Everything that a pod sends passes the machine's network layer, what it sends to the next pod too.
//!
//! Plain values in, netlink out; no program is run and no library of the system's is needed. Everything it makes
//! carries the name of its bridge, so that several networks live side by side, and is removed by
//! [`Network::teardown`]. Addresses are leased in files ([`Leases`]): a crash at any point leaves nothing that
//! [`Network::retain`] does not find.
//!
//! It knows nothing of Kubernetes' objects, and makes no network namespaces: it is given their paths.
//! IPv4 only for now. Forwarding is switched on, and only [`policies`] filter here; where another program's rules drop
//! forwarded packets (Docker's do), pods reach neither each other nor the outside until those rules allow it.
//!
//! Begin with [`Network`].

mod conntrack;
mod error;
mod forwarding;
mod ids;
mod leases;
mod links;
mod masquerade;
mod nft;
pub mod policies;
pub mod services;
mod subnet;
mod uplink;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

pub use error::Error;
pub use leases::Leases;
pub use links::check_name;
pub use subnet::Subnet;

/// The result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A network to be.
#[derive(Clone, Debug)]
pub struct Config {
    /// The bridge's name, at most 15 characters, and the key to everything else that is made.
    pub bridge: String,
    /// Who has it: written on the bridge, and another's bridge is left alone. No two networks of a machine have one owner.
    pub owner: String,
    /// The pods' addresses. The first host of it is the bridge's own, and the pods' gateway.
    pub subnet: Subnet,
    /// Directory for leases. Removed by [`Network::teardown`].
    pub state_dir: PathBuf,
    /// Whether what pods send to the outside takes the machine's address.
    pub masquerade: bool,
    /// Addresses that Services get: the machine reaches them by the bridge. What answers them is [`services`]' matter.
    pub services: Option<Subnet>,
}

/// A network of pods.
pub struct Network {
    config: Config,
    leases: Leases,
    links: links::Links,
    /// One change at a time: addresses are handed out in order.
    turn: tokio::sync::Mutex<()>,
}

impl Network {
    /// Makes the bridge and the rules where they are not there yet, and finds the leases.
    pub async fn open(config: Config) -> Result<Self> {
        links::check_name(&config.bridge)?;
        let leases = Leases::open(&config.state_dir, config.subnet)?;
        let links = links::Links::open()?;
        let gateway = config.subnet.gateway();
        links.ensure_bridge(&config.bridge, &config.owner, config.subnet).await?;
        forwarding::enable(&config.state_dir)?;
        if let Some(services) = config.services {
            links.route(&config.bridge, (services.network(), services.prefix()), gateway).await?;
        }
        if config.masquerade {
            masquerade::install(&table(&config.bridge), config.subnet)?;
        }
        Ok(Self { config, leases, links, turn: tokio::sync::Mutex::new(()) })
    }

    /// The bridge's address, at which pods reach the machine.
    pub fn gateway(&self) -> Ipv4Addr {
        self.config.subnet.gateway()
    }

    /// Connects a network namespace, given by path, and returns its address. Repeating it returns the same.
    pub async fn attach(&self, id: &str, namespace: &Path) -> Result<Vec<IpAddr>> {
        let _turn = self.turn.lock().await;
        let address = self.leases.take(id)?;
        let plug = links::Plug {
            host: links::host_name(&self.config.bridge, id),
            namespace,
            address,
            gateway: self.gateway(),
        };
        if let Err(error) = self.links.plug(&plug).await {
            // Half a connection is none.
            let _ = self.links.remove(&plug.host).await;
            self.leases.give_back(id)?;
            return Err(error);
        }
        Ok(vec![IpAddr::V4(address)])
    }

    /// Disconnects and takes the address back; the namespace may be gone. Repeating it succeeds.
    pub async fn detach(&self, id: &str) -> Result<()> {
        let _turn = self.turn.lock().await;
        self.links.remove(&links::host_name(&self.config.bridge, id)).await?;
        self.leases.give_back(id)
    }

    /// Detaches whatever is none of these.
    pub async fn retain(&self, ids: &[String]) -> Result<()> {
        for id in self.leases.holders()? {
            if !ids.contains(&id) {
                self.detach(&id).await?;
            }
        }
        Ok(())
    }

    /// Removes all that this network made: connections, bridge, rules and leases.
    pub async fn teardown(self) -> Result<()> {
        Self::remove(&self.config).await
    }

    /// The same without opening it first: after a crash, or when half of it is gone.
    pub async fn remove(config: &Config) -> Result<()> {
        links::check_name(&config.bridge)?;
        let links = links::Links::open()?;
        if config.state_dir.exists() {
            let leases = Leases::open(&config.state_dir, config.subnet)?;
            for id in leases.holders()? {
                links.remove(&links::host_name(&config.bridge, &id)).await?;
            }
        }
        if !links.is_anothers(&config.bridge, &config.owner).await? {
            links.remove(&config.bridge).await?;
            links.forget(config.subnet).await?;
            masquerade::remove(&table(&config.bridge))?;
            services::Balancer::remove(&config.bridge)?;
            policies::Filter::remove(&config.bridge)?;
        }
        forwarding::restore(&config.state_dir)?;
        match std::fs::remove_dir_all(&config.state_dir) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::File { path: config.state_dir.clone(), source })
            }
            _ => Ok(()),
        }
    }
}

/// Whether this machine's kernel does what networks need of it, as far as asking tells: it lists nf_tables.
///
/// # Errors
/// When it does not, or not for this process.
pub fn probe() -> Result<()> {
    nft::tables(nft::Family::Ipv4).map(drop)
}

/// The name of the nftables table of a bridge.
fn table(bridge: &str) -> String {
    format!("{}{bridge}", masquerade::TABLE_PREFIX)
}
