//! What a container binds, found and opened by the machine's root: volumes, parts of them, the pod's own files.
//!
//! What a volume holds is a container's to arrange, another's perhaps that runs right now: a path that was looked at before
//! may lead anywhere by then. So a part is found by descriptors that never leave the volume, and what was found is mounted
//! by its descriptor.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use container::Mount;
use nix::sched::{CloneFlags, setns};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use super::user_namespace;
use crate::files::Part;

/// How often a part is looked for again that was moved while it was looked for.
const ATTEMPTS: usize = 32;

/// Opens what the mounts bind; `None` for those that bind nothing. With a user namespace, parts have the ids of that
/// namespace. What is to show on the machine (`rshared`) is found in its own mount namespace, `machine`.
pub(crate) fn open(
    mounts: &[Mount],
    parts: &[Part],
    user_namespace: Option<&impl AsFd>,
    machine: Option<BorrowedFd<'_>>,
) -> Result<Vec<Option<OwnedFd>>, String> {
    let opened = mounts.iter().map(|mount| {
        if !mount.is_bind() {
            return Ok(None);
        }
        let recursive = mount.has("rbind");
        let part = parts.iter().find(|part| part.at == mount.source);
        let tree = match part {
            part if mount.has("rshared") => {
                let (volume, path) =
                    part.map_or((mount.source.as_path(), Path::new("")), |part| (&*part.volume, &*part.path));
                let machine = machine.ok_or("the machine's mount namespace is not at hand")?;
                on_machine(machine, || copy_shared(volume, path))
                    .map_err(|error| format!("{}: {error}", volume.join(path).display()))?
            }
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

/// Does the work in the machine's mount namespace.
fn on_machine<T>(machine: BorrowedFd<'_>, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let own = File::open("/proc/self/ns/mnt")?;
    setns(machine, CloneFlags::CLONE_NEWNS)?;
    let done = work();
    setns(&own, CloneFlags::CLONE_NEWNS)?;
    done
}

/// A copy that tells the original of what is mounted below it, which is possible only where that tells others.
fn copy_shared(volume: &Path, part: &Path) -> io::Result<OwnedFd> {
    let found = find(volume, part)?;
    let id = rustix::fs::statx(&found, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?.stx_mnt_id.to_string();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    // Its number, its parent's, its device, its root, its place, its options; then further words up to a dash.
    let line = mounts.lines().find(|line| line.split(' ').next() == Some(&id)).unwrap_or_default();
    if !line.split(' ').skip(6).take_while(|word| *word != "-").any(|word| word.starts_with("shared:")) {
        let place = line.split(' ').nth(4).unwrap_or_default();
        return Err(io::Error::other(format!("it is mounted on {place:?}, which is not a shared mount")));
    }
    Ok(container::mounts::copy(found, true)?)
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
