//! Attributes of mounts: what they forbid, whose ids they show, and whether mounts made elsewhere come along.
#![allow(unsafe_code)] // mount_setattr has no safe form

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::libc;

/// What is changed of a mount.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change<'a> {
    /// `MOUNT_ATTR_…` that it gets.
    pub set: u64,
    /// `MOUNT_ATTR_…` that it loses.
    pub clear: u64,
    /// `MS_PRIVATE` or `MS_SLAVE`; 0: as it is.
    pub propagation: u64,
    /// What is 0 on the disk is this namespace's 0 when seen through the mount, and so on; outside its range nobody's.
    pub user_namespace: Option<BorrowedFd<'a>>,
}

/// Changes a mount, or with `recursive` all that are mounted below it too.
///
/// # Errors
/// The kernel's; mapped ids are of its kind `Unsupported` in none of the cases: the caller knows what was asked for.
pub fn change(tree: impl AsFd, recursive: bool, change: Change<'_>) -> io::Result<()> {
    let tree = tree.as_fd();
    let (mapped, userns_fd) = match change.user_namespace {
        Some(namespace) => (libc::MOUNT_ATTR_IDMAP, u64::try_from(namespace.as_raw_fd()).unwrap_or_default()),
        None => (0, 0),
    };
    let attributes = libc::mount_attr {
        attr_set: change.set | mapped,
        attr_clr: change.clear,
        propagation: change.propagation,
        userns_fd,
    };
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

/// Sets attributes (`MOUNT_ATTR_…`), and maps ids if a user namespace is given.
///
/// # Errors
/// The kernel's.
pub fn set(
    tree: impl AsFd,
    recursive: bool,
    set: u64,
    user_namespace: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    change(tree, recursive, Change { set, user_namespace, ..Change::default() })
}
