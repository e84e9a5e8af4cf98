//! The edge: gateway, component host and durable worker, put together. `wasm` and `durable` meet here, and only through
//! `effects`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use apimachinery::quantity::Quantity;
use capabilities::Stores;
use client::{Ambient, Client};
use clock::Tasks;
use durable::{FileStorage, Keeper, Parts};
use egress::{Allowance, Connector, Policy};
use gateway::Maxima;
use ipnet::IpNet;
use wasm::{CompileLimits, Compiler, Host, MacKey};

use super::credentials::Credentials;
use super::join::{Joined, Kind, connected};
use super::{confine, descriptors, end_with_parent, inbound, stop_on_signal};
use crate::flags::Edge;
use crate::layout::{Layout, make_directory};
use crate::notify;
use crate::up::child::inherited_or_bound;

/// Whose writes these are.
const AGENT: &str = "monoplane-edge";

/// Runs the edge until it is told to stop.
///
/// # Errors
/// When its state cannot be opened or its address is taken.
pub fn run(flags: &Edge) -> Result<()> {
    end_with_parent(flags.supervised)?;
    if let Err(error) = confine::give_up() {
        tracing::warn!(
            error = format!("{error:#}"),
            "this kernel does not confine system calls; going on without"
        );
    }
    let layout = Layout::new(&flags.at)?;
    let address = listens_at(flags, &layout);
    let at = |port| SocketAddr::new(address, port);
    let (listeners, _) = inherited_or_bound([at(flags.http_port), at(flags.https_port)])?;
    // The gateway serves on threads of its own; what is left here is little.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(serve(flags, &layout, listeners));
    runtime.shutdown_timeout(Duration::from_secs(2));
    outcome
}

fn listens_at(flags: &Edge, layout: &Layout) -> IpAddr {
    let usual = match Joined::is_meant(Kind::Edge, &flags.join, layout) {
        true => Ipv4Addr::UNSPECIFIED,
        false => Ipv4Addr::LOCALHOST,
    };
    flags.bind_address.unwrap_or(usual.into())
}

async fn serve(flags: &Edge, layout: &Layout, listeners: [std::net::TcpListener; 2]) -> Result<()> {
    let [plain, encrypted] = listeners;
    let stop = stop_on_signal()?;
    let folder = layout.edge();
    make_directory(&folder, 0o700)?;
    let ambient = Ambient::system();
    let clock = ambient.clock.clone();
    let name = flags.edge_name.clone().unwrap_or_else(crate::up::host_name);
    let maxima = maxima(&flags.outbound.component_max)?;
    let tasks = Tasks::under(&stop);
    let entering = enter(flags, layout, &name, &ambient, &tasks);
    let Some(entered) = stop.run_until_cancelled(entering).await else { return Ok(()) };
    let Entered { client, credentials, policy } = entered?;
    let egress = Connector::new(policy);

    let key = MacKey::load_or_create(&folder.join("artifacts.key")).context("opening the artifacts' key")?;
    let compiler = Compiler::new("/proc/self/exe", ["compile-component"], CompileLimits::default());
    let host = Host::new(wasm::Config::new(folder.join("artifacts"), key, compiler, egress.clone()));
    let host = host.context("starting the component host")?;

    let journal = folder.join("journal.db");
    let open: durable::OpenStorage = Box::new(move || match FileStorage::open(&journal) {
        Ok(storage) => Ok(Box::new(storage) as Box<dyn durable::Storage>),
        Err(error) => Err(format!("{}: {error}", journal.display())),
    });
    // Without its journals, on a full disk say, the edge still serves what needs none. Not stopped with `stop`: the last
    // requests' invocations come to their end while the gateway drains.
    let keeper = Keeper::start(Parts {
        storage: open,
        invoker: Arc::new(host.clone()),
        clock: ambient.clock.clone(),
        random: ambient.random.clone(),
        config: durable::Config::default(),
    })
    .await;

    // The other half is for what stands behind a connection: guests' requests, stores, journals, artifacts.
    let connections = gateway::ServerLimits::default().connections.min(descriptors() / 2);
    let metrics = inbound::metrics(&flags.inbound)?;
    let options = gateway::Options {
        listeners: vec![plain],
        tls_listeners: vec![encrypted],
        default_certificate: inbound::certificate(&flags.inbound)?,
        addresses: inbound::addresses(&flags.inbound, listens_at(flags, layout))?,
        trusted: inbound::trusted(&flags.inbound)?,
        client,
        ambient,
        node: Some(name),
        host,
        stores: Arc::new(Stores::new()),
        egress,
        worker: keeper.worker(),
        data_dir: folder.join("gateway"),
        allow_files: flags.outbound.allow_files,
        maxima,
        limits: gateway::ServerLimits { connections, ..gateway::ServerLimits::default() },
        proxy: inbound::limits(&flags.inbound)?,
        metrics,
    };
    let serving =
        async { gateway::serve_and_tell(options, notify::ready, stop.clone()).await.context("the gateway") };
    let served = credentials.guard(serving, &stop, &*clock).await;
    keeper.stop().await;
    tasks.stop().await;
    served
}

