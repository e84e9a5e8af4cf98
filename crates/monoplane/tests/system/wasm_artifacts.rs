//! Pods from images that are nothing but a WebAssembly program: made of a file, pushed, and pulled by pods.

use std::path::Path;

use harness::{Plane, Registry, eventually, is_root};

use crate::start;

/// A core module of WASI 0.1 that says something and exits with 3.
const MODULE: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (data (i32.const 8) "from a module\n")
    (func (export "_start")
        (i32.store (i32.const 0) (i32.const 8))
        (i32.store (i32.const 4) (i32.const 14))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64)))
        (call $exit (i32.const 3))))"#;

fn said(plane: &Plane, words: &[&str]) -> String {
    let said = plane.monoplane(words);
    assert!(said.ok, "{words:?}: {said:?}");
    said.out
}

fn pod(name: &str, image: &str, class: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  imagePullSecrets: [{{name: pull}}]\n{class}  containers:\n  - {{name: main, image: '{image}'{more}}}\n"
    )
}

fn phase(plane: &Plane, name: &str, phase: &str) {
    let wanted = format!("--for=jsonpath={{.status.phase}}={phase}");
    let said = plane.kubectl(&["wait", &wanted, &format!("pod/{name}"), "--timeout=90s"]);
    assert!(said.ok, "{said:?}\n{}", plane.kubectl_ok(&["describe", "pod", name]));
}

#[test]
fn a_file_becomes_an_artifact_that_pods_pull_and_run() {
    if !is_root() {
        eprintln!("skipped: containers need root");
        return;
    }
    let registry = Registry::start();
    let host = format!("127.0.0.1:{}", registry.port);
    let work = tempfile::tempdir().expect("a directory");
    let file = |name: &str, content: &[u8]| {
        let path = work.path().join(name);
        std::fs::write(&path, content).expect("a file");
        path.to_str().expect("a path").to_owned()
    };
    let registries = file("registries.yaml", format!("configs:\n  '{host}': {{}}\n").as_bytes());
    let plane = start(&["--registries", &registries]);
    let auths =
        serde_json::json!({"auths": {&host: {"username": "user", "password": "password"}}}).to_string();
    let config = file("config.json", auths.as_bytes());
    let secret = format!("--from-file=.dockerconfigjson={config}");
    let kind = "--type=kubernetes.io/dockerconfigjson";
    plane.kubectl_ok(&["create", "secret", "generic", "pull", kind, &secret]);

    // In by a file, out to the registry, and away.
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/tool/tool.wasm");
    let module = file("module.wasm", &wat::parse_str(MODULE).expect("a module"));
    let (tool_name, module_name) = (format!("{host}/team/tool:1"), format!("{host}/team/module:1"));
    let mut digests = Vec::new();
    for (path, name) in [(tool.to_str().expect("a path"), &tool_name), (&module, &module_name)] {
        said(&plane, &["image", "load", path, "--tag", name]);
        let pushed = said(&plane, &["image", "push", name, "--authfile", &config]);
        digests.extend(pushed.lines().find_map(|line| line.strip_prefix("digest ")).map(str::to_owned));
        said(&plane, &["image", "rm", name]);
    }
    assert!(!said(&plane, &["image", "ls"]).contains("/team/"));

    // A component, with arguments of the pod's.
    let class = "  runtimeClassName: wasm\n";
    plane.apply(&pod("tool", &tool_name, class, ", args: [say, pulled, list, /]"));
    phase(&plane, "tool", "Succeeded");
    let log = plane.kubectl_ok(&["logs", "tool"]);
    assert!(log.starts_with("pulled\n") && log.contains("tool.wasm"), "{log}");
    let told = plane.get(&["pod", "tool"])["status"]["containerStatuses"][0].clone();
    assert_eq!(told["imageID"], format!("{host}/team/tool@{}", digests[0]));

    // A core module, whose exit code comes through.
    plane.apply(&pod("module", &module_name, class, ""));
    phase(&plane, "module", "Failed");
    assert_eq!(plane.kubectl_ok(&["logs", "module"]), "from a module\n");
    let told = plane.get(&["pod", "module"])["status"]["containerStatuses"][0].clone();
    assert_eq!(told["state"]["terminated"]["exitCode"], 3);

    // Each program's file was found in its layer: the next start does not read it.
    let artifacts = std::fs::read_dir(plane.data().join("node/artifacts")).expect("artifacts").flatten();
    let kept = artifacts.flat_map(|engine| std::fs::read_dir(engine.path()).expect("an engine's").flatten());
    assert_eq!(kept.filter(|kept| kept.file_name().to_string_lossy().starts_with("file-")).count(), 2);

    // A pod of the ordinary kind is told what to do.
    plane.apply(&pod("ordinary", &tool_name, "", ""));
    let message = eventually("the pod says why it cannot run this", || {
        let waiting =
            plane.get(&["pod", "ordinary"])["status"]["containerStatuses"][0]["state"]["waiting"].clone();
        (waiting["reason"] == "CreateContainerError")
            .then(|| waiting["message"].as_str().unwrap_or_default().to_owned())
    });
    assert!(
        message.contains("WebAssembly program") && message.contains("runtimeClassName: wasm"),
        "{message}"
    );
    let used = plane.monoplane(&["image", "rm", &module_name]);
    assert!(!used.ok && used.err.contains("used by a container"), "{used:?}");
}
