//! The way to pods of other machines: a tunnel over the network that the machines themselves share.
//!
//! There are two. [`wireguard`] encrypts, and believes nobody but the holder of a peer's key; it is taken between machines
//! whose kernels both have it. [`vxlan`] does neither, so that the machines' network must be one that can be trusted.
//! Either way nothing is learnt or asked for: the kernel is told each peer, and packets keep their addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::links::{Links, V6Settings, set_v6};
use crate::routes::{Block, only};
use crate::{Config, Error, Result, addresses};

mod generic;
mod key;
pub mod vxlan;
pub mod wireguard;

pub use key::Key;
pub use vxlan::LinkAddress;

/// What a packet gains on its way, in bytes, by machines' addresses of IPv4 and of IPv6: WireGuard's 32, UDP's 8 and IP's.
/// VXLAN's gain is 10 less. One figure for both lets pods keep theirs when a machine changes from one to the other.
const OVERHEAD: (u32, u32) = (60, 80);

/// A machine's part in the way to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// Its address among machines.
    pub address: IpAddr,
    /// What it may use.
    pub tunnels: Tunnels,
}

/// Which tunnels a machine may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnels {
    /// WireGuard to machines that have it, where this one does, and VXLAN to others.
    Any,
    /// WireGuard alone.
    WireGuard,
    /// VXLAN alone.
    Vxlan,
}

/// The ends of a machine's tunnels, which it tells the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ends {
    /// That of VXLAN.
    pub link: Option<LinkAddress>,
    /// That of WireGuard.
    pub key: Option<Key>,
}

/// Another machine with pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// Where the machine is.
    pub host: IpAddr,
    /// The ends of its tunnels.
    pub ends: Ends,
    /// The networks of its pods.
    pub pods: Vec<Block>,
}

/// This machine's ends.
pub struct Overlay {
    local: Local,
    ends: Ends,
    v6: bool,
    links: Links,
    vxlan: vxlan::Tunnel,
    wireguard: Option<wireguard::Tunnel>,
    /// What the kernel knows; `None` where that has to be looked at.
    applied: Option<BTreeSet<Peer>>,
    /// The machines that have no tunnel in common with this one.
    apart: BTreeSet<IpAddr>,
}

/// What an interface of a tunnel follows from.
struct Device<'a> {
    links: &'a Links,
    name: String,
    config: &'a Config,
    local: IpAddr,
}

impl Overlay {
    /// The ends of a network that is to have such. That of WireGuard is made at once, so that its key can be told to others;
    /// what an earlier process told the kernel holds until the first [`Self::apply`]. Of a network that is to have none, and
    /// of a tunnel that it is not to use, what is there is removed.
    ///
    /// # Errors
    /// When the kernel cannot be asked, or has no WireGuard where it must, or something else has [`wireguard::PORT`].
    pub async fn open(config: &Config) -> Result<Option<Self>> {
        let links = Links::open()?;
        let Some(local) = config.overlay else {
            Self::remove(&links, &config.bridge).await?;
            return Ok(None);
        };
        let tunnel = match local.tunnels {
            Tunnels::Vxlan => None,
            Tunnels::Any | Tunnels::WireGuard => {
                wireguard::Tunnel::open(&links, config, local.address).await?
            }
        };
        match (&tunnel, local.tunnels) {
            (None, Tunnels::WireGuard) => return Err(Error::NoWireGuard),
            (None, _) => links.remove(&wireguard::name(&config.bridge)).await?,
            (Some(_), Tunnels::WireGuard) => links.remove(&vxlan::name(&config.bridge)).await?,
            (Some(_), _) => {}
        }
        let link = (local.tunnels != Tunnels::WireGuard).then(|| LinkAddress::of(&config.owner));
        Ok(Some(Self {
            local,
            ends: Ends { link, key: tunnel.as_ref().map(wireguard::Tunnel::key) },
            v6: config.subnet6.is_some(),
            links,
            vxlan: vxlan::Tunnel::new(config, local.address),
            wireguard: tunnel,
            applied: None,
            apart: BTreeSet::new(),
        }))
    }

    /// What others are to know of this machine.
    pub fn ends(&self) -> Ends {
        self.ends
    }

