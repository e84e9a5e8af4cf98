//! The shims' program, held where nothing that runs in a container can change it.
//!
//! A process of the shim's is in the container for a moment before it becomes the container's own, and the first process
//! of a shared process namespace stays there: what traces them reaches the program's file by `/proc/<pid>/exe`
//! (CVE-2019-5736). So it is run from a read-only mount of that one file, which hangs nowhere and goes with the last
//! process that runs from it; the file stays one file, of which all share the memory.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::libc;
use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::attributes;

/// Holds a program; `/proc/self/fd` of what is returned runs it.
pub(crate) fn hold(path: &Path) -> io::Result<OwnedFd> {
    let tree = open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    let fixed = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    attributes::set(&tree, false, fixed, None)?;
    Ok(tree)
}
