//! Revisions that durable invocations may be pinned to, on the edge's own disk: the object as it was, with its bytes.
//!
//! What an invocation began on has to be there until it ends, though the component has been given other code, another
//! environment or other stores since, and though a newer edge can no longer run what an older one compiled.

use std::io;
use std::path::{Path, PathBuf};

use api::monoplane::v1alpha1::{Component, ComponentSource};
use base64::Engine as _;
use tokio::io::AsyncWriteExt as _;

/// A folder a component, a file a revision.
#[derive(Clone, Debug)]
pub(super) struct Revisions {
    folder: PathBuf,
}

impl Revisions {
    /// In a folder of its own below `parent`.
    pub(super) async fn open(parent: &Path) -> io::Result<Self> {
        let folder = parent.join("revisions");
        tokio::fs::create_dir_all(&folder).await?;
        Ok(Self { folder })
    }

    /// Keeps a revision (`namespace/name@…`), unless that was done before. When this returns, it is on the disk.
    pub(super) async fn keep(&self, revision: &str, object: &Component, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(revision);
        if tokio::fs::try_exists(&path).await? {
            return Ok(());
        }
        let mut object = object.clone();
        (object.metadata.managed_fields, object.status) = (None, None);
        let inline = base64::engine::general_purpose::STANDARD.encode(bytes);
        object.spec.source = ComponentSource { inline: Some(inline), path: None };
        let json = serde_json::to_vec(&object).map_err(io::Error::other)?;
        let folder = self.folder_of(revision);
        tokio::fs::create_dir_all(&folder).await?;
        let draft = path.with_extension("draft");
        let mut file = tokio::fs::File::create(&draft).await?;
        file.write_all(&json).await?;
        file.sync_all().await?;
        tokio::fs::rename(&draft, &path).await?;
        for folder in [&folder, &self.folder] {
            tokio::fs::File::open(folder).await?.sync_all().await?;
        }
        Ok(())
    }

    /// A revision as it was kept.
    pub(super) async fn load(&self, revision: &str) -> io::Result<Option<Component>> {
        match tokio::fs::read(self.path(revision)).await {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Forgets all revisions of `name` (`namespace/name`) but those that are wanted.
    pub(super) async fn keep_only(&self, name: &str, wanted: impl Fn(&str) -> bool) -> io::Result<()> {
        let folder = self.folder_of(name);
        let mut entries = match tokio::fs::read_dir(&folder).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        while let Some(entry) = entries.next_entry().await? {
            let file = entry.file_name();
            let revision = file.to_str().and_then(|file| file.strip_suffix(".json"));
            if !revision.is_some_and(|revision| wanted(&format!("{name}@{revision}"))) {
                tokio::fs::remove_file(entry.path()).await?;
            }
        }
        Ok(())
    }

    /// Namespaces have no underscore, so no two components share a folder.
    fn folder_of(&self, revision: &str) -> PathBuf {
        self.folder.join(durable::unpinned(revision).replacen('/', "_", 1))
    }

    fn path(&self, revision: &str) -> PathBuf {
        let pinned = revision.split_once('@').map_or("", |(_, pinned)| pinned);
        self.folder_of(revision).join(format!("{pinned}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_kept_is_loaded_with_its_bytes_until_it_is_not_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let revisions = Revisions::open(folder.path()).await.unwrap();
        let mut object = Component::default();
        object.spec.source.path = Some("/elsewhere".into());
        for revision in ["shop/a@sha256:1+2", "shop/a@sha256:3+4", "shop/ab@sha256:1+2"] {
            revisions.keep(revision, &object, b"\0asm").await.unwrap();
        }
        let found = revisions.load("shop/a@sha256:1+2").await.unwrap().unwrap();
        assert_eq!((found.spec.source.inline.as_deref(), found.spec.source.path), (Some("AGFzbQ=="), None));
        revisions.keep_only("shop/a", |revision| revision == "shop/a@sha256:3+4").await.unwrap();
        revisions.keep_only("shop/none", |_| false).await.unwrap();
        assert!(revisions.load("shop/a@sha256:1+2").await.unwrap().is_none());
        assert!(revisions.load("shop/a@sha256:3+4").await.unwrap().is_some());
        assert!(revisions.load("shop/ab@sha256:1+2").await.unwrap().is_some());
    }
}
