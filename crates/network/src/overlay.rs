//! The way to pods of other machines: a tunnel over the network that the machines themselves share (VXLAN, RFC 7348).
//!
//! Nothing is learnt or asked for: each peer is told to the kernel, as a route to its pods, the neighbour who passes on what
//! goes there, and the machine at which that neighbour is. Packets keep their addresses. They are neither encrypted nor
//! authenticated: the machines' network must be one that can be trusted.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use futures::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::{InfoData, InfoVxlan, LinkAttribute, LinkInfo};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::{LinkUnspec, LinkVxlan, RouteMessageBuilder};

use crate::links::{self, Links, V6Settings, set_v6};
use crate::routes::{Block, Route, Way, only};
use crate::{Config, Error, Result, addresses};

/// The UDP port that tunnels use: the kernel's own, and most clusters'.
pub const PORT: u16 = 8472;
/// What tells this network from others on the same port.
const IDENTIFIER: u32 = 0x6d70;
/// What a packet gains on its way: the inner Ethernet header, VXLAN's, UDP's, and IP's, of IPv4 and of IPv6.
const OVERHEAD: (u32, u32) = (50, 70);

/// The link-layer address of a machine's end of the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkAddress([u8; 6]);

impl LinkAddress {
    /// That of an owner of networks: always the same one, and no vendor's.
    pub fn of(owner: &str) -> Self {
        let [_, _, a, b, c, d, e, f] = links::hash(owner).to_be_bytes();
        // Locally administered, and of one machine.
        Self([(a & 0xfc) | 0x02, b, c, d, e, f])
    }
}

impl fmt::Display for LinkAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl FromStr for LinkAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::Invalid(format!("{text:?} is no link-layer address such as 02:00:5e:10:00:01"));
        let bytes: Option<Vec<u8>> = text.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect();
        let address = bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or_else(wrong)?;
        // A group's address is nobody's.
        if address.0[0] & 1 == 1 || address.to_string() != text.to_lowercase() {
            Err(wrong())
        } else {
            Ok(address)
        }
    }
}

/// Another machine with pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// Where the machine is.
    pub host: IpAddr,
    /// Its end of the tunnel.
    pub link: LinkAddress,
    /// The networks of its pods.
    pub pods: Vec<(IpAddr, u8)>,
}

/// This machine's end of the tunnel. It is there for as long as there are peers.
pub struct Overlay {
    config: Config,
    local: IpAddr,
    links: Links,
    /// What the kernel knows; `None` where that has to be looked at.
    applied: Option<BTreeSet<Peer>>,
}

/// The tunnel's interface.
pub(crate) fn name(bridge: &str) -> String {
    format!("mx{:012x}", links::hash(bridge) >> 16)
}

/// The largest packet, in bytes, that goes through the tunnel of a machine with this address whole.
pub(crate) async fn mtu(links: &Links, local: IpAddr) -> Result<u32> {
    let overhead = if local.is_ipv4() { OVERHEAD.0 } else { OVERHEAD.1 };
    let interface = addresses::all().into_iter().find(|(_, address)| *address == local);
    let (interface, _) =
        interface.ok_or_else(|| Error::Invalid(format!("{local} is no address of this machine")))?;
    Ok(links.mtu_of(&interface).await?.saturating_sub(overhead))
}

impl Overlay {
    /// The end of a network that is to have one. What an earlier process made holds until the first [`Self::apply`].
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn open(config: &Config) -> Result<Option<Self>> {
        let Some(local) = config.overlay else { return Ok(None) };
        Ok(Some(Self { config: config.clone(), local, links: Links::open()?, applied: None }))
    }

    /// Makes the kernel know exactly these peers. Those that are reached by the other family are passed over, as are networks
    /// of a family that this machine's pods do not have.
    ///
    /// # Errors
    /// When the kernel refuses, or has no VXLAN; the next call then looks at everything again.
    pub async fn apply(&mut self, peers: &[Peer]) -> Result<()> {
        let reached = |peer: &&Peer| peer.host.is_ipv4() == self.local.is_ipv4() && peer.host != self.local;
        let wanted: BTreeSet<Peer> = peers.iter().filter(reached).cloned().collect();
        if self.applied.as_ref() == Some(&wanted) {
            return Ok(());
        }
        self.applied = None;
        if wanted.is_empty() {
            Self::remove(&self.links, &self.config.bridge).await?;
        } else {
            End { links: &self.links, index: self.end().await? }
                .know(&wanted, self.config.subnet6.is_some())
                .await?;
        }
        self.applied = Some(wanted);
        Ok(())
    }

