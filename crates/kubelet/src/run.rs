//! Putting the node together.

use std::collections::BTreeMap;
use std::net::{IpAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use api::k8s::api::core::v1::Pod;
use client::reflector::Selection;
use client::{Ambient, Api, Client, EventRecorder, Informer, InformerOptions};
use clock::Tasks;
use runtime::Groups;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::allocation::Allocations;
use crate::context::{Context, Runtimes};
use crate::eviction::{self, Eviction, Evictions};
use crate::images::{self, ImageManager, ImageOptions};
use crate::node::machine::Machine;
use crate::node::reserved::{self, Reserved};
use crate::node::{Description, Heartbeat};
use crate::pod::admission::{self, Sysctls};
use crate::pod::config::{Dns, PODS, Paths};
use crate::pod::outcomes::Outcomes;
use crate::pod::security::Defaults;
use crate::static_pods::{self, StaticPods};
use crate::{cgroups, filesystem, local_volumes, mirror, pods, server};

/// Where in a node's data directory the volumes are that outlive pods.
const VOLUMES: &str = "volumes";

/// Whether the bearer of a verified client certificate (DER) may use the node's server.
pub type Admits = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// How the node's server proves itself, and to whom it speaks.
#[derive(Clone)]
pub struct Serving {
    /// The serving certificate, with its chain, in PEM.
    pub certificate_pem: String,
    /// Its key in PEM.
    pub key_pem: String,
    /// The authority whose client certificates are taken, in PEM.
    pub client_authority_pem: String,
    /// Who may use the server, of those whose certificate is the authority's.
    pub admits: Admits,
}

/// Everything that a node is made of.
pub struct Options {
    /// The API, as `system:node:NAME`.
    pub client: Client,
    /// Time and chance.
    pub ambient: Ambient,
    /// The node's name.
    pub node_name: String,
    /// The node's addresses, the primary one first.
    pub addresses: Vec<IpAddr>,
    /// Where its server listens.
    pub listener: TcpListener,
    /// How its server is secured.
    pub serving: Serving,
    /// The runtimes.
    pub runtimes: Runtimes,
    /// Where pods' volumes and logs are kept.
    pub data_dir: PathBuf,
    /// Parent of the pods' cgroups, relative to the hierarchy's root (`monoplane`).
    pub cgroup: String,
    /// What the machine is.
    pub machine: Machine,
    /// Name resolution of pods.
    pub dns: Dns,
    /// The node's own `/etc/hosts`, for pods on its network.
    pub hosts: String,
    /// Containers that name no seccomp profile get the runtime's own.
    pub seccomp_default: bool,
    /// Which kernel settings pods may ask for.
    pub sysctls: Sysctls,
    /// The directory of the pods that the node runs by itself.
    pub manifests: PathBuf,
    /// How many pods it takes (110).
    pub max_pods: u32,
    /// The machine's control groups.
    pub groups: Arc<dyn Groups>,
    /// What it keeps from pods.
    pub reserved: Reserved,
    /// When pods are evicted.
    pub eviction: Eviction,
    /// The ranges of its pods' addresses, as far as they are known here: one a family.
    pub pod_cidrs: Vec<String>,
    /// Labels beside those that every node has.
    pub labels: BTreeMap<String, String>,
    /// What others are told beside; nothing where nothing is to be told any more.
    pub annotations: BTreeMap<String, Option<String>>,
    /// How it deals with images.
    pub images: ImageOptions,
    /// What it calls its version (`v1.36.0+monoplane`).
    pub version: String,
    /// Told once the Node is registered and ready.
    pub ready: Option<oneshot::Sender<()>>,
}

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The serving certificate, its key or the authority cannot be used.
    #[error("the node's server cannot be secured: {0}")]
    Tls(String),
    /// The listener cannot be used.
    #[error("the node's server cannot listen: {0}")]
    Listen(std::io::Error),
    /// An option has no sense; the message names it.
    #[error("{0}")]
    Option(String),
    /// The default runtime handler is not among the handlers.
    #[error("there is no runtime handler {0:?}")]
    NoDefaultRuntime(String),
}

