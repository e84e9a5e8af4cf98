//! Services as a node's network knows them.
//!
//! Owns: what Services and their EndpointSlices mean for one node ([`translate`], a pure function), and the loop that
//! keeps the node's tables so. It is an ordinary client of the API, under upstream's identity of a proxy
//! (`system:kube-proxy`), and can be swapped for upstream's.
//!
//! Never does: talk to the kernel (`network` does), or write to the API.
//!
//! Begin with [`translate::services`].

use std::sync::Arc;
use std::time::Duration;

use client::kube::ResourceExt;
use client::reflector::Selection;
use client::{Ambient, Backoff, Client, Informer, InformerOptions};
use clock::Tasks;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use network::services::Services;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub mod dns;
pub mod translate;

#[cfg(test)]
mod tests;

/// Services that another proxy looks after carry this label.
const OTHER_PROXY: &str = "service.kubernetes.io/service-proxy-name";
/// Slices of headless Services carry this one: nobody balances them.
const HEADLESS: &str = "service.kubernetes.io/headless";

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
    /// Makes the node's network so; may block.
    pub apply: A,
}

/// Keeps the node's network as Services are, until `stop`. What is installed then stays.
pub async fn run<A, E>(options: Options<A>, stop: CancellationToken)
where
    A: FnMut(&Services) -> Result<(), E> + Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    let Options { client, ambient, node, apply } = options;
    let tasks = Tasks::under(&stop);
    let changed = Arc::new(Notify::new());
    let services: Informer<Service> = watch(&client, &ambient, &tasks, &format!("!{OTHER_PROXY}"), &changed);
    let slices: Informer<EndpointSlice> =
        watch(&client, &ambient, &tasks, &format!("!{OTHER_PROXY},!{HEADLESS}"), &changed);
    let keep = async {
        tokio::join!(services.ready(), slices.ready());
        let mut apply = Some(apply);
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let found = translate::services(&services.store().list(), &slices.store().list(), &node);
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

fn watch<K>(
    client: &Client,
    ambient: &Ambient,
    tasks: &Tasks,
    labels: &str,
    changed: &Arc<Notify>,
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
    let selection = Selection { labels: Some(labels.to_owned()), ..Selection::default() };
    let options: InformerOptions<K> = InformerOptions { selection, ..InformerOptions::default() };
    let informer = Informer::start(client::Api::all(client.clone()), options, ambient, tasks);
    let changed = changed.clone();
    informer.on_change(move |change| {
        tracing::debug!(object = change.object().name_any(), "changed");
        changed.notify_one();
    });
    informer
}
