//! Errors, one type an operation.

use std::path::PathBuf;

/// Why a file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or this one, has it open.
    #[error("{} is in use by another process", .path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It exists and was written by something else.
    #[error("{} is not a file of this program ({detail}); move it away or choose another data directory", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What gave it away.
        detail: String,
    },
    /// A newer version of this program wrote it.
    #[error("{} has format {found}, and this program knows formats up to {supported}; use a newer version", .path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i32,
        /// The newest known.
        supported: i32,
    },
    /// It is damaged.
    #[error("{} is damaged: {detail}; restore it from a backup", .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What the engine found.
        detail: String,
    },
    /// The operating system refused.
    #[error("cannot open {}: {detail}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its reason.
        detail: String,
    },
}

/// Why a read or a commit failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The disk was closed before the batch was taken; it did not happen.
    #[error("the store is closed")]
    Closed,
    /// The engine failed while committing, now or earlier. Whether the batch under way is on the disk is unknown until
    /// the file is opened again, and nothing more is written until then: a failed fsync must not be retried, because the
    /// kernel may have dropped the very pages it could not write.
    #[error("writing failed, and nothing is written until the file is opened again: {0}")]
    Failed(String),
    /// There is no room on the device. Nothing of the batch was written, and it can be tried again.
    #[error("there is no room on the device: {0}")]
    NoRoom(String),
    /// A read failed.
    #[error("reading failed: {0}")]
    Read(String),
    /// The batch names a table that the file was not opened with.
    #[error("no table {0:?}")]
    NoTable(&'static str),
}
