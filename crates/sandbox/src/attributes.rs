//! Attributes of mounts that hang nowhere yet, mapped ids among them.
#![allow(unsafe_code)] // mount_setattr has no safe form

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::libc;

/// Sets attributes (`MOUNT_ATTR_…`) of a mount, or with `recursive` of all that are mounted below it too. With a user
/// namespace, what is 0 on the disk is the namespace's 0 when seen through the mount, and so on; outside its range nobody's.
pub(crate) fn set(
    tree: impl AsFd,
    recursive: bool,
    attributes: u64,
    user_namespace: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let tree = tree.as_fd();
    let (mapped, userns_fd) = match user_namespace {
        Some(namespace) => (libc::MOUNT_ATTR_IDMAP, u64::try_from(namespace.as_raw_fd()).unwrap_or_default()),
        None => (0, 0),
    };
    let attributes =
        libc::mount_attr { attr_set: attributes | mapped, attr_clr: 0, propagation: 0, userns_fd };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the descriptors, the empty path and the structure live through the call, which writes to none of them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