    /// Makes the kernel know exactly these peers. Those that are reached by the other family are passed over, as are networks
    /// of a family that this machine's pods do not have, and peers that have no tunnel in common with this machine.
    ///
    /// # Errors
    /// When the kernel refuses, or has no VXLAN where a peer needs it; the next call then looks at everything again.
    pub async fn apply(&mut self, peers: &[Peer]) -> Result<()> {
        let mut apart = BTreeSet::new();
        let mut wanted = BTreeSet::new();
        let local = self.local.address;
        for peer in peers.iter().filter(|peer| peer.host.is_ipv4() == local.is_ipv4() && peer.host != local) {
            match self.between(peer) {
                ends if ends == Ends::default() => drop(apart.insert(peer.host)),
                ends => drop(wanted.insert(self.with(peer, ends))),
            }
        }
        for host in apart.difference(&self.apart) {
            tracing::warn!(%host, "the pods of this machine are not reached: it has no tunnel in common with this one");
        }
        self.apart = apart;
        if self.applied.as_ref() == Some(&wanted) {
            return Ok(());
        }
        self.applied = None;
        // First where to, then no longer where from: a peer that has got a key is reached all the while.
        if let Some(tunnel) = &mut self.wireguard {
            tunnel.apply(&self.links, wanted.iter().filter(|peer| peer.ends.key.is_some())).await?;
        }
        let others: Vec<&Peer> = wanted.iter().filter(|peer| peer.ends.key.is_none()).collect();
        self.vxlan.apply(&self.links, &others).await?;
        self.applied = Some(wanted);
        Ok(())
    }

    /// A peer's end of the tunnel between the two: one at most.
    fn between(&self, peer: &Peer) -> Ends {
        let key = peer.ends.key.filter(|key| self.ends.key.is_some_and(|own| own != *key));
        let link = peer.ends.link.filter(|_| key.is_none() && self.ends.link.is_some());
        Ends { link, key }
    }

    /// What of a peer concerns this machine.
    fn with(&self, peer: &Peer, ends: Ends) -> Peer {
        let pods = peer.pods.iter().filter(|(network, _)| network.is_ipv4() || self.v6).copied().collect();
        Peer { host: peer.host, ends, pods }
    }

    /// Removes the tunnels of a bridge, if they are there.
    pub(crate) async fn remove(links: &Links, bridge: &str) -> Result<()> {
        links.remove(&wireguard::name(bridge)).await?;
        links.remove(&vxlan::name(bridge)).await
    }
}

/// The interfaces that a network of pods may have towards other machines.
pub(crate) fn names(bridge: &str) -> [String; 2] {
    [vxlan::name(bridge), wireguard::name(bridge)]
}

/// The largest packet, in bytes, that goes through the tunnel of a machine with this address whole.
pub(crate) async fn mtu(links: &Links, local: IpAddr) -> Result<u32> {
    let overhead = if local.is_ipv4() { OVERHEAD.0 } else { OVERHEAD.1 };
    let interface = addresses::all().into_iter().find(|(_, address)| *address == local);
    let (interface, _) =
        interface.ok_or_else(|| Error::Invalid(format!("{local} is no address of this machine")))?;
    Ok(links.mtu_of(&interface).await?.saturating_sub(overhead))
}

impl Device<'_> {
    /// Makes the interface, which is there, ready for packets.
    async fn ready(&self) -> Result<u32> {
        use rtnetlink::LinkUnspec;
        let (links, config) = (self.links, self.config);
        let index = links.must_have(&self.name).await?;
        let sized = LinkUnspec::new_with_index(index).mtu(mtu(links, self.local).await?).build();
        links.handle.link().set(sized).execute().await.map_err(Error::link("the tunnel's MTU"))?;
        set_v6(&self.name, if config.subnet6.is_some() { V6Settings::Router } else { V6Settings::Off })?;
        // By these the machine itself talks to pods elsewhere; no pod has the first address of a network.
        let four = only(config.subnet.network().into());
        let six = config.subnet6.map(|six| only(six.network().into()));
        for own in std::iter::once(four).chain(six) {
            links.add_address(index, own, "the tunnel's address").await?;
        }
        links.up(index, "the tunnel").await?;
        Ok(index)
    }
}
