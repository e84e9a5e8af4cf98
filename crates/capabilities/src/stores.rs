//! Named stores, whose backend can change while components use them.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use egress::Connector;

use crate::{Backend, Error, KeyValue, Keys};

/// What a call may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeLimits {
    /// Bytes of a key.
    pub key: usize,
    /// Bytes of a value.
    pub value: usize,
    /// Keys in one call.
    pub batch: usize,
    /// Bytes of all values in one call.
    pub batch_bytes: usize,
}

impl Default for SizeLimits {
    fn default() -> Self {
        Self { key: 1024, value: 1 << 20, batch: 1000, batch_bytes: 16 << 20 }
    }
}

/// All the stores of a process by name (`namespace/name`).
#[derive(Debug, Default)]
pub struct Stores {
    slots: Mutex<HashMap<String, Arc<Slot>>>,
}

impl Stores {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The store of that name. It exists before its backend does, and outlives it: calls fail meanwhile.
    pub fn get(&self, name: &str) -> Store {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.entry(name.to_owned()).or_insert_with(|| Arc::new(Slot::new(name)));
        Store { slot: slot.clone() }
    }

    /// Puts a backend behind a store, once it has been opened and has answered. Until then, and if that fails, the store
    /// keeps the backend that it has; calls in flight finish on the old one. The backend that it already has is asked
    /// whether it answers, and opened anew if it does not: what failed once may never recover by itself.
    pub async fn bind(&self, name: &str, backend: Backend, egress: &Connector) -> Result<(), Error> {
        let slot = self.get(name).slot;
        let _binding = slot.binding.lock().await;
        if let Some(bound) = slot.bound.load_full()
            && bound.chosen.as_ref() == Some(&backend)
        {
            let Err(error) = bound.backend.check().await else { return Ok(()) };
            tracing::warn!(store = name, %error, "the backend failed, and is opened again");
            // A file is open once: the old one goes first.
            slot.bound.store(None);
            drop(bound);
            let opened = backend.open(egress).await?;
            slot.bound.store(Some(Arc::new(Bound { chosen: Some(backend), backend: opened.clone() })));
            return opened.check().await;
        }
        let opened = backend.open(egress).await?;
        opened.check().await?;
        slot.bound.store(Some(Arc::new(Bound { chosen: Some(backend), backend: opened })));
        tracing::info!(store = name, "backend bound");
        Ok(())
    }

    /// Whether a store can serve now.
    pub async fn check(&self, name: &str) -> Result<(), Error> {
        self.get(name).backend()?.check().await
    }

    /// Takes the backend away. Components that still hold the store get errors until a backend is bound to its name again.
    pub fn remove(&self, name: &str) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(name) {
            slot.bound.store(None);
            // Nobody else holds it: nobody would notice that it is another one when the name comes back.
            if Arc::strong_count(slot) == 1 {
                slots.remove(name);
            }
        }
    }
}

#[derive(Debug)]
struct Slot {
    name: String,
    limits: SizeLimits,
    bound: ArcSwapOption<Bound>,
    /// Held while a backend is opened, so that two of them do not race for the slot.
    binding: tokio::sync::Mutex<()>,
}

struct Bound {
    chosen: Option<Backend>,
    backend: Arc<dyn KeyValue>,
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bound").field(&self.chosen).finish()
    }
}

impl Slot {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            limits: SizeLimits::default(),
            bound: ArcSwapOption::empty(),
            binding: tokio::sync::Mutex::new(()),
        }
    }
}

/// A store as its users hold it: checks what they pass, and hands it to the backend of the moment. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    slot: Arc<Slot>,
}

impl Store {
    /// A store of its own with this backend, part of no [`Stores`].
    pub fn standing_alone(name: &str, backend: Arc<dyn KeyValue>) -> Self {
        let slot = Slot::new(name);
        slot.bound.store(Some(Arc::new(Bound { chosen: None, backend })));
        Self { slot: Arc::new(slot) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.slot.name
    }

    /// The value of a key.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        self.check_key(key)?;
        self.backend()?.get(key).await
    }

    /// Sets a key.
    pub async fn set(&self, key: &str, value: Bytes) -> Result<(), Error> {
        self.check_key(key)?;
        self.check_value(&value)?;
        self.backend()?.set(key, value).await
    }

