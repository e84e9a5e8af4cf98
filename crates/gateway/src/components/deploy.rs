//! Components: from source to served.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::monoplane::v1alpha1::{Component, component_reason as reason};
use client::ObjectKey;
use jiff::Timestamp;
use serde_json::json;
use wasm::{Artifact, DeployError};

use super::compiling::Compiled;
use super::condition::{self, Readiness};
use super::translate::{self, Refusal};
use super::{Controller, Failure, Item, Progress};
use crate::request::{State, Target};
use crate::routing::{HostPattern, PathPrefix};

/// How soon a durable component is looked at again: older revisions go when their last invocation has ended, and one whose
/// request was under way while the component changed may have been submitted to a revision that went.
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
        }
    }
}

impl Controller {
    pub(super) async fn look_at_component(&self, key: &ObjectKey) -> Result<Progress, Failure> {
        let Some(object) = self.components.get(key) else {
            self.remove(key).await?;
            return Ok(Progress::Done);
        };
        let (routes, bad_route) = translate::routes(&object);
        self.claim(key, &object, routes);
        let Some(deployed) = self.deploy(key, &object).await? else { return Ok(Progress::UnderWay) };
        self.serve(key, &object, &deployed);
        self.settle_revisions(key).await?;
        let refusal = deployed.err().or(bad_route).or_else(|| self.conflict(key));
        if self.components.is_current() {
            self.components.snapshot.keep(&*object).await?;
            self.report_component(key, &object, refusal).await?;
        }
        Ok(Progress::Done)
    }

    async fn remove(&self, key: &ObjectKey) -> Result<(), Failure> {
        self.compiling.forget(&Item::Component(key.clone()));
        let record = self.records().remove(key);
        if let Some(record) = record {
            self.swap_table();
            record.revisions.iter().for_each(|revision| self.setup.host.retire(revision));
        }
        self.components.snapshot.forget(key).await;
        // Unfinished invocations of a component that is gone wait until it comes back or they are cancelled.
        let name = key.to_string();
        if let Some(pinned) = self.pinned(&name).await {
            self.revisions.keep_only(&name, |revision| pinned.contains_key(revision)).await?;
        }
        Ok(())
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
        let item = Item::Component(key.clone());
        let code = match self.compiled(&item, object, self.setup.allow_files).await {
            Some(Compiled::Ready(code)) => code,
            Some(Compiled::Refused(refusal)) => return Ok(Some(Err(refusal))),
            Some(Compiled::Failed(why)) => {
                if self.components.is_current() {
                    let refusal = Refusal::new(reason::COMPILE_FAILED, &why);
                    self.report_component(key, object, Some(refusal)).await?;
                }
                return Err(Failure::Files(std::io::Error::other(why)));
            }
            None => {
                if self.components.is_current() {
                    let compiling = Refusal::new(reason::COMPILING, "the component is being compiled");
                    self.report_component(key, object, Some(compiling)).await?;
                }
                return Ok(None);
            }
        };
        let linked = self.link(key, object, code.artifact, None).await;
        // Before the first request reaches it: an invocation that begins on it is promised that it stays.
        if let (Ok(component), Some(bytes)) = (&linked, &code.kept) {
            self.revisions.keep(component.revision(), object, bytes).await?;
        }
        if let Some(record) = self.records().get_mut(key) {
            record.applied = version.filter(|_| linked.is_ok());
        }
        Ok(Some(linked))
    }

    /// Hands a component to the host, under the revision that it is to have or else its own.
    async fn link(
        &self,
        key: &ObjectKey,
        object: &Component,
        artifact: Artifact,
        revision: Option<&str>,
    ) -> Result<Arc<wasm::Component>, Refusal> {
        let spec = translate::spec(object, artifact, &self.setup.maxima, |full| self.setup.stores.get(full))?;
        let component = match revision {
            Some(revision) => self.setup.host.deploy_as(revision, spec),
            None => self.setup.host.deploy(&key.to_string(), spec),
        };
        let component = component.map_err(refuse_deploy)?;
        let revision = component.revision();
        match self.records().get_mut(key) {
            Some(record) => drop(record.revisions.insert(revision.to_owned())),
            // It was removed while an older revision was brought back.
            None => self.setup.host.retire(revision),
        }
        if component.spec().durable {
            self.tell_ready(revision).await;
        }
        Ok(component)
    }

