//! The last known good objects, on the edge's own disk: with them it serves after a restart though the API is away.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use client::ObjectKey;
use kube::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The objects of one kind, a file each.
#[derive(Debug)]
pub(super) struct Snapshot {
    folder: PathBuf,
    /// The versions of those that were kept since this began.
    versions: Mutex<BTreeMap<ObjectKey, String>>,
}

impl Snapshot {
    /// In a folder of its own below `parent`.
    pub(super) async fn open(parent: &Path, kind: &str) -> std::io::Result<Self> {
        let folder = parent.join(kind);
        tokio::fs::create_dir_all(&folder).await?;
        Ok(Self { folder, versions: Mutex::default() })
    }

    /// What was kept. A file that cannot be read is left out: the API has the object.
    pub(super) async fn load<K: Resource + DeserializeOwned>(&self) -> BTreeMap<ObjectKey, Arc<K>> {
        let mut objects = BTreeMap::new();
        let Ok(mut entries) = tokio::fs::read_dir(&self.folder).await else { return objects };
        while let Ok(Some(entry)) = entries.next_entry().await {
            if entry.path().extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let read = tokio::fs::read(entry.path()).await;
            match read.map_err(serde_json::Error::io).and_then(|bytes| serde_json::from_slice::<K>(&bytes)) {
                Ok(object) => {
                    objects.insert(ObjectKey::of(&object), Arc::new(object));
                }
                Err(error) => {
                    tracing::warn!(path = %entry.path().display(), %error, "a kept object is unreadable")
                }
            }
        }
        objects
    }

    /// Keeps an object, unless this version of it is kept.
    pub(super) async fn keep<K: Resource + Serialize>(&self, object: &K) -> std::io::Result<()> {
        let (key, version) = (ObjectKey::of(object), object.meta().resource_version.clone());
        if version.is_some() && self.versions().get(&key) == version.as_ref() {
            return Ok(());
        }
        let path = self.path(&key);
        let bytes = serde_json::to_vec(object).map_err(std::io::Error::other)?;
        if !tokio::fs::read(&path).await.is_ok_and(|kept| kept == bytes) {
            // A crash leaves the old file or the new one. Losing the newest is no harm: the API has it.
            let draft = path.with_extension("draft");
            tokio::fs::write(&draft, bytes).await?;
            tokio::fs::rename(&draft, &path).await?;
        }
        if let Some(version) = version {
            self.versions().insert(key, version);
        }
        Ok(())
    }

    fn versions(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, String>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets an object.
    pub(super) async fn forget(&self, key: &ObjectKey) {
        self.versions().remove(key);
        let removed = tokio::fs::remove_file(self.path(key)).await;
        if let Err(error) = removed
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%key, %error, "a kept object cannot be removed");
        }
    }

    /// Namespaces have no underscore, so no two objects share a file.
    fn path(&self, key: &ObjectKey) -> PathBuf {
        self.folder.join(format!("{}_{}.json", key.namespace, key.name))
    }
}

#[cfg(test)]
mod tests {
    use api::monoplane::v1alpha1::KeyValueStore;

    use super::*;

    fn store(name: &str) -> KeyValueStore {
        let mut store = KeyValueStore::new(name, Default::default());
        store.metadata.namespace = Some("shop".into());
        store
    }

    #[tokio::test]
    async fn what_is_kept_is_loaded_until_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = Snapshot::open(folder.path(), "stores").await.unwrap();
        for name in ["a", "b", "a.b"] {
            snapshot.keep(&store(name)).await.unwrap();
        }
        // The same version is not written again, another one is.
        let file = folder.path().join("stores/shop_a.json");
        let versioned = |version: &str| {
            let mut store = store("a");
            store.metadata.resource_version = Some(version.into());
            store
        };
        snapshot.keep(&versioned("1")).await.unwrap();
        std::fs::remove_file(&file).unwrap();
        snapshot.keep(&versioned("1")).await.unwrap();
        assert!(!file.exists());
        snapshot.keep(&versioned("2")).await.unwrap();
        assert!(file.exists());
        std::fs::write(folder.path().join("stores/shop_torn.json"), b"{").unwrap();
        let again = Snapshot::open(folder.path(), "stores").await.unwrap();
        let names = |objects: BTreeMap<ObjectKey, Arc<KeyValueStore>>| {
            objects.into_keys().map(|key| key.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(again.load().await), ["shop/a", "shop/a.b", "shop/b"]);
        again.forget(&ObjectKey::new("shop", "a")).await;
        again.forget(&ObjectKey::new("shop", "never")).await;
        assert_eq!(names(again.load().await), ["shop/a.b", "shop/b"]);
    }
}
