//! Import: OCI layouts (directory or tar) and `docker save` archives.

use std::io::{BufReader, Read};
use std::path::Path;

use oci_spec::image::{
    Descriptor, ImageConfiguration, ImageIndex, ImageManifest, ImageManifestBuilder, MediaType,
};
use rustix::fs::FlockOperation;
use serde::Deserialize;

use crate::archive::Archive;
use crate::document::Document;
use crate::store::{self, MAX_DEPTH, NAME, oci_digest};
use crate::{Digest, Error, Reference, Result, Store, StoredImage, artifact, layer, platform};

/// One image of a docker-archive's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

impl Store {
    /// Imports all images of an OCI layout (a directory or a tar) or of a `docker save` archive; the tar may be
    /// compressed; or a WebAssembly file, which becomes an artifact. `name` replaces the names that the archive gives, and must be given where it gives none.
    ///
    /// An image appears under its name when all of it is on disk, or not at all.
    pub fn import(&self, path: &Path, name: Option<&Reference>) -> Result<Vec<StoredImage>> {
        let _writing = self.writers(FlockOperation::LockShared)?;
        let found = match artifact::is_wasm(path)? {
            true => vec![self.import_program(path, name)?],
            false => self.import_archive(&Archive::open(path, &self.root.join("work"), &self.limits)?)?,
        };
        let mut images = Vec::new();
        for (manifest, names) in found {
            let mut image = self.check(manifest)?;
            image.names = match name {
                Some(name) => vec![name.clone()],
                None => names,
            };
            if image.names.is_empty() {
                return Err(Error::invalid("the archive gives the image no name: give one"));
            }
            images.push(image);
        }
        match images.as_slice() {
            [] => Err(Error::invalid("the archive holds no image")),
            [_, _, ..] if name.is_some() => Err(Error::invalid(
                "the archive holds several images, which cannot all have the one name given",
            )),
            _ => {
                for image in &images {
                    image.names.iter().try_for_each(|name| self.tag(image.target, name))?;
                }
                Ok(images)
            }
        }
    }

    fn import_archive(&self, archive: &Archive) -> Result<Vec<(Digest, Vec<Reference>)>> {
        if archive.has("index.json") {
            self.import_layout(archive)
        } else if archive.has("manifest.json") {
            self.import_docker(archive)
        } else {
            Err(Error::invalid(
                "neither an OCI layout (index.json), nor a docker archive (manifest.json), nor a WebAssembly file",
            ))
        }
    }

    fn import_layout(&self, archive: &Archive) -> Result<Vec<(Digest, Vec<Reference>)>> {
        let index: ImageIndex = store::parse(&archive.document("index.json", &self.limits)?)?;
        let mut found: Vec<(Digest, Vec<Reference>)> = Vec::new();
        for entry in index.manifests() {
            let manifest = self.import_entry(archive, entry, MAX_DEPTH)?;
            let name = layout_name(entry);
            match found.iter_mut().find(|(known, _)| *known == manifest) {
                Some((_, names)) => names.extend(name),
                None => found.push((manifest, name.into_iter().collect())),
            }
        }
        Ok(found)
    }

    /// Stores what an index entry leads to, with all it needs. Of an index all images come that the archive holds.
    fn import_entry(&self, archive: &Archive, entry: &Descriptor, depth: u8) -> Result<Digest> {
        let digest: Digest = entry.digest().to_string().parse()?;
        let bytes = archive.document(&blob_name(digest), &self.limits)?;
        if Digest::of(&bytes) != digest {
            return Err(Error::Invalid(format!("the archive's blob {digest} is damaged")));
        }
        match Document::parse(&bytes)? {
            Document::Index(_) if depth == 0 => return Err(Error::invalid("indexes are nested too deeply")),
            Document::Index(index) => {
                let fitting = platform::pick(index.manifests())?.digest().clone();
                for child in index.manifests() {
                    let digest: Digest = child.digest().to_string().parse()?;
                    if *child.digest() == fitting || archive.has(&blob_name(digest)) {
                        self.import_entry(archive, child, depth - 1)?;
                    }
                }
            }
            Document::Manifest(manifest) => self.import_blobs(archive, &manifest)?,
        }
        self.put(&bytes[..], Some(digest))?;
        Ok(digest)
    }

