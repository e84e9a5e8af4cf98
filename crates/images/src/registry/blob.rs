//! One blob from a registry to the disk, hashed on its way, gone on with after whatever broke it.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_RANGE, RANGE};
use http::{Method, StatusCode};
use oci_spec::image::Descriptor;
use tokio::sync::mpsc;

use super::http::Payload;
use super::session::{Session, TRIES};
use super::{Progress, RegistryError, Step, blocking};
use crate::partial::Partial;
use crate::{Digest, Error, Result, Store};

/// Pieces that wait for the disk.
const WAITING: usize = 8;

/// Brings a blob into the store, if it is not there.
pub(crate) async fn fetch(
    session: &Session,
    store: &Arc<Store>,
    blob: &Descriptor,
    progress: &dyn Progress,
) -> Result<()> {
    let (digest, size): (Digest, u64) = (blob.digest().to_string().parse()?, blob.size());
    let own = store.clone();
    let Some(mut partial) = blocking(move || own.partial(digest, size)).await? else {
        progress.blob(digest, size, Step::Exists);
        return Ok(());
    };
    let mut failures = 0;
    while partial.written < size {
        let before = partial.written;
        let (left, result) = go_on(session, digest, size, partial, progress).await?;
        partial = left;
        let Err(error) = result else { continue };
        if !error.is_transient() {
            return Err(error.into());
        }
        failures = if partial.written > before { 1 } else { failures + 1 };
        if failures >= TRIES {
            return Err(error.into());
        }
        let wait = session.patience.wait(failures, None);
        tracing::info!(%digest, %error, at = partial.written, ?wait, "a download is gone on with");
        tokio::time::sleep(wait).await;
    }
    let own = store.clone();
    blocking(move || partial.finish(&own)).await?;
    progress.blob(digest, size, Step::Fetched);
    Ok(())
}

/// Fetches the rest of a blob, or as much as comes. The outer error is of this machine.
async fn go_on(
    session: &Session,
    digest: Digest,
    size: u64,
    mut partial: Partial,
    progress: &dyn Progress,
) -> Result<(Partial, Result<(), RegistryError>)> {
    let url = session.url(&format!("blobs/{digest}"));
    let offset = partial.written;
    let range = (offset > 0).then(|| (RANGE, format!("bytes={offset}-")));
    let mut answer = match session.send(Method::GET, &url, range.as_slice(), Payload::None).await {
        Ok(answer) => answer,
        Err(error) => return Ok((partial, Err(error))),
    };
    let goes_on = answer.status == StatusCode::PARTIAL_CONTENT
        && answer.header(CONTENT_RANGE).is_some_and(|range| range.starts_with(&format!("bytes {offset}-")));
    match answer.status {
        StatusCode::PARTIAL_CONTENT if goes_on => {}
        // It does not know parts, and sends all of it.
        StatusCode::OK => partial.restart()?,
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if offset > 0 => {
            partial.restart()?;
            return Ok((partial, Err(RegistryError::broken(&url, "another part than was asked for"))));
        }
        _ => return Ok((partial, Err(session.refusal(answer).await))),
    }
    progress.blob(digest, size, Step::Fetching(partial.written));
    let (pieces, writer) = writer(partial);
    let mut result = Ok(());
    let mut done = offset;
    loop {
        match answer.chunk().await {
            Ok(Some(bytes)) => {
                done += bytes.len() as u64;
                if pieces.send(bytes).await.is_err() {
                    break; // The writer says why.
                }
                progress.blob(digest, size, Step::Fetching(done.min(size)));
            }
            Ok(None) => break,
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    drop(pieces);
    let partial = writer.await.unwrap_or_else(|error| Err(Error::invalid(error)))?;
    if result.is_ok() && partial.written < size {
        result =
            Err(RegistryError::broken(&url, format!("it ended after {} of {size} bytes", partial.written)));
    }
    Ok((partial, result))
}

/// Hashes and writes on a thread for that, while more comes.
fn writer(mut partial: Partial) -> (mpsc::Sender<Bytes>, tokio::task::JoinHandle<Result<Partial>>) {
    let (sender, mut receiver) = mpsc::channel::<Bytes>(WAITING);
    let task = tokio::task::spawn_blocking(move || {
        while let Some(bytes) = receiver.blocking_recv() {
            partial.write(&bytes)?;
        }
        Ok(partial)
    });
    (sender, task)
}
