//! Giving back room: what no name leads to, and what no container uses.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::image::Descriptor;
use rustix::fs::FlockOperation;

use crate::document::Document;
use crate::store::{MAX_DEPTH, name_of};
use crate::{Digest, Error, Result, Store, StoredImage};

/// Held: nothing of the store is removed.
#[derive(Debug)]
pub struct Hold {
    _lock: fs::File,
}

impl Store {
    /// Keeps everything there is for as long as the value lives; waits for whoever removes something now.
    pub fn hold(&self) -> Result<Hold> {
        Ok(Hold { _lock: self.writers(FlockOperation::LockShared)? })
    }

    /// Removes blobs and unpacked layers that no name leads to, and returns the bytes freed. Layers that are
    /// `in_use` stay: `in_use` is asked once nobody can begin to use more.
    ///
    /// Waits for imports and pulls that go on.
    pub fn prune(&self, in_use: impl FnOnce() -> io::Result<BTreeSet<PathBuf>>) -> Result<u64> {
        let _nobody_writes = self.writers(FlockOperation::LockExclusive)?;
        let in_use = in_use().map_err(Error::io(&self.root))?;
        let (mut wanted, mut chains) = (BTreeSet::new(), BTreeSet::new());
        for entry in self.index()?.manifests() {
            let target = entry.digest().to_string().parse()?;
            self.reach(target, MAX_DEPTH, &mut wanted);
            if let Ok(image) = self.check(target) {
                chains.extend(image.chains().flatten().map(|chain| chain.hex()));
            }
        }
        let mut freed = self.sweep_directory("blobs/sha256", |name| wanted.contains(name))?;
        freed += self.sweep_directory("partial", |_| false)?;
        let layers = self.root.join("layers/sha256");
        let used = |name: &str| chains.contains(name) || in_use.contains(&layers.join(name).join("fs"));
        freed += self.sweep_directory("layers/sha256", used)?;
        Ok(freed)
    }

    /// Forgets all names of an image; whether there were any.
    pub fn untag_all(&self, image: &StoredImage) -> Result<bool> {
        let mut found = false;
        self.change_index(|manifests| {
            let before = manifests.len();
            let target = image.target.to_string();
            manifests.retain(|entry| {
                let named = name_of(entry).is_some_and(|name| image.names.contains(&name));
                !named && entry.digest().to_string() != target
            });
            found = manifests.len() < before;
            Ok(())
        })?;
        Ok(found)
    }

    /// All that a manifest or index leads to, also what is not for this machine.
    fn reach(&self, digest: Digest, depth: u8, wanted: &mut BTreeSet<String>) {
        wanted.insert(digest.hex());
        let Ok(document) = self.document(digest).and_then(|bytes| Document::parse(&bytes)) else { return };
        let of = |blob: &Descriptor| blob.digest().to_string().parse::<Digest>().ok();
        match document {
            Document::Manifest(manifest) => {
                let blobs = std::iter::once(manifest.config()).chain(manifest.layers());
                wanted.extend(blobs.filter_map(of).map(|digest| digest.hex()));
            }
            Document::Index(index) if depth > 0 => {
                index
                    .manifests()
                    .iter()
                    .filter_map(of)
                    .for_each(|child| self.reach(child, depth - 1, wanted));
            }
            Document::Index(_) => {}
        }
    }

    fn sweep_directory(&self, directory: &str, keep: impl Fn(&str) -> bool) -> Result<u64> {
        let directory = self.root.join(directory);
        let mut freed = 0;
        for entry in fs::read_dir(&directory).map_err(Error::io(&directory))? {
            let entry = entry.map_err(Error::io(&directory))?;
            if keep(&entry.file_name().to_string_lossy()) {
                continue;
            }
            let path = entry.path();
            freed += size(&path);
            crate::remove_tree(&path).map_err(Error::io(&path))?;
        }
        Ok(freed)
    }
}

/// Bytes on disk of a file or a tree, as far as they can be read.
fn size(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let (mut total, mut left) = (0, vec![path.to_owned()]);
    while let Some(path) = left.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        total += metadata.blocks() * 512;
        if metadata.is_dir() {
            left.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    total
}
