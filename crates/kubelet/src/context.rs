//! What every pod's worker shares.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api::k8s::api::core::v1::Pod;
use apimachinery::quantity::Quantity;
use client::{Ambient, Client, EventRecorder, Store};
use clock::Tasks;
use runtime::Runtime;

use crate::images::ImageManager;
use crate::pod::admission;
use crate::pod::config::{Dns, Paths};
use crate::pod::security::Defaults;

/// The runtimes of a node, by handler name as RuntimeClasses give it.
#[derive(Clone)]
pub struct Runtimes {
    /// All of them.
    pub handlers: BTreeMap<String, Arc<dyn Runtime>>,
    /// The one for pods that name no RuntimeClass.
    pub default: String,
}

impl Runtimes {
    /// A runtime by handler name; empty: the default.
    pub(crate) fn get(&self, handler: &str) -> Option<&Arc<dyn Runtime>> {
        self.handlers.get(if handler.is_empty() { self.default.as_str() } else { handler })
    }
}

impl std::fmt::Debug for Runtimes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtimes")
            .field("handlers", &self.handlers.keys().collect::<Vec<_>>())
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
    /// The pods of this node, as the API holds them.
    pub(crate) pods: Arc<Store<Pod>>,
    pub(crate) tasks: Tasks,
    /// To where probes and hooks may go beside their own pods.
    pub(crate) connector: egress::Connector,
    pub(crate) node_name: String,
    pub(crate) host_ips: Vec<IpAddr>,
    pub(crate) paths: Paths,
    pub(crate) dns: Dns,
    /// Parent of the pods' cgroups.
    pub(crate) cgroup: String,
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
