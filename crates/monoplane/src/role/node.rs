//! The node: network, runtime and kubelet, put together.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use kubelet::{Dns, Machine, Runtimes, Serving, Sysctls};
use network::overlay::LinkAddress;
use pki::Credential;
use sandbox::MachineGroups;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::join::Joined;
use super::marks::Marks;
use super::preparing::Prepared;
use super::{end_with_parent, stop_on_signal};
use super::{pods, registries, services};
use crate::flags::{Node, Overlay};
use crate::layout::{Layout, make_directory};
use crate::notify;
use crate::ranges::Ranges;

/// The group that the API server's certificate for kubelets carries.
const CALLERS: &str = "system:monoplane:kubelet-clients";

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
    let usual = match Joined::is_meant(&flags.join, layout) {
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
    let Prepared { ambient, credentials, client, joined, node, address, pod_cidr, proxy_kubeconfig } =
        prepared;
    let (folder, machine) = (layout.node(), &flags.machine);
    let marks = Marks::settle(layout, machine, &pod_cidr, &flags.service_cidr)?;
    let tunnelled = machine.overlay == Overlay::Vxlan && !address.is_loopback();
    let network = network::Config { overlay: tunnelled.then_some(address), ..marks.network(layout)? };
    let placements = Arc::default();
    let registries = registries::of_node(layout, machine)?;
    let containers = pods::open(layout, &marks, network.clone(), registries, &placements, &ambient).await?;
    let resolver = text("/etc/resolv.conf");
    let services = services::Parts {
        kubeconfig: &proxy_kubeconfig,
        node: &node,
        network: &network,
        resolver: &resolver,
        ambient: &ambient,
        placements,
        outside: listener.local_addr()?.ip(),
    };
    let (services, gateway) = services::start(services, stop).await?;
    let mut range = registry::Options::new(ambient.clock.clone(), ambient.random.clone());
    range.service_cidr.clone_from(&flags.service_cidr);
    let dns = registry::defaults::dns_address(&range).map_err(|status| anyhow!("{}", status.message))?;
    // A range that has no room for it: then pods ask at their gateway.
    let dns = dns.unwrap_or(gateway);
    let pods: Ranges = pod_cidr.parse().context("the range of this node's pods")?;
    let addresses = addresses(address, &pods);
    let link = tunnelled.then(|| LinkAddress::of(&marks.plane).to_string());
    let (ready, registered) = oneshot::channel();
    let options = kubelet::Options {
        client: client.clone(),
        ambient: ambient.clone(),
        node_name: node,
        addresses: addresses.clone(),
        listener,
        serving: serving(&folder)?,
        runtimes: Runtimes::new(vec![Arc::new(containers)], pods::CONTAINERS),
        data_dir: folder.clone(),
        cgroup: marks.pods_cgroup(),
        machine: Machine::read(),
        dns: Dns { servers: vec![dns], domain: services::DOMAIN.to_owned(), host: resolver },
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
        annotations: [(proxy::peers::LINK.to_owned(), link)].into(),
        images: machine.images.options(),
        version: crate::VERSION.to_owned(),
        ready: Some(ready),
    };
    tokio::spawn(async move {
        if registered.await.is_ok() {
            notify::ready();
        }
    });
    let kubelet = async { kubelet::run(options, stop.clone()).await.context("the kubelet") };
    let ended = match &joined {
        None => credentials.guard(kubelet, stop, &*ambient.clock).await.map(|()| None),
        Some(joined) => {
            let moves = flags.node_ip.is_none() && listens_at(flags, layout).is_unspecified();
            joined.guard(kubelet, joined.until_changed(&client, &addresses, moves), stop).await
        }
    };
    services.stop().await;
    ended
}

/// The node's own addresses: of both families where its pods have both, and the machine has another one beside the first.
fn addresses(first: IpAddr, pods: &Ranges) -> Vec<IpAddr> {
    let second = pods.six.and_then(|_| network::of_other_family(first));
    std::iter::once(first).chain(second).collect()
}

fn text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The kubelet's serving certificate, and who may call it: the API server under its own certificate, nobody else.
fn serving(folder: &Path) -> Result<Serving> {
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    };
    let credential = Credential::from_pem(&read("kubelet.pem")?).context("kubelet.pem")?;
    Ok(Serving {
        certificate_pem: credential.certificate_pem,
        key_pem: credential.key_pem,
        client_authority_pem: read("ca.crt")?,
        admits: Arc::new(|certificate: &[u8]| {
            auth::user_of_certificate(certificate)
                .is_ok_and(|certified| certified.user.groups.iter().any(|group| group == CALLERS))
        }),
    })
}
