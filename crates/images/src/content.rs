//! What an image's layers come to: archives of files, or a WebAssembly program.
//!
//! A program's layer is no archive of files, it is the file. It is unpacked as an archive of that file alone would be, and
//! its image has a configuration that says to run it, made up where the image is an artifact that has none: from there on
//! it is an image like any other. Three layouts are about:
//!
//! - the CNCF's Wasm OCI artifact: a configuration of its own, one layer `application/wasm`;
//! - wasm-to-oci's, which is older, and what other tools push with types of the kind: the configuration may be empty;
//! - runwasi's: an ordinary image's configuration, with a program among its layers.

use std::io::{BufRead, Cursor, Read};
use std::path::{Component, Path, PathBuf};

use oci_spec::image::{
    Arch, Descriptor, ImageConfiguration, ImageConfigurationBuilder, ImageManifest, MediaType, Os,
    RootFsBuilder,
};

use crate::{Digest, Error, Result, Store, StoredImage, store};

/// Layers that are a program.
const PROGRAMS: [&str; 3] = [
    "application/wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
];
/// Docker's word for the configuration of an image.
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// What a program is called that brings no name.
const NAMELESS: &str = "module.wasm";
/// The longest name that a file may have, in bytes.
const MAX_NAME: usize = 255;
/// How every WebAssembly file begins.
pub(crate) const MAGIC: &[u8] = b"\0asm";
/// A tar's unit, in bytes.
const BLOCK: u64 = 512;

/// What one layer comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// The files of a tar of which the plain bytes have this digest.
    Files { diff: Digest },
    /// A program, which lies at this path, relative to the root.
    Program { digest: Digest, path: PathBuf },
    /// Nothing that belongs into a file system: what an artifact has beside its program.
    Aside,
}

/// What a manifest stands for.
pub(crate) struct Reading {
    /// The image's id.
    pub(crate) id: Digest,
    pub(crate) config: ImageConfiguration,
    /// What each of the manifest's layers comes to.
    pub(crate) contents: Vec<Content>,
}

impl Content {
    /// What it adds to the layers below, as a digest; `None`: nothing.
    pub(crate) fn diff(&self) -> Option<Digest> {
        match self {
            Self::Files { diff } => Some(*diff),
            // The same program at two places is two layers.
            Self::Program { digest, path } => {
                Some(Digest::of(format!("program {digest} {}", path.display()).as_bytes()))
            }
            Self::Aside => None,
        }
    }
}

impl StoredImage {
    /// Whether it is a WebAssembly program, which no kernel executes.
    pub fn is_wasm(&self) -> bool {
        *self.config.architecture() == Arch::Wasm
            || self.contents.iter().any(|content| matches!(content, Content::Program { .. }))
    }

    /// Whether it is an artifact: its configuration is not an image's.
    pub(crate) fn is_artifact(&self) -> bool {
        self.id == self.manifest
    }
}

impl Store {
    /// Reads what a manifest with that digest stands for.
    pub(crate) fn read(&self, digest: Digest, manifest: &ImageManifest) -> Result<Reading> {
        let config_id: Digest = manifest.config().digest().to_string().parse()?;
        let kind = manifest.config().media_type();
        let programs: Vec<&Descriptor> = manifest.layers().iter().filter(|layer| is_program(layer)).collect();
        match programs.as_slice() {
            [_, _, ..] => {
                Err(Error::invalid("it holds several WebAssembly programs, and does not say which to run"))
            }
            [program] if !is_image(kind) => artifact(digest, manifest, program),
            _ => {
                let read = store::parse(&self.document(config_id)?);
                let mut config: ImageConfiguration = match read {
                    Err(Error::Invalid(why)) if !is_image(kind) => {
                        return Err(Error::Invalid(format!(
                            "an artifact of the type {kind}, neither an image nor a WebAssembly program ({why})"
                        )));
                    }
                    read => read?,
                };
                let contents = image(&mut config, manifest, programs.first().copied())?;
                Ok(Reading { id: config_id, config, contents })
            }
        }
    }

    /// The bytes of a program's layer.
    pub(crate) fn program(&self, digest: Digest) -> Result<impl Read + use<>> {
        let mut blob = self.open_blob(digest)?;
        match blob.fill_buf().map_err(Error::io(&self.blob_path(digest)))?.starts_with(MAGIC) {
            true => Ok(blob),
            false => Err(Error::Invalid(format!("layer {digest} is said to be WebAssembly and is not"))),
        }
    }
}

fn is_program(layer: &Descriptor) -> bool {
    PROGRAMS.contains(&layer.media_type().to_string().as_str())
}

fn is_image(kind: &MediaType) -> bool {
    *kind == MediaType::ImageConfig || kind.to_string() == DOCKER_CONFIG
}

/// An artifact says nothing of how it is run, and many have the same empty configuration: its manifest tells it from others.
fn artifact(id: Digest, manifest: &ImageManifest, program: &Descriptor) -> Result<Reading> {
    let digest: Digest = program.digest().to_string().parse()?;
    let rootfs = RootFsBuilder::default().typ("layers").diff_ids(vec![digest.to_string()]).build();
    let mut config = ImageConfigurationBuilder::default()
        .architecture(Arch::Wasm)
        .os(Os::Other("wasi".to_owned()))
        .rootfs(rootfs.map_err(Error::invalid)?)
        .build()
        .map_err(Error::invalid)?;
    let path = PathBuf::from(name(program));
    run(&mut config, &path);
    let of = |layer: &Descriptor| match is_program(layer) {
        true => Content::Program { digest, path: path.clone() },
        false => Content::Aside,
    };
    Ok(Reading { id, config, contents: manifest.layers().iter().map(of).collect() })
}