    /// Removes a key, if it is there.
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        self.check_key(key)?;
        self.backend()?.delete(key).await
    }

    /// Whether a key is there.
    pub async fn exists(&self, key: &str) -> Result<bool, Error> {
        self.check_key(key)?;
        self.backend()?.exists(key).await
    }

    /// A page of keys.
    pub async fn keys(&self, cursor: Option<&str>) -> Result<Keys, Error> {
        self.backend()?.keys(cursor).await
    }

    /// Adds to a number; see [`KeyValue::increment`].
    pub async fn increment(&self, key: &str, delta: i64, token: Option<&str>) -> Result<i64, Error> {
        self.check_key(key)?;
        self.backend()?.increment(key, delta, token).await
    }

    /// Says that a token of [`Store::increment`] will not come again.
    pub async fn forget(&self, token: &str) -> Result<(), Error> {
        self.backend()?.forget(token).await
    }

    /// The values of many keys, in their order.
    pub async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>, Error> {
        self.check_batch(keys.len(), keys.iter())?;
        self.backend()?.get_many(keys, self.slot.limits.batch_bytes).await
    }

    /// Sets many keys.
    pub async fn set_many(&self, pairs: Vec<(String, Bytes)>) -> Result<(), Error> {
        self.check_batch(pairs.len(), pairs.iter().map(|(key, _)| key))?;
        pairs.iter().try_for_each(|(_, value)| self.check_value(value))?;
        let limit = self.slot.limits.batch_bytes;
        if pairs.iter().map(|(_, value)| value.len()).sum::<usize>() > limit {
            return Err(Error::BatchBytes { limit });
        }
        self.backend()?.set_many(pairs).await
    }

    /// Removes many keys.
    pub async fn delete_many(&self, keys: &[String]) -> Result<(), Error> {
        self.check_batch(keys.len(), keys.iter())?;
        self.backend()?.delete_many(keys).await
    }

    fn backend(&self) -> Result<Arc<dyn KeyValue>, Error> {
        let bound = self.slot.bound.load();
        bound
            .as_ref()
            .map(|bound| bound.backend.clone())
            .ok_or_else(|| Error::Unbound(self.slot.name.clone()))
    }

    fn check_key(&self, key: &str) -> Result<(), Error> {
        let limit = self.slot.limits.key;
        if key.is_empty() || key.len() > limit { Err(Error::KeyLength { limit }) } else { Ok(()) }
    }

    fn check_value(&self, value: &[u8]) -> Result<(), Error> {
        let limit = self.slot.limits.value;
        if value.len() > limit { Err(Error::ValueLength { limit }) } else { Ok(()) }
    }

    fn check_batch<'a>(
        &self,
        length: usize,
        mut keys: impl Iterator<Item = &'a String>,
    ) -> Result<(), Error> {
        let limit = self.slot.limits.batch;
        if length > limit {
            return Err(Error::BatchLength { limit });
        }
        keys.try_for_each(|key| self.check_key(key))
    }
}

#[cfg(test)]
mod tests {
    use egress::Policy;

    use super::*;

    /// Every call fails, for ever.
    struct Dead;

    fn dead<T>() -> Result<T, Error> {
        Err(Error::Unavailable("dead".into()))
    }

    #[async_trait::async_trait]
    impl KeyValue for Dead {
        async fn get(&self, _: &str) -> Result<Option<Bytes>, Error> {
            dead()
        }
        async fn set(&self, _: &str, _: Bytes) -> Result<(), Error> {
            dead()
        }
        async fn delete(&self, _: &str) -> Result<(), Error> {
            dead()
        }
        async fn exists(&self, _: &str) -> Result<bool, Error> {
            dead()
        }
        async fn keys(&self, _: Option<&str>) -> Result<Keys, Error> {
            dead()
        }
        async fn increment(&self, _: &str, _: i64, _: Option<&str>) -> Result<i64, Error> {
            dead()
        }
        async fn forget(&self, _: &str) -> Result<(), Error> {
            dead()
        }
        async fn get_many(&self, _: &[String], _: usize) -> Result<Vec<Option<Bytes>>, Error> {
            dead()
        }
        async fn set_many(&self, _: Vec<(String, Bytes)>) -> Result<(), Error> {
            dead()
        }
        async fn delete_many(&self, _: &[String]) -> Result<(), Error> {
            dead()
        }
        async fn check(&self) -> Result<(), Error> {
            dead()
        }
    }

    #[tokio::test]
    async fn a_backend_that_died_is_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let (stores, egress) = (Stores::new(), Connector::new(Policy::default()));
        let backend = Backend::Embedded { path: directory.path().join("kv") };
        let store = stores.get("ns/a");
        let bound = Bound { chosen: Some(backend.clone()), backend: Arc::new(Dead) };
        store.slot.bound.store(Some(Arc::new(bound)));
        assert!(store.set("a", "1".into()).await.is_err());
        stores.bind("ns/a", backend, &egress).await.unwrap();
        store.set("a", "1".into()).await.unwrap();
    }
}
