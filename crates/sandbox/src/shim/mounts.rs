//! What a container binds, found and opened by the machine's root: volumes, parts of them, the pod's own files.
//!
//! What a volume holds is a container's to arrange, another's perhaps that runs right now: a path that was looked at before
//! may lead anywhere by then. So a part is found by descriptors that never leave the volume, and what was found is mounted
//! by its descriptor.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use container::Mount;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::user_namespace;
use crate::files::Part;

/// How often a part is looked for again that was moved while it was looked for.
const ATTEMPTS: usize = 32;

/// Opens what the mounts bind; `None` for those that bind nothing. With a user namespace, parts have the ids of that
/// namespace.
pub(crate) fn open(
    mounts: &[Mount],
    parts: &[Part],
    user_namespace: Option<&impl AsFd>,
) -> Result<Vec<Option<OwnedFd>>, String> {
    let opened = mounts.iter().map(|mount| {
        if !mount.is_bind() {
            return Ok(None);
        }
        let recursive = mount.has("rbind");
        let part = parts.iter().find(|part| part.at == mount.source);
        let tree = match part {
            Some(part) => copy_part(part, user_namespace).map_err(|error| named(part, &error))?,
            None => container::mounts::copy_path(&mount.source, recursive)
                .map_err(|error| format!("{}: {error}", mount.source.display()))?,
        };
        container::mounts::bind(mount, tree).map(Some)
    });
    opened.collect()
}

fn named(part: &Part, error: &std::io::Error) -> String {
    match part.path.as_os_str().is_empty() {
        true => format!("{}: {error}", part.volume.display()),
        false => format!("the part {:?} of the volume {}: {error}", part.path, part.volume.display()),
    }
}

fn copy_part(part: &Part, user_namespace: Option<&impl AsFd>) -> std::io::Result<OwnedFd> {
    let tree = container::mounts::copy(find(&part.volume, &part.path)?, true)?;
    if let Some(namespace) = user_namespace.filter(|_| !part.mapped) {
        user_namespace::map_ids(&tree, namespace, true)?;
    }
    Ok(tree)
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
    use std::fs;
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
