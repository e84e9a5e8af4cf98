//! From a component's source to compiled code.

use std::path::Path;
use std::sync::Arc;

use api::monoplane::v1alpha1::{Component, component_reason as reason};
use bytes::Bytes;
use client::ObjectKey;
use tokio::io::AsyncReadExt as _;
use wasm::{Artifact, Binary, CompileError};

use super::translate::{self, Refusal, Source};
use super::{Controller, Failure, Item};

/// The largest component that is read from a file: the compiler takes no larger one.
const FILE_BYTES: u64 = 64 << 20;

/// What came of compiling.
#[derive(Clone)]
pub(super) enum Compiled {
    Ready(Artifact),
    /// It will not become better by itself.
    Refused(Refusal),
    /// What the machine lacks may be there later.
    Failed(String),
}

impl Controller {
    /// The component's code; `None` while it is being compiled.
    pub(super) async fn compiled(
        &self,
        key: &ObjectKey,
        object: &Arc<Component>,
    ) -> Result<Option<Result<Artifact, Refusal>>, Failure> {
        let item = Item::Component(key.clone());
        let version = (object.metadata.uid.clone(), object.metadata.generation);
        match self.compiling.outcome(&item, &version) {
            Some(Compiled::Ready(artifact)) => {
                // From here on it is in the cache.
                self.compiling.forget(&item);
                return Ok(Some(Ok(artifact)));
            }
            Some(Compiled::Refused(refusal)) => return Ok(Some(Err(refusal))),
            Some(Compiled::Failed(why)) => {
                self.compiling.forget(&item);
                if self.components.is_current() {
                    let refusal = Refusal::new(reason::COMPILE_FAILED, &why);
                    self.report_component(key, object, Some(refusal)).await?;
                }
                return Err(Failure::Files(std::io::Error::other(why)));
            }
            None => {}
        }
        let binary = match binary(object, self.setup.allow_files).await {
            Ok(binary) => binary,
            Err(refusal) => return Ok(Some(Err(refusal))),
        };
        if let Ok(Some(artifact)) = self.setup.host.cached(binary.digest()).await {
            return Ok(Some(Ok(artifact)));
        }
        // Its bytes are read again when it is its turn: those that wait would fill the memory.
        drop(binary);
        let (host, source, allow_files) = (self.setup.host.clone(), object.clone(), self.setup.allow_files);
        let work = async move { compile(&host, &source, allow_files).await };
        self.compiling.start(&item, &version, work);
        if self.components.is_current() {
            let compiling = Refusal::new(reason::COMPILING, "the component is being compiled");
            self.report_component(key, object, Some(compiling)).await?;
        }
        Ok(None)
    }
}

async fn compile(host: &wasm::Host, object: &Component, allow_files: bool) -> Compiled {
    let binary = match binary(object, allow_files).await {
        Ok(binary) => binary,
        Err(refusal) => return Compiled::Refused(refusal),
    };
    match host.compile_binary(binary).await {
        Ok(artifact) => Compiled::Ready(artifact),
        Err(error @ (CompileError::Invalid(_) | CompileError::TooLarge { .. })) => {
            Compiled::Refused(Refusal::new(reason::SOURCE_INVALID, error))
        }
        Err(error @ CompileError::Cache(_)) => Compiled::Failed(error.to_string()),
        Err(error) => Compiled::Refused(Refusal::new(reason::COMPILE_FAILED, error)),
    }
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
