//! Routes of either family.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteScope, RouteType};

use crate::links::Links;
use crate::{Error, Result};

/// ESRCH.
const NO_ROUTE: i32 = 3;

/// A network: an address, and how many of its bits count.
pub(crate) type Block = (IpAddr, u8);

/// The network that an address alone is.
pub(crate) fn only(address: IpAddr) -> Block {
    (address, if address.is_ipv4() { 32 } else { 128 })
}

/// The network that every address of a family is in.
pub(crate) fn everything(v6: bool) -> Block {
    match v6 {
        false => (Ipv4Addr::UNSPECIFIED.into(), 0),
        true => (Ipv6Addr::UNSPECIFIED.into(), 0),
    }
}

/// Where packets go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    /// Out of an interface, to neighbours there; the machine's own packets have an address of it as their source, where
    /// one is named.
    Link(u32, Option<IpAddr>),
    /// Out of an interface, to a neighbour who passes them on.
    Via(u32, IpAddr),
    /// The same to one who is there although no address of the interface says so.
    Onlink(u32, IpAddr),
    /// Nowhere: the sender is told at once.
    Unreachable,
}

/// A route.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) to: Block,
    pub(crate) way: Way,
}

impl Route {
    fn message(&self) -> Result<RouteMessage> {
        let wrong = |error: &dyn std::fmt::Display| Error::Invalid(error.to_string());
        let route = RouteMessageBuilder::<IpAddr>::new().destination_prefix(self.to.0, self.to.1);
        let route = route.map_err(|error| wrong(&error))?;
        let route = match self.way {
            Way::Unreachable => route.kind(RouteType::Unreachable),
            Way::Via(interface, gateway) => {
                route.output_interface(interface).gateway(gateway).map_err(|error| wrong(&error))?
            }
            Way::Onlink(interface, gateway) => {
                let route =
                    route.output_interface(interface).gateway(gateway).map_err(|error| wrong(&error))?;
                route.onlink()
            }
            Way::Link(interface, None) => route.output_interface(interface).scope(RouteScope::Link),
            Way::Link(interface, Some(source)) => {
                let route = route.output_interface(interface).scope(RouteScope::Link);
                route.pref_source(source).map_err(|error| wrong(&error))?
            }
        };
        Ok(route.build())
    }
}

impl Links {
    /// Adds a route, or changes the one to that network. `what` is for errors.
    pub(crate) async fn set_route(&self, route: Route, what: impl Into<String>) -> Result<()> {
        let added = self.handle.route().add(route.message()?).replace().execute().await;
        added.map_err(Error::link(what))
    }

    /// Removes a route, if it is there.
    pub(crate) async fn remove_route(&self, route: Route) -> Result<()> {
        match self.handle.route().del(route.message()?).execute().await {
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -NO_ROUTE => Ok(()),
            other => other.map_err(Error::link(format!("removing the route to {}", route.to.0))),
        }
    }

    /// All routes by an interface, of both families.
    pub(crate) async fn routes(&self, index: u32) -> Result<Vec<RouteMessage>> {
        let all =
            [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()];
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

/// Where a route leads, if that is not everywhere.
pub(crate) fn destination(route: &RouteMessage) -> Option<Block> {
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    });
    Some((address?, route.header.destination_prefix_length))
}
