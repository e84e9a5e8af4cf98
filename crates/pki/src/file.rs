//! Files that are there whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::Error;

/// Writes a file of mode 0600 so that a reader, and whoever starts after a crash, sees the old content or the new one
/// and nothing between: a temporary file beside it, fsync, rename, fsync of the directory.
///
/// # Errors
/// When the system refuses any of the steps; the old content then still stands.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<(), Error> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(failed(path, std::io::Error::from(ErrorKind::InvalidInput)));
    };
    // One fixed temporary name a file: what a killed process left behind is overwritten, never collected.
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(".tmp");
    let temporary = directory.join(temporary);
    remove_if_present(&temporary)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(|source| failed(&temporary, source))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(|source| failed(&temporary, source))?;
    drop(file);
    fs::rename(&temporary, path).map_err(|source| failed(path, source))?;
    sync_directory(directory)
}

/// Makes the directory, and its parents, of mode 0700 where they are missing.
pub(crate) fn make_directory(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| failed(path, source))
}

/// The file's content; `None` when there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed(path, source)),
    }
}

fn remove_if_present(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != ErrorKind::NotFound => Err(failed(path, source)),
        _ => Ok(()),
    }
}

fn sync_directory(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(|source| failed(path, source))
}

fn failed(path: &Path, source: std::io::Error) -> Error {
    Error::File { path: PathBuf::from(path), source }
}
