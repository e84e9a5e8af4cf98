//! Images made from memory: one layer, written as an OCI layout.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use oci_spec::image::{
    Arch, Config, Descriptor, ImageConfigurationBuilder, ImageIndexBuilder, ImageManifestBuilder, MediaType,
    Os, RootFsBuilder,
};

use crate::store::{self, NAME, oci_digest};
use crate::{Digest, Error, Reference, Result};

enum Content {
    Directory,
    File(Vec<u8>),
    Symlink(String),
}

/// Builds an image of one layer. The same input gives the same bytes, so the same digests.
#[derive(Default)]
pub struct ImageBuilder {
    files: BTreeMap<String, (u32, Content)>,
    config: Config,
}

/// An image in memory.
pub struct BuiltImage {
    /// Its id: the digest of its configuration.
    pub id: Digest,
    files: Vec<(String, Vec<u8>)>,
}

impl ImageBuilder {
    /// An image without files.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file; directories above it come by themselves, with mode 0755. The path is absolute inside the image.
    pub fn file(self, path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        self.entry(path, mode, Content::File(content.into()))
    }

    /// Adds an empty directory.
    pub fn directory(self, path: &str, mode: u32) -> Self {
        self.entry(path, mode, Content::Directory)
    }

    /// Adds a symbolic link.
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(path, 0o777, Content::Symlink(target.to_owned()))
    }

    fn entry(mut self, path: &str, mode: u32, content: Content) -> Self {
        let path = path.trim_matches('/').to_owned();
        for (slash, _) in path.match_indices('/') {
            self.files.entry(path[..slash].to_owned()).or_insert((0o755, Content::Directory));
        }
        self.files.insert(path, (mode, content));
        self
    }

    /// What runs, before the arguments.
    pub fn entrypoint<S: Into<String>>(self, words: impl IntoIterator<Item = S>) -> Self {
        let words = words.into_iter().map(Into::into).collect();
        self.configure(|config| {
            config.set_entrypoint(Some(words));
        })
    }

    /// The default arguments, or the default command where there is no entry point.
    pub fn cmd<S: Into<String>>(self, words: impl IntoIterator<Item = S>) -> Self {
        let words = words.into_iter().map(Into::into).collect();
        self.configure(|config| {
            config.set_cmd(Some(words));
        })
    }

    /// Adds a variable to the environment.
    pub fn env(self, name: &str, value: &str) -> Self {
        self.configure(|config| {
            let mut env = config.env().clone().unwrap_or_default();
            env.push(format!("{name}={value}"));
            config.set_env(Some(env));
        })
    }

    /// The working directory.
    pub fn working_dir(self, path: &str) -> Self {
        self.configure(|config| {
            config.set_working_dir(Some(path.to_owned()));
        })
    }

    /// The user: `name`, `uid`, `name:group`, `uid:gid`.
    pub fn user(self, user: &str) -> Self {
        self.configure(|config| {
            config.set_user(Some(user.to_owned()));
        })
    }

    /// The signal that asks it to stop.
    pub fn stop_signal(self, signal: &str) -> Self {
        self.configure(|config| {
            config.set_stop_signal(Some(signal.to_owned()));
        })
    }

    fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Makes the image and gives it a name.
    pub fn build(self, name: &Reference) -> Result<BuiltImage> {
        let layer = tar_of(&self.files).map_err(Error::invalid)?;
        let diff = Digest::of(&layer);
        let rootfs = RootFsBuilder::default().typ("layers").diff_ids(vec![diff.to_string()]).build();
        let config = ImageConfigurationBuilder::default()
            .architecture(Arch::from(crate::platform::architecture()))
            .os(Os::Linux)
            .config(self.config)
            .rootfs(rootfs.map_err(Error::invalid)?)
            .build()
            .map_err(Error::invalid)?;
        let mut files = vec![("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())];
        let mut blob = |media_type: MediaType, bytes: Vec<u8>| {
            let digest = Digest::of(&bytes);
            let descriptor = Descriptor::new(media_type, bytes.len() as u64, oci_digest(digest)?);
            files.push((format!("blobs/sha256/{}", digest.hex()), bytes));
            Ok::<_, Error>(descriptor)
        };
        let layer = blob(MediaType::ImageLayer, layer)?;
        let config = blob(MediaType::ImageConfig, serde_json::to_vec(&config).map_err(Error::invalid)?)?;
        let id = config.digest().to_string().parse()?;
        let manifest = ImageManifestBuilder::default()
            .schema_version(2u32)
            .media_type(MediaType::ImageManifest)
            .config(config)
            .layers(vec![layer])
            .build()
            .map_err(Error::invalid)?;
        let manifest = serde_json::to_vec(&manifest).map_err(Error::invalid)?;
        let mut entry = blob(MediaType::ImageManifest, manifest)?;
        entry.set_annotations(Some([(NAME.to_owned(), name.to_string())].into()));
        let index = ImageIndexBuilder::default().schema_version(2u32).manifests(vec![entry]).build();
        let index = serde_json::to_vec(&index.map_err(Error::invalid)?).map_err(Error::invalid)?;
        files.push(("index.json".to_owned(), index));
        Ok(BuiltImage { id, files })
    }
}

impl BuiltImage {
    /// Writes it as an OCI layout into this directory, which is made.
    pub fn write_layout(&self, directory: &Path) -> Result<()> {
        for (name, bytes) in &self.files {
            let path = directory.join(name);
            let parent = path.parent().unwrap_or(directory);
            fs::create_dir_all(parent).map_err(Error::io(parent))?;
            fs::write(&path, bytes).map_err(Error::io(&path))?;
        }
        store::sync_directory(directory)
    }

    /// Writes it as a tar of an OCI layout, as `monoplane image import` takes it.
    pub fn write_tar(&self, writer: impl Write) -> Result<()> {
        let mut tar = tar::Builder::new(writer);
        let mut write = || {
            for (name, bytes) in &self.files {
                append(&mut tar, name, 0o644, &Content::File(bytes.clone()))?;
            }
            tar.finish()
        };
        write().map_err(|error| Error::Io { path: "image.tar".into(), source: error })
    }
}

fn tar_of(files: &BTreeMap<String, (u32, Content)>) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    // A map's order puts a directory before what is in it.
    for (path, (mode, content)) in files {
        append(&mut tar, path, *mode, content)?;
    }
    tar.into_inner()
}

fn append(tar: &mut tar::Builder<impl Write>, path: &str, mode: u32, content: &Content) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    match content {
        Content::Directory => {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_size(0);
            tar.append_data(&mut header, format!("{path}/"), io::empty())
        }
        Content::File(bytes) => {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, path, bytes.as_slice())
        }
        Content::Symlink(target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            tar.append_link(&mut header, path, target)
        }
    }
}
