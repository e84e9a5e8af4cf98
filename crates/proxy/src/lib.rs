//! Services, policies and the other nodes as a node's network knows them.
//!
//! Owns: what Services and their EndpointSlices mean for one node (`translate`, a pure function), what NetworkPolicies
//! mean for it (`policy`, another), where other nodes and their pods are ([`peers`]), cluster DNS ([`dns`]), and the loops that keep all three so. It is an ordinary client of the API, under upstream's identity of a proxy
//! (`system:kube-proxy`), and can be swapped for upstream's.
//!
//! Never does: talk to the kernel (`network` does), or write to the API.
//!
//! Begin with [`run`]; then `translate::services`.

use std::net::IpAddr;
use std::sync::Arc;

use client::reflector::Selection;
use client::{Ambient, Client, Informer, InformerOptions, Informers};
use clock::Tasks;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use network::overlay::Peer;
use network::policies::Policies;
use network::services::Services;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use dns::Zone;
use health::HealthChecks;
use keep::{Wakes, keep};
use placements::Placements;
use translate::Here;

pub mod dns;
mod health;
mod keep;
pub mod peers;
pub mod placements;
mod pods;
mod policy;
mod translate;

#[cfg(test)]
mod tests;

/// What a proxy is given.
pub struct Options<A, F, O> {
    /// The API, under the proxy's identity.
    pub client: Client,
    /// Clock and randomness.
    pub ambient: Ambient,
    /// The node that it runs on.
    pub node: String,
    /// The cluster's domain.
    pub domain: String,
    /// Told the cluster's names whenever they change.
    pub names: watch::Sender<Arc<Zone>>,
    /// The addresses of this machine's pods, as far as they were given out here.
    pub placements: Arc<Placements>,
    /// Where load balancers ask whether this node has endpoints of a Service: an address of the node, or all.
    pub outside: IpAddr,
    /// Makes the node's network balance so; may block.
    pub balance: A,
    /// Makes the node's network filter so; may block.
    pub filter: F,
    /// Makes it lead to these other nodes' pods, if that is its own matter; may block.
    pub overlay: Option<O>,
}

/// Keeps the node's network as Services and policies are, until `stop`. What is installed then stays.
pub async fn run<A, F, O, E>(options: Options<A, F, O>, stop: CancellationToken)
where
    A: FnMut(&Services) -> Result<(), E> + Send + 'static,
    F: FnMut(&Policies) -> Result<(), E> + Send + 'static,
    O: FnMut(&Vec<Peer>) -> Result<(), E> + Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    let tasks = Tasks::under(&stop);
    let informers = Informers::new(options.client.clone(), options.ambient.clone(), tasks.clone());
    // Of these nodes less is kept than of the own one.
    let others = Informers::new(options.client, options.ambient.clone(), tasks.clone());
    let (ambient, node, placements) = (options.ambient, options.node, options.placements);
    let services = async {
        let wakes = Wakes::default();
        let services = watched::<Service>(&informers, &wakes.changed, InformerOptions::default);
        let slices = watched::<EndpointSlice>(&informers, &wakes.changed, InformerOptions::default);
        let pods = watched::<Pod>(&informers, &wakes.changed, pods::trimmed);
        let own = watched::<Node>(&informers, &wakes.changed, || only(&node));
        placements.listen(&wakes.changed);
        tokio::join!(services.ready(), slices.ready(), pods.ready(), own.ready());
        let look = || {
            let (all, behind) = (services.store().list(), slices.store().list());
            options.names.send_replace(Arc::new(Zone::new(&options.domain, &all, &behind)));
            let here =
                Here { node: node.clone(), zone: own.store().list().first().and_then(|own| zone(own)) };
            let mut found = translate::services(&all, &behind, &here);
            let pods = pods::all(&pods.store().list(), &placements.snapshot().0, &node).0;
            translate::host_ports(&mut found, &pods);
            (found, translate::health_checks(&all, &behind, &here))
        };
        let checks = HealthChecks::new(options.outside, &ambient, &tasks);
        let done = |found| checks.keep(&found);
        keep("Services", &ambient, &wakes, look, options.balance, done).await;
    };
    let policies = async {
        let wakes = Wakes::default();
        let policies = watched::<NetworkPolicy>(&informers, &wakes.changed, InformerOptions::default);
        let namespaces = watched::<Namespace>(&informers, &wakes.changed, InformerOptions::default);
        let pods = watched::<Pod>(&informers, &wakes.changed, pods::trimmed);
        placements.listen(&wakes.awaited);
        tokio::join!(policies.ready(), namespaces.ready(), pods.ready());
        let look = || {
            let (placed, changes) = placements.snapshot();
            let (pods, known) = pods::all(&pods.store().list(), &placed, &node);
            let (policies, namespaces) = (policies.store().list(), namespaces.store().list());
            let world = policy::World { policies: &policies, namespaces: &namespaces, pods: &pods };
            (policy::policies(&world), (changes, known))
        };
        let done = |(changes, known)| placements.enforced(changes, known);
        keep("NetworkPolicies", &ambient, &wakes, look, options.filter, done).await;
    };
    let elsewhere = async {
        let Some(overlay) = options.overlay else { return };
        let wakes = Wakes::default();
        let nodes = watched::<Node>(&others, &wakes.changed, peers::trimmed);
        nodes.ready().await;
        let look = || (peers::peers(&nodes.store().list(), &node), ());
        keep("other nodes", &ambient, &wakes, look, overlay, drop).await;
    };
    let all = async { tokio::join!(services, policies, elsewhere) };
    stop.run_until_cancelled(all).await;
    tasks.stop().await;
}

/// The object of that name alone.
fn only(name: &str) -> InformerOptions<Node> {
    let fields = Some(format!("metadata.name={name}"));
    let selection = Selection { fields, ..Selection::default() };
    InformerOptions { selection, ..InformerOptions::default() }
}

fn zone(node: &Node) -> Option<String> {
    node.metadata.labels.as_ref()?.get("topology.kubernetes.io/zone").cloned()
}

fn watched<K>(
    informers: &Informers,
    changed: &Arc<Notify>,
    options: impl FnOnce() -> InformerOptions<K>,
) -> Informer<K>
where
    K: client::Resource<DynamicType = ()>
        + Clone
        + k8s_openapi::serde::de::DeserializeOwned
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    let (informer, changed) = (informers.with(options), changed.clone());
    informer.on_change(move |_| changed.notify_one());
    informer
}
