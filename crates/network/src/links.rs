//! Interfaces: the bridge, and the veth pair of each pod.
//!
//! The bridge has no ports: it carries the gateway's address, and routes for what no pod has. Pods' packets are routed,
//! those from one pod to the next too: so Services and policies see every packet, whether or not the machine filters
//! bridged ones, and a pod reaches nothing but the gateway whatever addresses and neighbours it gives itself.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};

use futures::TryStreamExt;
use nix::sched::{CloneFlags, setns};
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute};
use rtnetlink::{Handle, LinkBridge, LinkUnspec};

use crate::routes::{Block, Route, Way, only};
use crate::{Error, Result, Subnet, Subnet6};

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
pub(crate) struct Connection(tokio::task::JoinHandle<()>);

impl Connection {
    pub(crate) fn new(task: tokio::task::JoinHandle<()>) -> Self {
        Self(task)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
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
pub(crate) fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The machine's end of a pod's pair. Other networks' pods have other names, for the bridge's is in it.
pub(crate) fn host_name(bridge: &str, id: &str) -> String {
    format!("mp{:012x}", hash(&format!("{bridge}/{id}")) >> 16)
}

/// The number of the group that the machine's ends of a network's pairs are in. Never 0, the group of all others.
pub(crate) fn group(bridge: &str) -> u32 {
    // What remains fits.
    u32::try_from(hash(bridge) >> 33).unwrap_or_default().max(1)
}

impl Links {
    pub(crate) fn open() -> Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::kernel("netlink"))?;
        let connection = Connection::new(tokio::spawn(connection));
        Ok(Self { handle, _connection: connection })
    }

