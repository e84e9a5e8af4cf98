//! Components: from source to served.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::monoplane::v1alpha1::{Component, component_reason as reason};
use client::ObjectKey;
use jiff::Timestamp;
use serde_json::json;
use wasm::{Artifact, DeployError};

use super::condition::{self, Readiness};
use super::translate::{self, Refusal};
use super::{Controller, Failure, Item, Progress};
use crate::request::{State, Target};
use crate::routing::{HostPattern, PathPrefix};

/// How soon a component is looked at again some of whose older revisions have unfinished invocations.
const PINNED: Duration = Duration::from_secs(60);

/// What became of a component.
pub(super) struct Record {
    pub(super) created: Timestamp,
    pub(super) routes: Vec<(HostPattern, PathPrefix)>,
    /// Since when it claims each of its hosts.
    pub(super) since: BTreeMap<HostPattern, Timestamp>,
    pub(super) target: Arc<Target>,
    /// The object's identity and generation that was deployed last: until there is another, there is nothing to do.
    applied: Option<(String, i64)>,
    /// What serves it; an older revision while a newer one is not ready.
    deployed: Option<Arc<wasm::Component>>,
    /// Revisions that the host holds.
    revisions: BTreeSet<String>,
    /// The routes that are somebody else's.
    pub(super) conflicts: Vec<String>,
}

impl Record {
    pub(super) fn new(key: &ObjectKey) -> Self {
        let state = State::NotReady("it is being compiled".into());
        Self {
            created: Timestamp::MAX,
            routes: Vec::new(),
            since: BTreeMap::new(),
            target: Arc::new(Target { name: key.to_string(), state }),
            applied: None,
            deployed: None,
            revisions: BTreeSet::new(),
            conflicts: Vec::new(),
        }
    }
}

impl Controller {
    pub(super) async fn look_at_component(&self, key: &ObjectKey) -> Result<Progress, Failure> {
        let Some(object) = self.components.get(key) else {
            self.remove(key).await;
            return Ok(Progress::Done);
        };
        let (routes, bad_route) = translate::routes(&object);
        self.claim(key, &object, routes);
        let Some(deployed) = self.deploy(key, &object).await? else { return Ok(Progress::UnderWay) };
        self.serve(key, &object, &deployed);
        self.settle_revisions(key, &object).await;
        let refusal = deployed.err().or(bad_route).or_else(|| self.conflict(key));
        if self.components.is_current() {
            self.components.snapshot.keep(&*object).await?;
            self.report_component(key, &object, refusal).await?;
        }
        Ok(Progress::Done)
    }

    async fn remove(&self, key: &ObjectKey) {
        self.compiling.forget(&Item::Component(key.clone()));
        let record = self.records().remove(key);
        if let Some(record) = record {
            self.swap_table();
            // Unfinished invocations of a component that is gone wait until it comes back or they are cancelled.
            record.revisions.iter().for_each(|revision| self.setup.host.retire(revision));
        }
        self.components.snapshot.forget(key).await;
    }

    /// Brings the component to the host: the new one, or why there is none. `None`: it is being compiled, and will be
    /// looked at again.
    async fn deploy(
        &self,
        key: &ObjectKey,
        object: &Arc<Component>,
    ) -> Result<Option<Result<Arc<wasm::Component>, Refusal>>, Failure> {
        if let Some(refusal) = self.missing_store(object) {
            return Ok(Some(Err(refusal)));
        }
        let version = object.metadata.uid.clone().zip(object.metadata.generation);
        if let Some(record) = self.records().get(key)
            && let Some(deployed) = &record.deployed
            && version.is_some()
            && record.applied == version
        {
            return Ok(Some(Ok(deployed.clone())));
        }
        let artifact = match self.compiled(key, object).await? {
            Some(Ok(artifact)) => artifact,
            Some(Err(refusal)) => return Ok(Some(Err(refusal))),
            None => return Ok(None),
        };
        let linked = self.link(key, object, artifact).await;
        if let Some(record) = self.records().get_mut(key) {
            record.applied = version.filter(|_| linked.is_ok());
        }
        Ok(Some(linked))
    }

    async fn link(
        &self,
        key: &ObjectKey,
        object: &Component,
        artifact: Artifact,
    ) -> Result<Arc<wasm::Component>, Refusal> {
        let spec = translate::spec(object, artifact, &self.setup.maxima, |full| self.setup.stores.get(full))?;
        let component = self.setup.host.deploy(&key.to_string(), spec).map_err(refuse_deploy)?;
        let revision = component.revision();
        if let Some(record) = self.records().get_mut(key) {
            record.revisions.insert(revision.clone());
        }
        if let Some(worker) = self.edge.worker.as_ref().filter(|_| object.spec.durable.is_some())
            && let Err(error) = worker.component_ready(&revision).await
        {
            tracing::warn!(revision, %error, "the durable worker was not told");
        }
        Ok(component)
    }

