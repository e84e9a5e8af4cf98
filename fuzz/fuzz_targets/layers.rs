//! Layers of any entries in any order, whiteouts and links of both kinds among them: nothing outside of their directory is made,
//! read into them or removed, and what is refused leaves nothing. Needs root.

#![no_main]

use std::path::Path;

use images::{Digest, Limits, Store};
use tar::EntryType;

/// Names that mean something to somebody. The store lies in a directory beside `secret`.
const NAMES: [&str; 16] = [
    "a",
    "b",
    "a/b",
    "a/b/c",
    "/a",
    "./a/../b",
    "../secret",
    "../../../../../../../secret",
    ".",
    "",
    ".wh.a",
    "a/.wh.b",
    "a/.wh..wh..opq",
    ".wh..wh..opq",
    ".wh...",
    "b/../../x",
];
const KINDS: [EntryType; 8] = [
    EntryType::Regular,
    EntryType::Directory,
    EntryType::Symlink,
    EntryType::Link,
    EntryType::Fifo,
    EntryType::Char,
    EntryType::Block,
    EntryType::XHeader,
];

fn layer(entries: &[[u8; 4]]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for [kind, path, link, mode] in entries {
        let kind = KINDS[usize::from(*kind) % KINDS.len()];
        let name = |index: &u8| NAMES[usize::from(*index) % NAMES.len()].as_bytes();
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name(path).len()].copy_from_slice(name(path));
        header.as_mut_bytes()[157..157 + name(link).len()].copy_from_slice(name(link));
        header.set_entry_type(kind);
        header.set_mode(u32::from(*mode) << 4 | 0o100);
        header.set_uid(u64::from(*link));
        header.set_gid(0);
        header.set_mtime(0);
        let content: &[u8] = match kind {
            EntryType::Regular => b"content",
            EntryType::XHeader => b"25 path=../../../secret/x\n",
            _ => b"",
        };
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn archive(layers: &[Vec<u8>]) -> Vec<u8> {
    let diffs: Vec<String> = layers.iter().map(|layer| format!("\"{}\"", Digest::of(layer))).collect();
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = format!(
        r#"{{"architecture":"{architecture}","os":"linux","rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        diffs.join(",")
    );
    let files: Vec<String> = (0..layers.len()).map(|number| format!("\"{number}.tar\"")).collect();
    let manifest = format!(
        r#"[{{"Config":"config.json","RepoTags":["test.local/image:1"],"Layers":[{}]}}]"#,
        files.join(",")
    );
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes).unwrap();
    };
    add("manifest.json", manifest.as_bytes());
    add("config.json", config.as_bytes());
    for (number, layer) in layers.iter().enumerate() {
        add(&format!("{number}.tar"), layer);
    }
    builder.into_inner().unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

libfuzzer_sys::fuzz_target!(|layers: Vec<Vec<[u8; 4]>>| {
    if layers.is_empty() || layers.len() > 4 || layers.iter().any(|entries| entries.len() > 12) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "untouched").unwrap();
    let file = directory.path().join("archive");
    let layers: Vec<Vec<u8>> = layers.iter().map(|entries| layer(entries)).collect();
    std::fs::write(&file, archive(&layers)).unwrap();
    let limits = Limits { layer_bytes: 1 << 20, layer_entries: 100, ..Limits::default() };
    let store = Store::open_with(directory.path().join("store"), limits).unwrap();
    let image = store.import(&file, None).unwrap().remove(0);
    let unpacked = store.unpack(&image);
    assert_eq!(names(directory.path()), ["archive", "secret", "store"]);
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "untouched");
    assert!(names(&store.root().join("work")).is_empty(), "{unpacked:?}");
});
