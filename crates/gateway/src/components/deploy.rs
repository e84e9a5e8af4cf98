//! Components: from source to served.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::monoplane::v1alpha1::{Component, component_reason as reason};
use bytes::Bytes;
use client::ObjectKey;
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;
use wasm::{Artifact, CompileError, DeployError};

use super::condition::{self, Readiness};
use super::translate::{self, Refusal, Source};
use super::{Controller, Failure, Item};
use crate::request::{State, Target};
use crate::routing::claims::{Claim, decide};
use crate::routing::{HostPattern, PathPrefix};

/// The largest component that is read from a file.
const FILE_BYTES: u64 = 256 << 20;
/// How soon a durable component is looked at again: older revisions go when their last invocation has ended, and one whose
/// request was under way while the component changed may have been submitted to a revision that went.
const PINNED: Duration = Duration::from_secs(60);

/// What became of a component.
pub(super) struct Record {
    created: Timestamp,
    routes: Vec<(HostPattern, PathPrefix)>,
    target: Arc<Target>,
    /// The object's identity and generation that was deployed last: until there is another, there is nothing to do.
    applied: Option<(String, i64)>,
    /// What serves it; an older revision while a newer one is not ready.
    deployed: Option<Arc<wasm::Component>>,
    /// Revisions that the host holds.
    revisions: BTreeSet<String>,
    /// The routes that are somebody else's.
    conflicts: Vec<String>,
}

impl Controller {
    pub(super) async fn look_at_component(&self, key: &ObjectKey) -> Result<(), Failure> {
        let Some(object) = self.components.get(key) else { return self.remove(key).await };
        let (routes, bad_route) = translate::routes(&object);
        self.claim(key, &object, routes);
        let deployed = self.deploy(key, &object).await?;
        self.serve(key, &object, &deployed);
        self.settle_revisions(key, &object).await?;
        let refusal = deployed.err().or(bad_route).or_else(|| self.conflict(key));
        if !self.components.is_current() {
            return Ok(());
        }
        self.components.snapshot.keep(&*object).await?;
        self.report_component(key, &object, refusal).await
    }

    async fn remove(&self, key: &ObjectKey) -> Result<(), Failure> {
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

    /// Takes the component's routes, though it may not answer on them yet.
    fn claim(&self, key: &ObjectKey, object: &Component, routes: Vec<(HostPattern, PathPrefix)>) {
        let created = object.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0);
        {
            let mut records = self.records();
            let record = records.entry(key.clone()).or_insert_with(|| Record {
                created,
                routes: Vec::new(),
                target: Arc::new(Target {
                    name: key.to_string(),
                    state: State::NotReady("it is being compiled".into()),
                }),
                applied: None,
                deployed: None,
                revisions: BTreeSet::new(),
                conflicts: Vec::new(),
            });
            if record.routes == routes && record.created == created {
                return;
            }
            (record.created, record.routes) = (created, routes);
        }
        self.swap_table();
    }

