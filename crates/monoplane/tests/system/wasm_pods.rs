//! Pods with `runtimeClassName: wasm`, from ordinary images that hold a component.

use std::path::Path;

use harness::{Plane, eventually, is_root};

use crate::start;

const IMAGE: &str = "monoplane.test/wasm:1";

/// A plane with an image of two components: a program, and one that answers HTTP.
fn plane_with_components() -> Option<Plane> {
    if !is_root() {
        eprintln!("skipped: containers need root");
        return None;
    }
    let plane = start(&[]);
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let read = |name: &str| std::fs::read(examples.join(format!("{name}/{name}.wasm"))).expect("a component");
    let work = tempfile::tempdir().expect("a directory");
    let image = images::ImageBuilder::new()
        .file("/tool.wasm", 0o644, read("tool"))
        .file("/echo.wasm", 0o644, read("echo"))
        .file("/module.wasm", 0o644, b"\0asm\x01\0\0\0".to_vec())
        .file("/etc/motd", 0o644, "from the image\n")
        .directory("/tmp", 0o1777)
        .entrypoint(["/tool.wasm"]);
    let layout = work.path().join("layout");
    image.build(&IMAGE.parse().expect("a name")).expect("an image").write_layout(&layout).expect("a layout");
    let said = plane.monoplane(&["image", "import", layout.to_str().expect("a path")]);
    assert!(said.ok, "{said:?}");
    Some(plane)
}

fn pod(name: &str, container: &str, rest: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  runtimeClassName: wasm\n  terminationGracePeriodSeconds: 5\n{rest}  containers:\n  - name: main\n    image: {IMAGE}\n    imagePullPolicy: Never\n{container}"
    )
}

fn phase(plane: &Plane, name: &str, phase: &str) {
    let wanted = format!("--for=jsonpath={{.status.phase}}={phase}");
    let said = plane.kubectl(&["wait", &wanted, &format!("pod/{name}"), "--timeout=90s"]);
    assert!(said.ok, "{said:?}\n{}", plane.kubectl_ok(&["describe", "pod", name]));
}

fn terminated(plane: &Plane, name: &str) -> serde_json::Value {
    plane.get(&["pod", name])["status"]["containerStatuses"][0]["state"]["terminated"].clone()
}

#[test]
fn a_program_sees_its_pod_and_nothing_else() {
    let Some(plane) = plane_with_components() else { return };
    plane.kubectl_ok(&["get", "runtimeclass", "wasm"]);
    plane.kubectl_ok(&["create", "configmap", "words", "--from-literal=greeting=hello from a volume"]);
    let container = "    env: [{name: COLOUR, value: blue}]
    volumeMounts: [{name: words, mountPath: /words, readOnly: true}, {name: room, mountPath: /room}]
    args: [say, begun, env, COLOUR, read, /words/greeting, read, /etc/motd, write, /words/x, 'y',
           write, /room/kept, here, read, /room/kept, list, /proc, read, /proc/self/status, complain, aloud, say, done, exit, '3']
";
    let rest = "  restartPolicy: Never
  volumes: [{name: words, configMap: {name: words}}, {name: room, emptyDir: {}}]
";
    plane.apply(&pod("tool", container, rest));
    phase(&plane, "tool", "Failed");
    let ended = terminated(&plane, "tool");
    // WASI 0.2 tells of failure, not of its number.
    assert_eq!((ended["exitCode"].as_i64(), ended["reason"].as_str()), (Some(1), Some("Error")));
    let log = plane.kubectl_ok(&["logs", "tool"]);
    // The complaint comes by a pipe of its own, so it may stand anywhere.
    assert!(log.lines().any(|line| line == "aloud"), "{log}");
    let lines: Vec<&str> = log.lines().filter(|line| *line != "aloud").collect();
    let wanted = ["begun", "blue", "hello from a volume", "from the image"];
    assert_eq!(lines[..4], wanted, "{log}");
    // A read-only volume is one, and an engine's own memory is no file for what it runs.
    assert!(lines[4].starts_with("error"), "{log}");
    assert_eq!(lines[5..7], ["written", "here"], "{log}");
    assert!(lines[8].starts_with("error") && lines.last() == Some(&"done"), "{log}");
}

#[test]
fn what_fails_is_told_as_for_any_pod() {
    let Some(plane) = plane_with_components() else { return };
    let never = "  restartPolicy: Never\n";
    plane.apply(&pod("panics", "    args: [panic]\n", never));
    let limits = "    resources: {limits: {memory: 64Mi}}\n    args: [say, small, fill, '200']\n";
    plane.apply(&pod("greedy", limits, never));
    plane.apply(&pod("module", "    command: [/module.wasm]\n", never));
    plane.apply(&pod("fickle", "    args: [exit, '1']\n", "  restartPolicy: Always\n"));
    for name in ["panics", "greedy"] {
        phase(&plane, name, "Failed");
    }
    assert_eq!(terminated(&plane, "panics")["exitCode"], 134);
    let log = plane.kubectl_ok(&["logs", "panics"]);
    assert!(log.contains("as asked") && log.contains("the program failed"), "{log}");
    assert_eq!(terminated(&plane, "greedy")["exitCode"], 137);
    let log = plane.kubectl_ok(&["logs", "greedy"]);
    assert!(log.contains("more than its limit of 67108864 bytes"), "{log}");
    eventually("the one that ends is started again", || {
        let status = plane.get(&["pod", "fickle"])["status"]["containerStatuses"][0].clone();
        status["restartCount"].as_i64().is_some_and(|count| count >= 1).then_some(())
    });
    eventually("a core module that is no command is told so", || {
        let described = plane.kubectl_ok(&["describe", "pod", "module"]);
        described.contains("core module without a function _start()").then_some(())
    });
    let said = plane.kubectl(&["exec", "fickle", "--", "/bin/sh"]);
    assert!(!said.ok);
}

#[test]
fn a_component_answers_behind_a_service_with_probes() {
    let Some(plane) = plane_with_components() else { return };
    let container = "    command: [/echo.wasm]
    ports: [{containerPort: 8000}]
    readinessProbe: {httpGet: {path: /, port: 8000}, periodSeconds: 1}
    livenessProbe: {tcpSocket: {port: 8000}}
";
    plane.apply(&pod("echo", container, ""));
    let said = plane.kubectl(&["wait", "--for=condition=Ready", "pod/echo", "--timeout=90s"]);
    assert!(said.ok, "{said:?}\n{}", plane.kubectl_ok(&["describe", "pod", "echo"]));
    plane.kubectl_ok(&["expose", "pod", "echo", "--port=80", "--target-port=8000"]);
    // From another pod of the kind, by the Service's address, over a socket of its own.
    let address =
        plane.get(&["service", "echo"])["spec"]["clusterIP"].as_str().expect("an address").to_owned();
    let request = "GET /path HTTP/1.1\\r\\nHost: echo\\r\\nConnection: close\\r\\n\\r\\n";
    let container = format!("    args: [connect, '{address}:80', \"{}\"]\n", request.replace('\\', "\\\\"));
    eventually("the Service leads to the component", || {
        plane.kubectl(&["delete", "pod", "asks", "--ignore-not-found", "--timeout=60s"]);
        plane.apply(&pod("asks", &container, "  restartPolicy: Never\n"));
        phase(&plane, "asks", "Succeeded");
        plane.kubectl_ok(&["logs", "asks"]).contains("HTTP/1.1 200").then_some(())
    });
    // Asked to end, it does so in order, at once.
    plane.kubectl_ok(&["delete", "pod", "echo", "--timeout=30s"]);
}
