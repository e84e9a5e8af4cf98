//! The tunnel that encrypts: WireGuard (<https://www.wireguard.com/papers/wireguard.pdf>).
//!
//! A machine's private key is made by the machine when the interface is, and known to nobody but the kernel: no file has it,
//! and no process can be asked for it later. So the public one is another after a restart of the machine, and is told to the
//! others anew; a restart of the process changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use netlink_packet_wireguard::{
    WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAttribute, WireguardCmd,
    WireguardMessage, WireguardPeer, WireguardPeerAttribute, WireguardPeerFlags,
};
use rtnetlink::LinkWireguard;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo};
use rtnetlink::packet_route::route::RouteProtocol;

use super::generic::Generic;
use super::{Device, Key, Peer};
use crate::links::{self, Links};
use crate::routes::{Block, Route, Way, destination};
use crate::{Config, Error, Result};

/// The UDP port that tunnels use. Not WireGuard's customary one, which the machine's owner may have a tunnel of their own on.
pub const PORT: u16 = 8473;
/// How many peers one message tells of: its length is counted in 16 bits.
const BATCH: usize = 100;
/// EOPNOTSUPP.
const NOT_SUPPORTED: i32 = 95;

/// The tunnel's interface.
pub(crate) fn name(bridge: &str) -> String {
    format!("mw{:012x}", links::hash(bridge) >> 16)
}

/// This machine's end.
pub(crate) struct Tunnel {
    device: String,
    index: u32,
    key: Key,
    kernel: Generic<WireguardMessage>,
    /// What the kernel knows; `None` where that has to be looked at.
    applied: Option<BTreeMap<Key, End>>,
}

/// What is told of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct End {
    at: SocketAddr,
    pods: BTreeSet<Block>,
}

/// What the kernel tells of the interface.
struct Told {
    key: Option<Key>,
    port: u16,
    peers: BTreeSet<Key>,
}

impl Tunnel {
    /// Makes the interface and its key, or finds those that an earlier process made. Without WireGuard there is none.
    pub(crate) async fn open(links: &Links, config: &Config, local: IpAddr) -> Result<Option<Self>> {
        let device = name(&config.bridge);
        if !links.is_wireguard(&device).await? {
            links.remove(&device).await?;
            match links.handle.link().add(LinkWireguard::new(&device).build()).execute().await {
                Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -NOT_SUPPORTED => {
                    return Ok(None);
                }
                made => made.map_err(Error::link("making the tunnel to other machines' pods (WireGuard)"))?,
            }
        }
        let kernel = Generic::open().await?;
        let mut told = told(&kernel, &device).await?;
        if told.key.is_none() || told.port != PORT {
            let mut orders = vec![WireguardAttribute::ListenPort(PORT)];
            if told.key.is_none() {
                orders.push(WireguardAttribute::PrivateKey(private_key()?));
            }
            set(&kernel, &device, orders, "the tunnel's key").await?;
            told = self::told(&kernel, &device).await?;
        }
        let key = told.key.ok_or_else(|| Error::Invalid(format!("interface {device} takes no key")))?;
        let index = Device { links, name: device.clone(), config, local }.ready().await.map_err(taken)?;
        Ok(Some(Self { device, index, key, kernel, applied: None }))
    }

    pub(crate) fn key(&self) -> Key {
        self.key
    }

    /// Makes the kernel know exactly these peers, which have keys.
    pub(crate) async fn apply(&mut self, links: &Links, peers: impl Iterator<Item = &Peer>) -> Result<()> {
        let mut wanted = BTreeMap::new();
        for peer in peers {
            // One that has several addresses is reached by the first.
            if let Some(key) = peer.ends.key {
                let at = SocketAddr::new(peer.host, PORT);
                wanted.entry(key).or_insert_with(|| End { at, pods: peer.pods.iter().copied().collect() });
            }
        }
        let (known, before) = match self.applied.take() {
            Some(applied) => (applied.keys().copied().collect(), applied),
            None => (told(&self.kernel, &self.device).await?.peers, BTreeMap::new()),
        };
        let gone = known.iter().filter(|key| !wanted.contains_key(key)).map(|key| without(*key));
        let other = wanted.iter().filter(|(key, end)| before.get(key) != Some(end));
        let orders: Vec<WireguardPeer> = gone.chain(other.map(|(key, end)| with(*key, end))).collect();
        for batch in orders.chunks(BATCH) {
            let batch = vec![WireguardAttribute::Peers(batch.to_vec())];
            set(&self.kernel, &self.device, batch, "the tunnel's peers").await?;
        }
        self.lead(links, wanted.values().flat_map(|end| &end.pods).copied().collect()).await?;
        self.applied = Some(wanted);
        Ok(())
    }

