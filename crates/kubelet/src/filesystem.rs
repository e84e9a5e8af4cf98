//! What a file system has, and what is left of it.

use std::path::Path;

/// Bytes and files of a file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) capacity: u64,
    pub(crate) available: u64,
    pub(crate) inodes: u64,
    pub(crate) inodes_free: u64,
    /// Which file system it is.
    pub(crate) id: u64,
}

/// Asks for the file system that a path is on.
pub(crate) fn space(path: &Path) -> std::io::Result<Space> {
    let found = rustix::fs::statvfs(path)?;
    Ok(Space {
        capacity: found.f_blocks.saturating_mul(found.f_frsize),
        // What is kept for root is not for pods.
        available: found.f_bavail.saturating_mul(found.f_frsize),
        inodes: found.f_files,
        inodes_free: found.f_ffree,
        id: rustix::fs::stat(path)?.st_dev,
    })
}
