//! What every pod's worker shares.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use api::k8s::api::core::v1::{Node, Pod, Service};
use apimachinery::quantity::Quantity;
use client::{Ambient, Client, EventRecorder, Informer, Store};
use clock::Tasks;
use runtime::{Groups, Runtime};
use tokio::sync::watch;

use crate::allocation::Allocations;
use crate::eviction::{Evictions, Pressure};
use crate::images::ImageManager;
use crate::pod::admission;
use crate::pod::config::{Dns, Paths};
use crate::pod::outcomes::Outcomes;
use crate::pod::security::Defaults;
use crate::pods::Inbox;
use crate::server::Notices;
use crate::static_pods::{StaticPods, mirrored};

/// The runtimes of a node, found by the handlers that RuntimeClasses name.
#[derive(Clone)]
pub struct Runtimes {
    all: Vec<Arc<dyn Runtime>>,
    default: String,
}

impl Runtimes {
    /// These; `default` is the handler of pods that name no RuntimeClass.
    pub fn new(all: Vec<Arc<dyn Runtime>>, default: impl Into<String>) -> Self {
        Self { all, default: default.into() }
    }

    /// A runtime by handler name; empty: the default.
    pub(crate) fn get(&self, handler: &str) -> Option<&Arc<dyn Runtime>> {
        let wanted = if handler.is_empty() { self.default.as_str() } else { handler };
        self.all.iter().find(|runtime| runtime.handlers().iter().any(|served| served == wanted))
    }

    pub(crate) fn default_handler(&self) -> &str {
        &self.default
    }

    /// Each of them.
    pub(crate) fn all(&self) -> &[Arc<dyn Runtime>] {
        &self.all
    }

    /// The handlers' names, the default one first.
    pub(crate) fn handlers(&self) -> Vec<String> {
        let mut names: Vec<String> = self.all.iter().flat_map(|runtime| runtime.handlers()).collect();
        names.sort_by_key(|name| (*name != self.default, name.clone()));
        names
    }
}

impl std::fmt::Debug for Runtimes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtimes")
            .field("handlers", &self.handlers())
            .field("default", &self.default)
            .finish()
    }
}

/// What every pod's worker shares.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) ambient: Ambient,
    pub(crate) recorder: EventRecorder,
    pub(crate) runtimes: Runtimes,
    /// The pods that the node's own files ask for.
    pub(crate) statics: StaticPods,
    /// The pods of this node, as the API holds them; images of the static ones among them.
    pub(crate) pods: Arc<Store<Pod>>,
    /// All Services: containers find them by their environment.
    pub(crate) services: Informer<Service>,
    pub(crate) tasks: Tasks,
    /// To where probes and hooks may go beside their own pods.
    pub(crate) connector: egress::Connector,
    pub(crate) node_name: String,
    pub(crate) host_ips: Vec<IpAddr>,
    pub(crate) paths: Paths,
    /// Where the node keeps volumes that outlive pods.
    pub(crate) local_volumes: PathBuf,
    pub(crate) dns: Dns,
    /// Parent of the pods' cgroups.
    pub(crate) cgroup: String,
    /// By which the groups above pods' are set.
    pub(crate) groups: Arc<dyn Groups>,
    /// Told whenever a pod has come, changed or gone.
    pub(crate) pods_changed: watch::Sender<()>,
    /// Told whenever something has happened to a container without our doing.
    pub(crate) events: watch::Sender<()>,
    /// What probes find.
    pub(crate) outcomes: Outcomes,
    /// Told of what is written to logs.
    pub(crate) notices: Notices,
    /// Which pods something has happened to.
    pub(crate) inbox: Arc<Inbox>,
    /// The node as the API had it last.
    pub(crate) node: watch::Sender<Node>,
    /// What the node runs short of.
    pub(crate) pressure: watch::Sender<Pressure>,
    /// Which pods have to leave for it.
    pub(crate) evictions: Evictions,
    /// What pods have been given.
    pub(crate) allocations: Allocations,
    /// What the node does not keep for itself, by resource name: the limit of all pods.
    pub(crate) of_pods: BTreeMap<String, Quantity>,
    /// What the node has for pods.
    pub(crate) allocatable: BTreeMap<String, Quantity>,
    /// Bytes of the node's memory.
    pub(crate) memory: i64,
    /// What containers are confined by where their pods say nothing.
    pub(crate) security: Defaults,
    /// What it takes for a pod to be let in.
    pub(crate) admission: admission::Node,
    /// The node's own `/etc/hosts`.
    pub(crate) hosts: String,
    pub(crate) images: ImageManager,
}

impl Context {
    /// All pods that are to run here, each once.
    pub(crate) fn all_pods(&self) -> Vec<Arc<Pod>> {
        let of_api = self.pods.list().into_iter().filter(|pod| mirrored(pod).is_none());
        of_api.chain(self.statics.list()).collect()
    }
}
