//! The edge: gateway, component host and durable worker, put together. `wasm` and `durable` meet here, and only through
//! `effects`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use capabilities::Stores;
use client::Ambient;
use durable::{FileStorage, Keeper, Parts};
use egress::{Allowance, Connector, Policy};
use wasm::{CompileLimits, Compiler, Host, MacKey};

use super::credentials::Credentials;
use super::{confine, end_with_parent, stop_on_signal};
use crate::flags::Edge;
use crate::layout::{Layout, make_directory};
use crate::notify;
use crate::up::child::inherited_or_bound;

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
    let listener = inherited_or_bound(SocketAddr::new(flags.bind_address, flags.http_port))?;
    // The gateway serves on threads of its own; what is left here is little.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(serve(flags, &layout, listener));
    runtime.shutdown_timeout(Duration::from_secs(2));
    outcome
}

async fn serve(flags: &Edge, layout: &Layout, listener: std::net::TcpListener) -> Result<()> {
    let stop = stop_on_signal()?;
    let folder = layout.edge();
    make_directory(&folder, 0o700)?;
    let kubeconfig = flags.edge_kubeconfig.clone().unwrap_or_else(|| folder.join("kubeconfig"));
    let credentials = Credentials::read([kubeconfig.clone()]);
    let client = client::transport::from_kubeconfig_file(&kubeconfig)
        .await
        .with_context(|| format!("reading {}", kubeconfig.display()))?;
    let ambient = Ambient::system();
    let clock = ambient.clock.clone();
    let egress = Connector::new(policy(flags)?);

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

    let options = gateway::Options {
        listeners: vec![listener],
        client,
        ambient,
        node: flags.edge_name.clone(),
        host,
        stores: Arc::new(Stores::new()),
        egress,
        worker: keeper.worker(),
        data_dir: folder.join("gateway"),
        allow_files: flags.outbound.allow_files,
        limits: gateway::ServerLimits::default(),
    };
    let serving =
        async { gateway::serve_and_tell(options, notify::ready, stop.clone()).await.context("the gateway") };
    let served = credentials.guard(serving, &stop, &*clock).await;
    keeper.stop().await;
    served
}

fn policy(flags: &Edge) -> Result<Policy> {
    let mut policy = Policy::default();
    for text in &flags.outbound.egress_allow {
        match text.parse::<Allowance>() {
            Ok(allowance) => policy.allow.push(allowance),
            Err(error) => bail!("--egress-allow: {error}"),
        }
    }
    Ok(policy)
}
