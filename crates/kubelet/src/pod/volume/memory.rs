//! Directories that are kept in memory.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags};

/// Whether something is mounted at the directory.
pub(super) fn is_mounted(directory: &Path) -> std::io::Result<bool> {
    let Some(parent) = directory.parent() else { return Ok(false) };
    let device = |path: &Path| std::fs::symlink_metadata(path).map(|found| found.dev());
    Ok(device(directory)? != device(parent)?)
}

/// Mounts memory there, so many bytes of it at most.
pub(super) fn mount(directory: &Path, limit: Option<i64>) -> std::io::Result<()> {
    let limit = limit.map(|limit| format!(",size={limit}")).unwrap_or_default();
    let options = std::ffi::CString::new(format!("mode=755{limit}")).map_err(std::io::Error::other)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("tmpfs", directory, "tmpfs", flags, options.as_c_str())?;
    Ok(())
}

/// Takes away what is mounted there, if there is any.
pub(super) fn unmount(directory: &Path) -> std::io::Result<()> {
    while is_mounted(directory)? {
        rustix::mount::unmount(directory, UnmountFlags::DETACH)?;
    }
    Ok(())
}
