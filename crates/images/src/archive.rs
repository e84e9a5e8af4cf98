//! Where an image is imported from: a directory or a tar file, read by name.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::layer::{self, Compression};
use crate::{Error, Limits, Result};

/// How many links of an archive are followed to a file.
const MAX_LINKS: usize = 8;

/// Named files of an image archive.
pub(crate) enum Archive {
    /// An OCI layout on disk.
    Directory(File),
    /// A tar file, with where each member's bytes are.
    Tar { file: File, members: HashMap<String, Member> },
}

/// A member of a tar file.
pub(crate) enum Member {
    File { offset: u64, size: u64 },
    Link(String),
}

impl Archive {
    /// Opens a directory, or a tar that may be compressed; then it is unpacked to a nameless file in `work`.
    pub(crate) fn open(path: &Path, work: &Path, limits: &Limits) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        match file.metadata().map_err(Error::io(path))?.is_dir() {
            true => Ok(Self::Directory(file)),
            false => Self::tar(file, work, limits).map_err(|error| match error {
                Error::Io { source, .. } => Error::Io { path: path.to_owned(), source },
                other => other,
            }),
        }
    }

    fn tar(mut file: File, work: &Path, limits: &Limits) -> Result<Self> {
        let nowhere = Path::new("archive");
        if layer::sniff(&mut file).map_err(Error::io(nowhere))? != Compression::None {
            // Members are read at random, which a compressed stream does not allow. Where the images go there is room.
            let mut plain = tempfile::tempfile_in(work).map_err(Error::io(work))?;
            let reader = layer::decompress(BufReader::new(file)).map_err(Error::io(nowhere))?;
            let copied = io::copy(&mut reader.take(limits.image_bytes + 1), &mut plain).map_err(broken)?;
            if copied > limits.image_bytes {
                return Err(Error::TooLarge { what: "archive", limit: limits.image_bytes });
            }
            file = plain;
        }
        file.seek(SeekFrom::Start(0)).map_err(Error::io(nowhere))?;
        let members = scan(&file, limits)?;
        Ok(Self::Tar { file, members })
    }

    /// Whether it has this file.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.open_member(name).is_ok()
    }

    /// A file of it, whole, if it is not longer than a document may be.
    pub(crate) fn document(&self, name: &str, limits: &Limits) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open_member(name)?.take(limits.document_bytes + 1).read_to_end(&mut bytes).map_err(broken)?;
        match bytes.len() as u64 > limits.document_bytes {
            true => Err(Error::TooLarge { what: "manifest or configuration", limit: limits.document_bytes }),
            false => Ok(bytes),
        }
    }

    /// A file of it, as a stream.
    pub(crate) fn open_member(&self, name: &str) -> Result<Box<dyn Read + '_>> {
        let missing = || Error::Invalid(format!("the archive has no file {name:?}"));
        match self {
            Self::Directory(root) => {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
                let fd = rustix::fs::openat2(root, name, flags, Mode::empty(), resolve);
                let file = File::from(fd.map_err(|_| missing())?);
                match file.metadata().map_err(broken)?.is_file() {
                    true => Ok(Box::new(file)),
                    false => Err(missing()),
                }
            }
            Self::Tar { file, members } => {
                let mut name = name.to_owned();
                for _ in 0..MAX_LINKS {
                    match members.get(&name) {
                        Some(Member::File { offset, size }) => {
                            return Ok(Box::new(Window { file, offset: *offset, end: offset + size }));
                        }
                        Some(Member::Link(target)) => name = target.clone(),
                        None => break,
                    }
                }
                Err(missing())
            }
        }
    }
}

/// The bytes of one member, read without moving the file's own position.
struct Window<'a> {
    file: &'a File,
    offset: u64,
    end: u64,
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX).min(buffer.len());
        let count = std::os::unix::fs::FileExt::read_at(self.file, &mut buffer[..left], self.offset)?;
        if count == 0 && left > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += count as u64;
        Ok(count)
    }
}

fn scan(file: &File, limits: &Limits) -> Result<HashMap<String, Member>> {
    let mut members = HashMap::new();
    let mut archive = tar::Archive::new(BufReader::new(file));
    for entry in archive.entries_with_seek().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let Some(name) = entry.path().ok().and_then(|path| clean(&path, None)) else { continue };
        let kind = entry.header().entry_type();
        if kind.is_file() {
            members.insert(name, Member::File { offset: entry.raw_file_position(), size: entry.size() });
        } else if kind.is_symlink() || kind.is_hard_link() {
            // Old `docker save` archives link a layer that two images share.
            let from = if kind.is_symlink() { Path::new(&name).parent() } else { None };
            let target = entry.link_name().ok().flatten().and_then(|target| clean(&target, from));
            if let Some(target) = target {
                members.insert(name, Member::Link(target));
            }
        }
        if members.len() as u64 > limits.archive_members {
            return Err(Error::TooLarge { what: "members of the archive", limit: limits.archive_members });
        }
    }
    Ok(members)
}

/// A member's name without `.` and `..`; `None` if it leads out of the archive.
fn clean(path: &Path, from: Option<&Path>) -> Option<String> {
    use std::path::Component;
    let mut parts: Vec<&str> = Vec::new();
    for component in from.unwrap_or(Path::new("")).components().chain(path.components()) {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::ParentDir => drop(parts.pop()?),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Some(parts.join("/"))
}

/// An archive that cannot be read is the archive's fault.
fn broken(error: io::Error) -> Error {
    Error::Invalid(format!("cannot read the archive: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        assert_eq!(clean(Path::new("./a//b/../c"), None).as_deref(), Some("a/c"));
        assert_eq!(clean(Path::new("../x/layer.tar"), Some(Path::new("y"))).as_deref(), Some("x/layer.tar"));
        assert_eq!(clean(Path::new("../../etc/passwd"), Some(Path::new("y"))), None);
    }
}
