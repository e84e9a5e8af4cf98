//! Places in a container's root, found and made without ever leaving it.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, readlinkat};
use rustix::io::Errno;

/// How many links are followed, as by the kernel.
const MAX_LINKS: usize = 40;

/// What is made where there is nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// An empty file.
    File,
}

/// Opens a place below a root. Links lead to where they would for a process that has this root; those of the kernel's
/// own, which `/proc` is full of, are errors.
///
/// # Errors
/// The kernel's: nothing is there (`NOENT`), or a link that may not be followed (`LOOP`).
pub fn open(root: impl AsFd, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut found = Err(Errno::AGAIN);
    // The kernel gives up when something is moved meanwhile, which might have led out.
    for _ in 0..MAX_LINKS {
        found = openat2(root.as_fd(), path, flags | OFlags::CLOEXEC, Mode::empty(), inside);
        if !matches!(found, Err(Errno::AGAIN)) {
            break;
        }
    }
    found
}

/// Opens a place (`O_PATH`), and makes what is missing of the way to it and of itself. Links that lead to nothing are
/// followed, and what they name is made.
///
/// # Errors
/// The kernel's.
pub fn open_or_make(root: impl AsFd, path: &Path, kind: Kind) -> rustix::io::Result<OwnedFd> {
    match open(root.as_fd(), path, OFlags::PATH) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let (mut to_go, mut so_far, mut links) = (names(path), PathBuf::from("/"), 0);
    while let Some(name) = to_go.pop_front() {
        if name == ".." {
            so_far.pop();
            continue;
        }
        let above = open_plain(root.as_fd(), &so_far, OFlags::PATH | OFlags::DIRECTORY)?;
        match readlinkat(&above, name.as_os_str(), Vec::new()) {
            Ok(target) => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP);
                }
                let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                if target.is_absolute() {
                    so_far = PathBuf::from("/");
                }
                names(&target).into_iter().rev().for_each(|name| to_go.push_front(name));
                continue;
            }
            Err(Errno::NOENT) => {
                let kind = if to_go.is_empty() { kind } else { Kind::Directory };
                make(&above, &name, kind)?;
            }
            // It is there, and no link.
            Err(Errno::INVAL) => {}
            Err(error) => return Err(error),
        }
        so_far.push(name);
    }
    open_plain(root, &so_far, OFlags::PATH)
}

/// Opens a place on whose way there was no link a moment ago.
fn open_plain(root: impl AsFd, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let plain = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), plain)
}

fn make(above: &OwnedFd, name: &OsStr, kind: Kind) -> rustix::io::Result<()> {
    let made = match kind {
        Kind::Directory => mkdirat(above, name, Mode::from_raw_mode(0o755)),
        Kind::File => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(above, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
    };
    match made {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

fn names(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_made_lies_within_whatever_links_say() {
        let directory = tempfile::tempdir().unwrap();
        let root_path = directory.path().join("root");
        fs::create_dir_all(root_path.join("etc")).unwrap();
        symlink("../run/far/resolv.conf", root_path.join("etc/resolv.conf")).unwrap();
        symlink("../../../../../outside", root_path.join("up")).unwrap();
        symlink("/etc", root_path.join("absolute")).unwrap();
        symlink("again", root_path.join("again")).unwrap();
        let root = File::open(&root_path).unwrap();
        for (path, kind, made) in [
            ("/etc/resolv.conf", Kind::File, "run/far/resolv.conf"),
            ("/up/x", Kind::Directory, "outside/x"),
            ("/absolute/hosts", Kind::File, "etc/hosts"),
            ("/a/../b/c", Kind::Directory, "b/c"),
            ("../../d", Kind::Directory, "d"),
        ] {
            open_or_make(&root, Path::new(path), kind).unwrap();
            let found = fs::symlink_metadata(root_path.join(made)).unwrap();
            assert_eq!(found.is_dir(), kind == Kind::Directory, "{path}");
            // Once more: it is there.
            open_or_make(&root, Path::new(path), kind).unwrap();
        }
        assert_eq!(open_or_make(&root, Path::new("/again/x"), Kind::File).unwrap_err(), Errno::LOOP);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_kernels_links_are_not_followed() {
        let root = File::open("/").unwrap();
        let own = Path::new("/proc/self/root/tmp");
        assert_eq!(open(&root, own, OFlags::PATH).unwrap_err(), Errno::LOOP);
        assert_eq!(open_or_make(&root, own, Kind::Directory).unwrap_err(), Errno::LOOP);
    }
}
