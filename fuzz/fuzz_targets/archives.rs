//! Archives of images, and the documents in them, are taken or refused within their limits.

#![no_main]

use images::{Digest, Limits, Reference, Store};

fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

libfuzzer_sys::fuzz_target!(|input: (u8, &[u8])| {
    let (kind, bytes) = input;
    let digest = Digest::of(bytes);
    let blob = format!("blobs/{}", digest.to_string().replace(':', "/"));
    let entry = |of: &str| {
        format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.{of}.v1+json","digest":"{digest}","size":{}}}]}}"#,
            bytes.len()
        )
    };
    let archive = match kind % 5 {
        0 => bytes.to_vec(),
        1 => tar(&[("index.json", bytes)]),
        2 => tar(&[("manifest.json", bytes)]),
        3 => tar(&[("index.json", entry("manifest").as_bytes()), (&blob, bytes)]),
        _ => tar(&[("index.json", entry("index").as_bytes()), (&blob, bytes)]),
    };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("archive");
    std::fs::write(&file, archive).unwrap();
    let limits =
        Limits { image_bytes: 1 << 20, document_bytes: 64 << 10, archive_members: 100, ..Limits::default() };
    let store = Store::open_with(directory.path().join("store"), limits).unwrap();
    let name: Reference = "test.local/image:1".parse().unwrap();
    if let Ok(images) = store.import(&file, Some(&name)) {
        assert_eq!(images.len(), 1);
        assert!(store.find("test.local/image:1").unwrap().is_some());
    }
});
