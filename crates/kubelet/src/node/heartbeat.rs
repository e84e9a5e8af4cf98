//! Registering the node, and saying that it is alive.

use std::collections::BTreeMap;
use std::time::Duration;

use api::k8s::api::coordination::v1::{Lease, LeaseSpec};
use api::k8s::api::core::v1::{Node, NodeStatus};
use api::k8s::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use client::kube::api::GetParams;
use client::{Ambient, Api, Backoff, Client, Error, ObjectMeta, Patch, PatchParams, PostParams, write};
use serde_json::json;
use tokio::sync::watch;

use super::{Description, images};
use crate::context::Runtimes;
use crate::eviction::Pressure;

const LEASE_NAMESPACE: &str = "kube-node-lease";
const LEASE_SECONDS: i32 = 40;
const RENEW: Duration = Duration::from_secs(10);
/// What could not be reported is tried again after so long.
const AGAIN: Duration = Duration::from_secs(1);
/// The status is written so often though nothing in it has changed.
const REPORT: Duration = Duration::from_secs(300);

pub(crate) struct Heartbeat {
    pub(crate) client: Client,
    pub(crate) ambient: Ambient,
    pub(crate) description: Description,
    pub(crate) runtimes: Runtimes,
    pub(crate) pressure: watch::Receiver<Pressure>,
    /// Told the node as the API has it.
    pub(crate) known: watch::Sender<Node>,
}

/// What changes of a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Standing {
    /// Why it cannot run pods, if it cannot.
    pub(crate) trouble: Option<String>,
    /// The conditions of running short that hold.
    pub(crate) pressure: Pressure,
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
        let standing = self.standing().await;
        let node = self.description.node(&standing, self.ambient.clock.now());
        let node = match nodes.create(&PostParams::default(), &node).await {
            Ok(node) => node,
            Err(error) if write::is_already_exists(&error) => {
                // Labels and taints that people put on it stay.
                let (labels, annotations) = (self.description.labels(), self.description.annotations());
                let ours = json!({"metadata": {"labels": labels, "annotations": annotations}});
                nodes.patch(&self.description.name, &PatchParams::default(), &Patch::Merge(ours)).await?
            }
            Err(error) => return Err(error),
        };
        // A server may keep what a creation says of the status, or not.
        self.report(node.status.as_ref(), &standing).await
    }

    async fn report(&self, before: Option<&NodeStatus>, standing: &Standing) -> Result<Node, Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let status = self.description.status(before, standing, self.ambient.clock.now());
        let mut patch = json!({"status": status});
        if let Some(images) = images::of(&self.runtimes).await {
            patch["status"]["images"] = json!(images);
        }
        let patch = Patch::Merge(patch);
        let node = nodes.patch_status(&self.description.name, &PatchParams::default(), &patch).await?;
        self.known.send_replace(node.clone());
        Ok(node)
    }

    async fn standing(&self) -> Standing {
        let pressure = self.pressure.borrow().clone();
        let Some(runtime) = self.runtimes.get("") else {
            return Standing { trouble: None, pressure };
        };
        let asked = runtime.list_sandboxes().await.err();
        let trouble = asked.map(|error| format!("container runtime is down: {error}"));
        Standing { trouble, pressure }
    }

    /// Renews the Lease, and reports the status when it changes, has not been reported for long, or is another where it was
    /// reported (of a node that was not heard of for long others say so); for ever.
    pub(crate) async fn run(&self, mut node: Node) {
        let clock = &self.ambient.clock;
        let mut pressure = self.pressure.clone();
        let (mut reported, mut told) = (clock.monotonic(), None);
        let mut here = images::of(&self.runtimes).await;
        let (mut lease, mut renewed) = (None, None);
        loop {
            if renewed.is_none_or(|at| clock.monotonic().since(at) >= RENEW) {
                match self.timely(self.renew(lease.take(), &node)).await {
                    Ok(renewed) => lease = Some(renewed),
                    Err(error) => tracing::warn!(error, "the node's lease could not be renewed"),
                }
                renewed = Some(clock.monotonic());
            }
            let standing = self.standing().await;
            let images = images::of(&self.runtimes).await;
            let is_due =
                told.as_ref() != Some(&standing) || images != here || clock.monotonic() - reported >= REPORT;
            match self.timely(self.report_unless_said(&standing, is_due)).await {
                Ok(None) => {}
                Ok(Some(fresh)) => {
                    (node, reported, told) = (fresh, clock.monotonic(), Some(standing));
                    here = images;
                }
                Err(error) => {
                    tracing::warn!(error, "the node's status could not be reported");
                    told = None;
                }
            }
            let pause = if told.is_some() { RENEW } else { AGAIN };
            tokio::select! {
                () = clock.sleep(pause) => {}
                // Nobody is to send more pods to a node that runs short.
                Ok(()) = pressure.changed() => {}
            }
        }
    }

    /// What was asked of the API, unless it takes too long: a connection on which nothing comes back is given up.
    async fn timely<T>(&self, asked: impl Future<Output = Result<T, Error>>) -> Result<T, String> {
        tokio::select! {
            answer = asked => answer.map_err(|error| client::message(&error)),
            () = self.ambient.clock.sleep(RENEW) => Err(format!("no answer within {RENEW:?}")),
        }
    }

    /// Reports, if that is due or the API has it otherwise; then the node is given.
    async fn report_unless_said(&self, standing: &Standing, is_due: bool) -> Result<Option<Node>, Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = match nodes.get_with(&self.description.name, &GetParams::any()).await {
            Ok(node) => node,
            // Somebody deleted it, and this machine is still here.
            Err(error) if write::is_not_found(&error) => return self.try_register().await.map(Some),
            Err(error) => return Err(error),
        };
        let status = node.status.as_ref();
        if !is_due && status.is_some_and(|said| self.description.is_said(said, standing)) {
            return Ok(None);
        }
        self.report(status, standing).await.map(Some)
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
