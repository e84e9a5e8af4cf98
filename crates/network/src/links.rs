//! Interfaces: the bridge, and the veth pair of each pod.
//!
//! The bridge has no ports: it carries the gateway's address, and routes for what no pod has. Pods' packets are routed,
//! those from one pod to the next too: so Services and policies see every packet, whether or not the machine filters
//! bridged ones, and a pod reaches nothing but the gateway whatever addresses and neighbours it gives itself.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::path::Path;

use futures::TryStreamExt;
use nix::sched::{CloneFlags, setns};
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute};
use rtnetlink::packet_route::route::{RouteScope, RouteType};
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::{Error, Result, Subnet};

/// The interface in the pod.
const POD_INTERFACE: &str = "eth0";

/// What a bridge's alias begins with; its owner follows.
const ALIAS: &str = "pods of ";

fn alias(owner: &str) -> String {
    format!("{ALIAS}{owner}")
}

/// Netlink to the machine's own network namespace.
pub(crate) struct Links {
    pub(crate) handle: Handle,
    _connection: Connection,
}

/// The task that carries a netlink connection; ends with this value.
struct Connection(tokio::task::JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A pod's connection to be.
pub(crate) struct Plug<'a> {
    pub(crate) host: String,
    pub(crate) namespace: &'a Path,
    pub(crate) address: Ipv4Addr,
    pub(crate) gateway: Ipv4Addr,
}

/// Whether a bridge may be called so: names that the kernel takes and that need no quoting anywhere.
///
/// # Errors
/// When it may not.
pub fn check_name(name: &str) -> Result<()> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match (1..=15).contains(&name.len()) && name.bytes().all(fine) && !matches!(name, "." | "..") {
        true => Ok(()),
        false => Err(Error::Invalid(format!("bridge: {name:?} is no interface name of 1 to 15 characters"))),
    }
}

/// 64 bits of a text, the same on every machine and in every release (FNV-1a).
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The machine's end of a pod's pair. Other networks' pods have other names, for the bridge's is in it.
pub(crate) fn host_name(bridge: &str, id: &str) -> String {
    format!("mp{:012x}", hash(&format!("{bridge}/{id}")) >> 16)
}