    /// Makes the interface, or finds it.
    async fn end(&self) -> Result<u32> {
        let (links, config, link) = (&self.links, &self.config, LinkAddress::of(&self.config.owner));
        let (name, mtu) = (name(&config.bridge), mtu(links, self.local).await?);
        if !links.is_tunnel(&name, self.local, link).await? {
            links.remove(&name).await?;
            let device =
                LinkVxlan::new(&name, IDENTIFIER).port(PORT).learning(false).address(link.0.to_vec());
            let device = match self.local {
                IpAddr::V4(local) => device.local(local),
                IpAddr::V6(local) => device.local6(local),
            };
            let made = links.handle.link().add(device.mtu(mtu).build()).execute().await;
            made.map_err(Error::link("making the tunnel to other machines' pods (VXLAN)"))?;
        }
        let index = links.must_have(&name).await?;
        let sized = LinkUnspec::new_with_index(index).mtu(mtu).build();
        links.handle.link().set(sized).execute().await.map_err(Error::link("the tunnel's MTU"))?;
        set_v6(&name, if config.subnet6.is_some() { V6Settings::Router } else { V6Settings::Off })?;
        // By these the machine itself talks to pods elsewhere; no pod has the first address of a network.
        let four = only(config.subnet.network().into());
        let six = config.subnet6.map(|six| only(six.network().into()));
        for own in std::iter::once(four).chain(six) {
            links.add_address(index, own, "the tunnel's address").await?;
        }
        links.up(index, "the tunnel").await?;
        Ok(index)
    }

    /// Removes the tunnel of a bridge, if it is there.
    pub(crate) async fn remove(links: &Links, bridge: &str) -> Result<()> {
        links.remove(&name(bridge)).await
    }
}

/// The interface.
struct End<'a> {
    links: &'a Links,
    index: u32,
}

impl End<'_> {
    /// Tells the kernel of these, and has it forget all others.
    async fn know(&self, peers: &BTreeSet<Peer>, v6: bool) -> Result<()> {
        let mut gateways = BTreeSet::new();
        let mut networks = BTreeSet::new();
        for peer in peers {
            self.machine(peer).await?;
            for network in peer.pods.iter().filter(|(network, _)| network.is_ipv4() || v6) {
                self.network(peer, *network).await?;
                gateways.insert(network.0);
                networks.insert(*network);
            }
        }
        self.forget_routes(&networks).await?;
        self.forget_neighbours(&gateways, &peers.iter().map(|peer| peer.link).collect()).await
    }

    /// At which machine a peer's end is.
    async fn machine(&self, peer: &Peer) -> Result<()> {
        let entry = self.links.handle.neighbours().add_bridge(self.index, &peer.link.0);
        let entry = entry.destination(peer.host).flags(NeighbourFlags::Own).replace();
        entry.execute().await.map_err(Error::link(format!("the tunnel to {}", peer.host)))
    }

    /// The way to a network of a peer: by its first address, which is its end of the tunnel.
    async fn network(&self, peer: &Peer, (network, prefix): Block) -> Result<()> {
        let what = || format!("the way to the pods {network}/{prefix}");
        let neighbour = self.links.handle.neighbours().add(self.index, network);
        let neighbour = neighbour.link_layer_address(&peer.link.0).state(NeighbourState::Permanent).replace();
        neighbour.execute().await.map_err(Error::link(what()))?;
        let way = Way::Onlink(self.index, network);
        self.links.set_route(Route { to: (network, prefix), way }, what()).await
    }

    async fn forget_routes(&self, wanted: &BTreeSet<Block>) -> Result<()> {
        for route in self.links.routes(self.index).await? {
            let by_gateway =
                route.attributes.iter().any(|attribute| matches!(attribute, RouteAttribute::Gateway(_)));
            if by_gateway && destination(&route).is_some_and(|to| !wanted.contains(&to)) {
                let removed = self.links.handle.route().del(route).execute().await;
                removed.map_err(Error::link("removing the way to pods that are gone"))?;
            }
        }
        Ok(())
    }

    async fn forget_neighbours(
        &self,
        gateways: &BTreeSet<IpAddr>,
        ends: &BTreeSet<LinkAddress>,
    ) -> Result<()> {
        for family in [AddressFamily::Unspec, AddressFamily::Bridge] {
            let neighbours = self.links.handle.neighbours().get().set_address_family(family);
            let all: Vec<NeighbourMessage> =
                neighbours.execute().try_collect().await.map_err(Error::link("the tunnel's neighbours"))?;
            let is_wanted = |message: &NeighbourMessage| match family {
                AddressFamily::Bridge => end(message).is_some_and(|end| ends.contains(&end)),
                _ => gateway(message).is_some_and(|gateway| gateways.contains(&gateway)),
            };
            let own = |message: &NeighbourMessage| {
                message.header.ifindex == self.index && message.header.state == NeighbourState::Permanent
            };
            for message in all.into_iter().filter(|message| own(message) && !is_wanted(message)) {
                let removed = self.links.handle.neighbours().del(message).execute().await;
                removed.map_err(Error::link("removing a neighbour that is gone"))?;
            }
        }
        Ok(())
    }
}

