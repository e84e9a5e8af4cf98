//! Images, as the runtime seam sees them, and which of them containers use.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use images::{Credential, Pull, Reference, StoredImage};
use runtime::{Error, Image, RegistryAuth};

use crate::Containers;
use crate::files::{self, ContainerFile, ContainerFiles, Plan, SandboxFiles};
use crate::manager::blocking;
use crate::place;

/// What the containers of a runtime use of its image store, whether they run or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InUse {
    /// Directories of unpacked layers.
    pub layers: BTreeSet<PathBuf>,
    /// Ids of images.
    pub images: BTreeSet<String>,
}

/// Reads from a runtime's state directory what its containers use; also while the runtime is at work, or is not.
///
/// # Errors
/// When a record cannot be read: then nobody knows, and nothing may be removed.
pub fn in_use(state_dir: &Path) -> io::Result<InUse> {
    let mut found = InUse::default();
    for sandbox in entries(&place::sandboxes(state_dir))? {
        for container in entries(&SandboxFiles(sandbox).containers())? {
            let container = ContainerFiles(container);
            if let Some(plan) = there(files::read_record::<Plan>(&container.plan()))? {
                found.layers.extend(plan.layers);
                found.layers.extend(plan.images.into_iter().flat_map(|image| image.layers));
            }
            if let Some(file) = there(files::read_record::<ContainerFile>(&container.record()))? {
                found.images.insert(file.image_id);
                found.images.extend(file.mounted_images);
            }
        }
    }
    Ok(found)
}

fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let Some(entries) = there(fs::read_dir(directory))? else { return Ok(Vec::new()) };
    entries.map(|entry| entry.map(|entry| entry.path())).collect()
}

/// What is not there, or not any more, uses nothing.
fn there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl Containers {
    pub(crate) async fn image(&self, name: &str) -> Result<Option<StoredImage>, Error> {
        let (store, name) = (Arc::clone(&self.inner.images), name.to_owned());
        blocking(move || store.find(&name).map_err(image_error)).await
    }

    pub(crate) async fn images(&self) -> Result<Vec<Image>, Error> {
        let store = Arc::clone(&self.inner.images);
        let images = blocking(move || store.list().map_err(image_error)).await?;
        Ok(images.iter().map(describe).collect())
    }

    pub(crate) async fn pull(&self, image: &str, auth: Option<&RegistryAuth>) -> Result<String, Error> {
        let reference: Reference =
            image.parse().map_err(|error: images::ReferenceError| image_error(error.into()))?;
        let credential = auth.map(|auth| Credential {
            username: auth.username.clone(),
            password: auth.password.clone(),
            identity_token: auth.identity_token.clone(),
            registry_token: auth.registry_token.clone(),
        });
        let how = Pull { credential, unpack: true, ..Pull::default() };
        let inner = &self.inner;
        let pulled = inner.registries.pull(&inner.images, &reference, &how, &()).await;
        Ok(pulled.map_err(image_error)?.id.to_string())
    }

    pub(crate) async fn forget_image(&self, name: &str) -> Result<(), Error> {
        let (inner, name) = (Arc::clone(&self.inner), name.to_owned());
        blocking(move || {
            if let Some(image) = inner.images.find(&name).map_err(image_error)? {
                inner.images.untag_all(&image).map_err(image_error)?;
            }
            let freed = inner.images.prune(|| in_use(&inner.config.state_dir).map(|used| used.layers));
            freed.map(drop).map_err(image_error)
        })
        .await
    }
}

/// An image's name with its digest: of the repository that it was asked for by, if it has that name.
pub(crate) fn reference(image: &StoredImage, asked: &str) -> String {
    let digests = digests(image);
    let asked = asked.parse::<Reference>().ok().map(|asked| asked.at(image.target).to_string());
    let same = asked.filter(|asked| digests.contains(asked));
    same.or_else(|| digests.into_iter().next()).unwrap_or_else(|| image.id.to_string())
}

fn digests(image: &StoredImage) -> BTreeSet<String> {
    image.names.iter().map(|name| name.at(image.target).to_string()).collect()
}

pub(crate) fn describe(image: &StoredImage) -> Image {
    let user = image.config.config().as_ref().and_then(|config| config.user().clone()).unwrap_or_default();
    let user = user.split(':').next().unwrap_or_default();
    let (uid, username) = match user.parse() {
        Ok(uid) => (Some(uid), String::new()),
        // No user is root.
        Err(_) if user.is_empty() => (Some(0), String::new()),
        Err(_) => (None, user.to_owned()),
    };
    let tagged = image.names.iter().filter(|name| name.digest().is_none()).map(ToString::to_string);
    Image {
        id: image.id.to_string(),
        tags: tagged.collect(),
        digests: digests(image).into_iter().collect(),
        size: image.size,
        uid,
        username,
        pinned: image.pinned,
    }
}

pub(crate) fn image_error(error: images::Error) -> Error {
    match error {
        images::Error::Reference(error) => Error::Invalid(error.to_string()),
        images::Error::NotFound(id) => Error::NotFound { kind: "image", id },
        other => Error::Failed(other.to_string()),
    }
}