    async fn tell_ready(&self, revision: &str) {
        if let Some(worker) = self.edge.worker()
            && let Err(error) = worker.component_ready(revision).await
        {
            tracing::warn!(revision, %error, "the durable worker was not told");
        }
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
                    match translate::terms(object) {
                        Some(terms) => State::Durable(component.clone(), terms),
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

    /// The revisions of `namespace/name` that unfinished invocations are pinned to, and whether they were found missing;
    /// `None` while nobody knows.
    async fn pinned(&self, name: &str) -> Option<BTreeMap<String, bool>> {
        let mut lanes = self.edge.worker()?.lanes().await.ok()?;
        lanes.retain(|lane| durable::unpinned(&lane.component) == name);
        Some(lanes.into_iter().map(|lane| (lane.component.to_string(), lane.absent)).collect())
    }

    /// Drops older revisions, but for those that durable invocations are pinned to, which are brought back.
    async fn settle_revisions(&self, key: &ObjectKey) -> Result<(), Failure> {
        let name = key.to_string();
        let (current, held) = match self.records().get(key) {
            Some(record) => (
                record.deployed.as_ref().map(|deployed| deployed.revision().to_owned()),
                record.revisions.clone(),
            ),
            None => return Ok(()),
        };
        let pinned = self.pinned(&name).await;
        let is_durable = |revision: &str| {
            self.setup.host.deployed(revision).is_some_and(|component| component.spec().durable)
        };
        if held.iter().any(|held| is_durable(held))
            || pinned.as_ref().is_some_and(|pinned| !pinned.is_empty())
        {
            self.queue.add_after(Item::Component(key.clone()), PINNED);
        }
        for (revision, absent) in pinned.iter().flatten() {
            if held.contains(revision) {
                if *absent {
                    self.tell_ready(revision).await;
                }
            } else {
                self.queue.add(Item::Revision(key.clone(), revision.clone()));
            }
        }
        let wanted = |revision: &str| {
            let pinned = match &pinned {
                Some(pinned) => pinned.contains_key(revision),
                None => is_durable(revision),
            };
            pinned || Some(revision) == current.as_deref()
        };
        for old in held.iter().filter(|held| !wanted(held)) {
            self.setup.host.retire(old);
            if let Some(record) = self.records().get_mut(key) {
                record.revisions.remove(old);
            }
        }
        // What will be served may have been kept, and wait for its stores.
        if current.is_some() && pinned.is_some() {
            self.revisions.keep_only(&name, wanted).await?;
        }
        Ok(())
    }

    /// Brings an older revision back. If that fails, its component is looked at again before long, and then this is, too.
    pub(super) async fn look_at_revision(&self, key: &ObjectKey, revision: &str) -> Progress {
        let outcome = self.bring_back(key, revision).await;
        outcome.unwrap_or_else(|why| {
            tracing::warn!(revision, why, "unfinished invocations wait for a revision that cannot be had");
            Progress::Done
        })
    }

    /// Deploys an older revision as it was kept. Its limits, and where it may send requests, are those of now: they are
    /// rules for what it does, and it sees nothing of them that is not recorded.
    async fn bring_back(&self, key: &ObjectKey, revision: &str) -> Result<Progress, String> {
        let item = Item::Revision(key.clone(), revision.to_owned());
        let pinned = self.pinned(&key.to_string()).await;
        let wanted = pinned.is_some_and(|pinned| pinned.contains_key(revision))
            && self.records().get(key).is_some_and(|record| !record.revisions.contains(revision));
        let Some(now) = self.components.get(key).filter(|_| wanted) else {
            self.compiling.forget(&item);
            return Ok(Progress::Done);
        };
        let kept = self.revisions.load(revision).await.map_err(|error| error.to_string())?;
        let mut object = kept.ok_or("it was not kept")?;
        object.spec.limits = now.spec.limits.clone();
        object.spec.allowed_outbound_hosts.clone_from(&now.spec.allowed_outbound_hosts);
        // What goes on without its stores would wait at each of its calls.
        if let Some(refusal) = self.missing_store(&object) {
            return Err(refusal.message);
        }
        let object = Arc::new(object);
        match self.compiled(&item, &object, false).await {
            Some(Compiled::Ready(code)) => {
                let linked = self.link(key, &object, code.artifact, Some(revision)).await;
                linked.map(|_| Progress::Done).map_err(|refusal| refusal.message)
            }
            Some(Compiled::Refused(refusal)) => {
                // Nobody can change it; another try is all that can be done.
                self.compiling.forget(&item);
                Err(refusal.message)
            }
            Some(Compiled::Failed(why)) => Err(why),
            None => Ok(Progress::UnderWay),
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