    /// Makes exactly these networks' routes lead into the tunnel.
    async fn lead(&self, links: &Links, networks: BTreeSet<Block>) -> Result<()> {
        let mut there = BTreeSet::new();
        for route in links.routes(self.index).await? {
            // The kernel's own are those of the tunnel's address.
            if route.header.protocol != RouteProtocol::Static {
                continue;
            }
            match destination(&route) {
                Some(to) if networks.contains(&to) => drop(there.insert(to)),
                _ => {
                    let removed = links.handle.route().del(route).execute().await;
                    removed.map_err(Error::link("removing the way to pods that are gone"))?;
                }
            }
        }
        for to in networks.difference(&there) {
            let route = Route { to: *to, way: Way::Link(self.index, None) };
            links.set_route(route, format!("the way to the pods {}/{}", to.0, to.1)).await?;
        }
        Ok(())
    }
}

impl Links {
    async fn is_wireguard(&self, name: &str) -> Result<bool> {
        let of_wireguard = |attribute: &LinkAttribute| match attribute {
            LinkAttribute::LinkInfo(info) => info.contains(&LinkInfo::Kind(InfoKind::Wireguard)),
            _ => false,
        };
        Ok(self.exists(name).await? && self.attributes(name).await?.iter().any(of_wireguard))
    }
}

/// The port is taken as the interface comes up.
fn taken(error: Error) -> Error {
    match error {
        Error::Kernel { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => {
            Error::PortTaken(PORT)
        }
        other => other,
    }
}

/// Any 32 bytes will do: the kernel makes of them what a key must be.
fn private_key() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    let filled = getrandom::fill(&mut bytes);
    filled.map_err(|error| Error::kernel("the tunnel's key")(std::io::Error::other(error.to_string())))?;
    Ok(bytes)
}

async fn told(kernel: &Generic<WireguardMessage>, device: &str) -> Result<Told> {
    let asked = WireguardMessage {
        cmd: WireguardCmd::GetDevice,
        attributes: vec![WireguardAttribute::IfName(device.to_owned())],
    };
    let mut told = Told { key: None, port: 0, peers: BTreeSet::new() };
    // Many peers fill several messages; one that is in two of them has its key in both.
    let answers = kernel.dump(asked, "the tunnel's peers").await?;
    for attribute in answers.into_iter().flat_map(|answer| answer.attributes) {
        match attribute {
            WireguardAttribute::PublicKey(bytes) => told.key = Key::new(bytes),
            WireguardAttribute::ListenPort(port) => told.port = port,
            WireguardAttribute::Peers(peers) => {
                let attributes = peers.into_iter().flat_map(|peer| peer.0);
                told.peers.extend(attributes.filter_map(|attribute| match attribute {
                    WireguardPeerAttribute::PublicKey(bytes) => Key::new(bytes),
                    _ => None,
                }));
            }
            _ => {}
        }
    }
    Ok(told)
}

async fn set(
    kernel: &Generic<WireguardMessage>,
    device: &str,
    mut attributes: Vec<WireguardAttribute>,
    what: &str,
) -> Result<()> {
    attributes.insert(0, WireguardAttribute::IfName(device.to_owned()));
    kernel.order(WireguardMessage { cmd: WireguardCmd::SetDevice, attributes }, what).await
}

fn without(key: Key) -> WireguardPeer {
    WireguardPeer(vec![
        WireguardPeerAttribute::PublicKey(key.bytes()),
        WireguardPeerAttribute::Flags(WireguardPeerFlags::RemoveMe),
    ])
}

fn with(key: Key, end: &End) -> WireguardPeer {
    let pods = end.pods.iter().map(|(network, prefix)| {
        let family = match network {
            IpAddr::V4(_) => WireguardAddressFamily::Ipv4,
            IpAddr::V6(_) => WireguardAddressFamily::Ipv6,
        };
        WireguardAllowedIp(vec![
            WireguardAllowedIpAttr::Family(family),
            WireguardAllowedIpAttr::IpAddr(*network),
            WireguardAllowedIpAttr::Cidr(*prefix),
        ])
    });
    WireguardPeer(vec![
        WireguardPeerAttribute::PublicKey(key.bytes()),
        WireguardPeerAttribute::Flags(WireguardPeerFlags::ReplaceAllowedIps),
        WireguardPeerAttribute::Endpoint(end.at),
        WireguardPeerAttribute::AllowedIps(pods.collect()),
    ])
}