/// An ordinary image, of which one layer may be a program.
fn image(
    config: &mut ImageConfiguration,
    manifest: &ImageManifest,
    program: Option<&Descriptor>,
) -> Result<Vec<Content>> {
    let layers = manifest.layers();
    let diffs = config.rootfs().diff_ids().clone();
    // Builders of images that are nothing but a program differ on whether it has a place in this list.
    if layers.len() != diffs.len() && !(layers.len() == 1 && program.is_some()) {
        return Err(Error::invalid("the configuration names another number of layers than the manifest"));
    }
    let path = program.map(|program| {
        asked(config).unwrap_or_else(|| {
            let path = PathBuf::from(name(program));
            run(config, &path);
            path
        })
    });
    let of = |(index, layer): (usize, &Descriptor)| match &path {
        Some(path) if is_program(layer) => {
            Ok(Content::Program { digest: layer.digest().to_string().parse()?, path: path.clone() })
        }
        _ => Ok(Content::Files { diff: diffs.get(index).map(String::as_str).unwrap_or_default().parse()? }),
    };
    layers.iter().enumerate().map(of).collect()
}

/// The file that the configuration says to run, relative to the root.
fn asked(config: &ImageConfiguration) -> Option<PathBuf> {
    let config = config.config().as_ref()?;
    let words = config.entrypoint().iter().chain(config.cmd()).flatten();
    let first = words.map(String::as_str).find(|word| !word.is_empty())?;
    let path = Path::new("/").join(config.working_dir().as_deref().unwrap_or_default()).join(first);
    let parts = path.components().skip(1);
    let names: Option<PathBuf> = parts
        .map(|part| match part {
            Component::Normal(name) if name.len() <= MAX_NAME => Some(name),
            _ => None,
        })
        .collect();
    names.filter(|path| !path.as_os_str().is_empty())
}

/// The name that a program's layer brings along, as a file's.
fn name(program: &Descriptor) -> String {
    let title = program.annotations().as_ref().and_then(|all| all.get(oci_spec::image::ANNOTATION_TITLE));
    let name = title.and_then(|title| Path::new(title).file_name()?.to_str());
    let name = name.filter(|name| name.len() <= MAX_NAME && !name.contains('\0'));
    name.unwrap_or(NAMELESS).to_owned()
}

fn run(config: &mut ImageConfiguration, path: &Path) {
    let mut of = config.config().clone().unwrap_or_default();
    of.set_entrypoint(Some(vec![format!("/{}", path.display())]));
    config.set_config(Some(of));
}

/// A tar of one file of so many bytes.
pub(crate) fn tar_of_one<'a>(
    path: &Path,
    size: u64,
    file: impl Read + 'a,
) -> std::io::Result<impl Read + 'a> {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let mut head = tar::Builder::new(Vec::new());
    head.append_data(&mut header, path, std::io::empty())?;
    let head = std::mem::take(head.get_mut());
    // To the end of the block, and the two empty ones that end a tar.
    let tail = std::io::repeat(0).take(size.next_multiple_of(BLOCK) - size + 2 * BLOCK);
    Ok(Cursor::new(head).chain(file.take(size)).chain(tail))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(words: serde_json::Value) -> ImageConfiguration {
        let config = json!({
            "architecture": "wasm", "os": "wasi", "config": words,
            "rootfs": {"type": "layers", "diff_ids": []},
        });
        serde_json::from_value(config).unwrap()
    }

    #[test]
    fn a_program_lies_where_its_image_says_to_run_it_and_nowhere_outside() {
        let at = |words| asked(&config(words)).map(|path| path.display().to_string());
        let found = |path: &str| Some(path.to_owned());
        assert_eq!(at(json!({"Entrypoint": ["/app/a.wasm", "x"]})), found("app/a.wasm"));
        assert_eq!(at(json!({"Entrypoint": ["a.wasm"], "WorkingDir": "/app"})), found("app/a.wasm"));
        assert_eq!(at(json!({"Entrypoint": [""], "Cmd": ["./a.wasm"]})), found("a.wasm"));
        for words in [json!({}), json!({"Entrypoint": ["../a"]}), json!({"Entrypoint": ["/"]})] {
            assert_eq!(at(words.clone()), None, "{words}");
        }
    }

    #[test]
    fn names_are_names_of_files() {
        let layer = |title: &str| -> Descriptor {
            let digest = Digest::of(b"").to_string();
            let layer = json!({
                "mediaType": "application/wasm", "digest": digest, "size": 0,
                "annotations": {"org.opencontainers.image.title": title},
            });
            serde_json::from_value(layer).unwrap()
        };
        assert_eq!(name(&layer("hello.wasm")), "hello.wasm");
        assert_eq!(name(&layer("target/out/hello.wasm")), "hello.wasm");
        for odd in ["", "..", "/", "a\0b", &"x".repeat(300)] {
            assert_eq!(name(&layer(odd)), NAMELESS, "{odd:?}");
        }
    }

    #[test]
    fn a_tar_of_one_file_is_one() {
        for (path, size) in [("a.wasm".to_owned(), 512), (format!("{}/b", "deep/".repeat(40)), 700)] {
            let bytes = vec![7; size];
            let made = tar_of_one(Path::new(&path), size as u64, &bytes[..]).unwrap();
            let mut archive = tar::Archive::new(made);
            let mut entries = archive.entries().unwrap();
            let mut entry = entries.next().unwrap().unwrap();
            assert_eq!(entry.path().unwrap(), Path::new(&path));
            let mut found = Vec::new();
            entry.read_to_end(&mut found).unwrap();
            assert_eq!(found, bytes);
            assert!(entries.next().is_none());
        }
    }
}
