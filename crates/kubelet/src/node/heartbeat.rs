//! Registering the node, and saying that it is alive.

use std::collections::BTreeMap;
use std::time::Duration;

use api::k8s::api::coordination::v1::{Lease, LeaseSpec};
use api::k8s::api::core::v1::{Node, NodeStatus};
use api::k8s::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use client::{Ambient, Api, Backoff, Client, Error, ObjectMeta, Patch, PatchParams, PostParams, write};
use serde_json::json;

use super::{Description, images};
use crate::context::Runtimes;

const LEASE_NAMESPACE: &str = "kube-node-lease";
const LEASE_SECONDS: i32 = 40;
const RENEW: Duration = Duration::from_secs(10);
/// The status is written so often though nothing in it has changed.
const REPORT: Duration = Duration::from_secs(300);

pub(crate) struct Heartbeat {
    pub(crate) client: Client,
    pub(crate) ambient: Ambient,
    pub(crate) description: Description,
    pub(crate) runtimes: Runtimes,
}

impl Heartbeat {
    /// Makes the Node, or brings an earlier one up to date; returns once the API has it, however long that takes.
    pub(crate) async fn register(&self) -> Node {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        loop {
            match self.try_register().await {
                Ok(node) => return node,
                Err(error) => {
                    tracing::debug!(%error, "the node could not be registered yet");
                    self.ambient.clock.sleep(backoff.next(self.ambient.random.u64())).await;
                }
            }
        }
    }

    async fn try_register(&self) -> Result<Node, Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let trouble = self.trouble().await;
        let node = self.description.node(trouble.as_deref(), self.ambient.clock.now());
        let node = match nodes.create(&PostParams::default(), &node).await {
            Ok(node) => node,
            Err(error) if write::is_already_exists(&error) => {
                // Labels and taints that people put on it stay.
                let labels = json!({"metadata": {"labels": self.description.labels()}});
                nodes.patch(&self.description.name, &PatchParams::default(), &Patch::Merge(labels)).await?
            }
            Err(error) => return Err(error),
        };
        // A server may keep what a creation says of the status, or not.
        self.report(node.status.as_ref(), trouble.as_deref()).await
    }

    async fn report(&self, before: Option<&NodeStatus>, trouble: Option<&str>) -> Result<Node, Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let status = self.description.status(before, trouble, self.ambient.clock.now());
        let mut patch = json!({"status": status});
        if let Some(images) = images::of(&self.runtimes).await {
            patch["status"]["images"] = json!(images);
        }
        let patch = Patch::Merge(patch);
        nodes.patch_status(&self.description.name, &PatchParams::default(), &patch).await
    }

    /// Why the node cannot run pods, if it cannot.
    async fn trouble(&self) -> Option<String> {
        let runtime = self.runtimes.get("")?;
        let asked = runtime.list_sandboxes().await.err();
        asked.map(|error| format!("container runtime is down: {error}"))
    }

    /// Renews the Lease, and reports the status when it changes or has not been reported for long; for ever.
    pub(crate) async fn run(&self, mut node: Node) {
        let clock = &self.ambient.clock;
        let (mut reported, mut told) = (clock.monotonic(), None);
        let mut here = images::of(&self.runtimes).await;
        let mut lease = None;
        loop {
            match self.renew(lease.take(), &node).await {
                Ok(renewed) => lease = Some(renewed),
                Err(error) => tracing::warn!(%error, "the node's lease could not be renewed"),
            }
            let trouble = self.trouble().await;
            let images = images::of(&self.runtimes).await;
            if trouble != told || images != here || clock.monotonic() - reported >= REPORT {
                match self.report_fresh(trouble.as_deref()).await {
                    Ok(fresh) => {
                        (node, reported, told) = (fresh, clock.monotonic(), trouble);
                        here = images;
                    }
                    Err(error) => tracing::warn!(%error, "the node's status could not be reported"),
                }
            }
            clock.sleep(RENEW).await;
        }
    }

    async fn report_fresh(&self, trouble: Option<&str>) -> Result<Node, Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        match nodes.get_opt(&self.description.name).await? {
            Some(node) => self.report(node.status.as_ref(), trouble).await,
            // Somebody deleted it, and this machine is still here.
            None => self.try_register().await,
        }
    }

    async fn renew(&self, known: Option<Lease>, node: &Node) -> Result<Lease, Error> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), LEASE_NAMESPACE);
        let name = &self.description.name;
        let found = match known {
            Some(known) => Some(known),
            None => leases.get_opt(name).await?,
        };
        let spec = LeaseSpec {
            holder_identity: Some(name.clone()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(MicroTime(self.ambient.clock.now())),
            ..LeaseSpec::default()
        };
        match found {
            Some(lease) => {
                let renewed = Lease { spec: Some(spec), ..lease };
                leases.replace(name, &PostParams::default(), &renewed).await
            }
            None => {
                let owner = OwnerReference {
                    api_version: "v1".to_owned(),
                    kind: "Node".to_owned(),
                    name: name.clone(),
                    uid: node.metadata.uid.clone().unwrap_or_default(),
                    ..OwnerReference::default()
                };
                let metadata = ObjectMeta {
                    name: Some(name.clone()),
                    owner_references: Some(vec![owner]),
                    labels: Some(BTreeMap::new()),
                    ..ObjectMeta::default()
                };
                leases.create(&PostParams::default(), &Lease { metadata, spec: Some(spec) }).await
            }
        }
    }
}
