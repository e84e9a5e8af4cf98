//! The tunnel of any network: VXLAN (RFC 7348). Packets are neither encrypted nor authenticated.
//!
//! A peer is a route to its pods, the neighbour who passes on what goes there, and the machine at which that neighbour is.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use futures::TryStreamExt;
use rtnetlink::LinkVxlan;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::{InfoData, InfoVxlan, LinkAttribute, LinkInfo};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::RouteAttribute;

use super::{Device, Peer};
use crate::links::{self, Links};
use crate::routes::{Block, Route, Way, destination};
use crate::{Config, Error, Result};

/// The UDP port that tunnels use: the kernel's own, and most clusters'.
pub const PORT: u16 = 8472;
/// What tells this network from others on the same port.
const IDENTIFIER: u32 = 0x6d70;

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

/// The tunnel's interface.
pub(crate) fn name(bridge: &str) -> String {
    format!("mx{:012x}", links::hash(bridge) >> 16)
}

/// This machine's end. It is there for as long as there are peers.
pub(crate) struct Tunnel {
    config: Config,
    local: IpAddr,
}

impl Tunnel {
    pub(crate) fn new(config: &Config, local: IpAddr) -> Self {
        Self { config: config.clone(), local }
    }

    /// Makes the kernel know exactly these peers.
    pub(crate) async fn apply(&self, links: &Links, peers: &[&Peer]) -> Result<()> {
        if peers.is_empty() {
            return links.remove(&name(&self.config.bridge)).await;
        }
        End { links, index: self.end(links).await? }.know(peers).await
    }

    /// Makes the interface, or finds it.
    async fn end(&self, links: &Links) -> Result<u32> {
        let (name, link) = (name(&self.config.bridge), LinkAddress::of(&self.config.owner));
        if !links.is_vxlan(&name, self.local, link).await? {
            links.remove(&name).await?;
            let device =
                LinkVxlan::new(&name, IDENTIFIER).port(PORT).learning(false).address(link.0.to_vec());
            let device = match self.local {
                IpAddr::V4(local) => device.local(local),
                IpAddr::V6(local) => device.local6(local),
            };
            let made = links.handle.link().add(device.build()).execute().await;
            made.map_err(Error::link("making the tunnel to other machines' pods (VXLAN)"))?;
        }
        Device { links, name, config: &self.config, local: self.local }.ready().await
    }
}

/// The interface.
struct End<'a> {
    links: &'a Links,
    index: u32,
}

impl End<'_> {
    /// Tells the kernel of these, and has it forget all others.
    async fn know(&self, peers: &[&Peer]) -> Result<()> {
        let (mut ends, mut gateways, mut networks) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for peer in peers {
            let Some(end) = peer.ends.link else { continue };
            self.machine(peer.host, end).await?;
            ends.insert(end);
            for network in &peer.pods {
                self.network(end, *network).await?;
                gateways.insert(network.0);
                networks.insert(*network);
            }
        }
        self.forget_routes(&networks).await?;
        self.forget_neighbours(&gateways, &ends).await
    }

    /// At which machine a peer's end is.
    async fn machine(&self, host: IpAddr, end: LinkAddress) -> Result<()> {
        let entry = self.links.handle.neighbours().add_bridge(self.index, &end.0);
        let entry = entry.destination(host).flags(NeighbourFlags::Own).replace();
        entry.execute().await.map_err(Error::link(format!("the tunnel to {host}")))
    }

    /// The way to a network of a peer: by its first address, which is its end of the tunnel.
    async fn network(&self, end: LinkAddress, (network, prefix): Block) -> Result<()> {
        let what = || format!("the way to the pods {network}/{prefix}");
        let neighbour = self.links.handle.neighbours().add(self.index, network);
        let neighbour = neighbour.link_layer_address(&end.0).state(NeighbourState::Permanent).replace();
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
    async fn is_vxlan(&self, name: &str, local: IpAddr, link: LinkAddress) -> Result<bool> {
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
