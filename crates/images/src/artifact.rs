//! A WebAssembly file made into an image: the CNCF's Wasm OCI artifact.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::SystemTime;

use jiff::Timestamp;
use oci_spec::image::{ANNOTATION_TITLE, Descriptor, ImageManifestBuilder, MediaType};
use serde_json::{Value, json};
use wasmparser::{Encoding, Parser, Payload};

use crate::content::MAGIC;
use crate::store::oci_digest;
use crate::{Digest, Error, Reference, Result, Store};

/// The media types of the layout.
const CONFIG: &str = "application/vnd.wasm.config.v0+json";
const LAYER: &str = "application/wasm";
/// Bytes of a program, which is read whole for what it imports and exports.
const MAX_PROGRAM: u64 = 512 << 20;

/// Whether a file begins as WebAssembly does.
pub(crate) fn is_wasm(path: &Path) -> Result<bool> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    if !file.metadata().map_err(Error::io(path))?.is_file() {
        return Ok(false);
    }
    let mut start = Vec::new();
    file.by_ref().take(MAGIC.len() as u64).read_to_end(&mut start).map_err(Error::io(path))?;
    Ok(start == MAGIC)
}

impl Store {
    /// Stores a WebAssembly file as an artifact, and returns the digest of its manifest. The same file gives the same, as
    /// long as its time of change is the same.
    pub(crate) fn import_wasm(&self, path: &Path) -> Result<Digest> {
        let mut file = File::open(path).map_err(Error::io(path))?;
        let changed = file.metadata().and_then(|found| found.modified()).map_err(Error::io(path))?;
        let mut bytes = Vec::new();
        file.by_ref().take(MAX_PROGRAM + 1).read_to_end(&mut bytes).map_err(Error::io(path))?;
        if bytes.len() as u64 > MAX_PROGRAM {
            return Err(Error::TooLarge { what: "WebAssembly file", limit: MAX_PROGRAM });
        }
        let (digest, size) = self.put(&bytes[..], None)?;
        let config = serde_json::to_vec(&config(&bytes, digest, changed)?).map_err(Error::invalid)?;
        let (config, config_size) = self.put(&config[..], None)?;
        let mut layer = Descriptor::new(MediaType::from(LAYER), size, oci_digest(digest)?);
        let name = path.file_name().and_then(|name| name.to_str()).filter(|name| name.ends_with(".wasm"));
        layer.set_annotations(name.map(|name| [(ANNOTATION_TITLE.to_owned(), name.to_owned())].into()));
        let manifest = ImageManifestBuilder::default()
            .schema_version(2u32)
            .media_type(MediaType::ImageManifest)
            .config(Descriptor::new(MediaType::from(CONFIG), config_size, oci_digest(config)?))
            .layers(vec![layer])
            .build()
            .map_err(Error::invalid)?;
        let manifest = serde_json::to_vec(&manifest).map_err(Error::invalid)?;
        Ok(self.put(&manifest[..], None)?.0)
    }

    /// Imports a WebAssembly file under a name.
    pub(crate) fn import_program(
        &self,
        path: &Path,
        name: Option<&Reference>,
    ) -> Result<(Digest, Vec<Reference>)> {
        let name =
            name.ok_or_else(|| Error::invalid("a WebAssembly file gives its image no name: give one"))?;
        Ok((self.import_wasm(path)?, vec![name.clone()]))
    }
}

fn config(program: &[u8], digest: Digest, changed: SystemTime) -> Result<Value> {
    let component = interfaces(program)?;
    let created = Timestamp::try_from(changed).map_err(Error::invalid)?;
    let created = Timestamp::from_second(created.as_second()).map_err(Error::invalid)?;
    Ok(json!({
        "created": created.to_string(),
        "author": null,
        "architecture": "wasm",
        "os": if component.is_some() { "wasip2" } else { "wasip1" },
        "layerDigests": [digest.to_string()],
        "component": component,
    }))
}

/// What a component imports and exports, as the layout wants it told; `None`: it is a core module.
fn interfaces(program: &[u8]) -> Result<Option<Value>> {
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(program) {
        match payload.map_err(Error::invalid)? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => return Ok(None),
            // What is inside the component is its own affair.
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    imports.push(import.map_err(Error::invalid)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.push(export.map_err(Error::invalid)?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(Some(json!({"exports": exports, "imports": imports, "target": null})))
}
