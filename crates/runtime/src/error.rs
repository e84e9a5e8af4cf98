//! Errors of runtime calls.

/// Why a runtime call failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// There is no sandbox, container or image of that id.
    #[error("{kind} {id:?} not found")]
    NotFound {
        /// `sandbox`, `container` or `image`.
        kind: &'static str,
        /// What was asked for.
        id: String,
    },
    /// The request cannot be carried out as written; the message names the field.
    #[error("invalid request: {0}")]
    Invalid(String),
    /// The machine lacks something that the request needs (a privilege, a kernel feature).
    #[error("not supported on this machine: {0}")]
    Unsupported(String),
    /// The call was not done in time.
    #[error("timed out: {0}")]
    Timeout(String),
    /// A container could not begin: its command is not there, or may not be run. Asking again would fail again.
    #[error("{0}")]
    Start(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}
