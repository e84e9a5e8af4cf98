//! The veth pair of one pod.

use std::fs::File;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::path::Path;

use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};

use crate::links::{Links, V6Settings, set_v6, sysctl};
use crate::routes::{Route, Way, everything, only};
use crate::{Error, Result, overlay};

/// The interface in the pod.
const POD_INTERFACE: &str = "eth0";

/// Whom a pod sends to by IPv6: the machine's end of every pod's pair is called so. Asking for neighbours' addresses is
/// answered only by who has them on that interface, so that the bridge's own will not do.
const NEXT_HOP: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// One address of a pod.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address {
    pub(crate) own: IpAddr,
    /// The machine's among the pods, of the same family.
    pub(crate) gateway: IpAddr,
}

/// A pod's connection to be.
pub(crate) struct Plug<'a> {
    pub(crate) host: String,
    pub(crate) namespace: &'a Path,
    /// The machine's ends of all pods of the network are in it.
    pub(crate) group: u32,
    /// At most one a family.
    pub(crate) addresses: &'a [Address],
    /// The machine's address among machines, if the pod reaches those of others.
    pub(crate) overlay: Option<IpAddr>,
}

impl Plug<'_> {
    fn has_v6(&self) -> bool {
        self.addresses.iter().any(|address| address.own.is_ipv6())
    }

    /// What went wrong, for errors.
    fn what(&self, what: &str) -> String {
        let addresses: Vec<String> = self.addresses.iter().map(|address| address.own.to_string()).collect();
        format!("pod interface of {}: {what}", addresses.join(", "))
    }
}

impl Links {
    /// Connects a pod. A pair that is there from before is made anew.
    pub(crate) async fn plug(&self, plug: &Plug<'_>) -> Result<()> {
        let namespace = File::open(plug.namespace)
            .map_err(|source| Error::File { path: plug.namespace.to_owned(), source })?;
        self.remove(&plug.host).await?;
        self.pair(plug, &namespace).await?;
        self.machines_end(plug).await?;
        Self::inside(&namespace)?.pods_end(plug).await
    }

    async fn pair(&self, plug: &Plug<'_>, namespace: &File) -> Result<()> {
        let mut mtu = self.uplink_mtu(plug.has_v6()).await?;
        if let Some(local) = plug.overlay {
            mtu = mtu.min(overlay::mtu(self, local).await?);
        }
        let peer =
            LinkUnspec::new_with_name(POD_INTERFACE).setns_by_fd(namespace.as_raw_fd()).mtu(mtu).build();
        let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(plug.host.clone())
            .mtu(mtu)
            .link_group(plug.group)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        self.handle.link().add(pair).execute().await.map_err(Error::link(plug.what("making the pair")))
    }

    async fn machines_end(&self, plug: &Plug<'_>) -> Result<()> {
        // No source but its own: an answer to any other would not go out by this interface. IPv6 has a rule for that.
        sysctl(&format!("/proc/sys/net/ipv4/conf/{}/rp_filter", plug.host), "1")?;
        set_v6(&plug.host, if plug.has_v6() { V6Settings::Router } else { V6Settings::Off })?;
        let index = self.must_have(&plug.host).await?;
        self.up(index, &plug.what("up")).await?;
        if plug.has_v6() {
            self.add_address(index, (NEXT_HOP.into(), 64), &plug.what("the next hop's address")).await?;
        }
        for address in plug.addresses {
            let way = Way::Link(index, Some(address.gateway));
            self.set_route(Route { to: only(address.own), way }, plug.what("the machine's route")).await?;
        }
        Ok(())
    }

    /// In the pod's own namespace.
    async fn pods_end(&self, plug: &Plug<'_>) -> Result<()> {
        let loopback = self.must_have("lo").await?;
        self.up(loopback, &plug.what("up")).await?;
        let index = self.must_have(POD_INTERFACE).await?;
        for address in plug.addresses {
            self.add_address(index, only(address.own), &plug.what("address")).await?;
        }
        self.up(index, &plug.what("up")).await?;
        for address in plug.addresses {
            let v6 = address.own.is_ipv6();
            let next = if v6 { NEXT_HOP.into() } else { address.gateway };
            if !v6 {
                // The gateway is the only neighbour.
                let neighbour = Route { to: only(next), way: Way::Link(index, None) };
                self.set_route(neighbour, plug.what("route")).await?;
            }
            let others = Route { to: everything(v6), way: Way::Via(index, next) };
            self.set_route(others, plug.what("route")).await?;
        }
        Ok(())
    }
}
