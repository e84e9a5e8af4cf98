//! Archives good and bad. Unpacking needs root; without it those tests pass and say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)] // a test

use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use images::{Digest, Error, ImageBuilder, Limits, Reference, Store};
use proptest::prelude::*;
use tar::EntryType;

#[path = "it/hostile.rs"]
mod hostile;
#[path = "it/wasm.rs"]
mod wasm;

const NAME: &str = "test.local/image:1";

fn name() -> Reference {
    NAME.parse().unwrap()
}

fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: unpacking needs root");
    }
    root
}

/// A tar of entries: kind, path, link target or content, mode. Paths go in as they are, however bad.
fn tar(entries: &[(EntryType, &str, &str, u32)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, path, text, mode) in entries {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_000_000_000);
        let content = if kind.is_file() { text.as_bytes() } else { b"" };
        header.set_size(content.len() as u64);
        if !kind.is_file() {
            header.as_mut_bytes()[157..157 + text.len()].copy_from_slice(text.as_bytes());
        }
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn config(layers: &[&[u8]]) -> Vec<u8> {
    let diffs: Vec<String> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    serde_json::json!({
        "architecture": architecture, "os": "linux", "config": { "Env": ["A=1"] },
        "rootfs": { "type": "layers", "diff_ids": diffs },
    })
    .to_string()
    .into_bytes()
}

/// What `docker save` writes; `stored` are the layers as they lie in the archive.
fn docker_archive(layers: &[&[u8]], stored: &[Vec<u8>]) -> Vec<u8> {
    let names: Vec<String> = (0..layers.len()).map(|index| format!("{index}/layer.tar")).collect();
    let manifest =
        serde_json::json!([{ "Config": "c.json", "RepoTags": [NAME], "Layers": names }]).to_string();
    let mut builder = tar::Builder::new(Vec::new());
    let mut file = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes).unwrap();
    };
    for (name, bytes) in names.iter().zip(stored) {
        file(name, bytes);
    }
    file("c.json", &config(layers));
    file("manifest.json", manifest.as_bytes());
    builder.into_inner().unwrap()
}

struct Place {
    directory: tempfile::TempDir,
    store: Store,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("store")).unwrap();
        Self { directory, store }
    }

    fn write(&self, bytes: &[u8]) -> PathBuf {
        let path = self.directory.path().join("archive");
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Imports layers and unpacks them.
    fn unpack(&self, layers: &[&[u8]]) -> Result<Vec<PathBuf>, Error> {
        let stored: Vec<Vec<u8>> = layers.iter().map(|layer| layer.to_vec()).collect();
        let archive = self.write(&docker_archive(layers, &stored));
        let image = self.store.import(&archive, None)?.remove(0);
        self.store.unpack(&image)
    }
}

#[test]
fn what_the_builder_makes_is_imported_and_found() {
    let place = Place::new();
    let built = ImageBuilder::new().file("/a/b", 0o755, "text").cmd(["/a/b"]).build(&name()).unwrap();
    let layout = place.directory.path().join("layout");
    built.write_layout(&layout).unwrap();
    let archive = place.directory.path().join("image.tar");
    built.write_tar(std::fs::File::create(&archive).unwrap()).unwrap();
    for source in [&layout, &archive] {
        let image = place.store.import(source, None).unwrap().remove(0);
        assert_eq!((image.id, &image.names[..]), (built.id, &[name()][..]));
    }
    let list = place.store.list().unwrap();
    assert_eq!(list.len(), 1);
    let manifest = list[0].manifest;
    for text in
        [NAME.to_owned(), built.id.to_string(), built.id.hex(), format!("test.local/image@{manifest}")]
    {
        assert_eq!(place.store.find(&text).unwrap().unwrap().id, built.id, "{text}");
    }
    assert!(place.store.find("test.local/image:2").unwrap().is_none());
    // A second process sees the same.
    let again = Store::open(place.directory.path().join("store")).unwrap();
    assert_eq!(again.list().unwrap()[0].id, built.id);
}

