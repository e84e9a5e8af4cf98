//! What has to be bound before libcontainer makes a container's mounts: parts of volumes, and all whose ids are mapped,
//! which only the machine's root may do.
//!
//! libcontainer takes paths, and looks them up when it mounts. What a volume holds is a container's to arrange, another's
//! perhaps that runs right now: a path that was looked at before may lead anywhere by then. So a part is found by
//! descriptors that never leave the volume, and what was found is bound at a place that no container sees; libcontainer
//! is told of that place.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::user_namespace;
use crate::files::Part;

/// How often a part is looked for again that was moved while it was looked for.
const ATTEMPTS: usize = 32;

/// Binds the parts where the configuration expects them. The caller has a mount namespace to itself, which goes when the
/// container is made.
///
/// With a user namespace, what is on the disk has the ids of that namespace.
pub(crate) fn bind_parts(parts: &[Part], user_namespace: Option<&File>) -> Result<(), String> {
    for part in parts {
        bind(part, user_namespace).map_err(|error| match part.path.as_os_str().is_empty() {
            true => format!("{}: {error}", part.volume.display()),
            false => format!("the part {:?} of the volume {}: {error}", part.path, part.volume.display()),
        })?;
    }
    Ok(())
}

fn bind(part: &Part, user_namespace: Option<&File>) -> std::io::Result<()> {
    let found = find(&part.volume, &part.path)?;
    let is_directory = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode).is_dir();
    if let Some(above) = part.at.parent() {
        fs::create_dir_all(above)?;
    }
    if is_directory {
        fs::create_dir_all(&part.at)?;
    } else {
        File::create(&part.at)?;
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(&found, "", flags)?;
    if let Some(namespace) = user_namespace.filter(|_| !part.mapped) {
        user_namespace::map_ids(&tree, namespace, true)?;
    }
    move_mount(&tree, "", CWD, &part.at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}

/// Opens a part of a volume. Links within the volume are followed; one that leads out of it is an error.
fn find(volume: &Path, part: &Path) -> rustix::io::Result<OwnedFd> {
    let (flags, none) = (OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let root = rustix::fs::open(volume, flags, none)?;
    if part.as_os_str().is_empty() {
        return Ok(root);
    }
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut found = Err(Errno::AGAIN);
    for _ in 0..ATTEMPTS {
        found = rustix::fs::openat2(&root, part, flags, none, inside);
        if !matches!(found, Err(Errno::AGAIN)) {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_part_is_never_found_outside_its_volume() {
        let directory = tempfile::tempdir().unwrap();
        let volume = directory.path().join("volume");
        fs::create_dir_all(volume.join("real/deep")).unwrap();
        symlink("real", volume.join("within")).unwrap();
        symlink("/etc", volume.join("out")).unwrap();
        symlink("../..", volume.join("up")).unwrap();
        symlink("/proc/self/root", volume.join("magic")).unwrap();
        for part in ["real", "within", "within/deep", "real/../within"] {
            find(&volume, Path::new(part)).unwrap();
        }
        for part in ["out", "out/passwd", "up", "magic", "/etc", "..", "missing"] {
            assert!(find(&volume, Path::new(part)).is_err(), "{part}");
        }
    }
}
