//! From a registry into the store: the manifest, then its blobs side by side, each layer unpacked as soon as those below
//! it are.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use oci_spec::image::{Descriptor, ImageManifest};
use tokio::sync::mpsc;

use super::session::Session;
use super::{Credential, Progress, Registries, Step, blob, blocking, manifest};
use crate::document::Document;
use crate::store::MAX_DEPTH;
use crate::{Digest, Error, Reference, Result, Store, StoredImage, platform};

/// Blobs of one image that come at once.
const AT_ONCE: usize = 4;

/// How an image is pulled.
#[derive(Clone, Default)]
pub struct Pull {
    /// Who asks; `None`: whom the configuration says, or nobody.
    pub credential: Option<Credential>,
    /// All images of an index, not only this machine's.
    pub all_platforms: bool,
    /// Unpack the layers, too, which needs root.
    pub unpack: bool,
}

impl Registries {
    /// Brings an image into the store, as far as it is not there, and returns it. The registry, or a mirror of it, is
    /// asked in any case: what the name stands for now, and whether the asker may have it.
    ///
    /// An image appears under its name when all of it is on disk, or not at all.
    pub async fn pull(
        &self,
        store: &Arc<Store>,
        reference: &Reference,
        how: &Pull,
        progress: &dyn Progress,
    ) -> Result<StoredImage> {
        // The same image once at a time; whoever comes later finds it there.
        let _alone = self.flights.lock(&reference.to_string()).await;
        let own = store.clone();
        let _kept = blocking(move || own.hold()).await?;
        let mut failed: Option<Error> = None;
        for endpoint in self.hosts.endpoints(reference.domain())? {
            let asker = self.asker(&endpoint, reference.domain(), how.credential.as_ref());
            let at = endpoint.base.to_string();
            let session = self.session(endpoint, reference.path(), asker, "pull", &[]);
            match (Pulling { session: &session, store, how, progress }).run(reference).await {
                Ok(image) => return Ok(image),
                Err(error) => {
                    tracing::info!(image = %reference, at, %error, "an image could not be pulled");
                    // The registry itself comes last, and its words count.
                    failed = Some(error);
                }
            }
        }
        Err(failed.unwrap_or_else(|| Error::NotFound(reference.to_string())))
    }
}

struct Pulling<'a> {
    session: &'a Session,
    store: &'a Arc<Store>,
    how: &'a Pull,
    progress: &'a dyn Progress,
}