#[test]
fn names_move_and_what_they_leave_can_be_pruned() {
    let place = Place::new();
    for text in ["one", "two"] {
        let layout = place.directory.path().join(text);
        ImageBuilder::new().file("/f", 0o644, text).build(&name()).unwrap().write_layout(&layout).unwrap();
        place.store.import(&layout, None).unwrap();
    }
    assert_eq!(place.store.list().unwrap().len(), 1);
    let blobs = || std::fs::read_dir(place.store.root().join("blobs/sha256")).unwrap().count();
    assert_eq!(blobs(), 6);
    assert!(place.store.prune(|| Ok(Default::default())).unwrap() > 0);
    assert_eq!(blobs(), 3);
    assert!(place.store.untag(&name()).unwrap());
    assert!(!place.store.untag(&name()).unwrap());
    assert!(place.store.find(NAME).unwrap().is_none());
}

#[test]
fn every_compression_and_link_of_docker_archives_is_read() {
    let layer = tar(&[(EntryType::Regular, "file", "content", 0o644)]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&layer).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = ruzstd::encoding::compress_to_vec(&layer[..], ruzstd::encoding::CompressionLevel::Fastest);
    for stored in [layer.clone(), gzip, zstd] {
        let place = Place::new();
        let archive = docker_archive(&[&layer], &[stored]);
        let image = place.store.import(&place.write(&archive), None).unwrap().remove(0);
        if root() {
            let unpacked = place.store.unpack(&image).unwrap();
            assert_eq!(std::fs::read_to_string(unpacked[0].join("file")).unwrap(), "content");
            assert_eq!(place.store.unpack(&image).unwrap(), unpacked);
        }
        // The archive as a whole may be compressed too.
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&archive).unwrap();
        let path = place.write(&gzip.finish().unwrap());
        assert_eq!(place.store.import(&path, None).unwrap()[0].id, image.id);
    }
}

#[test]
fn an_index_gives_this_machines_image() {
    let place = Place::new();
    let layout = place.directory.path().join("layout");
    let built = ImageBuilder::new().file("/f", 0o644, "ours").build(&name()).unwrap();
    built.write_layout(&layout).unwrap();
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let entry = &index["manifests"][0];
    let ours = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let describe = |architecture: &str, digest: serde_json::Value| {
        serde_json::json!({
            "mediaType": entry["mediaType"], "size": entry["size"], "digest": digest,
            "platform": { "os": "linux", "architecture": architecture },
        })
    };
    let nested = |manifests: Vec<serde_json::Value>| {
        let bytes =
            serde_json::json!({ "schemaVersion": 2, "manifests": manifests }).to_string().into_bytes();
        let digest = Digest::of(&bytes);
        std::fs::write(layout.join("blobs/sha256").join(digest.hex()), &bytes).unwrap();
        let top = serde_json::json!({ "schemaVersion": 2, "manifests": [{
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "size": bytes.len(), "digest": digest.to_string(),
        }] });
        std::fs::write(layout.join("index.json"), top.to_string()).unwrap();
    };
    let other = Digest::of(b"not here").to_string();
    nested(vec![describe("s390x", other.clone().into()), describe(ours, entry["digest"].clone())]);
    assert_eq!(place.store.import(&layout, Some(&name())).unwrap()[0].id, built.id);
    let unnamed = place.store.import(&layout, None).unwrap_err().to_string();
    assert!(unnamed.contains("name"), "{unnamed}");
    nested(vec![describe("s390x", other.into())]);
    let error = place.store.import(&layout, Some(&name())).unwrap_err();
    assert!(matches!(&error, Error::Platform { offered, .. } if offered == "linux/s390x"), "{error}");
}

