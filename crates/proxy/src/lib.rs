//! Services as a node's network knows them.
//!
//! Owns: what Services and their EndpointSlices mean for one node ([`translate`], a pure function), cluster DNS ([`dns`]),
//! and the loop that keeps both so. It is an ordinary client of the API, under upstream's identity of a proxy
//! (`system:kube-proxy`), and can be swapped for upstream's.
//!
//! Never does: talk to the kernel (`network` does), or write to the API.
//!
//! Begin with [`translate::services`].

use std::sync::Arc;
use std::time::Duration;

use client::{Ambient, Backoff, Client, Informer, Informers};
use clock::Tasks;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use network::services::Services;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use dns::Zone;

pub mod dns;
pub mod translate;

#[cfg(test)]
mod tests;

/// Changes that come together are installed together: a rollout touches a slice many times in a moment.
const GATHER: Duration = Duration::from_millis(10);
/// How long to wait after the kernel refused.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// What a proxy is given.
pub struct Options<A> {
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
    /// Makes the node's network so; may block.
    pub apply: A,
}

/// Keeps the node's network as Services are, until `stop`. What is installed then stays.
pub async fn run<A, E>(options: Options<A>, stop: CancellationToken)
where
    A: FnMut(&Services) -> Result<(), E> + Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    let Options { client, ambient, node, domain, names, apply } = options;
    let tasks = Tasks::under(&stop);
    let changed = Arc::new(Notify::new());
    let informers = Informers::new(client, ambient.clone(), tasks.clone());
    let services = watched::<Service>(&informers, &changed);
    let slices = watched::<EndpointSlice>(&informers, &changed);
    let keep = async {
        tokio::join!(services.ready(), slices.ready());
        let mut apply = Some(apply);
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let (all, behind) = (services.store().list(), slices.store().list());
            names.send_replace(Arc::new(Zone::new(&domain, &all, &behind)));
            let found = translate::services(&all, &behind, &node);
            let Some(mut install) = apply.take() else { return };
            // The kernel's answer is waited for on a thread that may wait.
            let installed = tokio::task::spawn_blocking(move || {
                let result = install(&found);
                (install, result)
            });
            let Ok((install, result)) = installed.await else { return };
            apply = Some(install);
            match result {
                Ok(()) => {
                    backoff.reset();
                    changed.notified().await;
                    ambient.clock.sleep(GATHER).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "the node's tables are not as Services are");
                    ambient.clock.sleep(backoff.next(ambient.random.u64())).await;
                }
            }
        }
    };
    stop.run_until_cancelled(keep).await;
    tasks.stop().await;
}

fn watched<K>(informers: &Informers, changed: &Arc<Notify>) -> Informer<K>
where
    K: client::Resource<DynamicType = ()>
        + Clone
        + k8s_openapi::serde::de::DeserializeOwned
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    let (informer, changed) = (informers.of::<K>(), changed.clone());
    informer.on_change(move |_| changed.notify_one());
    informer
}
