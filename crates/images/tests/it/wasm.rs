//! Images that are WebAssembly programs, in each layout that is about.

use oci_spec::image::ImageConfiguration;
use serde_json::{Value, json};

use super::*;

const MODULE: &[u8] = b"\0asm\x01\0\0\0";
const IMAGE: &str = "application/vnd.oci.image.config.v1+json";
const RUNWASI: &str = "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm";

/// One image as an OCI layout, and what its index says of its platform.
struct Layout {
    config: (&'static str, Value),
    /// Media type, content, title.
    layers: Vec<(&'static str, Vec<u8>, Option<&'static str>)>,
    platform: Option<Value>,
}

impl Layout {
    fn write(&self, place: &Place) -> PathBuf {
        let directory = place.directory.path().join("layout");
        // An earlier one of the same test.
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(directory.join("blobs/sha256")).unwrap();
        let blob = |kind: &str, bytes: &[u8]| -> Value {
            let digest = Digest::of(bytes);
            std::fs::write(directory.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
            json!({"mediaType": kind, "digest": digest.to_string(), "size": bytes.len()})
        };
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|(kind, bytes, title)| {
                let mut layer = blob(kind, bytes);
                if let Some(title) = title {
                    layer["annotations"] = json!({"org.opencontainers.image.title": title});
                }
                layer
            })
            .collect();
        let config = blob(self.config.0, self.config.1.to_string().as_bytes());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": layers,
        });
        let mut top = blob("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
        if let Some(platform) = &self.platform {
            top["platform"] = platform.clone();
            let index = json!({
                "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [top],
            });
            top = blob("application/vnd.oci.image.index.v1+json", index.to_string().as_bytes());
        }
        top["annotations"] = json!({"io.containerd.image.name": NAME});
        let index = json!({"schemaVersion": 2, "manifests": [top]});
        std::fs::write(directory.join("index.json"), index.to_string()).unwrap();
        directory
    }

    fn import(&self, place: &Place) -> Result<images::StoredImage, Error> {
        place.store.import(&self.write(place), None).map(|mut images| images.remove(0))
    }
}

fn module(more: &[u8]) -> Vec<u8> {
    [MODULE, more].concat()
}

fn entry_point(config: &ImageConfiguration) -> Vec<String> {
    config.config().as_ref().unwrap().entrypoint().clone().unwrap()
}

/// The unpacked file, and that there is nothing else in the last layer.
fn unpacked(place: &Place, image: &images::StoredImage) -> Option<(String, Vec<u8>)> {
    if !root() {
        return None;
    }
    let directories = place.store.unpack(image).unwrap();
    assert_eq!(directories, place.store.unpack(image).unwrap());
    let words = entry_point(&image.config);
    let path = directories.last().unwrap().join(words[0].trim_start_matches('/'));
    let found = std::fs::metadata(&path).unwrap();
    assert_eq!((found.mode() & 0o7777, found.uid()), (0o644, 0));
    Some((words[0].clone(), std::fs::read(path).unwrap()))
}