#[test]
fn damaged_content_is_refused() {
    let place = Place::new();
    let layer = tar(&[(EntryType::Regular, "file", "content", 0o644)]);
    let built = ImageBuilder::new().file("/f", 0o644, "x").build(&name()).unwrap();
    let layout = place.directory.path().join("layout");
    built.write_layout(&layout).unwrap();
    for entry in std::fs::read_dir(layout.join("blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[0] ^= 1;
        std::fs::write(&path, bad).unwrap();
        assert!(matches!(place.store.import(&layout, None), Err(Error::Invalid(_))), "{path:?}");
        std::fs::write(&path, good).unwrap();
    }
    assert!(place.store.list().unwrap().is_empty(), "a damaged image has a name");
    if root() {
        // The layer is whole, but not what the configuration says.
        let archive = docker_archive(&[b"another layer"], &[layer]);
        let image = place.store.import(&place.write(&archive), None).unwrap().remove(0);
        assert!(matches!(place.store.unpack(&image), Err(Error::Invalid(_))));
        assert_eq!(std::fs::read_dir(place.store.root().join("layers/sha256")).unwrap().count(), 0);
        assert_eq!(std::fs::read_dir(place.store.root().join("work")).unwrap().count(), 0);
    }
}

#[test]
fn unpacked_files_are_what_the_layer_says() {
    if !root() {
        return;
    }
    let place = Place::new();
    let lower = tar(&[
        (EntryType::Directory, "dir/", "", 0o1777),
        (EntryType::Regular, "dir/suid", "x", 0o4755),
        (EntryType::Link, "dir/hard", "dir/suid", 0),
        (EntryType::Symlink, "dir/soft", "../../../../etc/passwd", 0o777),
        (EntryType::Link, "dir/hard-soft", "dir/soft", 0),
        (EntryType::Fifo, "dir/fifo", "", 0o600),
        (EntryType::Regular, "no/parent/yet", "deep", 0o644),
        (EntryType::Regular, "twice", "first", 0o644),
        (EntryType::Regular, "twice", "second", 0o600),
        (EntryType::Directory, "becomes-a-file/with/children", "", 0o755),
        (EntryType::Regular, "becomes-a-file", "now", 0o644),
    ]);
    let upper = tar(&[
        (EntryType::Regular, "dir/.wh.suid", "", 0),
        (EntryType::Regular, "no/.wh..wh..opq", "", 0),
        (EntryType::Regular, ".wh..wh.plnk", "", 0),
    ]);
    let unpacked = place.unpack(&[&lower, &upper]).unwrap();
    let (lower, upper) = (&unpacked[0], &unpacked[1]);
    let of = |name: &str| lower.join(name).symlink_metadata().unwrap();
    assert_eq!(of("dir").permissions().mode() & 0o7777, 0o1777);
    let suid = of("dir/suid");
    assert_eq!((suid.permissions().mode() & 0o7777, suid.uid(), suid.gid()), (0o4755, 7, 8));
    assert_eq!((suid.mtime(), of("dir").mtime()), (1_000_000_000, 1_000_000_000));
    assert_eq!(suid.ino(), of("dir/hard").ino());
    assert!(of("dir/soft").is_symlink() && of("dir/hard-soft").is_symlink() && of("dir/soft").uid() == 7);
    assert!(of("dir/fifo").file_type().is_fifo());
    assert_eq!(std::fs::read_to_string(lower.join("no/parent/yet")).unwrap(), "deep");
    assert_eq!(std::fs::read_to_string(lower.join("twice")).unwrap(), "second");
    assert_eq!(std::fs::read_to_string(lower.join("becomes-a-file")).unwrap(), "now");
    let whiteout = upper.join("dir/suid").symlink_metadata().unwrap();
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    let mut value = [0; 4];
    let count = rustix::fs::getxattr(upper.join("no"), "trusted.overlay.opaque", &mut value).unwrap();
    assert_eq!(&value[..count], b"y");
    assert_eq!(std::fs::read_dir(upper).unwrap().count(), 2);
}

/// Layers that try to write, or to reach, outside of their directory.
#[test]
fn an_archive_that_ends_with_its_last_content_is_whole() {
    if !root() {
        return;
    }
    // As some tools write it: neither the end marker nor what fills up the last block.
    let place = Place::new();
    let whole =
        tar(&[(EntryType::Regular, "a", "first", 0o644), (EntryType::Regular, "b", "last words", 0o644)]);
    let end = 3 * 512 + "last words".len();
    let image =
        place.store.import(&place.write(&docker_archive(&[&whole[..end]], &[whole[..end].to_vec()])), None);
    let layers = place.store.unpack(&image.unwrap()[0]).unwrap();
    assert_eq!(std::fs::read_to_string(layers[0].join("b")).unwrap(), "last words");
    // What is cut within a content or a header is not.
    for end in [end - 1, 3 * 512, 2 * 512 + 100] {
        let place = Place::new();
        let cut = whole[..end].to_vec();
        let image =
            place.store.import(&place.write(&docker_archive(&[&cut], std::slice::from_ref(&cut))), None);
        assert!(place.store.unpack(&image.unwrap()[0]).is_err(), "{end}");
    }
}

#[test]
fn no_layer_reaches_out() {
    if !root() {
        return;
    }
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    std::fs::write(&secret, "untouched").unwrap();
    let (target, file) = (outside.path().to_str().unwrap(), secret.to_str().unwrap());
    let mode = std::fs::metadata(outside.path()).unwrap().permissions();
    let attacks: Vec<Vec<(EntryType, &str, &str, u32)>> = vec![
        vec![(EntryType::Regular, "../escaped", "x", 0o644)],
        vec![(EntryType::Regular, "a/../../escaped", "x", 0o644)],
        vec![(EntryType::Regular, file, "overwritten", 0o644)],
        vec![
            (EntryType::Symlink, "out", target, 0),
            (EntryType::Regular, "out/secret", "overwritten", 0o644),
        ],
        vec![(EntryType::Symlink, "out", file, 0), (EntryType::Regular, "out", "overwritten", 0o644)],
        vec![(EntryType::Symlink, "out", target, 0), (EntryType::Directory, "out/", "", 0o777)],
        vec![(EntryType::Symlink, "out", target, 0), (EntryType::Regular, "out/.wh.secret", "", 0)],
        vec![(EntryType::Symlink, "out", target, 0), (EntryType::Regular, "out/.wh..wh..opq", "", 0)],
        vec![(EntryType::Link, "hard", "../../../../../etc/passwd", 0)],
        vec![(EntryType::Link, "hard", file, 0)],
        vec![(EntryType::Symlink, "out", target, 0), (EntryType::Link, "hard", "out/secret", 0)],
        vec![(EntryType::Regular, ".wh...", "", 0)],
        vec![(EntryType::Regular, ".wh.", "", 0)],
        vec![(EntryType::Symlink, "loop", "loop", 0), (EntryType::Regular, "loop/x", "", 0)],
    ];
    for attack in attacks {
        let place = Place::new();
        let before = tree(place.directory.path());
        let result = place.unpack(&[&tar(&attack)]);
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "untouched", "{attack:?}");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1, "{attack:?}");
        assert_eq!(std::fs::metadata(outside.path()).unwrap().permissions(), mode, "{attack:?}");
        if let Ok(unpacked) = result {
            // What was let in lies inside, and links to nothing outside.
            let hard = unpacked[0].join("hard");
            assert!(!hard.exists() || hard.metadata().unwrap().ino() != secret.metadata().unwrap().ino());
        } else {
            assert!(
                tree(place.directory.path()).iter().filter(|path| path.contains("layers")).count()
                    <= before.len()
            );
        }
    }
}

