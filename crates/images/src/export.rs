//! Export: an OCI layout in a tar that `docker load` takes too.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};

use oci_spec::image::{ANNOTATION_REF_NAME, Descriptor, ImageIndexBuilder};
use serde_json::json;

use crate::registry::push::Closed;
use crate::store::{NAME, oci_digest};
use crate::{Digest, Error, Reference, Result, Store, StoredImage, document};

impl Store {
    /// Writes images as a tar: an OCI layout, and beside it the `manifest.json` that docker goes by. Of an index all is
    /// written if the store holds all of it, else this machine's image alone. Each is given the names that it has, or
    /// those of them that are asked for.
    pub fn export(&self, images: &[(StoredImage, Vec<Reference>)], writer: impl Write) -> Result<()> {
        let _kept = self.hold()?;
        let mut tar = tar::Builder::new(writer);
        let (mut written, mut entries, mut docker) = (BTreeSet::new(), Vec::new(), Vec::new());
        file(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        for (image, names) in images {
            let documents = self.closure(image.target).or_else(|_| self.closure(image.manifest))?;
            for document in &documents {
                self.write_document(&mut tar, document, &mut written)?;
            }
            let Some(top) = documents.last() else { continue };
            let named: Vec<Option<&Reference>> = match names.as_slice() {
                [] => vec![None],
                names => names.iter().map(Some).collect(),
            };
            for name in named {
                entries.push(entry(top, name)?);
            }
            if image.is_artifact() {
                // Docker knows nothing of the kind.
                continue;
            }
            let tags = names.iter().filter(|name| name.digest().is_none()).map(ToString::to_string);
            docker.push(json!({
                "Config": blob_name(image.id),
                "RepoTags": tags.collect::<Vec<_>>(),
                "Layers": image.layers.iter().map(|layer| format!("blobs/sha256/{}", layer.digest().digest())).collect::<Vec<_>>(),
            }));
        }
        let index = ImageIndexBuilder::default().schema_version(2u32).manifests(entries).build();
        let index = serde_json::to_vec(&index.map_err(Error::invalid)?).map_err(Error::invalid)?;
        file(&mut tar, "index.json", &index)?;
        file(&mut tar, "manifest.json", &serde_json::to_vec(&docker).map_err(Error::invalid)?)?;
        tar.into_inner().and_then(|mut writer| writer.flush()).map_err(failed)
    }

    fn write_document(
        &self,
        tar: &mut tar::Builder<impl Write>,
        document: &Closed,
        written: &mut BTreeSet<Digest>,
    ) -> Result<()> {
        for blob in &document.blobs {
            let digest: Digest = blob.digest().to_string().parse()?;
            if written.insert(digest) {
                let path = self.blob_path(digest);
                let mut content = File::open(&path).map_err(Error::io(&path))?;
                let mut header = header(blob.size());
                tar.append_data(&mut header, blob_name(digest), &mut content).map_err(failed)?;
            }
        }
        if written.insert(document.digest) {
            file(tar, &blob_name(document.digest), &document.bytes)?;
        }
        Ok(())
    }
}

fn entry(top: &Closed, name: Option<&Reference>) -> Result<Descriptor> {
    let kind = document::media_type(&top.bytes)?;
    let mut entry = Descriptor::new(kind, top.bytes.len() as u64, oci_digest(top.digest)?);
    if let Some(name) = name {
        let tag = name.tag().map(|tag| (ANNOTATION_REF_NAME.to_owned(), tag.to_owned()));
        let named = [(NAME.to_owned(), name.to_string())].into_iter().chain(tag);
        entry.set_annotations(Some(named.collect()));
    }
    Ok(entry)
}

fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header
}

fn file(tar: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8]) -> Result<()> {
    tar.append_data(&mut header(bytes.len() as u64), name, bytes).map_err(failed)
}

fn failed(source: io::Error) -> Error {
    Error::Io { path: "archive".into(), source }
}
