//! Pod networking of one machine: a bridge, an address and a veth pair for each pod, virtual addresses of Services,
//! policies, masquerading to the outside; and the way to pods of other machines.
//!
//! Everything that a pod sends passes the machine's network layer, what it sends to the next pod too.
//!
//! Plain values in, netlink out; no program is run and no library of the system's is needed. Everything it makes
//! carries the name of its bridge, so that several networks live side by side, and is removed by
//! [`Network::teardown`]. Addresses are leased in files ([`Leases`]): a crash at any point leaves nothing that
//! [`Network::retain`] does not find.
//!
//! It knows nothing of Kubernetes' objects, and makes no network namespaces: it is given their paths.
//! Pods have an address of IPv4, and one of IPv6 where a subnet of it is given. Forwarding is switched on, and only [`policies`] filter here; where another program's rules drop
//! forwarded packets (Docker's do), pods reach neither each other nor the outside until those rules allow it.
//!
//! Begin with [`Network`].

mod addresses;
mod conntrack;
mod error;
mod forwarding;
mod ids;
mod leases;
mod links;
mod masquerade;
mod nft;
pub mod overlay;
mod plug;
pub mod policies;
mod routes;
pub mod services;
mod spoofing;
mod subnet;
mod subnet6;
mod uplink;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

pub use addresses::of_other_family;
pub use error::Error;
pub use leases::Leases;
pub use links::check_name;
pub use subnet::Subnet;
pub use subnet6::Subnet6;

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
    /// The pods' addresses of IPv6, if they are to have such. It must have room for as many as the other. The machine then
    /// passes packets of IPv6 on, and so no longer configures itself by routers' advertisements.
    pub subnet6: Option<Subnet6>,
    /// Directory for leases. Removed by [`Network::teardown`].
    pub state_dir: PathBuf,
    /// Whether what pods send to the outside takes the machine's address.
    pub masquerade: bool,
    /// Addresses that Services get: the machine reaches them by the bridge. What answers them is [`services`]' matter.
    pub services: Option<Subnet>,
    /// The same of IPv6.
    pub services6: Option<Subnet6>,
    /// The machine's part in the way to others' pods, if its own are to reach those: see [`overlay`].
    pub overlay: Option<overlay::Local>,
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
        check_v6(&config)?;
        let leases = Leases::open(&config.state_dir, config.subnet)?;
        let links = links::Links::open()?;
        let gateway = config.subnet.gateway();
        links.ensure_bridge(&config.bridge, &config.owner, config.subnet, config.subnet6).await?;
        forwarding::enable(config.subnet6.is_some())?;
        if let Some(services) = config.services {
            let to = (services.network().into(), services.prefix());
            links.route(&config.bridge, to, gateway.into()).await?;
        }
        if let Some((services, subnet)) = config.services6.zip(config.subnet6) {
            let to = (services.network().into(), services.prefix());
            links.route(&config.bridge, to, subnet.gateway().into()).await?;
        }
        for id in leases.holders()? {
            // Made by an earlier release, perhaps.
            links.join(&links::host_name(&config.bridge, &id), links::group(&config.bridge)).await?;
        }
        masquerade::install(&table(&config.bridge), &config)?;
        Ok(Self { config, leases, links, turn: tokio::sync::Mutex::new(()) })
    }

    /// The bridge's address, at which pods reach the machine.
    pub fn gateway(&self) -> Ipv4Addr {
        self.config.subnet.gateway()
    }

    /// The bridge's address of IPv6, if pods have such.
    pub fn gateway6(&self) -> Option<Ipv6Addr> {
        self.config.subnet6.map(|subnet| subnet.gateway())
    }

    /// Connects a network namespace, given by path, and returns its addresses, that of IPv4 first. Repeating it returns
    /// the same.
    pub async fn attach(&self, id: &str, namespace: &Path) -> Result<Vec<IpAddr>> {
        let _turn = self.turn.lock().await;
        let addresses = self.addresses(self.leases.take(id)?);
        let plug = plug::Plug {
            host: links::host_name(&self.config.bridge, id),
            namespace,
            group: links::group(&self.config.bridge),
            addresses: &addresses,
            overlay: self.config.overlay.map(|local| local.address),
        };
        if let Err(error) = self.links.plug(&plug).await {
            // Half a connection is none.
            let _ = self.links.remove(&plug.host).await;
            self.leases.give_back(id)?;
            return Err(error);
        }
        Ok(addresses.iter().map(|address| address.own).collect())
    }

    /// All that follow from a lease.
    fn addresses(&self, leased: Ipv4Addr) -> Vec<plug::Address> {
        let four = plug::Address { own: leased.into(), gateway: self.gateway().into() };
        let six = self.config.subnet6.zip(self.config.subnet.number(leased)).map(|(subnet, number)| {
            plug::Address { own: subnet.pod(number).into(), gateway: subnet.gateway().into() }
        });
        std::iter::once(four).chain(six).collect()
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
            links.forget(config.subnet, config.subnet6).await?;
            masquerade::remove(&table(&config.bridge))?;
            services::Balancer::remove(&config.bridge)?;
            policies::Filter::remove(&config.bridge)?;
            overlay::Overlay::remove(&links, &config.bridge).await?;
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

/// Whether pods can have the addresses of IPv6 that they are to have.
fn check_v6(config: &Config) -> Result<()> {
    let Some(six) = config.subnet6 else { return Ok(()) };
    if !six.fits(&config.subnet) {
        return Err(Error::Invalid(format!("subnet {six} has fewer addresses than {}", config.subnet)));
    }
    match nft::installed::has_v6() {
        true => Ok(()),
        false => Err(Error::Invalid(format!("subnet {six}: this machine's kernel does not speak IPv6"))),
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
