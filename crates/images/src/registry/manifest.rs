//! Manifests and indexes from a registry.

use http::header::{ACCEPT, HeaderName};
use http::{Method, StatusCode};
use oci_spec::image::Descriptor;

use super::RegistryError;
use super::http::Payload;
use super::session::Session;
use crate::{Digest, Error, Reference, Result};

/// What is understood, the newest first.
const KINDS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";
const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// What a registry's name for an image is, after the repository.
fn key(reference: &Reference) -> String {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or("latest").to_owned(),
    }
}

/// The digest that a name stands for now; `None`: the registry does not say it without the whole.
pub(crate) async fn digest(
    session: &Session,
    reference: &Reference,
) -> Result<Option<Digest>, RegistryError> {
    let url = session.url(&format!("manifests/{}", key(reference)));
    let accept = [(ACCEPT, KINDS.to_owned())];
    let answer = session.send(Method::HEAD, &url, &accept, Payload::None).await?;
    match answer.status {
        StatusCode::OK => Ok(answer.header(DIGEST).and_then(|text| text.parse().ok())),
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => Ok(None),
        _ => Err(session.refusal(answer).await),
    }
}

/// A manifest or index by its name, with its digest.
pub(crate) async fn by_name(
    session: &Session,
    reference: &Reference,
    limit: u64,
) -> Result<(Digest, Vec<u8>)> {
    let bytes = get(session, &key(reference), limit).await?;
    let found = Digest::of(&bytes);
    match reference.digest() {
        Some(wanted) if wanted != found => {
            Err(Error::Invalid(format!("the registry's manifest {wanted} is {found}")))
        }
        _ => Ok((found, bytes)),
    }
}

/// The manifest that an index names.
pub(crate) async fn by_entry(session: &Session, entry: &Descriptor, limit: u64) -> Result<(Digest, Vec<u8>)> {
    let wanted: Digest = entry.digest().to_string().parse()?;
    let bytes = get(session, &wanted.to_string(), limit).await?;
    if Digest::of(&bytes) != wanted || bytes.len() as u64 != entry.size() {
        return Err(Error::Invalid(format!("the registry's manifest {wanted} is not what its index says")));
    }
    Ok((wanted, bytes))
}

async fn get(session: &Session, key: &str, limit: u64) -> Result<Vec<u8>, RegistryError> {
    let url = session.url(&format!("manifests/{key}"));
    let accept = [(ACCEPT, KINDS.to_owned())];
    let mut answer = session.send(Method::GET, &url, &accept, Payload::None).await?;
    match answer.status {
        StatusCode::OK => answer.bytes(limit).await,
        _ => Err(session.refusal(answer).await),
    }
}
