//! Images made to harm whoever takes them: bombs, depths, false digests, indexes in circles. Each is refused, or harmless;
//! nothing of one that is refused stays.

use std::os::unix::fs::FileTypeExt;

use super::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn place(limits: Limits) -> Place {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open_with(directory.path().join("store"), limits).unwrap();
    Place { directory, store }
}

impl Place {
    /// Names of what is being made, and of what was.
    #[track_caller]
    fn has_nothing_left(&self) {
        for directory in ["work", "layers/sha256"] {
            let left = std::fs::read_dir(self.store.root().join(directory)).unwrap().count();
            assert_eq!(left, 0, "{directory}");
        }
    }

    /// Imports layers as they lie in the archive, whatever the configuration says, and unpacks them.
    fn unpack_stored(&self, said: &[&[u8]], stored: &[Vec<u8>]) -> Result<Vec<PathBuf>, Error> {
        let image = self.store.import(&self.write(&docker_archive(said, stored)), None)?.remove(0);
        self.store.unpack(&image)
    }
}

#[test]
fn a_small_archive_that_is_large_inside_stops_at_the_limit() {
    if !root() {
        return;
    }
    // 8 MiB of nothing are some 8 KiB: as one file, as many, as what follows the archive's end, and as the whole archive.
    let large = vec![0u8; 8 << 20];
    let mut header = tar::Header::new_gnu();
    header.set_path("large").unwrap();
    header.set_size(large.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    let mut one = tar::Builder::new(Vec::new());
    one.append(&header, &large[..]).unwrap();
    let one = one.into_inner().unwrap();
    let piece = "x".repeat(100_000);
    let many = tar(&(0..80).map(|_| (EntryType::Regular, "f", piece.as_str(), 0o644)).collect::<Vec<_>>());
    let mut behind = tar(&[(EntryType::Regular, "f", "x", 0o644)]);
    behind.extend(&large);
    for layer in [&one, &many, &behind] {
        let place = place(Limits { layer_bytes: 1 << 20, ..Limits::default() });
        let error = place.unpack_stored(&[layer], &[gzip(layer)]).unwrap_err();
        assert!(
            error.to_string().contains("too large") || matches!(error, Error::TooLarge { .. }),
            "{error}"
        );
        place.has_nothing_left();
    }
    let place = place(Limits { image_bytes: 1 << 20, ..Limits::default() });
    let archive = place.write(&gzip(&docker_archive(&[&one], std::slice::from_ref(&one))));
    assert!(matches!(place.store.import(&archive, None), Err(Error::TooLarge { .. })));
    place.has_nothing_left();
}

#[test]
fn a_file_shorter_than_it_says_is_no_file() {
    if !root() {
        return;
    }
    let mut layer = tar(&[(EntryType::Regular, "file", "content", 0o644)]);
    // Says 8 GiB and has nothing.
    layer[124..136].copy_from_slice(b"100000000000");
    let sum: u32 = layer[..512]
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
        .sum();
    layer[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let place = Place::new();
    place.unpack(&[&layer]).unwrap_err();
    place.has_nothing_left();
}

#[test]
fn no_depth_is_too_deep_to_be_removed() {
    if !root() {
        return;
    }
    // Each link stands at the end of a path as long as there may be: what goes through the last lies deeper than any.
    let mut builder = tar::Builder::new(Vec::new());
    let deep = "d/".repeat(600);
    let mut entry = |kind: EntryType, path: &str, target: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        match kind {
            EntryType::Symlink => builder.append_link(&mut header, path, target).unwrap(),
            _ => builder.append_data(&mut header, path, &[][..]).unwrap(),
        }
    };
    for step in 0..3 {
        let from = if step == 0 { String::new() } else { format!("l{}/", step - 1) };
        entry(EntryType::Directory, &format!("{from}{deep}"), "");
        entry(EntryType::Symlink, &format!("l{step}"), &format!("{from}{deep}"));
    }
    let layer = builder.into_inner().unwrap();
    // Whole, and as a layer that is refused when all of it has been unpacked.
    let place = Place::new();
    let _ = place.unpack(&[&layer]);
    let refused = Place::new();
    refused.unpack_stored(&[b"another"], &[layer]).unwrap_err();
    refused.has_nothing_left();
}

#[test]
fn whiteouts_hide_what_lies_below_and_reach_nothing_else() {
    if !root() {
        return;
    }
    let below = tar(&[
        (EntryType::Directory, "dir/", "", 0o755),
        (EntryType::Regular, "dir/kept", "x", 0o644),
        (EntryType::Symlink, "link", "dir", 0o777),
    ]);
    let above = tar(&[
        // Of a directory that this very layer makes, in either order, of a name through a link, of the root and its parent.
        (EntryType::Regular, "own/file", "x", 0o644),
        (EntryType::Regular, ".wh.own", "", 0),
        (EntryType::Regular, ".wh.later", "", 0),
        (EntryType::Regular, "later", "here", 0o644),
        (EntryType::Symlink, "out", "/", 0o777),
        (EntryType::Regular, "out/.wh.through", "", 0),
        (EntryType::Regular, ".wh..wh..opq", "", 0),
    ]);
    let place = Place::new();
    let unpacked = place.unpack(&[&below, &above]).unwrap();
    let kind = |name: &str| unpacked[1].join(name).symlink_metadata().unwrap().file_type();
    assert!(kind("own").is_char_device() && kind("through").is_char_device() && kind("later").is_file());
    assert!(unpacked[0].join("dir/kept").exists());
    for name in [".wh..", ".wh...", "a/.wh..", "a/.wh.../b", "a/../../.wh.b"] {
        let place = Place::new();
        let outcome = place.unpack(&[&tar(&[(EntryType::Regular, name, "", 0)])]);
        let inside = outcome.is_ok_and(|unpacked| unpacked[0].join(name).exists());
        assert!(!inside || name.ends_with("/b"), "{name}");
    }
}

#[test]
fn nodes_and_set_uid_files_are_kept_and_lie_where_no_mount_honours_devices() {
    if !root() {
        return;
    }
    let mut device = tar(&[(EntryType::Block, "disk", "", 0o666), (EntryType::Regular, "suid", "x", 0o6755)]);
    // Major 8, minor 0, as a tar writes them.
    device[329..345].copy_from_slice(b"0000010\x000000000\0");
    let sum: u32 = device[..512]
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
        .sum();
    device[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let place = Place::new();
    let unpacked = place.unpack(&[&device]).unwrap();
    let of = |name: &str| unpacked[0].join(name).symlink_metadata().unwrap();
    assert_eq!(of("suid").permissions().mode() & 0o7777, 0o6755);
    assert!(of("disk").file_type().is_block_device() && of("disk").rdev() == rustix::fs::makedev(8, 0));
}

#[test]
fn indexes_in_circles_and_digests_of_nothing_end() {
    let place = Place::new();
    let layout = place.directory.path().join("layout");
    ImageBuilder::new().file("/f", 0o644, "x").build(&name()).unwrap().write_layout(&layout).unwrap();
    let blobs = layout.join("blobs/sha256");
    let put = |document: &serde_json::Value| {
        let bytes = document.to_string().into_bytes();
        let digest = Digest::of(&bytes);
        std::fs::write(blobs.join(digest.hex()), &bytes).unwrap();
        (digest.to_string(), bytes.len())
    };
    let entry = |kind: &str, (digest, size): (String, usize)| {
        serde_json::json!({"schemaVersion": 2, "manifests": [{
            "mediaType": format!("application/vnd.oci.image.{kind}.v1+json"), "size": size, "digest": digest}]})
    };
    let import = |top: &serde_json::Value| {
        std::fs::write(layout.join("index.json"), top.to_string()).unwrap();
        place.store.import(&layout, Some(&name())).unwrap_err().to_string()
    };
    // An index in an index in an index: a true circle would take a broken hash.
    let mut nested = entry("manifest", (Digest::of(b"x").to_string(), 1));
    for _ in 0..50 {
        nested = entry("index", put(&nested));
    }
    assert!(import(&nested).contains("nested too deeply"));
    let config = put(
        &serde_json::json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}),
    );
    let describe = |(digest, size): (String, usize)| serde_json::json!({"mediaType": "application/octet-stream", "size": size, "digest": digest});
    let manifest = |layers: Vec<serde_json::Value>| serde_json::json!({"schemaVersion": 2, "config": describe(config.clone()), "layers": layers});
    for digest in ["sha256:", "sha256:zz", "sha512:00", "../../../../etc/passwd", "sha256:../../x", ""] {
        let error = import(&entry("manifest", put(&manifest(vec![describe((digest.to_owned(), 1))]))));
        assert!(!error.contains("No such file"), "{digest}: {error}");
    }
    // Another size than it has, and more layers than there are names for.
    import(&entry("manifest", put(&manifest(vec![describe((config.0.clone(), 7))]))));
    let layers = vec![describe(config.clone()); 10_000];
    assert!(import(&entry("manifest", put(&manifest(layers)))).contains("number of layers"));
    import(&entry("manifest", put(&manifest(vec![describe(config.clone())]))));
    // A document without end.
    let huge =
        serde_json::json!({"schemaVersion": 2, "manifests": [], "annotations": {"a": "x".repeat(20 << 20)}});
    assert!(import(&huge).contains("manifest or configuration"));
    assert!(place.store.list().unwrap().is_empty());
}

#[test]
fn an_archive_full_of_links_to_itself_has_no_files() {
    let place = Place::new();
    for (path, target) in [
        ("manifest.json", "manifest.json"),
        ("manifest.json", "../../../../etc/passwd"),
        ("index.json", "/etc/passwd"),
    ] {
        for kind in [EntryType::Symlink, EntryType::Link] {
            let archive = place.write(&tar(&[(kind, path, target, 0o644)]));
            let error = place.store.import(&archive, Some(&name())).unwrap_err().to_string();
            assert!(error.contains("neither an OCI layout"), "{path} -> {target}: {error}");
        }
    }
}
