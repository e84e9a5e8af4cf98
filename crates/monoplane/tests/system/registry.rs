//! Images from a registry: pushed and pulled by hand, and by pods with the right secret and the wrong one.

use harness::{Plane, Registry, eventually, is_root};

use crate::start;

/// An image of a static busybox, in a file that `monoplane image load` takes.
fn archive(work: &std::path::Path, name: &str) -> String {
    let busybox = std::fs::read("/bin/busybox").expect("busybox: `cargo xtask tools` installs it");
    let image = images::ImageBuilder::new()
        .file("/bin/busybox", 0o755, busybox)
        .env("PATH", "/bin")
        .entrypoint(["/bin/busybox"]);
    let path = work.join("image.tar");
    let file = std::fs::File::create(&path).expect("a file");
    image.build(&name.parse().expect("a name")).and_then(|built| built.write_tar(file)).expect("an image");
    path.to_str().expect("a path").to_owned()
}

fn said(plane: &Plane, words: &[&str]) -> String {
    let said = plane.monoplane(words);
    assert!(said.ok, "{words:?}: {said:?}");
    said.out
}

fn secret(plane: &Plane, server: &str, password: &str) {
    let made = plane.kubectl_ok(&[
        "create",
        "secret",
        "docker-registry",
        "pull",
        &format!("--docker-server={server}"),
        "--docker-username=user",
        &format!("--docker-password={password}"),
        "--dry-run=client",
        "-o",
        "yaml",
    ]);
    plane.apply(&made);
}

fn waiting(plane: &Plane, pod: &str) -> (String, String) {
    let object = plane.get(&["pod", pod]);
    let waiting = &object["status"]["containerStatuses"][0]["state"]["waiting"];
    let text = |key: &str| waiting[key].as_str().unwrap_or_default().to_owned();
    (text("reason"), text("message"))
}

#[test]
fn pods_get_their_images_from_a_registry_with_the_right_secret() {
    if !is_root() {
        eprintln!("skipped: containers need root");
        return;
    }
    let registry = Registry::start();
    let host = format!("127.0.0.1:{}", registry.port);
    let work = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = work.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("a path").to_owned()
    };
    // Without this the node would not go to a registry on its own machine.
    let registries = file("registries.yaml", &format!("configs:\n  '{host}': {{}}\n"));
    let plane = start(&["--registries", &registries]);

    // In by a file, out to the registry, away, and in again from there.
    let name = format!("{host}/team/busybox:1");
    said(&plane, &["image", "load", &archive(work.path(), &name)]);
    let auths = serde_json::json!({"auths": {&host: {"username": "user", "password": "password"}}});
    let config = file("config.json", &auths.to_string());
    let nobody = file("nobody.json", "{}");
    let refused = plane.monoplane(&["image", "push", &name, "--authfile", &nobody]);
    assert!(!refused.ok && refused.err.contains("authorization failed"), "{refused:?}");
    let pushed = said(&plane, &["image", "push", &name, "--authfile", &config]);
    let digest = pushed.lines().find_map(|line| line.strip_prefix("digest ")).expect("a digest").to_owned();
    let saved = work.path().join("saved.tar");
    said(&plane, &["image", "save", &name, "-o", saved.to_str().expect("a path")]);
    said(&plane, &["image", "rm", &name]);
    assert!(!said(&plane, &["image", "ls"]).contains(&name));
    said(&plane, &["image", "pull", &name, "--authfile", &config]);
    assert!(said(&plane, &["image", "inspect", &name]).contains(&digest));
    said(&plane, &["image", "prune", "--all"]);
    assert!(!said(&plane, &["image", "ls"]).contains(&name));

    // A pod with the wrong secret waits, and says why; with the right one it runs.
    secret(&plane, &host, "wrong");
    plane.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: pulls}}\nspec:\n  restartPolicy: Never\n  imagePullSecrets: [{{name: pull}}]\n  containers:\n  - {{name: main, image: '{name}', args: [echo, pulled]}}\n"
    ));
    eventually("the pull fails", || (waiting(&plane, "pulls").0 == "ErrImagePull").then_some(()));
    let (_, message) = eventually("it backs off", || {
        let found = waiting(&plane, "pulls");
        (found.0 == "ImagePullBackOff").then_some(found)
    });
    assert!(
        message.contains("Back-off pulling image") && message.contains("authorization failed"),
        "{message}"
    );
    secret(&plane, &host, "password");
    plane.kubectl_ok(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/pulls", "--timeout=90s"]);
    assert_eq!(plane.kubectl_ok(&["logs", "pulls"]), "pulled\n");
    let object = plane.get(&["pod", "pulls"]);
    let id = object["status"]["containerStatuses"][0]["imageID"].as_str().expect("an image id").to_owned();
    assert_eq!(id, format!("{host}/team/busybox@{digest}"));
    let described = plane.kubectl_ok(&["describe", "pod", "pulls"]);
    for words in ["Pulling image", "Failed to pull image", "Error: ErrImagePull", "Successfully pulled image"]
    {
        assert!(described.contains(words), "{words} in {described}");
    }

    // What is here is for those who could have pulled it.
    plane.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: nosy}}\nspec:\n  containers:\n  - {{name: main, image: '{name}', imagePullPolicy: Never}}\n"
    ));
    eventually("the image is not given", || (waiting(&plane, "nosy").0 == "ErrImageNeverPull").then_some(()));
    eventually("the node tells of the image", || {
        let images = plane.get(&["node", "test-node"])["status"]["images"].to_string();
        images.contains(&digest).then_some(())
    });
    let used = plane.monoplane(&["image", "rm", &name]);
    assert!(!used.ok && used.err.contains("used by a container"), "{used:?}");
}