    fn import_blobs(&self, archive: &Archive, manifest: &ImageManifest) -> Result<()> {
        if manifest.layers().len() > self.limits.layers {
            return Err(Error::TooLarge { what: "number of layers", limit: self.limits.layers as u64 });
        }
        for blob in std::iter::once(manifest.config()).chain(manifest.layers()) {
            let digest: Digest = blob.digest().to_string().parse()?;
            let (_, size) = self.put(archive.open_member(&blob_name(digest))?, Some(digest))?;
            if size != blob.size() {
                return Err(Error::Invalid(format!("blob {digest} has {size} bytes, not {}", blob.size())));
            }
        }
        Ok(())
    }

    fn import_docker(&self, archive: &Archive) -> Result<Vec<(Digest, Vec<Reference>)>> {
        let images: Vec<DockerImage> = store::parse(&archive.document("manifest.json", &self.limits)?)?;
        let mut found = Vec::new();
        for image in images {
            let names = image.repo_tags.iter().flatten().map(|name| name.parse());
            let names = names.collect::<Result<Vec<Reference>, _>>()?;
            found.push((self.import_docker_image(archive, &image)?, names));
        }
        Ok(found)
    }

    /// A docker archive has no manifest of its own; this writes the one that its parts amount to.
    fn import_docker_image(&self, archive: &Archive, image: &DockerImage) -> Result<Digest> {
        if image.layers.len() > self.limits.layers {
            return Err(Error::TooLarge { what: "number of layers", limit: self.limits.layers as u64 });
        }
        let bytes = archive.document(&image.config, &self.limits)?;
        store::parse::<ImageConfiguration>(&bytes)?;
        let (config, size) = self.put(&bytes[..], None)?;
        let config = Descriptor::new(MediaType::ImageConfig, size, oci_digest(config)?);
        let mut layers = Vec::new();
        for name in &image.layers {
            let (digest, size) = self.put(archive.open_member(name)?, None)?;
            layers.push(Descriptor::new(self.layer_type(digest)?, size, oci_digest(digest)?));
        }
        let manifest = ImageManifestBuilder::default()
            .schema_version(2u32)
            .media_type(MediaType::ImageManifest)
            .config(config)
            .layers(layers)
            .build()
            .map_err(Error::invalid)?;
        let bytes = serde_json::to_vec(&manifest).map_err(Error::invalid)?;
        Ok(self.put(&bytes[..], None)?.0)
    }

    fn layer_type(&self, digest: Digest) -> Result<MediaType> {
        let mut blob = self.open_blob(digest)?.into_inner();
        Ok(match layer::sniff(&mut blob).map_err(Error::io(&self.blob_path(digest)))? {
            layer::Compression::None => MediaType::ImageLayer,
            layer::Compression::Gzip => MediaType::ImageLayerGzip,
            layer::Compression::Zstd => MediaType::ImageLayerZstd,
        })
    }

    /// The plain bytes of a stored layer.
    pub(crate) fn layer_stream(&self, digest: Digest) -> Result<impl Read + use<>> {
        layer::decompress(BufReader::new(self.open_blob(digest)?)).map_err(Error::io(&self.blob_path(digest)))
    }
}

fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The name that a layout gives an entry: containerd's and docker's annotation, or OCI's if it is more than a tag.
fn layout_name(entry: &Descriptor) -> Option<Reference> {
    let annotations = entry.annotations().as_ref()?;
    if let Some(name) = annotations.get(NAME) {
        return name.parse().ok();
    }
    let name = annotations.get(oci_spec::image::ANNOTATION_REF_NAME)?;
    if name.contains(['/', ':']) { name.parse().ok() } else { None }
}
