//! KeyValueStores: a backend behind each name, changed without the components noticing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::monoplane::v1alpha1::{KeyValueStore, KeyValueStoreSpec};
use capabilities::{Backend, Stores};
use client::ObjectKey;
use egress::Connector;
use kube::ResourceExt as _;
use serde_json::json;

use super::condition::{self, Readiness};
use super::{Controller, Failure, Item, Progress, Setup, translate};

/// How often a store of another server is asked whether it still answers.
const CHECK: Duration = Duration::from_secs(30);

/// When a store that went while it was being opened is looked at again.
const LATE: Duration = Duration::from_secs(1);

impl Setup {
    fn binder(&self) -> Binder {
        Binder { stores: self.stores.clone(), egress: self.egress.clone(), data_dir: self.data_dir.clone() }
    }
}

impl Controller {
    pub(super) async fn look_at_store(&self, key: &ObjectKey) -> Result<Progress, Failure> {
        let item = Item::Store(key.clone());
        let found = self.stores.get(key);
        if self.stores.is_current() {
            self.sweep(key, found.as_deref()).await?;
        }
        let Some(object) = found else {
            if self.binding.forget(&item) {
                // It may make the file that was just swept.
                self.queue.add_after(item, LATE);
            }
            self.setup.stores.remove(&key.to_string());
            self.stores.snapshot.forget(key).await;
            self.usable().remove(key);
            self.look_at_users(key);
            return Ok(Progress::Done);
        };
        let version = (object.uid(), object.metadata.generation);
        let Some(readiness) = self.binding.outcome(&item, &version) else {
            let work = bind(self.setup.binder(), key.clone(), object.clone());
            self.binding.start(&item, &version, work);
            return Ok(Progress::UnderWay);
        };
        // The next look asks again.
        self.binding.forget(&item);
        if self.usable().insert(key.clone(), readiness.ready) != Some(readiness.ready) {
            self.look_at_users(key);
        }
        if self.stores.is_current() {
            self.stores.snapshot.keep(&*object).await?;
            let more = json!({ "backend": object.spec.backend() });
            let status = object.status.as_ref().and_then(|status| serde_json::to_value(status).ok());
            let conditions =
                object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
            let now = self.setup.ambient.clock.now();
            let generation = object.metadata.generation;
            let change = condition::change(status.as_ref(), conditions, generation, &readiness, &more, now);
            self.report(&*object, change, &readiness).await?;
        }
        if !readiness.ready {
            return Err(Failure::NotUsable);
        }
        if object.spec.redis.is_some() {
            self.queue.add_after(item, CHECK);
        }
        Ok(Progress::Done)
    }

    /// Removes the files of embedded stores of that name that are gone: all but the object's own.
    async fn sweep(&self, key: &ObjectKey, object: Option<&KeyValueStore>) -> std::io::Result<()> {
        // Names have no underscore, so no other store's files begin so.
        let prefix = format!("{}_{}_", key.namespace, key.name);
        let own = object.and_then(|object| object.uid()).map(|uid| format!("{prefix}{uid}."));
        let Ok(mut entries) = tokio::fs::read_dir(folder(&self.setup.data_dir)).await else { return Ok(()) };
        while let Some(entry) = entries.next_entry().await? {
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| name.starts_with(&prefix)) else { continue };
            if own.as_ref().is_none_or(|own| !name.starts_with(own)) {
                tokio::fs::remove_file(entry.path()).await?;
                tracing::info!(store = %key, file = name, "the file of a store that is gone was removed");
            }
        }
        Ok(())
    }

    /// Has the components looked at that bind this store.
    fn look_at_users(&self, key: &ObjectKey) {
        let full = key.to_string();
        for component in self.components.list() {
            if translate::stores(&component).any(|(_, store)| store == full) {
                self.queue.add(Item::Component(ObjectKey::of(&*component)));
            }
        }
    }
}

/// What binding a store takes.
pub(super) struct Binder {
    pub(super) stores: Arc<Stores>,
    pub(super) egress: Connector,
    pub(super) data_dir: PathBuf,
}

fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("keyvalue")
}

async fn bind(binder: Binder, key: ObjectKey, object: Arc<KeyValueStore>) -> Readiness {
    let refused = |reason, message: String| Readiness { ready: false, reason, message };
    let backend = match backend(&binder.data_dir, &object).await {
        Ok(Some(backend)) => backend,
        Ok(None) => {
            let message = "spec: Required value: exactly one of embedded and redis";
            return refused("SpecInvalid", message.into());
        }
        Err(error) => {
            return refused("BackendUnavailable", format!("making a folder for the store: {error}"));
        }
    };
    match binder.stores.bind(&key.to_string(), backend, &binder.egress).await {
        Ok(()) => Readiness { ready: true, reason: "Ready", message: "the backend answers".into() },
        Err(error) => refused("BackendUnavailable", error.to_string()),
    }
}

async fn backend(data_dir: &Path, object: &KeyValueStore) -> std::io::Result<Option<Backend>> {
    Ok(match &object.spec {
        KeyValueStoreSpec { embedded: Some(_), redis: None } => {
            let folder = folder(data_dir);
            tokio::fs::create_dir_all(&folder).await?;
            // Under its own identity: another object of the same name begins empty.
            let uid = object.uid().unwrap_or_default();
            let file = format!("{}_{}_{uid}.db", object.namespace().unwrap_or_default(), object.name_any());
            Some(Backend::Embedded { path: folder.join(file) })
        }
        KeyValueStoreSpec { embedded: None, redis: Some(redis) } => Some(Backend::Redis {
            address: redis.address.clone(),
            key_prefix: redis.key_prefix.clone().unwrap_or_default(),
        }),
        _ => None,
    })
}
