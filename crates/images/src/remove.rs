//! Removing directory trees that somebody else made: of any depth, with the same few descriptors and little memory,
//! across no mount point, and through no link.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

/// Removes a file or a directory with all in it; that there is nothing is fine. Something mounted in it stays, and is an
/// error. A path whose parents are not its maker's alone is for descriptors, not for this.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} is no directory in one", path.display()),
        ));
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = match rustix::fs::open(parent, flags, Mode::empty()) {
        Ok(parent) => parent,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    remove_at(&parent, name.as_encoded_bytes()).map_err(io::Error::from)
}

/// The same for a name in an open directory.
pub(crate) fn remove_at(parent: impl AsFd, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error),
    }
    // Directories deep within are moved up to the top one by one, where each is emptied in its turn: so no path or stack
    // grows with the tree.
    let top = open(&parent, name)?;
    let mut number = 0_u64;
    loop {
        let mut empty = true;
        for child in names(&top)? {
            empty = false;
            match rustix::fs::unlinkat(&top, &*child, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR) => {}
                Err(error) => return Err(error),
            }
            let below = open(&top, &child)?;
            empty_into(&below, &top, &mut number, 1)?;
            rustix::fs::unlinkat(&top, &*child, AtFlags::REMOVEDIR)?;
        }
        if empty {
            return rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR);
        }
    }
}

/// Removes all that a directory has, which lies so deep; but directories that lie too deep are moved to the top.
fn empty_into(directory: &OwnedFd, top: &OwnedFd, number: &mut u64, depth: usize) -> Result<(), Errno> {
    loop {
        let found = names(directory)?;
        if found.is_empty() {
            return Ok(());
        }
        for name in found {
            match rustix::fs::unlinkat(directory, &*name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR) => {}
                Err(error) => return Err(error),
            }
            if depth < DEPTH {
                empty_into(&open(directory, &name)?, top, number, depth + 1)?;
                rustix::fs::unlinkat(directory, &*name, AtFlags::REMOVEDIR)?;
                continue;
            }
            loop {
                *number += 1;
                let fresh = format!(".removed-{number}");
                match rustix::fs::renameat_with(directory, &*name, top, &*fresh, RenameFlags::NOREPLACE) {
                    Err(Errno::EXIST) => {}
                    other => break other?,
                }
            }
        }
    }
}

/// How deep directories are emptied where they lie.
const DEPTH: usize = 8;
/// How many names are held at once.
const BATCH: usize = 1024;

/// Some of a directory's names; none when there are none.
fn names(directory: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut found = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            found.push(name.to_vec());
        }
        if found.len() == BATCH {
            break;
        }
    }
    Ok(found)
}

fn open(parent: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    rustix::fs::openat2(&parent, name, flags, Mode::empty(), resolve)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn deep_and_wide_trees_are_removed_and_links_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (outside, tree) = (directory.path().join("outside"), directory.path().join("tree"));
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "kept").unwrap();
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join(".removed-1"), "a name of ours").unwrap();
        std::os::unix::fs::symlink(&outside, tree.join("a/link")).unwrap();
        for number in 0..3000 {
            fs::write(tree.join(format!("a/{number}")), "").unwrap();
        }
        // Deeper than a path can be long, than descriptors are many, and than a stack is high.
        let mut at = rustix::fs::open(tree.join("a/b"), OFlags::PATH, Mode::empty()).unwrap();
        for _ in 0..20_000 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, "d", OFlags::PATH, Mode::empty()).unwrap();
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && outside.join("file").exists());
        remove_tree(&tree).unwrap();
        remove_tree(&tree.join("gone/too")).unwrap();
        remove_tree(&outside.join("file")).unwrap();
        assert!(!outside.join("file").exists());
    }
}