fn tree(root: &Path) -> Vec<String> {
    let (mut found, mut todo) = (Vec::new(), vec![root.to_owned()]);
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            found.push(path.display().to_string());
            if path.is_dir() && !path.is_symlink() {
                todo.push(path);
            }
        }
    }
    found
}

#[test]
fn overlayfs_itself_is_not_steered_by_a_layer() {
    if !root() {
        return;
    }
    let mut builder = tar::Builder::new(Vec::new());
    let attributes: [(&str, &[u8]); 4] = [
        ("SCHILY.xattr.trusted.overlay.redirect", b"/../../etc"),
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ("SCHILY.xattr.security.selinux", b"label"),
        ("SCHILY.xattr.user.mine", b"kept"),
    ];
    builder.append_pax_extensions(attributes).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(EntryType::Directory);
    header.set_path("d/").unwrap();
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header.set_cksum();
    builder.append(&header, &[][..]).unwrap();
    let place = Place::new();
    let unpacked = place.unpack(&[&builder.into_inner().unwrap()]).unwrap();
    let mut names = vec![0; 1000];
    let count = rustix::fs::listxattr(unpacked[0].join("d"), &mut names).unwrap();
    assert_eq!(&names[..count], b"user.mine\0");
}

#[test]
fn limits_hold() {
    if !root() {
        return;
    }
    let mut many: Vec<_> = (0..20).map(|_| (EntryType::Regular, "f", "0123456789", 0o644)).collect();
    many[3] = (EntryType::Directory, "dir/", "", 0o755);
    let layer = tar(&many);
    let limited = |limits: Limits| {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open_with(directory.path().join("store"), limits).unwrap();
        let path = directory.path().join("archive");
        std::fs::write(&path, docker_archive(&[&layer], std::slice::from_ref(&layer))).unwrap();
        store.import(&path, None).and_then(|images| store.unpack(&images[0]))
    };
    assert!(limited(Limits::default()).is_ok());
    for limits in [
        Limits { layer_entries: 19, ..Limits::default() },
        Limits { layer_bytes: 5000, ..Limits::default() },
        Limits { document_bytes: 50, ..Limits::default() },
        Limits { image_bytes: 5000, ..Limits::default() },
        Limits { archive_members: 2, ..Limits::default() },
        Limits { layers: 0, ..Limits::default() },
        Limits { path_bytes: 2, ..Limits::default() },
    ] {
        assert!(limited(limits.clone()).is_err(), "{limits:?}");
    }
}