/// Runs the node until the token is cancelled. Its containers go on running.
///
/// # Errors
/// When it cannot start; later trouble is told by the Node's conditions, and tried again.
pub async fn run(options: Options, token: CancellationToken) -> Result<(), Error> {
    if options.runtimes.get("").is_none() {
        return Err(Error::NoDefaultRuntime(options.runtimes.default_handler().to_owned()));
    }
    options.images.check().map_err(Error::Option)?;
    let tasks = Tasks::under(&token);
    let listener = server::Listener::new(options.listener, &options.serving)?;
    let mut machine = options.machine;
    let apparmor = machine.apparmor;
    if machine.storage == 0 {
        machine.storage = storage(&options.data_dir);
    }
    let capacity = reserved::capacity(&machine, options.max_pods);
    let of_pods = reserved::of_pods(&capacity, &options.reserved);
    let allocatable = reserved::allocatable(&of_pods, &capacity, &options.eviction);
    let description = Description {
        name: options.node_name.clone(),
        addresses: options.addresses.clone(),
        port: listener.port(),
        machine,
        capacity,
        allocatable: allocatable.clone(),
        pod_cidrs: options.pod_cidrs,
        labels: options.labels,
        annotations: options.annotations,
        version: options.version,
        handlers: options.runtimes.handlers(),
        volumes: options.data_dir.join(VOLUMES),
    };
    let informer = informer(&options.client, &options.node_name, &options.ambient, &tasks);
    let recorder = EventRecorder::start(
        options.client.clone(),
        "kubelet",
        Some(&options.node_name),
        options.ambient.clone(),
        &tasks,
    );
    let paths = Paths { pods: options.data_dir.join(PODS), logs: options.data_dir.join("logs") };
    let cx = Arc::new(Context {
        client: options.client.clone(),
        ambient: options.ambient.clone(),
        recorder,
        runtimes: options.runtimes.clone(),
        pods: informer.store().clone(),
        services: Informer::start(
            Api::all(options.client.clone()),
            InformerOptions::default(),
            &options.ambient,
            &tasks,
        ),
        tasks: tasks.child(),
        connector: connector(&options.addresses),
        node_name: options.node_name,
        host_ips: options.addresses,
        allocations: Allocations::new(paths.clone(), allocatable.clone()),
        paths,
        local_volumes: options.data_dir.join(VOLUMES),
        security: Defaults {
            seccomp_root: options.data_dir.join("seccomp"),
            seccomp_default: options.seccomp_default,
        },
        admission: admission::Node { sysctls: options.sysctls, apparmor },
        dns: options.dns,
        cgroup: options.cgroup,
        groups: options.groups,
        pods_changed: watch::Sender::new(()),
        events: watch::Sender::new(()),
        outcomes: Outcomes::default(),
        notices: server::Notices::start(&tasks),
        inbox: Arc::default(),
        statics: StaticPods::default(),
        node: watch::Sender::new(description.unregistered()),
        pressure: watch::Sender::default(),
        evictions: Evictions::default(),
        of_pods,
        allocatable,
        memory: description.machine.memory,
        hosts: options.hosts,
        images: ImageManager::new(&options.images, options.data_dir.join("image_manager/pulled")),
    });
    tasks.spawn("kubelet server", listener.run(cx.clone()));
    let heartbeat = Heartbeat {
        client: options.client,
        ambient: options.ambient,
        description,
        runtimes: options.runtimes,
        pressure: cx.pressure.subscribe(),
        known: cx.node.clone(),
    };
    let ready = options.ready;
    tasks.spawn("node", async move {
        let node = heartbeat.register().await;
        if let Some(ready) = ready {
            // Whoever waited may have given up.
            let _ = ready.send(());
        }
        heartbeat.run(node).await;
    });
    let changed = cx.pods_changed.clone();
    informer.on_change(move |_| changed.send_modify(|()| {}));
    tasks.spawn("static pods", static_pods::run(cx.clone(), options.manifests));
    tasks.spawn("mirror pods", mirror::run(cx.clone()));
    tasks.spawn("local volumes", local_volumes::run(cx.clone()));
    tasks.spawn("eviction", eviction::run(cx.clone(), options.eviction));
    tasks.spawn("control groups", cgroups::run(cx.clone()));
    let images = images::gc::run(cx.clone(), options.data_dir);
    cx.tasks.spawn("image garbage collection", images);
    let all = cx.clone();
    tasks.spawn("pods", pods::run(all, informer));
    token.cancelled().await;
    cx.tasks.stop().await;
    tasks.stop().await;
    Ok(())
}

/// Bytes of the file system of a node's data; 0 where it cannot be asked, and so is not told.
fn storage(data_dir: &std::path::Path) -> i64 {
    let space = std::fs::create_dir_all(data_dir).and_then(|()| filesystem::space(data_dir));
    match space {
        Ok(space) => i64::try_from(space.capacity).unwrap_or(i64::MAX),
        Err(error) => {
            tracing::warn!(%error, directory = %data_dir.display(), "the file system cannot be measured");
            0
        }
    }
}

/// Reaches what a pod may have its node reach: not the node itself.
fn connector(own: &[IpAddr]) -> egress::Connector {
    let refuse = own.iter().map(|address| (*address).into()).collect();
    egress::Connector::new(egress::Policy { refuse, ..egress::Policy::default() })
}

/// The pods that are bound to this node.
fn informer(client: &Client, node: &str, ambient: &Ambient, tasks: &Tasks) -> Informer<Pod> {
    let selection = Selection { fields: Some(format!("spec.nodeName={node}")), ..Selection::default() };
    let options = InformerOptions { selection, ..InformerOptions::default() };
    Informer::start(Api::all(client.clone()), options, ambient, tasks)
}