impl Pulling<'_> {
    async fn run(&self, reference: &Reference) -> Result<StoredImage> {
        let target = self.target(reference).await?;
        let store = self.store.clone();
        let mut image = blocking(move || store.check(target)).await?;
        let layers = image.layers.clone();
        self.layers(&image, layers).await?;
        let names = match reference.digest() {
            Some(digest) => vec![reference.at(digest)],
            // By its digest it stays when the tag moves on.
            None => vec![reference.at(target), reference.clone()],
        };
        let (store, tagged) = (self.store.clone(), names.clone());
        blocking(move || tagged.iter().try_for_each(|name| store.tag(target, name))).await?;
        image.names = names;
        Ok(image)
    }

    /// Fetches what a name stands for: the index and the manifests, configurations too, but no layers of this machine's
    /// image.
    async fn target(&self, reference: &Reference) -> Result<Digest> {
        // Also for what is here already: whether the asker may have it, the registry alone knows.
        let said = manifest::digest(self.session, reference).await?;
        let store = self.store.clone();
        let known = match said {
            Some(digest) if reference.digest().is_none_or(|wanted| wanted == digest) => {
                blocking(move || Ok(store.document(digest).ok().map(|bytes| (digest, bytes)))).await?
            }
            _ => None,
        };
        let (digest, bytes) = match known {
            Some(known) => known,
            None => manifest::by_name(self.session, reference, self.store.limits.document_bytes).await?,
        };
        self.document(digest, bytes, MAX_DEPTH, true).await?;
        Ok(digest)
    }

    /// Stores a document with what it leads to. `ours`: it is, or leads to, this machine's image.
    async fn document(&self, digest: Digest, bytes: Vec<u8>, depth: u8, ours: bool) -> Result<()> {
        match Document::parse(&bytes)? {
            Document::Index(_) if depth == 0 => return Err(Error::invalid("indexes are nested too deeply")),
            Document::Index(index) => {
                let fitting = platform::pick(index.manifests()).map(|entry| entry.digest().clone());
                let fitting = if ours { Some(fitting?) } else { None };
                for entry in index.manifests() {
                    let ours = fitting.as_ref() == Some(entry.digest());
                    if ours || self.how.all_platforms {
                        let (digest, bytes) = self.entry(entry).await?;
                        Box::pin(self.document(digest, bytes, depth - 1, ours)).await?;
                    }
                }
            }
            Document::Manifest(manifest) => {
                self.check(&manifest)?;
                blob::fetch(self.session, self.store, manifest.config(), &()).await?;
                if !ours {
                    self.fetch_all(manifest.layers()).await?;
                }
            }
        }
        let store = self.store.clone();
        blocking(move || store.put(&bytes[..], Some(digest)).map(drop)).await
    }

    async fn entry(&self, entry: &Descriptor) -> Result<(Digest, Vec<u8>)> {
        let (store, digest) = (self.store.clone(), entry.digest().to_string().parse::<Digest>()?);
        match blocking(move || Ok(store.document(digest).ok())).await? {
            Some(bytes) => Ok((digest, bytes)),
            None => manifest::by_entry(self.session, entry, self.store.limits.document_bytes).await,
        }
    }

    /// Refuses an absurd image before anything of it is fetched.
    fn check(&self, manifest: &ImageManifest) -> Result<()> {
        let limits = &self.store.limits;
        if manifest.layers().len() > limits.layers {
            return Err(Error::TooLarge { what: "number of layers", limit: limits.layers as u64 });
        }
        if manifest.config().size() > limits.document_bytes {
            return Err(Error::TooLarge { what: "configuration", limit: limits.document_bytes });
        }
        let size = manifest.layers().iter().map(Descriptor::size).fold(0, u64::saturating_add);
        match size > limits.image_bytes {
            true => Err(Error::TooLarge { what: "image", limit: limits.image_bytes }),
            false => Ok(()),
        }
    }

    async fn fetch_all(&self, layers: &[Descriptor]) -> Result<()> {
        let all = futures::stream::iter(self.fetches(layers)).buffered(AT_ONCE);
        all.try_for_each(|()| async { Ok(()) }).await
    }

    fn fetches<'a>(&'a self, layers: &'a [Descriptor]) -> Vec<BoxFuture<'a, Result<()>>> {
        layers
            .iter()
            .map(|layer| blob::fetch(self.session, self.store, layer, self.progress).boxed())
            .collect()
    }

    /// Fetches this machine's layers, and unpacks them in their order meanwhile.
    async fn layers(&self, image: &StoredImage, layers: Vec<Descriptor>) -> Result<()> {
        if !self.how.unpack {
            return self.fetch_all(&layers).await;
        }
        // Never full: it has room for every layer.
        let (fetched, mut next) = mpsc::channel::<usize>(layers.len().max(1));
        let (store, image) = (self.store.clone(), image.clone());
        let (unpacked, mut done) = mpsc::channel::<usize>(layers.len().max(1));
        let unpacking = tokio::task::spawn_blocking(move || {
            while let Some(count) = next.blocking_recv() {
                store.unpack_first(&image, count)?;
                // Nobody may listen any more.
                let _ = unpacked.blocking_send(count);
            }
            Ok(())
        });
        let mut all = futures::stream::iter(self.fetches(&layers)).buffered(AT_ONCE).enumerate();
        let mut result = Ok(());
        while let Some((index, fetch)) = all.next().await {
            result = fetch;
            // That unpacking has ended badly is told below.
            if result.is_err() || fetched.send(index + 1).await.is_err() {
                break;
            }
        }
        drop(all);
        drop(fetched);
        while let Some(count) = done.recv().await {
            if let Some(layer) = layers.get(count - 1) {
                let digest = layer.digest().to_string().parse()?;
                self.progress.blob(digest, layer.size(), Step::Unpacked);
            }
        }
        let unpacked: Result<()> = unpacking.await.unwrap_or_else(|error| Err(Error::invalid(error)));
        result.and(unpacked)
    }
}