#[test]
fn a_file_becomes_an_artifact() {
    let place = Place::new();
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/tool/tool.wasm");
    let unnamed = place.store.import(Path::new(program), None).unwrap_err();
    assert!(unnamed.to_string().contains("no name"), "{unnamed}");
    let image = place.store.import(Path::new(program), Some(&name())).unwrap().remove(0);
    assert!(image.is_wasm());
    assert_eq!((image.id, entry_point(&image.config)), (image.manifest, vec!["/tool.wasm".to_owned()]));
    if let Some((_, bytes)) = unpacked(&place, &image) {
        assert_eq!(bytes, std::fs::read(program).unwrap());
    }
    // Others read it by its layout.
    let blob = |digest: &Value| -> Value {
        let hex = digest.as_str().unwrap().trim_start_matches("sha256:").to_owned();
        let path = place.store.root().join("blobs/sha256").join(hex);
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let manifest = blob(&json!(image.manifest.to_string()));
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
    let config = blob(&manifest["config"]["digest"]);
    assert_eq!((&config["architecture"], &config["os"]), (&json!("wasm"), &json!("wasip2")));
    assert_eq!(config["layerDigests"], json!([manifest["layers"][0]["digest"]]));
    let listed = |key: &str, word: &str| {
        let all = config["component"][key].as_array().unwrap();
        all.iter().any(|name| name.as_str().unwrap().starts_with(word))
    };
    assert!(listed("exports", "wasi:cli/run@0.2") && listed("imports", "wasi:cli/stdout@0.2"), "{config}");

    // Out as an archive, and in somewhere else; docker is told of no image.
    let archive = place.directory.path().join("saved.tar");
    let file = std::fs::File::create(&archive).unwrap();
    place.store.export(&[(image.clone(), vec![name()])], file).unwrap();
    let other = Place::new();
    let again = other.store.import(&archive, None).unwrap().remove(0);
    assert_eq!((again.id, again.names), (image.id, vec![name()]));
    assert_eq!(other.store.find(NAME).unwrap().unwrap().id, image.id);
    // What no name leads to goes.
    other.store.untag(&name()).unwrap();
    assert!(other.store.prune(|| Ok(Default::default())).unwrap() > 0);
}

#[test]
fn a_core_module_says_that_it_is_one() {
    let place = Place::new();
    let path = place.directory.path().join("m.wasm");
    std::fs::write(&path, MODULE).unwrap();
    let image = place.store.import(&path, Some(&name())).unwrap().remove(0);
    let saved = place.directory.path().join("saved.tar");
    place.store.export(&[(image, vec![])], std::fs::File::create(&saved).unwrap()).unwrap();
    assert!(String::from_utf8_lossy(&std::fs::read(&saved).unwrap()).contains("\"os\":\"wasip1\""));
    std::fs::write(&path, b"\0asm\x0d\0\x01\0broken").unwrap();
    assert!(matches!(place.store.import(&path, Some(&name())), Err(Error::Invalid(_))));
}

#[test]
fn artifacts_with_the_same_empty_configuration_are_told_apart() {
    let place = Place::new();
    let layout = |config, layer, more: &[u8], title| Layout {
        config: (config, json!({})),
        layers: vec![
            (layer, module(more), title),
            ("application/vnd.example.signature", b"signed".to_vec(), Some("signature")),
        ],
        platform: None,
    };
    let (old, oras) = ("application/vnd.wasm.config.v1+json", "application/vnd.oci.empty.v1+json");
    let content = "application/vnd.wasm.content.layer.v1+wasm";
    let first = layout(old, content, b"", None).import(&place).unwrap();
    let second = layout(oras, RUNWASI, b"\0\x02\x01x", Some("out/hello.wasm")).import(&place).unwrap();
    assert_ne!(first.id, second.id);
    for (image, path, more) in [(first, "/module.wasm", &b""[..]), (second, "/hello.wasm", b"\0\x02\x01x")] {
        assert!(image.is_wasm());
        assert_eq!(entry_point(&image.config), [path]);
        if let Some(found) = unpacked(&place, &image) {
            assert_eq!(found, (path.to_owned(), module(more)));
        }
    }
}

#[test]
fn an_ordinary_image_may_have_a_program_for_a_layer() {
    let place = Place::new();
    let files = tar(&[(EntryType::Regular, "etc/motd", "from a layer", 0o644)]);
    let config = |diffs: Value, words: Value| {
        json!({
            "architecture": "wasm", "os": "wasip1", "config": words, "rootfs": {"type": "layers", "diff_ids": diffs},
        })
    };
    let diffs = json!([Digest::of(&files).to_string(), Digest::of(MODULE).to_string()]);
    let both = Layout {
        config: (IMAGE, config(diffs, json!({"Entrypoint": ["demo.wasm"], "WorkingDir": "/app"}))),
        layers: vec![
            ("application/vnd.oci.image.layer.v1.tar", files, None),
            (RUNWASI, MODULE.to_vec(), None),
        ],
        platform: None,
    };
    let image = both.import(&place).unwrap();
    assert_eq!(entry_point(&image.config), ["demo.wasm"]);
    if root() {
        let directories = place.store.unpack(&image).unwrap();
        assert_eq!(std::fs::read(directories[0].join("etc/motd")).unwrap(), b"from a layer");
        assert_eq!(std::fs::read(directories[1].join("app/demo.wasm")).unwrap(), MODULE);
    }
    // One that its builder told nothing of, for a platform that no machine is.
    let alone = Layout {
        config: (IMAGE, config(json!([]), json!({"Entrypoint": [""]}))),
        layers: vec![(RUNWASI, MODULE.to_vec(), None)],
        platform: Some(json!({"os": "wasip1", "architecture": "wasm"})),
    };
    let image = alone.import(&place).unwrap();
    assert_eq!(image.id, Digest::of(alone.config.1.to_string().as_bytes()));
    if let Some(found) = unpacked(&place, &image) {
        assert_eq!(found, ("/module.wasm".to_owned(), MODULE.to_vec()));
    }
}

#[test]
fn what_is_no_program_is_refused_in_words() {
    let place = Place::new();
    let of = |layers| Layout {
        config: ("application/vnd.wasm.config.v0+json", json!({})),
        layers,
        platform: None,
    };
    let wasm = ("application/wasm", MODULE.to_vec(), None);
    let several =
        of(vec![wasm.clone(), ("application/wasm", module(b"\0\x01x"), None)]).import(&place).unwrap_err();
    assert!(several.to_string().contains("several WebAssembly programs"), "{several}");
    let chart = of(vec![("application/vnd.cncf.helm.chart.content.v1.tar+gzip", b"x".to_vec(), None)]);
    let chart = chart.import(&place).unwrap_err();
    assert!(chart.to_string().contains("neither an image nor a WebAssembly program"), "{chart}");
    let text = of(vec![("application/wasm", b"(module)".to_vec(), None)]).import(&place).unwrap();
    if root() {
        let why = place.store.unpack(&text).unwrap_err();
        assert!(why.to_string().contains("said to be WebAssembly and is not"), "{why}");
    }
}
