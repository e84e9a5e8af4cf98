//! From the store to a registry: blobs that it lacks, then manifests, then the name.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use http::{Method, StatusCode};
use oci_spec::image::Descriptor;

use super::http::{Answer, Payload};
use super::session::{Session, TRIES};
use super::url::Url;
use super::{Credential, Progress, Registries, RegistryError, Step, blocking};
use crate::document::{self, Document};
use crate::store::MAX_DEPTH;
use crate::{Digest, Error, Reference, Result, Store};

/// Blobs that go out at once.
const AT_ONCE: usize = 4;

/// How an image is pushed.
#[derive(Clone, Default)]
pub struct Push {
    /// Who pushes; `None`: whom the configuration says, or nobody.
    pub credential: Option<Credential>,
    /// Send blobs in pieces of so many bytes, which can be gone on with; `None`: each at once, which every registry
    /// takes.
    pub chunk: Option<u64>,
}

impl Registries {
    /// Sends the image that the store has under `from` to a registry as `to`, and returns the digest that it has there.
    /// Of an index it sends all, if the store holds all of it, else this machine's image alone.
    pub async fn push(
        &self,
        store: &Arc<Store>,
        from: &str,
        to: &Reference,
        how: &Push,
        progress: &dyn Progress,
    ) -> Result<Digest> {
        let (own, name) = (store.clone(), from.to_owned());
        let (_kept, image) = blocking(move || Ok((own.hold()?, own.find(&name)?))).await?;
        let image = image.ok_or_else(|| Error::NotFound(from.to_owned()))?;
        let tag =
            to.tag().ok_or_else(|| Error::invalid("an image is pushed under a tag, not under a digest"))?;
        // Repositories of the same registry that should have the same blobs.
        let mut others: Vec<String> = image
            .names
            .iter()
            .filter(|name| name.domain() == to.domain() && name.path() != to.path())
            .map(|name| name.path().to_owned())
            .collect();
        others.dedup();
        let endpoint = self.hosts.own(to.domain())?;
        let asker = self.asker(&endpoint, to.domain(), how.credential.as_ref());
        let session = self.session(endpoint, to.path(), asker, "pull,push", &others);
        let own = store.clone();
        let documents = blocking(move || {
            // What an index leads to may not have been pulled.
            own.closure(image.target).or_else(|_| own.closure(image.manifest))
        })
        .await?;
        let Some((top, below)) = documents.split_last() else { return Err(Error::NotFound(from.to_owned())) };
        let pushing = Pushing { session: &session, store, others: &others, chunk: how.chunk, progress };
        for document in below {
            pushing.document(document, &document.digest.to_string()).await?;
        }
        pushing.document(top, tag).await?;
        Ok(top.digest)
    }
}

/// A manifest or index, and the blobs that it needs beside other documents.
pub(crate) struct Closed {
    pub(crate) digest: Digest,
    pub(crate) bytes: Vec<u8>,
    pub(crate) blobs: Vec<Descriptor>,
}

impl Store {
    /// All documents that one leads to, each after those that it needs.
    ///
    /// # Errors
    /// When not all of it is here.
    pub(crate) fn closure(&self, digest: Digest) -> Result<Vec<Closed>> {
        let mut found = Vec::new();
        self.close(digest, MAX_DEPTH, &mut found)?;
        Ok(found)
    }

    fn close(&self, digest: Digest, depth: u8, found: &mut Vec<Closed>) -> Result<()> {
        if found.iter().any(|known| known.digest == digest) {
            return Ok(());
        }
        let bytes = self.document(digest)?;
        let mut blobs = Vec::new();
        match Document::parse(&bytes)? {
            Document::Index(_) if depth == 0 => return Err(Error::invalid("indexes are nested too deeply")),
            Document::Index(index) => {
                for child in index.manifests() {
                    self.close(child.digest().to_string().parse()?, depth - 1, found)?;
                }
            }
            Document::Manifest(manifest) => {
                blobs.push(manifest.config().clone());
                blobs.extend(manifest.layers().iter().cloned());
            }
        }
        for blob in &blobs {
            if !self.has(blob.digest().to_string().parse()?, blob.size()) {
                return Err(Error::NotFound(blob.digest().to_string()));
            }
        }
        found.push(Closed { digest, bytes, blobs });
        Ok(())
    }
}

struct Pushing<'a> {
    session: &'a Session,
    store: &'a Arc<Store>,
    others: &'a [String],
    chunk: Option<u64>,
    progress: &'a dyn Progress,
}

