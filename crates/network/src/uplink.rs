//! The interface by which the machine reaches everybody else.

use std::net::{Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteType};

use crate::links::Links;
use crate::{Error, Result};

/// Where there is no way out, or nobody says: Ethernet's.
const MTU: u32 = 1500;

impl Links {
    /// The largest packet, in bytes, that leaves the machine whole: pods need send none that is larger. `v6` says whether
    /// pods send by IPv6 as well.
    pub(crate) async fn uplink_mtu(&self, v6: bool) -> Result<u32> {
        let mut found = Vec::new();
        for v6 in [false, true].into_iter().filter(|family| v6 || !family) {
            if let Some(index) = self.uplink(v6).await? {
                found.extend(self.mtu(index).await?);
            }
        }
        Ok(found.into_iter().min().unwrap_or(MTU))
    }

    /// The largest packet that an interface carries.
    pub(crate) async fn mtu_of(&self, name: &str) -> Result<u32> {
        let index = self.must_have(name).await?;
        Ok(self.mtu(index).await?.unwrap_or(MTU))
    }

    async fn mtu(&self, index: u32) -> Result<Option<u32>> {
        let mut links = std::pin::pin!(self.handle.link().get().match_index(index).execute());
        let link = links.try_next().await.map_err(Error::link("the interface of the default route"))?;
        Ok(link.into_iter().flat_map(|link| link.attributes).find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(mtu),
            _ => None,
        }))
    }

    /// The interface of the best of the default routes.
    async fn uplink(&self, v6: bool) -> Result<Option<u32>> {
        let all = match v6 {
            false => RouteMessageBuilder::<Ipv4Addr>::new().build(),
            true => RouteMessageBuilder::<Ipv6Addr>::new().build(),
        };
        let mut routes = std::pin::pin!(self.handle.route().get(all).execute());
        let mut best: Option<(u32, u32)> = None;
        while let Some(route) = routes.try_next().await.map_err(Error::link("routes"))? {
            if let Some(found) = default_route(&route) {
                best = Some(best.map_or(found, |best| best.min(found)));
            }
        }
        Ok(best.map(|(_, index)| index))
    }
}

/// Metric and interface of a default route.
fn default_route(route: &RouteMessage) -> Option<(u32, u32)> {
    let metric = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Priority(metric) => Some(*metric),
        _ => None,
    });
    let index = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    });
    // IPv6 may have one that leads nowhere.
    let leads = route.header.destination_prefix_length == 0 && route.header.kind == RouteType::Unicast;
    leads.then_some((metric.unwrap_or(0), index?))
}
