//! KeyValueStores: a backend behind each name, changed without the components noticing.

use std::time::Duration;

use api::monoplane::v1alpha1::{KeyValueStore, KeyValueStoreSpec};
use capabilities::Backend;
use client::ObjectKey;
use kube::ResourceExt as _;
use serde_json::json;

use super::condition::{self, Readiness};
use super::{Controller, Failure, Item, translate};

/// How often a store of another server is asked whether it still answers.
const CHECK: Duration = Duration::from_secs(30);

impl Controller {
    pub(super) async fn look_at_store(&self, key: &ObjectKey) -> Result<(), Failure> {
        let Some(object) = self.stores.get(key) else {
            self.setup.stores.remove(&key.to_string());
            self.stores.snapshot.forget(key).await;
            self.usable().remove(key);
            self.look_at_users(key);
            return Ok(());
        };
        let readiness = self.bind(key, &object).await;
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
            self.queue.add_after(Item::Store(key.clone()), CHECK);
        }
        Ok(())
    }

    async fn bind(&self, key: &ObjectKey, object: &KeyValueStore) -> Readiness {
        let refused = |reason, message: String| Readiness { ready: false, reason, message };
        let backend = match self.backend(object).await {
            Ok(Some(backend)) => backend,
            Ok(None) => {
                return refused(
                    "SpecInvalid",
                    "spec: Required value: exactly one of embedded and redis".into(),
                );
            }
            Err(error) => {
                return refused("BackendUnavailable", format!("making a folder for the store: {error}"));
            }
        };
        match self.setup.stores.bind(&key.to_string(), backend, &self.setup.egress).await {
            Ok(()) => Readiness { ready: true, reason: "Ready", message: "the backend answers".into() },
            Err(error) => refused("BackendUnavailable", error.to_string()),
        }
    }

    async fn backend(&self, object: &KeyValueStore) -> std::io::Result<Option<Backend>> {
        Ok(match &object.spec {
            KeyValueStoreSpec { embedded: Some(_), redis: None } => {
                let folder = self.setup.data_dir.join("keyvalue");
                tokio::fs::create_dir_all(&folder).await?;
                // Under its own identity: another object of the same name begins empty.
                let uid = object.uid().unwrap_or_default();
                let file =
                    format!("{}_{}_{uid}.db", object.namespace().unwrap_or_default(), object.name_any());
                Some(Backend::Embedded { path: folder.join(file) })
            }
            KeyValueStoreSpec { embedded: None, redis: Some(redis) } => Some(Backend::Redis {
                address: redis.address.clone(),
                key_prefix: redis.key_prefix.clone().unwrap_or_default(),
            }),
            _ => None,
        })
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
