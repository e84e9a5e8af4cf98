//! The machine's devices, which a privileged container has in its `/dev` as on containerd.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use container::Device;

/// What is a file system of its own in a container, and the machine's terminal.
const OWN: [&str; 5] = ["pts", "shm", "mqueue", "fd", "console"];
/// How far down they are looked for (`/dev/bus/usb/001/002`).
const DEPTH: usize = 8;

/// All of them, with who may use them.
pub(crate) fn all() -> Vec<Device> {
    let mut found = Vec::new();
    add(Path::new("/dev"), DEPTH, &mut found);
    found
}

/// Devices come and go while they are looked at: what is gone is left out.
fn add(directory: &Path, depth: usize, found: &mut Vec<Device>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(file) = fs::symlink_metadata(&path) else { continue };
        let kind = file.file_type();
        if OWN.iter().any(|own| entry.file_name() == *own) {
            continue;
        }
        match (kind.is_dir(), kind.is_char_device(), kind.is_block_device()) {
            (true, ..) if depth > 0 => add(&path, depth - 1, found),
            (_, true, _) => found.push(device(path, "c", &file)),
            (.., true) => found.push(device(path, "b", &file)),
            _ => {}
        }
    }
}

fn device(path: PathBuf, kind: &str, file: &fs::Metadata) -> Device {
    Device {
        path,
        kind: kind.to_owned(),
        major: rustix::fs::major(file.rdev()),
        minor: rustix::fs::minor(file.rdev()),
        file_mode: file.mode() & 0o7777,
        uid: file.uid(),
        gid: file.gid(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_told_by_their_numbers() {
        let found = all();
        let null = found.iter().find(|device| device.path == Path::new("/dev/null")).unwrap();
        assert_eq!((null.kind.as_str(), null.major, null.minor, null.file_mode), ("c", 1, 3, 0o666));
        assert!(!found.iter().any(|device| device.path.starts_with("/dev/pts")), "{found:?}");
    }
}
