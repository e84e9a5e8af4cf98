//! The node: network, runtime and kubelet, put together.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use client::Ambient;
use clock::Tasks;
use kubelet::{Dns, Machine, Runtimes, Sysctls};
use network::overlay::Local;
use sandbox::MachineGroups;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::join::{Joined, Kind};
use super::marks::Marks;
use super::preparing::Prepared;
use super::{end_with_parent, stop_on_signal};
use super::{pods, registries, services, tunnels};
use crate::flags::Node;
use crate::layout::{Layout, make_directory};
use crate::notify;
use crate::ranges::Ranges;

/// Runs the node until it is told to stop. Its containers run on.
///
/// # Errors
/// When the machine lacks something, or the node's credentials are missing.
pub fn run(flags: &Node) -> Result<()> {
    end_with_parent(flags.supervised)?;
    if !crate::up::can_run_node() {
        bail!("the node role needs root; `monoplane check` says what runs without");
    }
    let layout = Layout::new(&flags.at)?;
    make_directory(&layout.node(), 0o700)?;
    let _lock = crate::up::lock(&layout.node(), "node")?;
    let address = SocketAddr::new(listens_at(flags, &layout), flags.kubelet_port);
    let listener = TcpListener::bind(address).with_context(|| format!("listening on {address}"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(flags, &layout, &listener))
}

fn listens_at(flags: &Node, layout: &Layout) -> IpAddr {
    let usual = match Joined::is_meant(Kind::Node, &flags.join, layout) {
        true => Ipv4Addr::UNSPECIFIED,
        false => Ipv4Addr::LOCALHOST,
    };
    flags.bind_address.unwrap_or(usual.into())
}

/// One life after the other: a node that has joined begins anew when what it proves itself by, or its address, is another.
async fn serve(flags: &Node, layout: &Layout, listener: &TcpListener) -> Result<()> {
    let stop = stop_on_signal()?;
    loop {
        let life = stop.child_token();
        let Some(prepared) = life.run_until_cancelled(Prepared::new(flags, layout)).await else {
            return Ok(());
        };
        match live(flags, layout, listener.try_clone()?, prepared?, &life).await? {
            Some(why) if !stop.is_cancelled() => tracing::info!(why, "the node begins anew; its pods run on"),
            _ => return Ok(()),
        }
    }
}

async fn live(
    flags: &Node,
    layout: &Layout,
    listener: TcpListener,
    prepared: Prepared,
    stop: &CancellationToken,
) -> Result<Option<&'static str>> {
    let (machine, ambient) = (&flags.machine, &prepared.ambient);
    let marks = Marks::settle(layout, machine, &prepared.pod_cidr, &flags.service_cidr)?;
    let address = prepared.address;
    let overlay = machine.overlay.tunnels().filter(|_| !address.is_loopback());
    let overlay = overlay.map(|tunnels| Local { address, tunnels });
    let network = network::Config { overlay, ..marks.network(layout)? };
    let placements = Arc::default();
    let registries = registries::of_node(layout, machine)?;
    let containers = pods::open(layout, &marks, network.clone(), registries, &placements, ambient).await?;
    let resolver = text("/etc/resolv.conf");
    let kubelet_at = listener.local_addr()?;
    let services = services::Parts {
        client: prepared.proxy.clone(),
        node: &prepared.node,
        network: &network,
        resolver: &resolver,
        ambient,
        placements,
        outside: kubelet_at.ip(),
    };
    let services::Running { tasks: services, gateway, ends } = services::start(services, stop).await?;
    if let Some(joined) = &prepared.joined {
        joined.follow(prepared.proxy.clone(), &services)?;
    }
    let options = kubelet::Options {
        runtimes: Runtimes::new(vec![Arc::new(containers)], pods::CONTAINERS),
        cgroup: marks.pods_cgroup(),
        dns: Dns {
            servers: vec![dns_address(flags, ambient)?.unwrap_or(gateway)],
            domain: services::DOMAIN.to_owned(),
            host: resolver,
        },
        annotations: proxy::peers::announced(&ends),
        ready: Some(tell_when_ready()),
        ..options(flags, layout, listener, &prepared)?
    };
    let (clock, addresses) = (ambient.clock.clone(), options.addresses.clone());
    let tunnels = tunnels(&prepared, &addresses, kubelet_at, stop)?;
    let Prepared { client, joined, credentials, .. } = prepared;
    let kubelet = async { kubelet::run(options, stop.clone()).await.context("the kubelet") };
    let ended = match &joined {
        None => credentials.guard(kubelet, stop, &*clock).await.map(|()| None),
        Some(joined) => {
            let moves = flags.node_ip.is_none() && listens_at(flags, layout).is_unspecified();
            joined.guard(kubelet, joined.until_changed(&client, &addresses, moves), stop).await
        }
    };
    tunnels.stop().await;
    services.stop().await;
    ended
}

