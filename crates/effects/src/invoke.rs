//! The invoker: how a durable worker runs a component.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Halt, Recorder};

/// What a component is asked: an HTTP request whose body has been read whole.
pub type Request = http::Request<Bytes>;
/// What it answered, body read whole.
pub type Reply = http::Response<Bytes>;

/// Why an invocation gave no reply.
#[derive(Clone, Debug, thiserror::Error)]
pub enum InvokeError {
    /// The recorder ended the instance.
    #[error(transparent)]
    Halted(#[from] Halt),
    /// No component of that name is ready here.
    #[error("component {0} is not ready")]
    NotReady(String),
    /// It is there, and has no room for one more now.
    #[error("component {0} is busy")]
    Busy(String),
    /// The component trapped, or returned no response.
    #[error("component failed: {0}")]
    Failed(String),
    /// A limit of the component was hit; `limit` names it (`memory`, `cpu time`, `wall time`, `body size`).
    #[error("component exceeded its limit of {limit}")]
    LimitExceeded {
        /// Which limit.
        limit: &'static str,
    },
}

/// Runs components by name. Implemented by the component host, called by the durable worker.
#[async_trait]
pub trait Invoker: Send + Sync {
    /// Runs `component` (as `namespace/name@revision`, the revision being what an invocation is pinned to) on a fresh
    /// instance with every host call going through `recorder`. Dropping the future ends the guest's work at once.
    async fn invoke(
        &self,
        component: &str,
        request: Request,
        recorder: Arc<dyn Recorder>,
    ) -> Result<Reply, InvokeError>;

    /// How many invocations of `component` may run at a time, if that is known: more would be [`InvokeError::Busy`].
    fn concurrency(&self, _component: &str) -> Option<u32> {
        None
    }
}