/// What is known of the API.
struct Entered {
    client: Client,
    credentials: Credentials,
    policy: Policy,
}

/// Joins the plane, where it is to, and keeps what that takes.
async fn enter(
    flags: &Edge,
    layout: &Layout,
    name: &str,
    ambient: &Ambient,
    tasks: &Tasks,
) -> Result<Entered> {
    let joined = Joined::enter(Kind::Edge, &flags.join, layout, name, ambient).await?;
    let kubeconfig = flags.edge_kubeconfig.clone().unwrap_or_else(|| layout.edge().join("kubeconfig"));
    let credentials = Credentials::read([kubeconfig.clone()]);
    let client = connected(joined.as_ref(), &kubeconfig, AGENT).await?;
    let policy = policy(flags, &kubeconfig, joined.as_ref()).await?;
    if let Some(joined) = joined {
        joined.follow(client.clone(), tasks)?;
        let client = client.clone();
        // What it writes then the guard of the credentials sees.
        tasks.spawn("certificate of the edge", async move {
            loop {
                joined.until_changed(&client, &[], false).await;
            }
        });
    }
    Ok(Entered { client, credentials, policy })
}

async fn policy(flags: &Edge, kubeconfig: &Path, joined: Option<&Joined>) -> Result<Policy> {
    let mut policy = Policy::default();
    for text in &flags.outbound.egress_allow {
        match text.parse::<Allowance>() {
            Ok(allowance) => policy.allow.push(allowance),
            Err(error) => bail!("--egress-allow: {error}"),
        }
    }
    for text in flags.service_cidr.split(',').chain(flags.outbound.egress_refuse.iter().map(String::as_str)) {
        let network =
            text.parse().or_else(|error| text.parse::<IpAddr>().map(IpNet::from).map_err(|_| error));
        policy.refuse.push(network.with_context(|| format!("--egress-refuse {text}"))?);
    }
    let host = client::transport::host_in_kubeconfig_file(kubeconfig).await?;
    let servers = joined.map(|joined| joined.servers().all()).unwrap_or_default();
    let hosts: BTreeSet<String> =
        servers.iter().filter_map(|server| server.host().map(str::to_owned)).chain(host).collect();
    for host in hosts {
        match tokio::net::lookup_host((host.trim_matches(['[', ']']), 0)).await {
            Ok(addresses) => policy.refuse.extend(addresses.map(|address| IpNet::from(address.ip()))),
            Err(error) => tracing::warn!(host, %error, "the API's addresses are not known, and not refused"),
        }
    }
    Ok(policy)
}

/// Reads what components may ask for at most.
fn maxima(words: &[String]) -> Result<Maxima> {
    let mut maxima = Maxima::default();
    for word in words {
        let context = || format!("--component-max {word}");
        let (field, value) = word.split_once('=').with_context(context)?;
        let bytes = || {
            let quantity = value.parse::<Quantity>().ok();
            quantity.and_then(|quantity| u64::try_from(quantity.value()).ok()).with_context(context)
        };
        match field {
            "memory" => maxima.memory = bytes()?,
            "requestBody" => maxima.request_body = bytes()?,
            "wallTime" => {
                let parsed = value.parse::<jiff::SignedDuration>().ok();
                maxima.wall_time =
                    parsed.and_then(|time| Duration::try_from(time).ok()).with_context(context)?;
            }
            "concurrency" => maxima.concurrency = value.parse().with_context(context)?,
            other => {
                bail!("--component-max: {other} is none of memory, requestBody, wallTime and concurrency")
            }
        }
    }
    Ok(maxima)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maxima_are_named_as_in_the_api() {
        let read = |words: &[&str]| maxima(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(read(&[]).unwrap(), Maxima::default());
        let found = read(&["memory=2Gi", "requestBody=1k", "wallTime=1h", "concurrency=5"]).unwrap();
        let wanted = Maxima {
            memory: 2 << 30,
            request_body: 1000,
            wall_time: Duration::from_secs(3600),
            concurrency: 5,
        };
        assert_eq!(found, wanted);
        for wrong in ["memory", "memory=x", "wallTime=-1s", "concurrency=-1", "cpu=1"] {
            assert!(read(&[wrong]).is_err(), "{wrong}");
        }
    }
}
