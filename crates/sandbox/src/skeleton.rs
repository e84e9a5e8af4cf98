//! The lowest layer of every container's root: empty places for what is mounted in all of them.
//!
//! Images often lack some, which would then be made in the container's writable layer, again and again, and be removed with
//! it. What an image has in their place lies above and is what counts.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const DIRECTORIES: [(&str, u32); 5] =
    [("", 0o755), ("dev", 0o755), ("etc", 0o755), ("proc", 0o555), ("sys", 0o555)];
const FILES: [&str; 2] = ["etc/hostname", "etc/resolv.conf"];

/// Its directory.
pub(crate) fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join("skeleton")
}

/// Makes what is missing of it.
pub(crate) fn make(state_dir: &Path) -> io::Result<()> {
    let skeleton = directory(state_dir);
    // Whatever mask this process has.
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    for (name, mode) in DIRECTORIES {
        let path = skeleton.join(name);
        fs::create_dir_all(&path)?;
        set(&path, mode)?;
    }
    for name in FILES {
        let path = skeleton.join(name);
        File::options().append(true).create(true).open(&path)?;
        set(&path, 0o644)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_and_again() {
        let state = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            make(state.path()).unwrap();
        }
        let mode = |name: &str| directory(state.path()).join(name).metadata().unwrap().permissions().mode();
        assert_eq!((mode("proc") & 0o7777, mode("etc/hostname") & 0o7777), (0o555, 0o644));
    }
}