impl Pushing<'_> {
    async fn document(&self, document: &Closed, name: &str) -> Result<()> {
        let blobs: Vec<BoxFuture<'_, Result<()>>> =
            document.blobs.iter().map(|blob| self.blob(blob).boxed()).collect();
        futures::stream::iter(blobs).buffer_unordered(AT_ONCE).try_for_each(|()| async { Ok(()) }).await?;
        let url = self.session.url(&format!("manifests/{name}"));
        let kind = [(CONTENT_TYPE, document::media_type(&document.bytes)?.to_string())];
        let payload = Payload::Bytes(Bytes::from(document.bytes.clone()));
        let answer = self.session.send(Method::PUT, &url, &kind, payload).await?;
        match answer.status.is_success() {
            true => Ok(()),
            false => Err(self.session.refusal(answer).await.into()),
        }
    }

    async fn blob(&self, blob: &Descriptor) -> Result<()> {
        let (digest, size): (Digest, u64) = (blob.digest().to_string().parse()?, blob.size());
        let url = self.session.url(&format!("blobs/{digest}"));
        let answer = self.session.send(Method::HEAD, &url, &[], Payload::None).await?;
        if answer.status == StatusCode::OK {
            self.progress.blob(digest, size, Step::Exists);
            return Ok(());
        }
        let Some(upload) = self.begin(digest).await? else {
            self.progress.blob(digest, size, Step::Exists);
            return Ok(());
        };
        self.progress.blob(digest, size, Step::Sending(0));
        match self.chunk.filter(|chunk| *chunk < size) {
            Some(chunk) => self.in_pieces(upload, digest, size, chunk.max(1)).await?,
            None => {
                let path = self.store.blob_path(digest);
                let kind = [(CONTENT_TYPE, "application/octet-stream".to_owned())];
                let url = upload.with("digest", &digest.to_string());
                let payload = Payload::File { path, offset: 0, size };
                let answer = self.session.send(Method::PUT, &url, &kind, payload).await?;
                self.expect(answer, StatusCode::CREATED).await?;
            }
        }
        self.progress.blob(digest, size, Step::Sent);
        Ok(())
    }

    /// Where to send a blob; `None`: the registry took it from another of its repositories.
    async fn begin(&self, digest: Digest) -> Result<Option<Url>> {
        let plain = self.session.url("blobs/uploads/");
        for other in self.others {
            let url = plain.clone().with("mount", &digest.to_string()).with("from", other);
            let empty = [(CONTENT_LENGTH, "0".to_owned())];
            let answer = self.session.send(Method::POST, &url, &empty, Payload::None).await?;
            match answer.status {
                StatusCode::CREATED => return Ok(None),
                StatusCode::ACCEPTED => return Ok(Some(location(&answer)?)),
                // It does not know that, or not that repository.
                _ => {}
            }
        }
        let empty = [(CONTENT_LENGTH, "0".to_owned())];
        let answer = self.session.send(Method::POST, &plain, &empty, Payload::None).await?;
        Ok(Some(location(&self.expect(answer, StatusCode::ACCEPTED).await?)?))
    }

    async fn in_pieces(&self, mut upload: Url, digest: Digest, size: u64, chunk: u64) -> Result<()> {
        let (mut offset, mut failures) = (0, 0);
        while offset < size {
            let length = chunk.min(size - offset);
            let headers = [
                (CONTENT_TYPE, "application/octet-stream".to_owned()),
                (CONTENT_RANGE, format!("{offset}-{}", offset + length - 1)),
            ];
            let payload = Payload::File { path: self.store.blob_path(digest), offset, size: length };
            let answer = self.session.send(Method::PATCH, &upload, &headers, payload).await;
            match answer {
                Ok(answer) if answer.status == StatusCode::ACCEPTED => {
                    (upload, offset, failures) = (location(&answer)?, offset + length, 0);
                    self.progress.blob(digest, size, Step::Sending(offset));
                }
                // It has another part than we think: it is asked.
                Ok(answer) if answer.status == StatusCode::RANGE_NOT_SATISFIABLE && failures < TRIES => {
                    failures += 1;
                    let answer = self.session.send(Method::GET, &upload, &[], Payload::None).await?;
                    offset = answer.header(RANGE).and_then(received).unwrap_or(0);
                    upload = location(&answer).unwrap_or(upload);
                }
                Ok(answer) => return Err(self.session.refusal(answer).await.into()),
                Err(error) => return Err(error.into()),
            }
        }
        let url = upload.with("digest", &digest.to_string());
        let empty = [(CONTENT_LENGTH, "0".to_owned())];
        let answer = self.session.send(Method::PUT, &url, &empty, Payload::None).await?;
        self.expect(answer, StatusCode::CREATED).await.map(drop)
    }

    async fn expect(&self, answer: Answer, status: StatusCode) -> Result<Answer> {
        match answer.status == status || answer.status == StatusCode::NO_CONTENT {
            true => Ok(answer),
            false => Err(self.session.refusal(answer).await.into()),
        }
    }
}

fn location(answer: &Answer) -> Result<Url, RegistryError> {
    let location = answer.header(LOCATION);
    let location =
        location.ok_or_else(|| RegistryError::protocol(&answer.url, "it does not say where to go on"))?;
    answer.url.join(location)
}

/// How much has come, by `0-N`.
fn received(range: &str) -> Option<u64> {
    let last: u64 = range.trim_start_matches("bytes=").split_once('-')?.1.parse().ok()?;
    Some(if last == 0 { 0 } else { last + 1 })
}
