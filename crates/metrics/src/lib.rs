//! What nodes and pods use of CPU and memory, as `metrics.k8s.io` tells it: what upstream's metrics-server does.
//!
//! Owns: the scraping of every node's `/metrics/resource`, the last two readings of each, and the answers to requests for
//! `NodeMetrics` and `PodMetrics`, which are rates between the two. Never does: keep objects (names and labels are asked of
//! the API for each request), reach a node past the API (`nodes/NAME/proxy` leads there, whatever the way), listen
//! (whoever runs it hands it requests that have been authorised), or let a node that does not answer hold up another.
//!
//! Begin with [`Metrics`]; then `reading` for what a node says, `store` for what is made of that, `answer` for who hears it.

mod answer;
mod objects;
mod reading;
mod scrape;
mod store;
mod text;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use client::{Ambient, Client};
use clock::Tasks;
use http::request::Parts;

use crate::store::Store;

/// The group of the API.
pub const GROUP: &str = "metrics.k8s.io";
/// Its version.
pub const VERSION: &str = "v1beta1";

/// Knows what is used, and says so.
pub struct Metrics {
    client: Client,
    ambient: Ambient,
    store: Mutex<Store>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Metrics")
    }
}

impl Metrics {
    /// Begins to scrape, by a task of these.
    pub fn start(client: Client, ambient: Ambient, tasks: &Tasks) -> Arc<Self> {
        let metrics = Arc::new(Self { client, ambient, store: Mutex::default() });
        tasks.spawn("scraping of nodes", scrape::run(metrics.clone()));
        metrics
    }

    /// Answers a request for the group version or what is below it.
    pub async fn answer(&self, request: &Parts) -> http::Response<Bytes> {
        answer::answer(self, request).await
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