/// Starts what lets the servers of a node that has joined reach it.
fn tunnels(
    prepared: &Prepared,
    addresses: &[IpAddr],
    kubelet: SocketAddr,
    stop: &CancellationToken,
) -> Result<Tasks> {
    let tasks = Tasks::under(stop);
    if let Some(joined) = &prepared.joined {
        let (authority, credential) = joined.proof()?;
        let pods: Ranges = prepared.pod_cidr.parse().context("the range of this node's pods")?;
        let pods: Result<_, _> = pods.cidrs().iter().map(|range| range.parse()).collect();
        let parts = tunnels::Parts {
            servers: joined.servers().clone(),
            door: tunnels::Door::new(&authority, credential)?,
            reach: tunnels::Reach { addresses: addresses.to_vec(), kubelet, pods: pods? },
            ambient: prepared.ambient.clone(),
        };
        tasks.spawn("tunnels", tunnels::keep(parts, tasks.clone()));
    }
    Ok(tasks)
}

/// What follows from the flags and from what the node is.
fn options(
    flags: &Node,
    layout: &Layout,
    listener: TcpListener,
    prepared: &Prepared,
) -> Result<kubelet::Options> {
    let (folder, machine) = (layout.node(), &flags.machine);
    let pods: Ranges = prepared.pod_cidr.parse().context("the range of this node's pods")?;
    Ok(kubelet::Options {
        client: prepared.client.clone(),
        ambient: prepared.ambient.clone(),
        node_name: prepared.node.clone(),
        addresses: addresses(prepared.address, &pods),
        listener,
        serving: prepared.serving.clone(),
        runtimes: Runtimes::new(Vec::new(), pods::CONTAINERS),
        data_dir: folder.clone(),
        cgroup: String::new(),
        machine: Machine::read(),
        dns: Dns::default(),
        hosts: text("/etc/hosts"),
        seccomp_default: machine.seccomp_default,
        sysctls: Sysctls::allowing(&machine.allowed_unsafe_sysctls)
            .map_err(|why| anyhow!("--allowed-unsafe-sysctls: {why}"))?,
        manifests: machine.room.pod_manifest_path.clone().unwrap_or_else(|| folder.join("manifests")),
        max_pods: machine.room.max_pods,
        groups: Arc::new(MachineGroups::open().context("control groups")?),
        reserved: machine.room.reserved().map_err(anyhow::Error::msg)?,
        eviction: machine.room.eviction().map_err(anyhow::Error::msg)?,
        pod_cidrs: pods.cidrs(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        images: machine.images.options(),
        version: crate::VERSION.to_owned(),
        ready: None,
    })
}

/// Where pods ask for names; a range may have no room for that: then they ask at their gateway.
fn dns_address(flags: &Node, ambient: &Ambient) -> Result<Option<IpAddr>> {
    let mut range = registry::Options::new(ambient.clock.clone(), ambient.random.clone());
    range.service_cidr.clone_from(&flags.service_cidr);
    registry::defaults::dns_address(&range).map_err(|status| anyhow!("{}", status.message))
}

/// Tells the supervisor once the node is ready.
fn tell_when_ready() -> oneshot::Sender<()> {
    let (ready, registered) = oneshot::channel();
    tokio::spawn(async move {
        if registered.await.is_ok() {
            notify::ready();
        }
    });
    ready
}

/// The node's own addresses: of both families where its pods have both, and the machine has another one beside the first.
fn addresses(first: IpAddr, pods: &Ranges) -> Vec<IpAddr> {
    let second = pods.six.and_then(|_| network::of_other_family(first));
    std::iter::once(first).chain(second).collect()
}

fn text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