    fn missing_store(&self, object: &Component) -> Option<Refusal> {
        let usable = self.usable();
        let is_usable = |full: &str| {
            let key = full.split_once('/').map(|(namespace, name)| ObjectKey::new(namespace, name));
            key.is_some_and(|key| usable.get(&key).copied().unwrap_or(false))
        };
        let (name, full) = translate::stores(object).find(|(_, full)| !is_usable(full))?;
        let message = format!("spec.keyValue[{name}]: KeyValueStore {full} does not exist or is not ready");
        Some(Refusal::new(reason::STORE_NOT_FOUND, message))
    }

    /// Lets requests reach what was deployed; what was served before goes on if there is nothing new.
    fn serve(&self, key: &ObjectKey, object: &Component, deployed: &Result<Arc<wasm::Component>, Refusal>) {
        {
            let mut records = self.records();
            let Some(record) = records.get_mut(key) else { return };
            let state = match (deployed, &record.deployed) {
                (Ok(component), _) => {
                    record.deployed = Some(component.clone());
                    match translate::suspend_after(object) {
                        Some(suspend_after) => State::Durable(component.clone(), suspend_after),
                        None => State::Serving(component.clone()),
                    }
                }
                (Err(_), Some(_)) => return,
                (Err(refusal), None) => State::NotReady(refusal.message.clone()),
            };
            if record.target.state.is_same(&state) {
                return;
            }
            record.target = Arc::new(Target { name: key.to_string(), state });
        }
        self.swap_table();
    }

    /// Drops older revisions, but for those that durable invocations are pinned to, which are brought back.
    async fn settle_revisions(&self, key: &ObjectKey, object: &Component) {
        let name = key.to_string();
        let lanes = match &self.edge.worker {
            Some(worker) => worker.lanes().await.unwrap_or_default(),
            None => Vec::new(),
        };
        let pinned: BTreeSet<String> = lanes
            .into_iter()
            .map(|lane| lane.component.to_string())
            .filter(|component| durable::unpinned(component) == name)
            .collect();
        let (current, held) = match self.records().get(key) {
            Some(record) => {
                (record.deployed.as_ref().map(|deployed| deployed.revision()), record.revisions.clone())
            }
            None => return,
        };
        // What goes on without its stores would take their absence for an answer, and record it.
        if self.missing_store(object).is_none() {
            for missing in pinned.difference(&held) {
                self.bring_back(key, object, missing).await;
            }
        }
        for old in held.iter().filter(|held| Some(*held) != current.as_ref() && !pinned.contains(*held)) {
            self.setup.host.retire(old);
            if let Some(record) = self.records().get_mut(key) {
                record.revisions.remove(old);
            }
        }
        if pinned.iter().any(|pinned| Some(pinned) != current.as_ref()) {
            self.queue.add_after(Item::Component(key.clone()), PINNED);
        }
    }

    /// Deploys an older revision from the cache, with what the component is given now.
    async fn bring_back(&self, key: &ObjectKey, object: &Component, revision: &str) {
        let digest = revision.split_once('@').map_or("", |(_, digest)| digest);
        let outcome = match self.setup.host.cached(digest).await {
            Ok(Some(artifact)) => {
                self.link(key, object, artifact).await.map(drop).map_err(|refusal| refusal.message)
            }
            Ok(None) => Err("it is no longer in the cache".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(why) = outcome {
            tracing::warn!(revision, why, "unfinished invocations wait for a revision that cannot be had");
        }
    }

    pub(super) async fn report_component(
        &self,
        key: &ObjectKey,
        object: &Component,
        refusal: Option<Refusal>,
    ) -> Result<(), Failure> {
        let (digest, hosts) = match self.records().get(key) {
            Some(record) => {
                let digest = record.deployed.as_ref().map(|deployed| deployed.digest().to_owned());
                (digest, super::claiming::recorded(&record.since))
            }
            None => (None, Vec::new()),
        };
        let readiness = match refusal {
            None => Readiness {
                ready: true,
                reason: reason::READY,
                message: "the component answers requests".into(),
            },
            Some(Refusal { reason, message }) => {
                let message = match &digest {
                    Some(digest) if !matches!(reason, reason::ROUTE_CONFLICT | translate::ROUTE_INVALID) => {
                        format!("{message} (revision {digest} goes on serving)")
                    }
                    _ => message,
                };
                Readiness { ready: false, reason, message }
            }
        };
        let status = object.status.as_ref().and_then(|status| serde_json::to_value(status).ok());
        let conditions =
            object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let more = json!({ "digest": digest, "hosts": hosts });
        let now = self.setup.ambient.clock.now();
        let change = condition::change(
            status.as_ref(),
            conditions,
            object.metadata.generation,
            &readiness,
            &more,
            now,
        );
        self.report(object, change, &readiness).await
    }
}

fn refuse_deploy(error: DeployError) -> Refusal {
    let reason = match error {
        DeployError::ImportsUnsatisfied { .. } | DeployError::Unclassified { .. } => {
            reason::IMPORTS_UNSATISFIED
        }
        DeployError::NotHttp => reason::SOURCE_INVALID,
        DeployError::TooLarge(_) | DeployError::Invalid(_) => translate::SPEC_INVALID,
    };
    Refusal::new(reason, error)
}
