//! Secrets are encrypted at rest, and keys are rotated while the plane runs.

use std::path::Path;

use harness::{Plane, eventually};

use crate::start;

const HIDDEN: &str = "this-is-hidden-at-rest";
const SHOWN: &str = "this-is-shown-at-rest";

/// Whether a text is anywhere in the server's files.
fn is_on_disk(plane: &Plane, text: &str) -> bool {
    let mut todo = vec![plane.data().join("server")];
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(
                std::fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()),
            );
        } else if std::fs::read(&path)
            .is_ok_and(|bytes| bytes.windows(text.len()).any(|at| at == text.as_bytes()))
        {
            return true;
        }
    }
    false
}

fn keys(file: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(file).expect("the keys")).expect("JSON")
}

#[test]
fn secrets_are_on_the_disk_in_no_form_that_reads_without_the_keys() {
    let mut plane = start(&["--disable", "node,edge"]);
    let (secret, map) = (format!("--from-literal=a={HIDDEN}"), format!("--from-literal=a={SHOWN}"));
    plane.kubectl_ok(&["create", "secret", "generic", "s", &secret]);
    plane.kubectl_ok(&["create", "configmap", "c", &map]);
    let encoded = plane.get(&["secret", "s"])["data"]["a"].as_str().expect("a value").to_owned();
    assert!(is_on_disk(&plane, SHOWN) && !is_on_disk(&plane, HIDDEN) && !is_on_disk(&plane, &encoded));

    let file = plane.data().join("encryption-keys.json");
    let path = file.to_str().expect("a path");
    let first = keys(&file)["keys"][0]["id"].clone();
    let said = std::process::Command::new(env!("CARGO_BIN_EXE_monoplane"))
        .args(["encryption", "rotate", "--encryption-keys", path])
        .output()
        .expect("monoplane runs");
    assert!(said.status.success(), "{said:?}");
    let mut all = keys(&file);
    assert_eq!((all["keys"].as_array().map(Vec::len), &all["keys"][1]["id"]), (Some(2), &first));
    let next = all["keys"][0]["id"].as_str().expect("an id").to_owned();
    eventually("it is encrypted anew", || {
        let log = plane.log();
        log.lines().any(|line| line.contains("encrypted anew") && line.contains(&next)).then_some(())
    });
    assert!(!is_on_disk(&plane, &encoded));

    // The old key is not needed for what is there now.
    plane.stop();
    all["keys"].as_array_mut().expect("keys").truncate(1);
    std::fs::write(&file, all.to_string()).expect("the keys");
    plane.up();
    assert_eq!(plane.get(&["secret", "s"])["data"]["a"], encoded.as_str());
}
