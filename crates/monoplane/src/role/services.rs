//! Services, policies and the other nodes on a node: the proxy's tables and cluster DNS, put together. `proxy` and the kernel's tables in `network` meet
//! here.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use client::{Ambient, Client};
use clock::Tasks;
use network::overlay::{Ends, Overlay, Peer};
use network::policies::Filter;
use network::services::Balancer;
use proxy::dns::{Server, Zone, serve};
use proxy::placements::Placements;
use tokio::net::{TcpListener, UdpSocket};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The domain of all names in a cluster.
pub const DOMAIN: &str = "cluster.local";
/// Where DNS is asked.
const PORT: u16 = 53;

/// What Services on a node take.
pub struct Parts<'a> {
    /// The API, as the proxy.
    pub client: Client,
    /// The node.
    pub node: &'a str,
    /// The network that it is in.
    pub network: &'a network::Config,
    /// The machine's own `resolv.conf`.
    pub resolver: &'a str,
    /// Clock and randomness.
    pub ambient: &'a Ambient,
    /// The pods' addresses, as far as they were given out here.
    pub placements: Arc<Placements>,
    /// The address by which the node is reached from outside.
    pub outside: IpAddr,
}

/// What runs.
pub struct Running {
    /// All of it. What the kernel was told stays when it stops.
    pub tasks: Tasks,
    /// The pods' gateway, where they ask for names.
    pub gateway: IpAddr,
    /// The ends of the machine's tunnels to others.
    pub ends: Ends,
}

/// Starts them.
///
/// # Errors
/// When somebody else answers DNS on the gateway's address, or the machine has not the tunnels that it must have.
pub async fn start(parts: Parts<'_>, stop: &CancellationToken) -> Result<Running> {
    let tasks = Tasks::under(stop);
    let network = parts.network;
    let gateway = IpAddr::V4(network.subnet.gateway());
    let (names, zone) = watch::channel(Arc::new(Zone::new(DOMAIN, &[], &[])));
    let at = SocketAddr::new(gateway, PORT);
    let datagrams = UdpSocket::bind(at).await.with_context(|| format!("answering DNS on {at}"))?;
    let streams = TcpListener::bind(at).await.with_context(|| format!("answering DNS on {at}"))?;
    let resolvers = resolvers(parts.resolver).into();
    serve(Server { zone, resolvers, ambient: parts.ambient.clone() }, datagrams, streams, &tasks);

    let four = (network.subnet.network().into(), network.subnet.prefix());
    let six = network.subnet6.map(|six| (six.network().into(), six.prefix()));
    let mut balancer = Balancer::new(&network.bridge, std::iter::once(four).chain(six).collect());
    let mut filter = Filter::new(&network.bridge);
    let runtime = Handle::current();
    let overlay = Overlay::open(network).await.context("the way to other machines (--overlay)")?;
    let ends = overlay.as_ref().map(Overlay::ends).unwrap_or_default();
    let options = proxy::Options {
        client: parts.client,
        ambient: parts.ambient.clone(),
        node: parts.node.to_owned(),
        domain: DOMAIN.to_owned(),
        names,
        placements: parts.placements,
        outside: parts.outside,
        balance: move |services: &_| balancer.apply(services),
        filter: move |policies: &_| filter.apply(policies),
        overlay: overlay.map(|mut overlay| move |peers: &Vec<Peer>| runtime.block_on(overlay.apply(peers))),
    };
    tasks.spawn_graceful("proxy", proxy::run(options, stop.clone()));
    Ok(Running { tasks, gateway, ends })
}

/// The name servers of a `resolv.conf`.
fn resolvers(text: &str) -> Vec<SocketAddr> {
    let servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    servers
        .filter_map(|rest| rest.trim().parse().ok())
        .map(|address| SocketAddr::new(address, PORT))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_found_among_other_lines() {
        let text = "# nameserver 192.0.2.9\nsearch example.com\nnameserver 127.0.0.53\nnameserver  ::1\nnameserver x\n";
        let found = [SocketAddr::from(([127, 0, 0, 53], 53)), "[::1]:53".parse().expect("an address")];
        assert_eq!(resolvers(text), found);
    }
}
