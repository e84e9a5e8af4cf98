//! The content store: blobs by digest, and names that point at manifests.

use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use oci_spec::image::{Arch, Descriptor, ImageConfiguration, ImageIndex, ImageManifest};
use rustix::fs::FlockOperation;

use crate::content::{Content, Reading};
use crate::digest::Hashing;
use crate::document::{self, Document};
use crate::{Digest, Error, Reference, Result, platform};

/// The annotation of an index entry that has its image stay (containerd's word for it).
const PINNED: &str = "io.cri-containerd.pinned";
/// How deep indexes may be nested.
pub(crate) const MAX_DEPTH: u8 = 4;

/// The annotation of an index entry that holds the image's full name (containerd's word for it).
pub(crate) const NAME: &str = "io.containerd.image.name";

/// How much of an image the store accepts. What is over a limit is refused, not cut.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of one index, manifest or configuration.
    pub document_bytes: u64,
    /// Bytes of one blob, of an archive once decompressed, and of an image's files once unpacked.
    pub image_bytes: u64,
    /// Bytes of one layer once unpacked: of its stream, and of the files that it makes.
    pub layer_bytes: u64,
    /// Bytes of the names of one layer's directories, which are held in memory.
    pub path_bytes: u64,
    /// Entries of one layer.
    pub layer_entries: u64,
    /// Layers of one image: overlayfs takes 500, mount's options a page.
    pub layers: usize,
    /// Files of an archive that holds images.
    pub archive_members: u64,
}

impl Default for Limits {
    fn default() -> Self {
        const GIB: u64 = 1 << 30;
        Self {
            document_bytes: 4 << 20,
            image_bytes: 64 * GIB,
            layer_bytes: 64 * GIB,
            path_bytes: 64 << 20,
            layer_entries: 2_000_000,
            layers: 127,
            archive_members: 100_000,
        }
    }
}

/// An image that the store holds.
#[derive(Clone, Debug)]
pub struct StoredImage {
    /// Its id: the digest of its configuration; of an artifact, which may share its configuration with any other, the
    /// digest of its manifest.
    pub id: Digest,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// What its names point at: the manifest, or an index that offers it among others.
    pub target: Digest,
    /// Names that point at it, sorted.
    pub names: Vec<Reference>,
    /// Bytes of its layers as stored.
    pub size: u64,
    /// Whether it stays though nobody uses it.
    pub pinned: bool,
    /// Its configuration; of an artifact, the one that it amounts to.
    pub config: ImageConfiguration,
    pub(crate) layers: Vec<Descriptor>,
    /// What each of the layers comes to.
    pub(crate) contents: Vec<Content>,
}

/// An image store on disk.
#[derive(Debug)]
pub struct Store {
    pub(crate) root: PathBuf,
    pub(crate) limits: Limits,
}

