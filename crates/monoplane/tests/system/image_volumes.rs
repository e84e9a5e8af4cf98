//! Volumes that are images' files.

use harness::{Plane, eventually};

use crate::containers::{IMAGE, plane_with_image};

const DATA: &str = "monoplane.test/data:1";

/// The image that is mounted: a file in a directory, and a program.
fn load_data(plane: &Plane) {
    let work = tempfile::tempdir().expect("a directory");
    let image = images::ImageBuilder::new()
        .file("/models/small/weights", 0o644, "0.5 0.25\n")
        .file("/tool", 0o755, "#!/bin/busybox sh\necho executed\n")
        .symlink("/models/out", "/etc");
    let path = work.path().join("data.tar");
    let file = std::fs::File::create(&path).expect("a file");
    image.build(&DATA.parse().expect("a name")).and_then(|built| built.write_tar(file)).expect("an image");
    let said = plane.monoplane(&["image", "load", path.to_str().expect("a path")]);
    assert!(said.ok, "{said:?}");
}

fn pod(name: &str, spec: &str, mounts: &str, reference: &str, script: &str) -> String {
    format!(
        r#"apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
{spec}  containers:
  - name: main
    image: {IMAGE}
    imagePullPolicy: Never
    command: [/bin/busybox, sh, -c]
    args: ['{script}']
    volumeMounts: {mounts}
  volumes:
  - {{name: data, image: {{reference: '{reference}', pullPolicy: Never}}}}
"#
    )
}

fn log_of_ended(plane: &Plane, name: &str) -> String {
    let said = plane.kubectl(&[
        "wait",
        "--for=jsonpath={.status.phase}=Succeeded",
        &format!("pod/{name}"),
        "--timeout=60s",
    ]);
    assert!(said.ok, "{said:?}\n{}", plane.kubectl_ok(&["describe", "pod", name]));
    plane.kubectl_ok(&["logs", name])
}

#[test]
fn an_images_files_are_read_and_neither_written_nor_executed() {
    let Some(plane) = plane_with_image() else { return };
    load_data(&plane);
    let mounts = "[{name: data, mountPath: /data}, {name: data, mountPath: /part, subPath: models/small}, {name: data, mountPath: /one, subPath: models/small/weights}]";
    let script = "cat /data/models/small/weights /part/weights /one; touch /data/x /part/x; echo y > /one; /data/tool; \
                  stat -c %u:%g:%a /data /data/models/small/weights; exit 0";
    plane.apply(&pod("plain", "", mounts, DATA, script));
    // Root inside, nobody outside: the files are that root's.
    plane.apply(&pod("users", "  hostUsers: false\n", mounts, DATA, script));
    for name in ["plain", "users"] {
        let log = log_of_ended(&plane, name);
        assert_eq!(log.matches("0.5 0.25").count(), 3, "{name}: {log}");
        assert_eq!(log.matches("Read-only file system").count(), 3, "{name}: {log}");
        assert!(log.contains("Permission denied") && !log.contains("executed"), "{name}: {log}");
        assert!(log.contains("0:0:755\n0:0:644\n"), "{name}: {log}");
    }
    let described = plane.kubectl_ok(&["describe", "pod", "plain"]);
    assert!(described.contains(&format!("Container image \"{DATA}\" already present")), "{described}");

    // It is in use for as long as the containers are there.
    let refused = plane.monoplane(&["image", "rm", DATA]);
    assert!(!refused.ok && refused.err.contains("used by a container"), "{refused:?}");
    plane.monoplane(&["image", "prune", "--all"]);
    assert!(plane.monoplane(&["image", "ls"]).out.contains(DATA));
    plane.kubectl_ok(&["delete", "pod", "plain", "users", "--timeout=60s"]);
    eventually("nobody uses it any more", || plane.monoplane(&["image", "rm", DATA]).ok.then_some(()));
}

#[test]
fn what_cannot_be_mounted_is_said() {
    let Some(plane) = plane_with_image() else { return };
    load_data(&plane);
    let whole = "[{name: data, mountPath: /data}]";
    plane.apply(&pod("absent", "", whole, "monoplane.test/absent:1", "true"));
    eventually("an image that is not there is told as a container's own is", || {
        let status = plane.get(&["pod", "absent"])["status"]["containerStatuses"][0].clone();
        (status["state"]["waiting"]["reason"] == "ErrImageNeverPull").then_some(())
    });
    let part = |path: &str| format!("[{{name: data, mountPath: /data, subPath: {path}}}]");
    for (name, path) in [("nowhere", "models/none"), ("outside", "models/out/passwd")] {
        plane.apply(&pod(name, "", &part(path), DATA, "cat /data; true"));
        let message = eventually("a part that is not in the image fails the container", || {
            let state = plane.get(&["pod", name])["status"]["containerStatuses"][0]["state"].clone();
            state["terminated"]["message"].as_str().map(str::to_owned)
        });
        assert!(message.contains(path), "{message}");
    }
}
