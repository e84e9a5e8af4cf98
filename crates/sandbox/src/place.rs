//! Where sandboxes are kept: their directories on a file system in memory, and what containers write on the disk.
//!
//! What a sandbox's directory tells is void after a reboot, as are the processes that it tells of. Files in memory are made
//! and removed in a fraction of the time that a disk takes, cannot be refused by a full one, and wear none.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use crate::files::SandboxFiles;

/// Directories of a machine that are in memory as a rule, the best first.
const IN_MEMORY: [&str; 2] = ["/run", "/dev/shm"];

/// The directory of all sandboxes' directories. It may be a link to one in memory.
pub(crate) fn sandboxes(state_dir: &Path) -> PathBuf {
    state_dir.join("sandboxes")
}

/// The directory of the containers' writable layers.
pub(crate) fn writable(state_dir: &Path) -> PathBuf {
    state_dir.join("writable")
}

/// Whether the directory of this state is in memory, so that what containers write must be kept elsewhere.
pub(crate) fn is_apart(state_dir: &Path) -> bool {
    sandboxes(state_dir).is_symlink()
}

/// Makes the directories. What is there stays, as an earlier release may have it on the disk: it moves when it is empty.
pub(crate) fn make(state_dir: &Path) -> io::Result<()> {
    fs::create_dir_all(writable(state_dir))?;
    let sandboxes = sandboxes(state_dir);
    match fs::symlink_metadata(&sandboxes) {
        Ok(there) if there.is_symlink() => match is_ours(&sandboxes) {
            true => return Ok(()),
            // Of an earlier boot.
            false => fs::remove_file(&sandboxes)?,
        },
        Ok(_) => match fs::remove_dir(&sandboxes) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => return Ok(()),
            other => other?,
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    for place in IN_MEMORY.map(Path::new) {
        if !is_in_memory(place) {
            continue;
        }
        // By a name that nobody can have taken, since one of these is everybody's. For the machine's root alone.
        if let Ok(made) = nix::unistd::mkdtemp(&place.join("monoplane-XXXXXX")) {
            return symlink(made, sandboxes);
        }
    }
    fs::create_dir(sandboxes)
}

/// Removes them, and all that is in them.
pub(crate) fn remove(state_dir: &Path) -> io::Result<()> {
    let sandboxes = sandboxes(state_dir);
    if is_apart(state_dir) && is_ours(&sandboxes) {
        images::remove_tree(&fs::read_link(&sandboxes)?)?;
    }
    images::remove_tree(&sandboxes)?;
    images::remove_tree(&writable(state_dir))
}

/// Removes what containers wrote that are no more: a reboot takes their directories and leaves this.
pub(crate) fn sweep(state_dir: &Path) -> io::Result<()> {
    let mut known = BTreeSet::new();
    for sandbox in fs::read_dir(sandboxes(state_dir))? {
        let containers = SandboxFiles(sandbox?.path()).containers();
        match fs::read_dir(containers) {
            Ok(containers) => {
                for container in containers {
                    known.insert(container?.file_name());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    for layer in fs::read_dir(writable(state_dir))? {
        let layer = layer?;
        if !known.contains(&layer.file_name()) {
            images::remove_tree(&layer.path())?;
        }
    }
    Ok(())
}

/// Whether a link leads to a directory that only this user can have made.
fn is_ours(link: &Path) -> bool {
    let me = nix::unistd::geteuid().as_raw();
    // The link is in a directory of ours; what it leads to may be anybody's by now.
    let there = fs::read_link(link).and_then(fs::symlink_metadata);
    there.is_ok_and(|there| there.is_dir() && there.uid() == me && there.mode() & 0o077 == 0)
}

fn is_in_memory(place: &Path) -> bool {
    use nix::sys::statfs::{TMPFS_MAGIC, statfs};
    statfs(place).is_ok_and(|of| of.filesystem_type() == TMPFS_MAGIC)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_directory_in_memory_stays_until_it_is_not_ours() {
        let state = tempfile::tempdir().unwrap();
        let state = state.path();
        make(state).unwrap();
        assert_eq!(is_apart(state), IN_MEMORY.iter().any(|place| is_in_memory(Path::new(place))));
        if !is_apart(state) {
            return;
        }
        let sandboxes = sandboxes(state);
        let first = fs::read_link(&sandboxes).unwrap();
        fs::create_dir(sandboxes.join("one")).unwrap();
        make(state).unwrap();
        assert_eq!(fs::read_link(&sandboxes).unwrap(), first);
        // Somebody else's, who lets us in.
        fs::set_permissions(&first, fs::Permissions::from_mode(0o777)).unwrap();
        make(state).unwrap();
        let second = fs::read_link(&sandboxes).unwrap();
        assert_ne!(second, first);
        assert!(names(&sandboxes).is_empty() && names(&first) == ["one"]);
        fs::remove_dir_all(first).unwrap();
        // As a reboot does.
        fs::remove_dir_all(&second).unwrap();
        make(state).unwrap();
        let third = fs::read_link(&sandboxes).unwrap();
        assert!(third.is_dir());
        remove(state).unwrap();
        assert!(!third.exists() && names(state).is_empty());
    }

    #[test]
    fn an_earlier_releases_directory_stays_while_something_is_in_it() {
        let state = tempfile::tempdir().unwrap();
        let state = state.path();
        fs::create_dir_all(sandboxes(state).join("one")).unwrap();
        make(state).unwrap();
        assert!(!is_apart(state));
        fs::remove_dir(sandboxes(state).join("one")).unwrap();
        make(state).unwrap();
        assert_eq!(is_apart(state), IN_MEMORY.iter().any(|place| is_in_memory(Path::new(place))));
        remove(state).unwrap();
    }

    #[test]
    fn what_no_container_writes_any_more_is_swept() {
        let state = tempfile::tempdir().unwrap();
        let state = state.path();
        make(state).unwrap();
        fs::create_dir_all(sandboxes(state).join("s/containers/lives")).unwrap();
        fs::create_dir_all(sandboxes(state).join("half-made")).unwrap();
        for container in ["lives", "gone"] {
            fs::create_dir_all(writable(state).join(container).join("upper/a/b")).unwrap();
        }
        sweep(state).unwrap();
        assert_eq!(names(&writable(state)), ["lives"]);
        remove(state).unwrap();
    }
}
