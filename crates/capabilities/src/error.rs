//! What can go wrong, the same for every backend.

/// Why a call of a capability failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The store is named, and nobody has put a backend behind it (yet).
    #[error("store {0} has no backend")]
    Unbound(String),
    /// The backend cannot be reached, or failed.
    #[error("backend unavailable: {0}")]
    Unavailable(String),
    /// The backend's settings are wrong.
    #[error("invalid backend: {0}")]
    InvalidBackend(String),
    /// The key is empty or too long.
    #[error("key must have 1 to {limit} bytes")]
    KeyLength {
        /// The most it may have.
        limit: usize,
    },
    /// The value is too large.
    #[error("value must not exceed {limit} bytes")]
    ValueLength {
        /// The most it may have.
        limit: usize,
    },
    /// Too many keys in one call.
    #[error("a batch must not exceed {limit} keys")]
    BatchLength {
        /// The most it may have.
        limit: usize,
    },
    /// The values of one call are too large together.
    #[error("the values of a batch must not exceed {limit} bytes")]
    BatchBytes {
        /// The most they may have.
        limit: usize,
    },
    /// The value is not a decimal 64-bit integer, or would not be one any more.
    #[error("value is not an integer or out of range")]
    NotAnInteger,
    /// A cursor that this backend did not give out.
    #[error("cursor not known to this store")]
    UnknownCursor,
}
