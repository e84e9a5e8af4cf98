//! What a directory tree that somebody else made takes on the disk: of any depth, across no mount point, through no link,
//! while its maker goes on changing it.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

/// Bytes of a unit of `st_blocks`.
const BLOCK: u64 = 512;
/// How many directories and files with several names are remembered at most: beyond, the answer is a lower bound in
/// directories, and counts a file once a name.
const REMEMBERED: usize = 1 << 20;
/// As much of a path as is looked up at once.
const PATH_PART: usize = 2048;

/// What a tree takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeUsage {
    /// Bytes on the disk; a file with several names counts once.
    pub bytes: u64,
    /// Files and directories, the tree's own among them.
    pub inodes: u64,
}

/// A directory that is still to be looked into, by its way from the top.
struct Below {
    parent: Option<Rc<Below>>,
    name: Vec<u8>,
}

/// Counts a file, or a directory with all in it; nothing where there is nothing.
///
/// # Errors
/// When it cannot be read.
pub fn tree_usage(path: &Path) -> io::Result<TreeUsage> {
    let mut usage = TreeUsage::default();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let top = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(usage),
        Err(Errno::NOTDIR | Errno::LOOP) => {
            let found = stat(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
            return Ok(TreeUsage { bytes: found.stx_blocks.saturating_mul(BLOCK), inodes: 1 });
        }
        Err(error) => return Err(error.into()),
    };
    let own = stat(&top, c"", AtFlags::EMPTY_PATH)?;
    let mut seen = HashSet::new();
    usage.add(&own, &mut seen);
    let mut todo: Vec<Option<Rc<Below>>> = vec![None];
    while let Some(directory) = todo.pop() {
        let opened = match &directory {
            None => rustix::io::dup(&top),
            Some(below) => open(&top, below),
        };
        match opened.and_then(|opened| look(&opened, directory.as_ref(), &mut todo, &mut usage, &mut seen)) {
            // Removed, moved or mounted over meanwhile.
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(usage)
}

/// Counts what is in one directory, and notes the directories among it.
fn look(
    directory: &OwnedFd,
    at: Option<&Rc<Below>>,
    todo: &mut Vec<Option<Rc<Below>>>,
    usage: &mut TreeUsage,
    seen: &mut HashSet<u64>,
) -> Result<(), Errno> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let found = match stat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            found => found?,
        };
        usage.add(&found, seen);
        let is_directory = FileType::from_raw_mode(found.stx_mode.into()) == FileType::Directory;
        if is_directory && todo.len() < REMEMBERED {
            todo.push(Some(Rc::new(Below { parent: at.cloned(), name: name.to_bytes().to_vec() })));
        }
    }
    Ok(())
}

impl TreeUsage {
    fn add(&mut self, found: &Statx, seen: &mut HashSet<u64>) {
        let directory = FileType::from_raw_mode(found.stx_mode.into()) == FileType::Directory;
        if found.stx_nlink > 1 && !directory {
            if seen.contains(&found.stx_ino) {
                return;
            }
            if seen.len() < REMEMBERED {
                seen.insert(found.stx_ino);
            }
        }
        self.bytes = self.bytes.saturating_add(found.stx_blocks.saturating_mul(BLOCK));
        self.inodes = self.inodes.saturating_add(1);
    }
}

fn stat(
    directory: impl std::os::fd::AsFd,
    name: impl rustix::path::Arg,
    flags: AtFlags,
) -> Result<Statx, Errno> {
    let wanted = StatxFlags::TYPE | StatxFlags::NLINK | StatxFlags::INO | StatxFlags::BLOCKS;
    rustix::fs::statx(directory, name, flags, wanted)
}

/// Opens a directory by its way from the top, a part of the way at a time: a whole path may be longer than a path can be.
fn open(top: &OwnedFd, below: &Rc<Below>) -> Result<OwnedFd, Errno> {
    let mut names = Vec::new();
    let mut next = Some(below);
    while let Some(below) = next {
        names.push(below.name.as_slice());
        next = below.parent.as_ref();
    }
    let mut opened = rustix::io::dup(top)?;
    let mut part = Vec::new();
    while let Some(name) = names.pop() {
        part.extend_from_slice(name);
        if part.len() < PATH_PART && !names.is_empty() {
            part.push(b'/');
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        opened = rustix::fs::openat2(&opened, &*part, flags, Mode::empty(), resolve)?;
        part.clear();
    }
    Ok(opened)
}

impl Drop for Below {
    /// A long way from the top is let go of step by step: dropping it at once would take a stack as deep.
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(mut above) = next.and_then(Rc::into_inner) {
            next = above.parent.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_tree_is_counted_once_and_not_left() {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        assert_eq!(tree_usage(&tree).unwrap(), TreeUsage::default());
        fs::create_dir_all(tree.join("a/b")).unwrap();
        let big = directory.path().join("outside");
        fs::write(&big, vec![1; 1 << 20]).unwrap();
        std::os::unix::fs::symlink(&big, tree.join("link")).unwrap();
        let empty = tree_usage(&tree).unwrap();
        assert_eq!(empty.inodes, 4);
        fs::write(tree.join("a/b/file"), vec![1; 300 << 10]).unwrap();
        fs::hard_link(tree.join("a/b/file"), tree.join("a/second")).unwrap();
        // A file with holes takes what it takes.
        fs::File::create(tree.join("sparse")).unwrap().set_len(1 << 40).unwrap();
        let full = tree_usage(&tree).unwrap();
        assert_eq!(full.inodes, 6);
        assert!((300 << 10..340 << 10).contains(&(full.bytes - empty.bytes)), "{full:?} {empty:?}");
        assert_eq!(tree_usage(&big).unwrap().inodes, 1);
    }

    #[test]
    fn depth_hides_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut at = rustix::fs::open(directory.path(), OFlags::PATH, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, "d", OFlags::PATH, Mode::empty()).unwrap();
        }
        let flags = OFlags::CREATE | OFlags::WRONLY;
        drop(rustix::fs::openat(&at, "file", flags, Mode::RWXU).unwrap());
        assert_eq!(tree_usage(directory.path()).unwrap().inodes, 3002);
        crate::remove_tree(&directory.path().join("d")).unwrap();
    }
}
