//! What goes wrong with images.

use std::io;
use std::path::{Path, PathBuf};

use crate::{ReferenceError, RegistryError};

/// Why a call on the store failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that is no image reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The store holds no such image.
    #[error("image {0:?} not found")]
    NotFound(String),
    /// An archive, manifest or layer is not what it claims to be.
    #[error("invalid image: {0}")]
    Invalid(String),
    /// The image is made for other machines only.
    #[error("no image for {wanted}; it offers {offered}")]
    Platform {
        /// This machine's platform.
        wanted: String,
        /// The platforms that the index names.
        offered: String,
    },
    /// The image is larger than the store accepts.
    #[error("image too large: {what} exceeds {limit}")]
    TooLarge {
        /// What was counted.
        what: &'static str,
        /// The limit that it passed.
        limit: u64,
    },
    /// A registry refused, or could not be reached.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The machine refused.
    #[error("{path}: {source}")]
    Io {
        /// The file concerned.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// Ties an error of the machine to the file it came from.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    /// The same for system calls.
    pub(crate) fn os(path: &Path) -> impl FnOnce(rustix::io::Errno) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source: source.into() }
    }

    pub(crate) fn invalid(what: impl std::fmt::Display) -> Self {
        Self::Invalid(what.to_string())
    }
}
