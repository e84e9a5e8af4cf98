//! Users that the unprivileged roles run as.

use std::path::Path;

use anyhow::{Context, Result};

/// Numeric users from the range that distributions leave to dynamic users, so that no account has to be made. They are
/// constants because files on disk carry them.
pub const SERVER: u32 = 64_170;
/// The edge's.
pub const EDGE: u32 = 64_171;

/// Whether this process may start others as another user.
pub fn may_choose() -> bool {
    rustix::process::geteuid().is_root()
}

/// The first directory on the way to `path` that an unprivileged user cannot pass, if there is one.
pub fn barrier(path: &Path) -> Option<&Path> {
    let mut directories: Vec<&Path> = path.ancestors().skip(1).collect();
    directories.reverse();
    directories.into_iter().find(|directory| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(directory).is_ok_and(|m| m.permissions().mode() & 0o001 == 0)
    })
}

/// Gives a tree to a user: its folder and everything below it. Symbolic links are not followed.
pub fn give(path: &Path, id: u32) -> Result<()> {
    use rustix::fs::{AtFlags, CWD, Gid, Uid, chownat};
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .with_context(|| format!("giving {} to user {id}", path.display()))?;
    let metadata =
        std::fs::symlink_metadata(path).with_context(|| format!("looking at {}", path.display()))?;
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path).with_context(|| format!("reading {}", path.display()))? {
            give(&entry?.path(), id)?;
        }
    }
    Ok(())
}
