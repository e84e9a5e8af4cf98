//! What every pod's worker shares.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api::k8s::api::core::v1::Pod;
use apimachinery::quantity::Quantity;
use client::{Ambient, Client, EventRecorder, Store};
use clock::Tasks;
use runtime::Runtime;

use crate::pod::config::{Dns, Paths};

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
    /// The node's own `/etc/hosts`.
    pub(crate) hosts: String,
}