    /// Netlink to another network namespace: a socket belongs to the namespace of the thread that makes it.
    pub(crate) fn inside(namespace: &File) -> Result<Self> {
        let namespace = namespace.try_clone().map_err(Error::kernel("network namespace"))?;
        let runtime = tokio::runtime::Handle::current();
        let thread = std::thread::spawn(move || {
            setns(&namespace, CloneFlags::CLONE_NEWNET)?;
            let _runtime = runtime.enter();
            rtnetlink::new_connection()
        });
        let made = thread.join().unwrap_or_else(|_| Err(std::io::Error::other("the thread ended badly")));
        let (connection, handle, _) = made.map_err(Error::kernel("network namespace"))?;
        let connection = Connection::new(tokio::spawn(connection));
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

    pub(crate) async fn exists(&self, name: &str) -> Result<bool> {
        Ok(self.index(name).await?.is_some())
    }

    pub(crate) async fn must_have(&self, name: &str) -> Result<u32> {
        let missing = || Error::Invalid(format!("interface {name} is gone"));
        self.index(name).await?.ok_or_else(missing)
    }

    /// Makes the bridge, or finds the one that an earlier process made. What is sent to an address of the subnets that no
    /// pod has is answered as unreachable, at once.
    pub(crate) async fn ensure_bridge(
        &self,
        name: &str,
        owner: &str,
        subnet: Subnet,
        six: Option<Subnet6>,
    ) -> Result<()> {
        self.ensure_gateway(name, owner, subnet.gateway()).await?;
        if let Some(six) = six {
            set_v6(name, V6Settings::Router)?;
            let index = self.must_have(name).await?;
            self.add_address(index, only(six.gateway().into()), &format!("bridge {name}: its address"))
                .await?;
        }
        for to in networks(subnet, six) {
            let route = Route { to, way: Way::Unreachable };
            self.set_route(route, format!("bridge {name}: route of the pods")).await?;
        }
        Ok(())
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
        self.add_address(index, only(address.into()), &ours("its address")).await?;
        self.up(index, &ours("up")).await
    }

    pub(crate) async fn up(&self, index: u32, what: &str) -> Result<()> {
        let up = LinkUnspec::new_with_index(index).up().build();
        self.handle.link().set(up).execute().await.map_err(Error::link(what))
    }

    /// Gives an interface an address, which is used at once: nobody else on the link can have it.
    pub(crate) async fn add_address(&self, index: u32, (address, prefix): Block, what: &str) -> Result<()> {
        let mut request = self.handle.address().add(index, address, prefix).replace();
        if address.is_ipv6() {
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        request.execute().await.map_err(Error::link(what))
    }

    /// Puts an interface into a group, if it is there.
    pub(crate) async fn join(&self, name: &str, group: u32) -> Result<()> {
        let Some(index) = self.index(name).await? else { return Ok(()) };
        let member = LinkUnspec::new_with_index(index).link_group(group).build();
        self.handle
            .link()
            .set(member)
            .execute()
            .await
            .map_err(Error::link(format!("interface {name}: group")))
    }

    /// Whether an interface is there and says that somebody else has it.
    pub(crate) async fn is_anothers(&self, name: &str, owner: &str) -> Result<bool> {
        let other = |attribute: &LinkAttribute| match attribute {
            LinkAttribute::IfAlias(text) => text.starts_with(ALIAS) && *text != alias(owner),
            _ => false,
        };
        Ok(self.index(name).await?.is_some() && self.attributes(name).await?.iter().any(other))
    }

    pub(crate) async fn attributes(&self, name: &str) -> Result<Vec<LinkAttribute>> {
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

    /// Sends what goes to a network to the bridge, with the bridge's address as its source, so that the machine itself
    /// reaches virtual addresses. Repeating it succeeds.
    pub(crate) async fn route(&self, bridge: &str, to: Block, source: IpAddr) -> Result<()> {
        let way = Way::Link(self.must_have(bridge).await?, Some(source));
        self.set_route(Route { to, way }, format!("bridge {bridge}: route to {}/{}", to.0, to.1)).await
    }

    /// Removes the routes of a network's subnets, if they are there.
    pub(crate) async fn forget(&self, subnet: Subnet, six: Option<Subnet6>) -> Result<()> {
        for to in networks(subnet, six) {
            self.remove_route(Route { to, way: Way::Unreachable }).await?;
        }
        Ok(())
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

/// The networks that a network's pods have their addresses in.
fn networks(subnet: Subnet, six: Option<Subnet6>) -> impl Iterator<Item = Block> {
    let four: Block = (subnet.network().into(), subnet.prefix());
    std::iter::once(four).chain(six.map(|six| (six.network().into(), six.prefix())))
}

/// Sets one of the kernel's switches.
pub(crate) fn sysctl(path: &str, value: &str) -> Result<()> {
    std::fs::write(path, value).map_err(|source| Error::File { path: path.into(), source })
}

/// What an interface of the machine's does about IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum V6Settings {
    /// Nothing: pods without addresses of it neither reach the machine by it nor tell it of routers.
    Off,
    /// It has the addresses that it is given and no others, and believes no pod that calls itself a router.
    Router,
}

/// Makes it so, where the kernel has IPv6. To be called before the interface is up.
pub(crate) fn set_v6(interface: &str, settings: V6Settings) -> Result<()> {
    let directory = format!("/proc/sys/net/ipv6/conf/{interface}");
    if !std::path::Path::new(&directory).exists() {
        return Ok(());
    }
    let values: &[(&str, &str)] = match settings {
        V6Settings::Off => &[("disable_ipv6", "1")],
        // No address by itself (1: none).
        V6Settings::Router => {
            &[("addr_gen_mode", "1"), ("accept_ra", "0"), ("accept_redirects", "0"), ("disable_ipv6", "0")]
        }
    };
    values.iter().try_for_each(|(name, value)| sysctl(&format!("{directory}/{name}"), value))
}

/// ENODEV.
const NO_DEVICE: i32 = 19;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel_and_differ_between_networks() {
        let name = host_name("mono0", "0123456789abcdef");
        assert!(check_name(&name).is_ok() && name.len() == 14, "{name}");
        assert_ne!(name, host_name("mono1", "0123456789abcdef"));
        assert_ne!(name, host_name("mono0", "0123456789abcdee"));
        assert_ne!(group("mono0"), group("mono1"));
        for bad in ["", "..", "a b", "sixteen-letters-", "a/b"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