impl Links {
    pub(crate) fn open() -> Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::kernel("netlink"))?;
        let connection = Connection(tokio::spawn(connection));
        Ok(Self { handle, _connection: connection })
    }

    /// Netlink to another network namespace: a socket belongs to the namespace of the thread that makes it.
    fn inside(namespace: &File) -> Result<Self> {
        let namespace = namespace.try_clone().map_err(Error::kernel("network namespace"))?;
        let runtime = tokio::runtime::Handle::current();
        let thread = std::thread::spawn(move || {
            setns(&namespace, CloneFlags::CLONE_NEWNET)?;
            let _runtime = runtime.enter();
            rtnetlink::new_connection()
        });
        let made = thread.join().unwrap_or_else(|_| Err(std::io::Error::other("the thread ended badly")));
        let (connection, handle, _) = made.map_err(Error::kernel("network namespace"))?;
        let connection = Connection(tokio::spawn(connection));
        Ok(Self { handle, _connection: connection })
    }

    async fn index(&self, name: &str) -> Result<Option<u32>> {
        let mut links = std::pin::pin!(self.handle.link().get().match_name(name).execute());
        match links.try_next().await {
            Ok(link) => Ok(link.map(|link| link.header.index)),
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -NO_DEVICE => Ok(None),
            Err(error) => Err(Error::link(format!("interface {name}"))(error)),
        }
    }

    async fn must_have(&self, name: &str) -> Result<u32> {
        let missing = || Error::Invalid(format!("interface {name} is gone"));
        self.index(name).await?.ok_or_else(missing)
    }

    /// Makes the bridge, or finds the one that an earlier process made. What is sent to an address of the subnet that no
    /// pod has is answered as unreachable, at once.
    pub(crate) async fn ensure_bridge(&self, name: &str, owner: &str, subnet: Subnet) -> Result<()> {
        self.ensure_gateway(name, owner, subnet.gateway()).await?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(subnet.network(), subnet.prefix())
            .kind(RouteType::Unreachable);
        let added = self.handle.route().add(route.build()).replace().execute().await;
        added.map_err(Error::link(format!("bridge {name}: route of the pods")))
    }

    async fn ensure_gateway(&self, name: &str, owner: &str, address: Ipv4Addr) -> Result<()> {
        let ours = |what: &str| format!("bridge {name}: {what}");
        if self.is_anothers(name, owner).await? {
            return Err(Error::Anothers { name: name.to_owned() });
        }
        if let Some(index) = self.index(name).await? {
            // A bridge without an address was cut off while being made.
            if self.is_bridge(name).await? && self.address(index).await?.is_none() {
                self.remove(name).await?;
            } else if self.address(index).await? == Some(address) && self.is_bridge(name).await? {
                let up = LinkUnspec::new_with_index(index).alias(alias(owner)).up().build();
                return self.handle.link().set(up).execute().await.map_err(Error::link(ours("up")));
            } else {
                return Err(Error::Taken { name: name.to_owned(), address: IpAddr::V4(address) });
            }
        }
        let bridge = LinkBridge::new(name).build();
        self.handle.link().add(bridge).execute().await.map_err(Error::link(ours("making it")))?;
        let index = self.must_have(name).await?;
        // Its owner first: from here on nobody else takes it.
        let owned = LinkUnspec::new_with_index(index).alias(alias(owner)).build();
        self.handle.link().set(owned).execute().await.map_err(Error::link(ours("its owner")))?;
        let added = self.handle.address().add(index, IpAddr::V4(address), 32).execute().await;
        added.map_err(Error::link(ours("its address")))?;
        let up = LinkUnspec::new_with_index(index).up().build();
        self.handle.link().set(up).execute().await.map_err(Error::link(ours("up")))
    }

    /// Whether an interface is there and says that somebody else has it.
    pub(crate) async fn is_anothers(&self, name: &str, owner: &str) -> Result<bool> {
        let other = |attribute: &LinkAttribute| match attribute {
            LinkAttribute::IfAlias(text) => text.starts_with(ALIAS) && *text != alias(owner),
            _ => false,
        };
        Ok(self.index(name).await?.is_some() && self.attributes(name).await?.iter().any(other))
    }

    async fn attributes(&self, name: &str) -> Result<Vec<LinkAttribute>> {
        let mut links = std::pin::pin!(self.handle.link().get().match_name(name).execute());
        let link = links.try_next().await.map_err(Error::link(format!("interface {name}")))?;
        Ok(link.map(|link| link.attributes).unwrap_or_default())
    }

    async fn is_bridge(&self, name: &str) -> Result<bool> {
        let attributes = self.attributes(name).await?;
        let bridge = |attribute: &LinkAttribute| match attribute {
            LinkAttribute::LinkInfo(info) => info
                .iter()
                .any(|part| matches!(part, rtnetlink::packet_route::link::LinkInfo::Kind(InfoKind::Bridge))),
            _ => false,
        };
        Ok(attributes.iter().any(bridge))
    }

    async fn address(&self, index: u32) -> Result<Option<Ipv4Addr>> {
        let mut addresses =
            std::pin::pin!(self.handle.address().get().set_link_index_filter(index).execute());
        while let Some(message) = addresses.try_next().await.map_err(Error::link("addresses"))? {
            for attribute in message.attributes {
                if let AddressAttribute::Address(IpAddr::V4(address)) = attribute {
                    return Ok(Some(address));
                }
            }
        }
        Ok(None)
    }

    /// Connects a pod. A pair that is there from before is made anew.
    pub(crate) async fn plug(&self, plug: &Plug<'_>) -> Result<()> {
        let pod = |what: &str| format!("pod interface of {}: {what}", plug.address);
        let namespace = File::open(plug.namespace)
            .map_err(|source| Error::File { path: plug.namespace.to_owned(), source })?;
        self.remove(&plug.host).await?;
        let mtu = self.uplink_mtu().await?;
        let peer =
            LinkUnspec::new_with_name(POD_INTERFACE).setns_by_fd(namespace.as_raw_fd()).mtu(mtu).build();
        let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(plug.host.clone())
            .mtu(mtu)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        self.handle.link().add(pair).execute().await.map_err(Error::link(pod("making the pair")))?;
        // No source but its own: an answer to any other would not go out by this interface.
        sysctl(&format!("/proc/sys/net/ipv4/conf/{}/rp_filter", plug.host), "1")?;
        let index = self.must_have(&plug.host).await?;
        let up = LinkUnspec::new_with_index(index).up().build();
        self.handle.link().set(up).execute().await.map_err(Error::link(pod("up")))?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(plug.address, 32)
            .output_interface(index)
            .scope(RouteScope::Link)
            .pref_source(plug.gateway);
        let added = self.handle.route().add(route.build()).replace().execute().await;
        added.map_err(Error::link(pod("the machine's route")))?;

        let inside = Self::inside(&namespace)?;
        for name in ["lo", POD_INTERFACE] {
            let index = inside.must_have(name).await?;
            if name == POD_INTERFACE {
                let added = inside.handle.address().add(index, IpAddr::V4(plug.address), 32);
                added.execute().await.map_err(Error::link(pod("address")))?;
            }
            let up = LinkUnspec::new_with_index(index).up().build();
            inside.handle.link().set(up).execute().await.map_err(Error::link(pod("up")))?;
        }
        // The gateway is the only neighbour.
        let index = inside.must_have(POD_INTERFACE).await?;
        let neighbour = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(plug.gateway, 32)
            .output_interface(index)
            .scope(RouteScope::Link);
        let others = RouteMessageBuilder::<Ipv4Addr>::new().gateway(plug.gateway);
        for route in [neighbour.build(), others.build()] {
            inside.handle.route().add(route).execute().await.map_err(Error::link(pod("route")))?;
        }
        Ok(())
    }

    /// Sends what goes to a network to the bridge, with the bridge's address as its source, so that the machine itself
    /// reaches virtual addresses. Repeating it succeeds.
    pub(crate) async fn route(&self, bridge: &str, network: (Ipv4Addr, u8), source: Ipv4Addr) -> Result<()> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(network.0, network.1)
            .output_interface(self.must_have(bridge).await?)
            .scope(RouteScope::Link)
            .pref_source(source)
            .build();
        let what = format!("bridge {bridge}: route to {}/{}", network.0, network.1);
        self.handle.route().add(route).replace().execute().await.map_err(Error::link(what))
    }

    /// Removes the route of a subnet, if it is there.
    pub(crate) async fn forget(&self, subnet: Subnet) -> Result<()> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(subnet.network(), subnet.prefix())
            .kind(RouteType::Unreachable);
        match self.handle.route().del(route.build()).execute().await {
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -NO_ROUTE => Ok(()),
            other => other.map_err(Error::link(format!("removing the route to {}", subnet.network()))),
        }
    }

    /// Removes an interface, if it is there; a pair's other end goes with it, and its routes.
    pub(crate) async fn remove(&self, name: &str) -> Result<()> {
        let Some(index) = self.index(name).await? else { return Ok(()) };
        match self.handle.link().del(index).execute().await {
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -NO_DEVICE => Ok(()),
            other => other.map_err(Error::link(format!("removing interface {name}"))),
        }
    }
}

fn sysctl(path: &str, value: &str) -> Result<()> {
    std::fs::write(path, value).map_err(|source| Error::File { path: path.into(), source })
}

/// ENODEV.
const NO_DEVICE: i32 = 19;
/// ESRCH.
const NO_ROUTE: i32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel_and_differ_between_networks() {
        let name = host_name("mono0", "0123456789abcdef");
        assert!(check_name(&name).is_ok() && name.len() == 14, "{name}");
        assert_ne!(name, host_name("mono1", "0123456789abcdef"));
        assert_ne!(name, host_name("mono0", "0123456789abcdee"));
        for bad in ["", "..", "a b", "sixteen-letters-", "a/b"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
