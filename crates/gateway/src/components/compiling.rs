//! From a component's source to compiled code.

use std::path::Path;
use std::sync::Arc;

use api::monoplane::v1alpha1::{Component, component_reason as reason};
use bytes::Bytes;
use tokio::io::AsyncReadExt as _;
use wasm::{Artifact, Binary, CompileError};

use super::translate::{self, Refusal, Source};
use super::{Controller, Item};

/// The largest component that is read from a file: the compiler takes no larger one.
const FILE_BYTES: u64 = 64 << 20;

/// A component's compiled code.
#[derive(Clone)]
pub(super) struct Code {
    pub(super) artifact: Artifact,
    /// What it was compiled from, where that is kept with the revision: of durable components.
    pub(super) kept: Option<Bytes>,
}

/// What came of compiling.
#[derive(Clone)]
pub(super) enum Compiled {
    Ready(Code),
    /// It will not become better by itself.
    Refused(Refusal),
    /// What the machine lacks may be there later.
    Failed(String),
}

impl Controller {
    /// The code of a component, or of an older revision of one; `None` while it is being compiled, after which the item is
    /// looked at again.
    pub(super) async fn compiled(
        &self,
        item: &Item,
        object: &Arc<Component>,
        allow_files: bool,
    ) -> Option<Compiled> {
        let version = (object.metadata.uid.clone(), object.metadata.generation);
        if let Some(outcome) = self.compiling.outcome(item, &version) {
            // Code is in the cache from here on, and what failed is tried again.
            if !matches!(outcome, Compiled::Refused(_)) {
                self.compiling.forget(item);
            }
            return Some(outcome);
        }
        let binary = match binary(object, allow_files).await {
            Ok(binary) => binary,
            Err(refusal) => return Some(Compiled::Refused(refusal)),
        };
        if let Ok(Some(artifact)) = self.setup.host.cached(binary.digest()).await {
            return Some(Compiled::Ready(Code { artifact, kept: kept(object, &binary) }));
        }
        // Its bytes are read again when it is its turn: those that wait would fill the memory.
        drop(binary);
        let (host, source) = (self.setup.host.clone(), object.clone());
        let work = async move { compile(&host, &source, allow_files).await };
        self.compiling.start(item, &version, work);
        None
    }
}

async fn compile(host: &wasm::Host, object: &Component, allow_files: bool) -> Compiled {
    let binary = match binary(object, allow_files).await {
        Ok(binary) => binary,
        Err(refusal) => return Compiled::Refused(refusal),
    };
    let kept = kept(object, &binary);
    match host.compile_binary(binary).await {
        Ok(artifact) => Compiled::Ready(Code { artifact, kept }),
        Err(error @ (CompileError::Invalid(_) | CompileError::TooLarge { .. })) => {
            Compiled::Refused(Refusal::new(reason::SOURCE_INVALID, error))
        }
        Err(error @ CompileError::Cache(_)) => Compiled::Failed(error.to_string()),
        Err(error) => Compiled::Refused(Refusal::new(reason::COMPILE_FAILED, error)),
    }
}

/// The bytes that are to be kept with the revision.
fn kept(object: &Component, binary: &Binary) -> Option<Bytes> {
    object.spec.durable.is_some().then(|| binary.bytes().clone())
}

/// The component's bytes and their digest.
async fn binary(object: &Component, allow_files: bool) -> Result<Binary, Refusal> {
    let bytes = match translate::source(&object.spec.source, allow_files)? {
        Source::Inline(bytes) => bytes,
        Source::File(path) => read(&path).await.map_err(|error| {
            let message = format!("spec.source.path: Invalid value: {}: {error}", path.display());
            Refusal::new(reason::SOURCE_INVALID, message)
        })?,
    };
    Binary::new(bytes).await.map_err(|error| Refusal::new(reason::COMPILE_FAILED, error))
}

async fn read(path: &Path) -> std::io::Result<Bytes> {
    let file = tokio::fs::File::open(path).await?;
    if !file.metadata().await?.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    let read = file.take(FILE_BYTES + 1).read_to_end(&mut bytes).await?;
    if read as u64 > FILE_BYTES {
        return Err(std::io::Error::other(format!("it has more than {FILE_BYTES} bytes")));
    }
    Ok(bytes.into())
}
