//! Making a tree of mounts the root directory of the calling process, and leaving all others behind.

use std::os::fd::{AsFd, BorrowedFd};

use nix::libc;
use nix::mount::{MntFlags, umount2};

use crate::configuration::Configuration;
use crate::{attributes, failed, mounts};

/// Mounts a tree that hangs nowhere yet over the calling process' root directory, where it is seen by nobody but who has a
/// descriptor of it: mounts may be made below it from now on.
///
/// # Errors
/// The kernel's.
pub fn attach(tree: BorrowedFd<'_>) -> Result<(), String> {
    let above = mounts::path_of_machine("/").map_err(failed("root"))?;
    mounts::put(tree, above).map_err(failed("root"))
}

/// Makes an attached tree the root directory, and the working directory. Of the machine's mounts none is left.
///
/// # Errors
/// The kernel's.
pub fn enter(tree: BorrowedFd<'_>, configuration: &Configuration) -> Result<(), String> {
    if configuration.root.readonly {
        attributes::set(tree, false, libc::MOUNT_ATTR_RDONLY, None).map_err(failed("read-only root"))?;
    }
    nix::unistd::fchdir(tree.as_fd()).map_err(failed("root"))?;
    // Onto itself: the old root then lies on top, and is taken away.
    nix::unistd::pivot_root(".", ".").map_err(failed("pivot_root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(failed("the old root"))?;
    nix::unistd::chdir("/").map_err(failed("root"))
}
