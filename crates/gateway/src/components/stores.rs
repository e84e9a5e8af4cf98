//! KeyValueStores: a backend behind each name, changed without the components noticing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::monoplane::v1alpha1::{KeyValueStore, KeyValueStoreSpec};
use capabilities::{Backend, Stores};
use client::ObjectKey;
use egress::Connector;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use super::condition::{self, Readiness};
use super::{Controller, Failure, Item, Progress, Setup, translate};
use crate::secrets::Reading;

/// The reason of a store whose Secret is missing or says nothing of use.
const SECRET_INVALID: &str = "SecretInvalid";

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
        let readiness = match self.login(key, &object).await {
            // The Secret's informer has the store looked at again.
            None => return Ok(Progress::UnderWay),
            Some(Err(why)) => Readiness { ready: false, reason: SECRET_INVALID, message: why },
            Some(Ok(login)) => {
                let version = (object.uid(), object.metadata.generation, login.clone());
                let Some(readiness) = self.binding.outcome(&item, &version) else {
                    let work = bind(self.setup.binder(), key.clone(), object.clone(), login);
                    self.binding.start(&item, &version, work);
                    return Ok(Progress::UnderWay);
                };
                readiness
            }
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

    /// What the store's Secret says; `None` while nobody knows. Which Secrets are followed is brought up to date.
    async fn login(&self, key: &ObjectKey, object: &KeyValueStore) -> Option<Result<Option<Login>, String>> {
        let named = |object: &KeyValueStore| {
            let name = object.spec.secret_name().filter(|name| !name.is_empty())?;
            Some(ObjectKey::new(object.namespace().unwrap_or_default(), name))
        };
        let mut logins = self.logins.lock().await;
        let wanted = self.stores.list().iter().filter_map(|store| named(store)).collect();
        logins.follow(&wanted).await;
        let Some(secret) = named(object).filter(|secret| secret.namespace == key.namespace) else {
            return Some(Ok(None));
        };
        let login = logins.get(&secret)?;
        Some(login.map(Some).map_err(|why| format!("Secret {}: {why}", secret.name)))
    }

    /// Has the stores looked at that name this Secret.
    pub(super) fn look_at_stores_of(&self, secret: &ObjectKey) {
        for store in self.stores.list() {
            let key = ObjectKey::of(&*store);
            if key.namespace == secret.namespace && store.spec.secret_name() == Some(&secret.name) {
                self.queue.add(Item::Store(key));
            }
        }
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

/// What a server is told to be let in.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Login {
    username: String,
    password: String,
}

/// How the Secrets that stores name are read.
pub(super) const LOGINS: Reading<Login> = Reading { entries: &["username", "password"], read: Login::read };

impl Login {
    fn read(secret: &Secret) -> Result<Self, String> {
        let part = |name: &str| {
            let Some(bytes) = secret.data.as_ref().and_then(|data| data.get(name)) else { return Ok(None) };
            let text = String::from_utf8(bytes.0.clone());
            text.map(Some).map_err(|_| format!("its data[{name}] is not text in UTF-8"))
        };
        let password = part("password")?.ok_or("it has no data[password]")?;
        Ok(Self { username: part("username")?.unwrap_or_default(), password })
    }

    /// The address with the login in it, in place of one that it may have.
    fn within(&self, address: &str) -> String {
        let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let host = rest[..end].rfind('@').map_or(rest, |at| &rest[at + 1..]);
        let escaped = |text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        format!("{scheme}://{}:{}@{host}", escaped(&self.username), escaped(&self.password))
    }
}

/// What a store is opened for: its identity, its generation and its login.
pub(super) type Version = (Option<String>, Option<i64>, Option<Login>);

/// What binding a store takes.
pub(super) struct Binder {
    pub(super) stores: Arc<Stores>,
    pub(super) egress: Connector,
    pub(super) data_dir: PathBuf,
}

fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("keyvalue")
}

async fn bind(binder: Binder, key: ObjectKey, object: Arc<KeyValueStore>, login: Option<Login>) -> Readiness {
    let refused = |reason, message: String| Readiness { ready: false, reason, message };
    let backend = match backend(&binder.data_dir, &object, login).await {
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

async fn backend(
    data_dir: &Path,
    object: &KeyValueStore,
    login: Option<Login>,
) -> std::io::Result<Option<Backend>> {
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
            address: login.map_or_else(|| redis.address.clone(), |login| login.within(&redis.address)),
            key_prefix: redis.key_prefix.clone().unwrap_or_default(),
        }),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_takes_the_place_of_one_in_the_address() {
        let login = Login { username: "me".into(), password: "p@ss/word".into() };
        for (address, expected) in [
            ("redis://cache:6379/2", "redis://me:p%40ss%2Fword@cache:6379/2"),
            ("redis://old:one@cache/2?x=a@b", "redis://me:p%40ss%2Fword@cache/2?x=a@b"),
            ("redis://cache", "redis://me:p%40ss%2Fword@cache"),
        ] {
            assert_eq!(login.within(address), expected);
        }
    }
}