impl Store {
    /// Opens the store in this directory, or makes it. What crashed writers left behind is removed.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        Self::open_with(root, Limits::default())
    }

    /// Opens it with limits of one's own.
    pub fn open_with(root: impl Into<PathBuf>, limits: Limits) -> Result<Self> {
        let store = Self { root: root.into(), limits };
        for directory in ["blobs/sha256", "layers/sha256", "locks", "partial", "work"] {
            let path = store.root.join(directory);
            fs::create_dir_all(&path).map_err(Error::io(&path))?;
        }
        let layout = store.root.join("oci-layout");
        if !layout.exists() {
            store.replace(&layout, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        store.sweep()?;
        Ok(store)
    }

    /// Where the store is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// All images, by name.
    pub fn list(&self) -> Result<Vec<StoredImage>> {
        self.list_where(|_, _| true)
    }

    fn list_where(&self, wanted: impl Fn(Digest, Option<&Reference>) -> bool) -> Result<Vec<StoredImage>> {
        let mut images: Vec<StoredImage> = Vec::new();
        for entry in self.index()?.manifests() {
            let target: Digest = entry.digest().to_string().parse()?;
            let name = name_of(entry);
            if !wanted(target, name.as_ref()) {
                continue;
            }
            if let Some(known) = images.iter_mut().find(|image| image.target == target) {
                known.names.extend(name);
                known.names.sort();
                known.pinned |= is_pinned(entry);
                continue;
            }
            match self.load(target, name) {
                Ok(image) => images.push(StoredImage { pinned: is_pinned(entry), ..image }),
                // One damaged image must not hide the others.
                Err(error) => tracing::warn!(manifest = %target, %error, "image left out of the list"),
            }
        }
        images.sort_by(|a, b| a.names.cmp(&b.names));
        Ok(images)
    }

    /// The image of this name, name with digest, or id (`sha256:…` or its hexadecimal part), with all its names.
    pub fn find(&self, image: &str) -> Result<Option<StoredImage>> {
        let id = match image.len() {
            64 => format!("sha256:{image}").parse::<Digest>().ok(),
            _ => image.parse::<Digest>().ok(),
        };
        if let Some(id) = id {
            let fits = |image: &StoredImage| image.id == id || image.manifest == id || image.target == id;
            return Ok(self.list()?.into_iter().find(fits));
        }
        let wanted: Reference = image.parse()?;
        if wanted.digest().is_none() {
            let index = self.index()?;
            let entry = index.manifests().iter().find(|entry| name_of(entry).as_ref() == Some(&wanted));
            let Some(entry) = entry else { return Ok(None) };
            let digest: Digest = entry.digest().to_string().parse()?;
            return Ok(self.list_where(|target, _| target == digest)?.pop());
        }
        Ok(self.list()?.into_iter().find(|image| {
            [Some(image.manifest), Some(image.target)].contains(&wanted.digest())
                && image.names.iter().any(|name| name.repository() == wanted.repository())
        }))
    }

    /// Points a name at a manifest or an index that the store holds; the name leaves what it pointed at before.
    pub fn tag(&self, target: Digest, name: &Reference) -> Result<()> {
        let document = self.document(target)?;
        let (size, media_type) = (document.len() as u64, document::media_type(&document)?);
        self.change_index(|manifests| {
            let same = |entry: &&Descriptor| entry.digest().to_string() == target.to_string();
            let pinned = manifests.iter().filter(same).any(is_pinned);
            manifests.retain(|entry| name_of(entry).as_ref() != Some(name));
            let mut entry = Descriptor::new(media_type, size, oci_digest(target)?);
            let pinned = pinned.then(|| (PINNED.to_owned(), "pinned".to_owned()));
            let named = [(NAME.to_owned(), name.to_string())].into_iter().chain(pinned);
            entry.set_annotations(Some(named.collect()));
            manifests.push(entry);
            Ok(())
        })
    }

    /// Has an image stay, or not any more, though nobody uses it.
    pub fn pin(&self, image: &StoredImage, pinned: bool) -> Result<()> {
        let target = image.target.to_string();
        self.change_index(|manifests| {
            for entry in manifests.iter_mut().filter(|entry| entry.digest().to_string() == target) {
                let mut annotations = entry.annotations().clone().unwrap_or_default();
                match pinned {
                    true => drop(annotations.insert(PINNED.to_owned(), "pinned".to_owned())),
                    false => drop(annotations.remove(PINNED)),
                }
                entry.set_annotations(Some(annotations));
            }
            Ok(())
        })
    }

    /// Forgets a name. The blobs stay until no name needs them and [`Store::prune`] runs.
    pub fn untag(&self, name: &Reference) -> Result<bool> {
        let mut found = false;
        self.change_index(|manifests| {
            let before = manifests.len();
            manifests.retain(|entry| name_of(entry).as_ref() != Some(name));
            found = manifests.len() < before;
            Ok(())
        })?;
        Ok(found)
    }

    /// Stores a stream under its digest; refuses it if that is not `expected`.
    pub(crate) fn put(&self, reader: impl Read, expected: Option<Digest>) -> Result<(Digest, u64)> {
        let blobs = self.root.join("blobs/sha256");
        let mut file = tempfile::NamedTempFile::new_in(self.root.join("work")).map_err(Error::io(&blobs))?;
        let mut reader = Hashing::new(reader, self.limits.image_bytes);
        std::io::copy(&mut reader, &mut file).map_err(|error| match error.kind() {
            std::io::ErrorKind::FileTooLarge => {
                Error::TooLarge { what: "blob", limit: self.limits.image_bytes }
            }
            _ => Error::Io { path: blobs.clone(), source: error },
        })?;
        let size = reader.seen();
        let digest = reader.digest();
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            return Err(Error::Invalid(format!("a blob should be {expected} and is {digest}")));
        }
        file.as_file().sync_data().map_err(Error::io(&blobs))?;
        let path = self.blob_path(digest);
        file.persist(&path).map_err(|error| Error::Io { path: path.clone(), source: error.error })?;
        sync_directory(&blobs)?;
        Ok((digest, size))
    }

    pub(crate) fn blob_path(&self, digest: Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    pub(crate) fn open_blob(&self, digest: Digest) -> Result<BufReader<File>> {
        let path = self.blob_path(digest);
        Ok(BufReader::with_capacity(1 << 16, File::open(&path).map_err(Error::io(&path))?))
    }

    /// An index, manifest or configuration, verified.
    pub(crate) fn document(&self, digest: Digest) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let limit = self.limits.document_bytes;
        let path = self.blob_path(digest);
        self.open_blob(digest)?.take(limit + 1).read_to_end(&mut bytes).map_err(Error::io(&path))?;
        if bytes.len() as u64 > limit {
            return Err(Error::TooLarge { what: "manifest or configuration", limit });
        }
        match Digest::of(&bytes) == digest {
            true => Ok(bytes),
            false => Err(Error::Invalid(format!("the stored blob {digest} is damaged"))),
        }
    }

    /// The manifest for this machine that a manifest or index leads to, with its digest.
    pub(crate) fn resolve(&self, mut digest: Digest) -> Result<(Digest, ImageManifest)> {
        for _ in 0..MAX_DEPTH {
            match Document::parse(&self.document(digest)?)? {
                Document::Manifest(manifest) => return Ok((digest, *manifest)),
                Document::Index(index) => {
                    digest = platform::pick(index.manifests())?.digest().to_string().parse()?;
                }
            }
        }
        Err(Error::invalid("indexes are nested too deeply"))
    }

    fn load(&self, target: Digest, name: Option<Reference>) -> Result<StoredImage> {
        let (digest, manifest) = self.resolve(target)?;
        let Reading { id, config, contents } = self.read(digest, &manifest)?;
        let layers = manifest.layers().clone();
        if layers.len() > self.limits.layers {
            return Err(Error::TooLarge { what: "number of layers", limit: self.limits.layers as u64 });
        }
        let (os, architecture) = (config.os().to_string(), config.architecture().to_string());
        let portable = *config.architecture() == Arch::Wasm;
        if !portable && (os != "linux" || architecture != platform::architecture()) {
            let wanted = format!("linux/{}", platform::architecture());
            return Err(Error::Platform { wanted, offered: format!("{os}/{architecture}") });
        }
        let size = layers.iter().map(Descriptor::size).fold(0, u64::saturating_add);
        let pinned = false;
        Ok(StoredImage {
            id,
            manifest: digest,
            target,
            pinned,
            names: name.into_iter().collect(),
            size,
            config,
            layers,
            contents,
        })
    }

    /// Reads what was just stored, as [`Store::list`] will, to refuse what could not be used.
    pub(crate) fn check(&self, target: Digest) -> Result<StoredImage> {
        self.load(target, None)
    }

    pub(crate) fn index(&self) -> Result<ImageIndex> {
        let path = self.root.join("index.json");
        match fs::read(&path) {
            Ok(bytes) => parse(&bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut empty = ImageIndex::default();
                empty.set_schema_version(2);
                empty.set_manifests(Vec::new());
                Ok(empty)
            }
            Err(error) => Err(Error::Io { path, source: error }),
        }
    }

    pub(crate) fn change_index(&self, change: impl FnOnce(&mut Vec<Descriptor>) -> Result<()>) -> Result<()> {
        let _one_at_a_time = self.lock("index.lock", FlockOperation::LockExclusive)?;
        let mut index = self.index()?;
        let mut manifests = index.manifests().clone();
        change(&mut manifests)?;
        index.set_manifests(manifests);
        let bytes = serde_json::to_vec(&index).map_err(Error::invalid)?;
        self.replace(&self.root.join("index.json"), &bytes)
    }

    /// Writes a small file so that a crash leaves the old one or the new one.
    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(self.root.join("work")).map_err(Error::io(path))?;
        file.write_all(bytes).map_err(Error::io(path))?;
        file.as_file().sync_all().map_err(Error::io(path))?;
        file.persist(path).map_err(|error| Error::Io { path: path.to_owned(), source: error.error })?;
        sync_directory(&self.root)
    }

    /// Held shared by whoever writes blobs or layers until a name leads to them, and alone by who removes some.
    pub(crate) fn writers(&self, how: FlockOperation) -> Result<File> {
        self.lock("writers.lock", how)
    }

    /// A lock among all processes that have this store open; released on drop.
    pub(crate) fn lock(&self, name: &str, how: FlockOperation) -> Result<File> {
        let path = self.root.join(name);
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(Error::io(&path))?;
        rustix::fs::flock(&file, how).map_err(Error::os(&path))?;
        Ok(file)
    }

    /// Removes what writers that crashed left in `work`, if nobody writes now.
    fn sweep(&self) -> Result<()> {
        let Ok(_nobody_writes) = self.writers(FlockOperation::NonBlockingLockExclusive) else {
            return Ok(());
        };
        let work = self.root.join("work");
        for entry in fs::read_dir(&work).map_err(Error::io(&work))? {
            let path = entry.map_err(Error::io(&work))?.path();
            if let Err(error) = crate::remove_tree(&path) {
                tracing::warn!(path = %path.display(), %error, "a left-over of the image store stays");
            }
        }
        Ok(())
    }
}

/// Makes a directory's entries durable.
pub(crate) fn sync_directory(path: &Path) -> Result<()> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(Error::io(path))
}

pub(crate) fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(Error::invalid)
}

/// Our digest as the OCI types want it.
pub(crate) fn oci_digest(digest: Digest) -> Result<oci_spec::image::Digest> {
    digest.to_string().parse().map_err(Error::invalid)
}

fn is_pinned(entry: &Descriptor) -> bool {
    entry.annotations().as_ref().is_some_and(|annotations| annotations.contains_key(PINNED))
}

pub(crate) fn name_of(entry: &Descriptor) -> Option<Reference> {
    entry.annotations().as_ref()?.get(NAME)?.parse().ok()
}