impl Links {
    /// Whether an interface is the tunnel's end of this address, and called so.
    async fn is_tunnel(&self, name: &str, local: IpAddr, link: LinkAddress) -> Result<bool> {
        if !self.exists(name).await? {
            return Ok(false);
        }
        let attributes = self.attributes(name).await?;
        let told: Vec<&InfoVxlan> = attributes
            .iter()
            .filter_map(|attribute| match attribute {
                LinkAttribute::LinkInfo(info) => Some(info),
                _ => None,
            })
            .flatten()
            .filter_map(|part| match part {
                LinkInfo::Data(InfoData::Vxlan(told)) => Some(told),
                _ => None,
            })
            .flatten()
            .collect();
        let at = match local {
            IpAddr::V4(local) => InfoVxlan::Local(local),
            IpAddr::V6(local) => InfoVxlan::Local6(local),
        };
        let wanted = [InfoVxlan::Id(IDENTIFIER), InfoVxlan::Port(PORT), InfoVxlan::Learning(false), at];
        let called = attributes.contains(&LinkAttribute::Address(link.0.to_vec()));
        Ok(called && wanted.iter().all(|part| told.contains(&part)))
    }

    /// All routes by an interface, of both families.
    async fn routes(&self, index: u32) -> Result<Vec<RouteMessage>> {
        let all = [
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
            RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
        ];
        let mut found = Vec::new();
        for asked in all {
            let routes: Vec<RouteMessage> = self
                .handle
                .route()
                .get(asked)
                .execute()
                .try_collect()
                .await
                .map_err(Error::link("routes"))?;
            found.extend(
                routes.into_iter().filter(|route| route.attributes.contains(&RouteAttribute::Oif(index))),
            );
        }
        Ok(found)
    }
}

fn destination(route: &RouteMessage) -> Option<Block> {
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    });
    Some((address?, route.header.destination_prefix_length))
}

fn gateway(message: &NeighbourMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })
}

fn end(message: &NeighbourMessage) -> Option<LinkAddress> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => bytes.as_slice().try_into().ok().map(LinkAddress),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_addresses_are_one_machines_own() {
        let (one, two) = (LinkAddress::of("one"), LinkAddress::of("two"));
        assert!(one != two && one == LinkAddress::of("one"));
        assert_eq!(one.0[0] & 3, 2, "locally administered, and no group's");
        assert_eq!(one.to_string().parse::<LinkAddress>().unwrap(), one);
        for bad in [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:00:00",
            "03:00:00:00:00:00",
            "2:0:0:0:0:0",
            "0g:00:00:00:00:00",
        ] {
            assert!(bad.parse::<LinkAddress>().is_err(), "{bad}");
        }
    }
}
