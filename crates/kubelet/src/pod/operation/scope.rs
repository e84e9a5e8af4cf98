//! What every operation works with.

use std::net::IpAddr;
use std::sync::Arc;

use api::k8s::api::core::v1::{Container, Pod};
use client::{EventType, Resource};
use runtime::Runtime;

use crate::context::Context;
use crate::environment::Place;
use crate::pod::config;
use crate::pod::containers;
use crate::pod::given::Given;
use crate::pod::handler::Target;

/// One pod, as it was when an operation began, and what it lives among.
#[derive(Clone)]
pub(crate) struct Scope {
    pub(crate) cx: Arc<Context>,
    pub(crate) pod: Arc<Pod>,
    pub(crate) runtime: Arc<dyn Runtime>,
    /// Which of its handlers the pod wants; empty: the default one.
    pub(crate) handler: String,
    /// The id of the sandbox that it lives in, if there is one.
    pub(crate) sandbox: Option<String>,
    /// Its addresses.
    pub(crate) ips: Vec<IpAddr>,
    /// What the API has given for it.
    pub(crate) given: Arc<Given>,
}

impl Scope {
    pub(crate) fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    pub(crate) fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    pub(crate) fn warn(&self, reason: &str, message: impl Into<String>) {
        self.cx.recorder.record(&*self.pod, EventType::Warning, reason, message);
    }

    /// An event about one container, with its `fieldPath`.
    pub(crate) fn about(&self, container: &str, kind: EventType, reason: &str, message: impl Into<String>) {
        let mut regarding = self.pod.object_ref(&());
        regarding.field_path = containers::find(&self.pod, container).map(|found| found.field_path());
        self.cx.recorder.record_on(regarding, kind, reason, message);
    }

    pub(crate) fn place(&self) -> Place {
        Place {
            host_ips: self.cx.host_ips.clone(),
            pod_ips: self.ips.clone(),
            allocatable: self.cx.allocatable.clone(),
        }
    }

    /// One run of a container, as hooks and probes reach it.
    pub(crate) fn target(&self, container: &Container, container_id: &str) -> Target {
        Target {
            runtime: self.runtime.clone(),
            clock: self.cx.ambient.clock.clone(),
            connector: self.cx.connector.clone(),
            container: container.clone(),
            container_id: container_id.to_owned(),
            pod_ip: self.ips.first().copied(),
            host_network: config::on_host_network(&self.pod),
        }
    }

    /// Notes what did not work; whether it did.
    pub(super) fn tried(&self, what: &str, id: &str, outcome: Result<(), runtime::Error>) -> bool {
        if let Err(error) = &outcome {
            tracing::warn!(pod = config::full_name(&self.pod), id, %error, "could not {what}");
        }
        outcome.is_ok()
    }
}

/// Does what blocks elsewhere.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}