/// A sparse file: all hole but for its last block.
fn sparse(size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path("hole").unwrap();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(512);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.set_real_size(size);
    gnu.sparse[0].set_offset(size - 512);
    gnu.sparse[0].set_length(512);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, &[b'x'; 512][..]).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn a_small_layer_takes_no_large_room() {
    if !root() {
        return;
    }
    let unpacked = Place::new();
    let paths = unpacked.unpack(&[&sparse(1 << 30)]).unwrap();
    let file = paths[0].join("hole").metadata().unwrap();
    assert!(file.len() == 1 << 30 && file.blocks() < 1000, "{} blocks", file.blocks());
    let place = |limits: Limits| {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open_with(directory.path().join("store"), limits).unwrap();
        Place { directory, store }
    };
    let small = place(Limits { layer_bytes: 1 << 20, ..Limits::default() });
    assert!(matches!(small.unpack(&[&sparse(1 << 21)]), Err(Error::TooLarge { .. })));
    // Nor do many of them that are each small enough.
    let many = place(Limits { image_bytes: 3 << 20, ..Limits::default() });
    many.unpack(&[&sparse(1 << 21)]).unwrap();
    let many = place(Limits { image_bytes: 3 << 20, ..Limits::default() });
    assert!(matches!(many.unpack(&[&sparse(1 << 21), &sparse(1 << 21)]), Err(Error::TooLarge { .. })));
}

#[test]
fn directories_that_a_layer_implies_are_what_they_were() {
    if !root() {
        return;
    }
    let base = tar(&[
        (EntryType::Directory, "tmp/", "", 0o1777),
        (EntryType::Directory, "gone/", "", 0o700),
        (EntryType::Directory, "opaque/dir/", "", 0o700),
        (EntryType::Directory, "own/dir/", "", 0o700),
    ]);
    let middle = tar(&[
        (EntryType::Regular, ".wh.gone", "", 0),
        (EntryType::Directory, "opaque/", "", 0o750),
        (EntryType::Regular, "opaque/.wh..wh..opq", "", 0),
    ]);
    let upper = tar(&[
        (EntryType::Regular, "tmp/file", "x", 0o644),
        (EntryType::Regular, "gone/file", "x", 0o644),
        (EntryType::Regular, "opaque/dir/file", "x", 0o644),
        (EntryType::Regular, "own/dir/file", "x", 0o644),
        (EntryType::Directory, "own/", "", 0o711),
    ]);
    let place = Place::new();
    let unpacked = place.unpack(&[&base, &middle, &upper]).unwrap();
    let of = |name: &str| {
        let metadata = unpacked[2].join(name).metadata().unwrap();
        (metadata.permissions().mode() & 0o7777, metadata.uid())
    };
    assert_eq!((of("tmp"), of("opaque"), of("own")), ((0o1777, 7), (0o750, 7), (0o711, 7)));
    assert_eq!((of("own/dir"), of("gone"), of("opaque/dir")), ((0o700, 7), (0o755, 0), (0o755, 0)));
    assert_eq!(unpacked[2].join("tmp").metadata().unwrap().mtime(), 1_000_000_000);
    // The same layer upon another base is another directory.
    let alone = place.unpack(&[&upper]).unwrap();
    assert_eq!(alone[0].join("tmp").metadata().unwrap().permissions().mode() & 0o7777, 0o755);
    assert_ne!(alone[0], unpacked[2]);
}

