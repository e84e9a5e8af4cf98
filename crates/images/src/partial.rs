//! Blobs that are on their way: what has come stays on disk through crashes, and the rest is fetched later.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fs::FlockOperation;
use sha2::{Digest as _, Sha256};

use crate::store::sync_directory;
use crate::{Digest, Error, Result, Store};

/// A blob of which some is here. Nobody else, in this process or another, writes it meanwhile.
pub(crate) struct Partial {
    file: File,
    path: PathBuf,
    hasher: Sha256,
    digest: Digest,
    size: u64,
    /// How much is here.
    pub(crate) written: u64,
}

impl Store {
    /// Whether the store holds this blob.
    pub(crate) fn has(&self, digest: Digest, size: u64) -> bool {
        fs::metadata(self.blob_path(digest)).is_ok_and(|found| found.len() == size)
    }

    /// Takes over what there is of a blob; waits for whoever is at it. `None`: all of it is here.
    pub(crate) fn partial(&self, digest: Digest, size: u64) -> Result<Option<Partial>> {
        if size > self.limits.image_bytes {
            return Err(Error::TooLarge { what: "blob", limit: self.limits.image_bytes });
        }
        let path = self.root.join("partial").join(digest.hex());
        loop {
            if self.has(digest, size) {
                return Ok(None);
            }
            let options = File::options().read(true).write(true).create(true).truncate(false).open(&path);
            let mut file = options.map_err(Error::io(&path))?;
            rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(Error::os(&path))?;
            let own = file.metadata().map_err(Error::io(&path))?;
            // Whoever had it before may have finished it, or thrown it away.
            if !fs::metadata(&path).is_ok_and(|there| there.ino() == own.ino()) {
                continue;
            }
            let (mut hasher, mut written) = (Sha256::new(), own.len());
            if written > size {
                file.set_len(0).map_err(Error::io(&path))?;
                written = 0;
            }
            let mut buffer = vec![0; 1 << 18];
            loop {
                match file.read(&mut buffer).map_err(Error::io(&path))? {
                    0 => break,
                    count => hasher.update(&buffer[..count]),
                }
            }
            return Ok(Some(Partial { file, path, hasher, digest, size, written }));
        }
    }
}

impl Partial {
    /// Adds what comes next.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.len() as u64 > self.size - self.written {
            let (digest, size) = (self.digest, self.size);
            self.restart()?;
            return Err(Error::Invalid(format!(
                "blob {digest} has more than the {size} bytes that its manifest says"
            )));
        }
        self.file.write_all(bytes).map_err(Error::io(&self.path))?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Throws away what there is.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(Error::io(&self.path))?;
        self.file.seek(SeekFrom::Start(0)).map_err(Error::io(&self.path))?;
        (self.hasher, self.written) = (Sha256::new(), 0);
        Ok(())
    }

    /// Makes it a blob of the store, if it is what it should be.
    pub(crate) fn finish(mut self, store: &Store) -> Result<()> {
        let found = Digest::from_hasher(std::mem::take(&mut self.hasher));
        if found != self.digest {
            let digest = self.digest;
            self.restart()?;
            return Err(Error::Invalid(format!("a blob should be {digest} and is {found}")));
        }
        self.file.sync_data().map_err(Error::io(&self.path))?;
        let blob = store.blob_path(self.digest);
        fs::rename(&self.path, &blob).map_err(Error::io(&blob))?;
        sync_directory(&store.root.join("blobs/sha256"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_before_a_crash_counts_and_what_is_wrong_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let bytes = b"the whole of it";
        let (digest, size) = (Digest::of(bytes), bytes.len() as u64);
        let open = || Store::open(directory.path()).unwrap();
        let mut first = open().partial(digest, size).unwrap().unwrap();
        first.write(&bytes[..7]).unwrap();
        drop(first);
        // Another process opens the store, which sweeps what crashed writers left, and goes on.
        let mut second = open().partial(digest, size).unwrap().unwrap();
        assert_eq!(second.written, 7);
        second.write(&bytes[7..]).unwrap();
        assert!(second.write(b"x").is_err());
        assert_eq!(second.written, 0);
        second.write(b"not what it is.").unwrap();
        assert!(second.finish(&open()).is_err());
        let mut third = open().partial(digest, size).unwrap().unwrap();
        assert_eq!(third.written, 0, "what is wrong is thrown away");
        third.write(bytes).unwrap();
        third.finish(&open()).unwrap();
        assert!(open().partial(digest, size).unwrap().is_none());
        assert_eq!(fs::read_dir(directory.path().join("partial")).unwrap().count(), 0);
    }
}
