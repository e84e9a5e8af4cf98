//! Users that the unprivileged roles run as.

use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

/// Numeric users from the range that distributions leave to dynamic users, so that no account has to be made. They are
/// constants because files on disk carry them.
pub const SERVER: u32 = 64_170;
/// The edge's.
pub const EDGE: u32 = 64_171;

/// Whether this process may start others as another user.
pub fn may_choose() -> bool {
    rustix::process::geteuid().is_root()
}

/// The first directory on the way to `path` that an unprivileged user cannot pass, if there is one.
pub fn barrier(path: &Path) -> Option<&Path> {
    let mut directories: Vec<&Path> = path.ancestors().skip(1).collect();
    directories.reverse();
    directories.into_iter().find(|directory| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(directory).is_ok_and(|m| m.permissions().mode() & 0o001 == 0)
    })
}

/// How deep a role's folder is given away. Nothing that a role makes for itself is nearly as deep.
const MAX_DEPTH: usize = 64;

/// Gives a tree to a user: its folder and everything below it that is not the user's yet.
///
/// The user may write there while we do, so nothing is done by path: each thing is opened without following a link, looked
/// at, and given by what was opened. A file of several names is left alone, since one of them may lie anywhere.
pub fn give(path: &Path, id: u32) -> Result<()> {
    let folder = rustix::fs::open(path, FOLDER, Mode::empty());
    let folder = folder.with_context(|| format!("opening {}", path.display()))?;
    give_folder(&folder, id, 0).with_context(|| format!("giving {} to user {id}", path.display()))
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const ANYTHING: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn give_folder(folder: &OwnedFd, id: u32, depth: usize) -> Result<()> {
    ensure!(depth < MAX_DEPTH, "its folders are nested too deeply");
    give_one(folder, id)?;
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match rustix::fs::openat(folder, name, FOLDER, Mode::empty()) {
            Ok(below) => give_folder(&below, id, depth + 1)?,
            Err(Errno::NOTDIR | Errno::LOOP) => {
                match rustix::fs::openat(folder, name, ANYTHING, Mode::empty()) {
                    Ok(file) => give_one(&file, id)?,
                    Err(Errno::NOENT) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn give_one(opened: &OwnedFd, id: u32) -> Result<()> {
    let stat = rustix::fs::fstat(opened)?;
    let several_names = stat.st_nlink > 1 && !FileType::from_raw_mode(stat.st_mode).is_dir();
    if (stat.st_uid == id && stat.st_gid == id) || several_names {
        return Ok(());
    }
    let (uid, gid) = (Some(Uid::from_raw(id)), Some(Gid::from_raw(id)));
    Ok(rustix::fs::chownat(opened, "", uid, gid, AtFlags::EMPTY_PATH)?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn a_folder_is_given_and_nothing_outside_of_it() {
        if !may_choose() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let (folder, outside) = (directory.path().join("folder"), directory.path().join("outside"));
        fs::create_dir_all(folder.join("a/b")).unwrap();
        fs::create_dir(&outside).unwrap();
        for file in [folder.join("a/b/own"), outside.join("file")] {
            fs::write(file, "").unwrap();
        }
        symlink(&outside, folder.join("a/link")).unwrap();
        fs::hard_link(outside.join("file"), folder.join("a/hard")).unwrap();
        give(&folder, EDGE).unwrap();
        let owner = |path: &Path| fs::symlink_metadata(path).unwrap().uid();
        for (path, uid) in [("a", EDGE), ("a/b", EDGE), ("a/b/own", EDGE), ("a/hard", 0)] {
            assert_eq!(owner(&folder.join(path)), uid, "{path}");
        }
        assert_eq!((owner(&outside), owner(&outside.join("file"))), (0, 0));
        symlink(&outside, directory.path().join("folder-link")).unwrap();
        assert!(give(&directory.path().join("folder-link"), EDGE).is_err());
    }
}