#[test]
fn a_layer_that_somebody_unpacks_is_waited_for() {
    if !root() {
        return;
    }
    let place = Place::new();
    let layer = tar(&[(EntryType::Regular, "file", "content", 0o644)]);
    let archive = docker_archive(&[&layer], std::slice::from_ref(&layer));
    let image = place.store.import(&place.write(&archive), None).unwrap().remove(0);
    let hex = Digest::of(&layer).hex();
    let lock = std::fs::File::create(place.store.root().join("locks").join(&hex)).unwrap();
    lock.lock().unwrap();
    // It cannot be unpacked again: who tried would fail.
    std::fs::remove_file(place.store.root().join("blobs/sha256").join(&hex)).unwrap();
    let (begin, began) = std::sync::mpsc::channel();
    let unpacked = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            begin.send(()).unwrap();
            place.store.unpack(&image)
        });
        began.recv().unwrap();
        let done = place.store.root().join("layers/sha256").join(&hex).join("fs");
        std::fs::create_dir_all(&done).unwrap();
        lock.unlock().unwrap();
        waiting.join().unwrap()
    });
    assert!(unpacked.unwrap()[0].ends_with("fs"));
}

#[test]
fn a_name_of_a_gigabyte_is_not_read_into_memory() {
    if !root() {
        return;
    }
    // An entry whose name is said to come in an extension of 8 MB.
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(8 << 20);
    header.set_mode(0);
    header.set_cksum();
    let mut layer = header.as_bytes().to_vec();
    layer.resize(layer.len() + (8 << 20), b'a');
    layer.extend(tar(&[(EntryType::Regular, "x", "", 0o644)]));
    let error = Place::new().unpack(&[&layer]).unwrap_err().to_string();
    assert!(error.contains("headers"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 4))]

    /// Whatever the bytes: an error or an image, nothing outside, no panic.
    #[test]
    fn archives_with_flipped_bytes_do_no_harm(flips in prop::collection::vec((0usize..6000, any::<u8>()), 1..8)) {
        let layer = tar(&[
            (EntryType::Directory, "d/", "", 0o755),
            (EntryType::Regular, "d/f", "content", 0o644),
            (EntryType::Symlink, "d/l", "f", 0o777),
            (EntryType::Link, "d/h", "d/f", 0o644),
        ]);
        let mut bad_layer = layer.clone();
        let mut archive = docker_archive(&[&layer], std::slice::from_ref(&layer));
        for (at, byte) in flips {
            let index = at % archive.len();
            archive[index] = byte;
            let index = at % bad_layer.len();
            bad_layer[index] = byte;
        }
        let place = Place::new();
        if let Ok(images) = place.store.import(&place.write(&archive), None) {
            for image in images {
                let _ = place.store.unpack(&image);
            }
        }
        if root() {
            let _ = place.unpack(&[&bad_layer]);
        }
        let stray = tree(place.directory.path()).into_iter()
            .filter(|path| !path.starts_with(&*place.directory.path().join("store").to_string_lossy()) && !path.ends_with("/archive"))
            .collect::<Vec<_>>();
        prop_assert!(stray.is_empty(), "{:?}", stray);
        prop_assert_eq!(std::fs::read_dir(place.store.root().join("work")).unwrap().count(), 0);
    }
}