    /// Brings the component to the host: the new one, or why there is none.
    async fn deploy(
        &self,
        key: &ObjectKey,
        object: &Component,
    ) -> Result<Result<Arc<wasm::Component>, Refusal>, Failure> {
        if let Some(refusal) = self.missing_store(object) {
            return Ok(Err(refusal));
        }
        let version = object.metadata.uid.clone().zip(object.metadata.generation);
        if let Some(record) = self.records().get(key)
            && let Some(deployed) = &record.deployed
            && version.is_some()
            && record.applied == version
        {
            return Ok(Ok(deployed.clone()));
        }
        let (artifact, bytes) = match self.compile(key, object).await? {
            Ok(compiled) => compiled,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let linked = self.link(key, object, artifact, None).await;
        // Before the first request reaches it: an invocation that begins on it is promised that it stays.
        if let Ok(component) = &linked
            && component.spec().durable
        {
            self.revisions.keep(component.revision(), object, &bytes).await?;
        }
        if let Some(record) = self.records().get_mut(key) {
            record.applied = version.filter(|_| linked.is_ok());
        }
        Ok(linked)
    }

    /// Hands a component to the host, under the revision that it is to have or else its own.
    async fn link(
        &self,
        key: &ObjectKey,
        object: &Component,
        artifact: Artifact,
        revision: Option<&str>,
    ) -> Result<Arc<wasm::Component>, Refusal> {
        let spec = translate::spec(object, artifact, |full| self.setup.stores.get(full))?;
        let component = match revision {
            Some(revision) => self.setup.host.deploy_as(revision, spec),
            None => self.setup.host.deploy(&key.to_string(), spec),
        };
        let component = component.map_err(refuse_deploy)?;
        let revision = component.revision();
        if let Some(record) = self.records().get_mut(key) {
            record.revisions.insert(revision.to_owned());
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

    async fn compile(
        &self,
        key: &ObjectKey,
        object: &Component,
    ) -> Result<Result<(Artifact, Bytes), Refusal>, Failure> {
        let bytes = match translate::source(&object.spec.source, self.setup.allow_files) {
            Ok(Source::Inline(bytes)) => bytes,
            Ok(Source::File(path)) => match read(&path).await {
                Ok(bytes) => bytes,
                Err(error) => {
                    let message = format!("spec.source.path: Invalid value: {}: {error}", path.display());
                    return Ok(Err(Refusal::new(reason::SOURCE_INVALID, message)));
                }
            },
            Err(refusal) => return Ok(Err(refusal)),
        };
        let digest = format!("sha256:{:x}", Sha256::digest(&bytes));
        if let Ok(Some(artifact)) = self.setup.host.cached(&digest).await {
            return Ok(Ok((artifact, bytes)));
        }
        if self.components.is_current() {
            let compiling = Refusal::new(reason::COMPILING, "the component is being compiled");
            self.report_component(key, object, Some(compiling)).await?;
        }
        match self.setup.host.compile(bytes.clone()).await {
            Ok(artifact) => Ok(Ok((artifact, bytes))),
            Err(error @ (CompileError::Invalid(_) | CompileError::TooLarge { .. })) => {
                Ok(Err(Refusal::new(reason::SOURCE_INVALID, error)))
            }
            // What the machine lacks may be there later; what the component lacks will not.
            Err(error @ CompileError::Cache(_)) => {
                if self.components.is_current() {
                    let refusal = Refusal::new(reason::COMPILE_FAILED, &error);
                    self.report_component(key, object, Some(refusal)).await?;
                }
                Err(Failure::Files(std::io::Error::other(error)))
            }
            Err(error) => Ok(Err(Refusal::new(reason::COMPILE_FAILED, error))),
        }
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
    async fn settle_revisions(&self, key: &ObjectKey, object: &Component) -> Result<(), Failure> {
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
            } else if let Err(why) = self.bring_back(key, object, revision).await {
                tracing::warn!(
                    revision,
                    why,
                    "unfinished invocations wait for a revision that cannot be had"
                );
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

    /// Deploys an older revision as it was kept. Its limits, and where it may send requests, are those of now: they are
    /// rules for what it does, and it sees nothing of them that is not recorded.
    async fn bring_back(&self, key: &ObjectKey, now: &Component, revision: &str) -> Result<(), String> {
        let kept = self.revisions.load(revision).await.map_err(|error| error.to_string())?;
        let mut object = kept.ok_or("it was not kept")?;
        object.spec.limits = now.spec.limits.clone();
        object.spec.allowed_outbound_hosts.clone_from(&now.spec.allowed_outbound_hosts);
        // What goes on without its stores would wait at each of its calls.
        if let Some(refusal) = self.missing_store(&object) {
            return Err(refusal.message);
        }
        let Ok(Source::Inline(bytes)) = translate::source(&object.spec.source, false) else {
            return Err("its bytes cannot be read".to_owned());
        };
        let artifact = self.setup.host.compile(bytes).await.map_err(|error| error.to_string())?;
        self.link(key, &object, artifact, Some(revision)).await.map(drop).map_err(|refusal| refusal.message)
    }

    /// Decides anew who has which route. Those whose conflicts changed are looked at.
    fn swap_table(&self) {
        let mut records = self.records();
        let claims = records.iter().map(|(key, record)| Claim {
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            created: record.created,
            routes: record.routes.clone(),
            target: record.target.clone(),
        });
        let mut decision = decide(claims);
        for (key, record) in records.iter_mut() {
            let found =
                decision.conflicts.remove(&(key.namespace.clone(), key.name.clone())).unwrap_or_default();
            let conflicts: Vec<_> = found.iter().map(ToString::to_string).collect();
            if record.conflicts != conflicts {
                record.conflicts = conflicts;
                self.queue.add(Item::Component(key.clone()));
            }
        }
        // Under the lock, so that an older decision never replaces a newer one.
        self.edge.routes.store(Arc::new(decision.table));
    }

    fn conflict(&self, key: &ObjectKey) -> Option<Refusal> {
        let records = self.records();
        let conflicts = &records.get(key)?.conflicts;
        (!conflicts.is_empty()).then(|| Refusal::new(reason::ROUTE_CONFLICT, conflicts.join("; ")))
    }

    async fn report_component(
        &self,
        key: &ObjectKey,
        object: &Component,
        refusal: Option<Refusal>,
    ) -> Result<(), Failure> {
        let digest =
            self.records().get(key).and_then(|record| Some(record.deployed.as_ref()?.digest().to_owned()));
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
        let more = json!({ "digest": digest });
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

async fn read(path: &Path) -> std::io::Result<Bytes> {
    let file = tokio::fs::File::open(path).await?;
    if !file.metadata().await?.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    let read = file.take(FILE_BYTES + 1).read_to_end(&mut bytes).await?;
    if read as u64 > FILE_BYTES {
        return Err(std::io::Error::other(format!("it has more than {FILE_BYTES} bytes")));
    }
    Ok(bytes.into())
}
