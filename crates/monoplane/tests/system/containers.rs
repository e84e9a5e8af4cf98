//! Containers: they run, are restarted, and outlive everything but their own end.

use harness::{Plane, Said, eventually, is_root, kill, send};

pub(crate) const IMAGE: &str = "monoplane.test/busybox:1";

/// A plane with an image of a static busybox; `None` without root, where containers cannot run.
pub(crate) fn plane_with_image() -> Option<Plane> {
    plane_with_image_and(&[])
}

/// The same, with these further flags.
pub(crate) fn plane_with_image_and(flags: &[&str]) -> Option<Plane> {
    plane_with_image_of(env!("CARGO_BIN_EXE_monoplane"), flags)
}

/// The same, of this binary.
pub(crate) fn plane_with_image_of(binary: &str, flags: &[&str]) -> Option<Plane> {
    if !is_root() {
        eprintln!("skipped: containers need root");
        return None;
    }
    Some(with_image(Plane::start(binary, flags)))
}

/// The plane, once it has the image.
pub(crate) fn with_image(plane: Plane) -> Plane {
    give_image(|words| plane.monoplane(words));
    plane
}

/// Gives a machine the image, by what runs the binary on its data directory.
pub(crate) fn give_image(monoplane: impl Fn(&[&str]) -> Said) {
    let work = tempfile::tempdir().expect("a directory");
    let root = work.path().join("root");
    std::fs::create_dir_all(root.join("bin")).expect("a directory");
    std::fs::copy("/bin/busybox", root.join("bin/busybox"))
        .expect("busybox: `cargo xtask tools` installs it");
    let archive = docker_archive(work.path());
    let said = monoplane(&["image", "import", archive.to_str().expect("a path")]);
    assert!(said.ok, "{said:?}");
    let listed = monoplane(&["image", "ls"]);
    assert!(listed.out.contains(IMAGE), "{listed:?}");
}

/// What `docker save` would write for an image with busybox alone in it.
fn docker_archive(work: &std::path::Path) -> std::path::PathBuf {
    let run = |program: &str, words: &[&str]| {
        let status =
            std::process::Command::new(program).args(words).current_dir(work).status().expect(program);
        assert!(status.success(), "{program} {words:?}");
    };
    run("tar", &["-C", "root", "-cf", "layer.tar", "."]);
    let sum = std::process::Command::new("sha256sum")
        .arg("layer.tar")
        .current_dir(work)
        .output()
        .expect("sha256sum");
    let sum = String::from_utf8_lossy(&sum.stdout)[..64].to_owned();
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux",
        "config": {"Entrypoint": ["/bin/busybox"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{sum}")]}});
    std::fs::write(work.join("config.json"), config.to_string()).expect("a file");
    let manifest =
        serde_json::json!([{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]);
    std::fs::write(work.join("manifest.json"), manifest.to_string()).expect("a file");
    run("tar", &["-cf", "image.tar", "manifest.json", "config.json", "layer.tar"]);
    work.join("image.tar")
}

pub(crate) fn pod(name: &str, script: &str, rest: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 2\n  containers:\n  - name: main\n    image: {IMAGE}\n    imagePullPolicy: Never\n    command: [/bin/busybox, sh, -c]\n    args: ['{script}']\n{rest}"
    )
}

/// What a pod said until it ended, as it should.
#[track_caller]
pub(crate) fn output(plane: &Plane, name: &str) -> String {
    let ended = "--for=jsonpath={.status.phase}=Succeeded";
    let waited = plane.kubectl(&["wait", ended, &format!("pod/{name}"), "--timeout=60s"]);
    let said = plane.kubectl(&["logs", name]);
    assert!(waited.ok, "{waited:?}\n{said:?}\n{}", plane.kubectl(&["describe", "pod", name]).out);
    said.out
}

#[test]
fn a_pod_runs_logs_and_ends() {
    let Some(plane) = plane_with_image() else { return };
    plane.apply(&pod("hello", "echo hello from $HOSTNAME; sleep 2; echo bye", "  restartPolicy: Never\n"));
    eventually("the container has started", || plane.kubectl(&["logs", "hello"]).ok.then_some(()));
    let followed = plane.kubectl_ok(&["logs", "-f", "hello"]);
    assert_eq!(followed.lines().last(), Some("bye"), "{followed}");
    plane.kubectl_ok(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/hello", "--timeout=60s"]);
    assert_eq!(plane.kubectl_ok(&["logs", "hello", "--tail=1"]), "bye\n");
    let object = plane.get(&["pod", "hello"]);
    let terminated = &object["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(
        (terminated["exitCode"].as_i64(), terminated["reason"].as_str()),
        (Some(0), Some("Completed"))
    );
    let described = plane.kubectl_ok(&["describe", "pod", "hello"]);
    for reason in ["Scheduled", "Created", "Started"] {
        assert!(described.contains(reason), "{reason} in {described}");
    }
    plane.kubectl_ok(&["delete", "pod", "hello", "--timeout=30s"]);
}

#[test]
fn a_pod_gets_what_it_asks_for_or_is_told() {
    let Some(plane) = plane_with_image() else { return };
    let never = "  restartPolicy: Never\n";
    let typo = pod("typo", "", never).replace("/bin/busybox, sh, -c", "no-such-command");
    plane.apply(&typo);
    plane.kubectl_ok(&["wait", "--for=jsonpath={.status.phase}=Failed", "pod/typo", "--timeout=60s"]);
    let object = plane.get(&["pod", "typo"]);
    let ended = &object["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((ended["reason"].as_str(), ended["exitCode"].as_i64()), (Some("StartError"), Some(128)));

    plane.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {key: hidden}\n");
    plane.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {key: open}\n");
    let mounts = "    volumeMounts:\n    - {name: s, mountPath: /s}\n    - {name: c, mountPath: /c}\n    - {name: e, mountPath: /e}\n";
    let volumes = "  volumes:\n  - {name: s, secret: {secretName: s}}\n  - {name: c, configMap: {name: c}}\n  - {name: e, emptyDir: {medium: Memory}}\n";
    let sidecar = format!(
        "  initContainers:\n  - {{name: side, image: '{IMAGE}', imagePullPolicy: Never, restartPolicy: Always, command: [/bin/busybox, sleep, '1000']}}\n"
    );
    let script =
        "cat /s/key /c/key; echo; grep -c -E \" /(s|e) tmpfs \" /proc/mounts; grep -c reader /etc/hosts";
    plane.apply(&pod("reader", script, &format!("{mounts}{volumes}{sidecar}{never}")));
    plane.kubectl_ok(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/reader", "--timeout=60s"]);
    assert_eq!(plane.kubectl_ok(&["logs", "reader", "-c", "main"]), "hiddenopen\n2\n1\n");

    let port = "    ports:\n    - {containerPort: 80, hostPort: 80, hostIP: 127.0.0.1}\n";
    plane.apply(&pod("port", "true", port));
    let reason = "--for=jsonpath={.status.containerStatuses[0].state.waiting.reason}=UnsupportedField";
    plane.kubectl_ok(&["wait", reason, "pod/port", "--timeout=60s"]);
    plane.kubectl_ok(&["delete", "pod", "typo", "reader", "port", "--timeout=30s"]);
}

#[test]
fn a_rollout_goes_through_and_can_be_undone() {
    let Some(plane) = plane_with_image() else { return };
    let deployment = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  replicas: 2\n  selector: {{matchLabels: {{app: web}}}}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    spec:\n      terminationGracePeriodSeconds: 1\n      containers:\n      - {{name: web, image: '{IMAGE}', imagePullPolicy: Never, command: [/bin/busybox, sleep, '1000']}}\n"
    );
    plane.apply(&deployment);
    let status = plane.kubectl_ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    assert!(status.contains("successfully rolled out"), "{status}");
    plane.apply(&deployment.replace("'1000'", "'2000'"));
    plane.kubectl_ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    plane.kubectl_ok(&["rollout", "undo", "deployment/web"]);
    plane.kubectl_ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    let object = plane.get(&["deployment", "web"]);
    assert_eq!(object["spec"]["template"]["spec"]["containers"][0]["command"][2], "1000");
    let wide = plane.kubectl_ok(&["get", "pods", "-o", "wide"]);
    assert!(wide.contains("1/1") && wide.contains("test-node"), "{wide}");
}

#[test]
fn a_killed_container_comes_back_and_backs_off() {
    let Some(plane) = plane_with_image() else { return };
    plane.apply(&pod("victim", "while true; do sleep 1; done", ""));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/victim", "--timeout=60s"]);
    kill(first_process(&plane, "victim"), 9);
    eventually("restarted once", || (restarts(&plane, "victim")? == 1).then_some(()));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/victim", "--timeout=60s"]);
    plane.apply(&pod("crasher", "exit 3", ""));
    eventually("backing off", || {
        let object = plane.get(&["pod", "crasher"]);
        let waiting = &object["status"]["containerStatuses"][0]["state"]["waiting"]["reason"];
        (waiting == "CrashLoopBackOff").then_some(())
    });
    let object = plane.get(&["pod", "crasher"]);
    let last = &object["status"]["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!(last["exitCode"].as_i64(), Some(3), "{object}");
}

#[test]
fn running_containers_are_adopted_after_everything_was_killed() {
    let Some(mut plane) = plane_with_image() else { return };
    plane.apply(&pod("steady", "echo started; while true; do sleep 1; done", ""));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/steady", "--timeout=60s"]);
    let identity = |plane: &Plane| {
        let object = plane.get(&["pod", "steady"]);
        let status = &object["status"]["containerStatuses"][0];
        (status["containerID"].clone(), status["restartCount"].clone(), object["status"]["podIP"].clone())
    };
    let (before, process) = (identity(&plane), first_process(&plane, "steady"));
    plane.kill_everything();
    assert!(std::path::Path::new(&format!("/proc/{process}")).exists(), "the container outlives its plane");
    plane.up();
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "node/test-node", "--timeout=60s"]);
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/steady", "--timeout=60s"]);
    assert_eq!(identity(&plane), before);
    assert_eq!(first_process(&plane, "steady"), process, "the same process");
    assert_eq!(plane.kubectl_ok(&["logs", "steady"]), "started\n");
    plane.kubectl_ok(&["delete", "pod", "steady", "--timeout=30s"]);
    eventually("the process is gone", || {
        (!std::path::Path::new(&format!("/proc/{process}")).exists()).then_some(())
    });
}

fn restarts(plane: &Plane, pod: &str) -> Option<i64> {
    plane.get(&["pod", pod])["status"]["containerStatuses"][0]["restartCount"].as_i64()
}

/// The first process of a pod's container: its cgroup's path names the pod.
pub(crate) fn first_process(plane: &Plane, pod: &str) -> u32 {
    let uid = plane.get(&["pod", pod])["metadata"]["uid"].as_str().expect("a UID").to_owned();
    let read =
        |id: u32, file: &str| std::fs::read_to_string(format!("/proc/{id}/{file}")).unwrap_or_default();
    let mut ids: Vec<u32> = std::fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|id| read(*id, "cgroup").contains(&uid) && read(*id, "cmdline").contains("busybox"))
        .collect();
    ids.sort_unstable();
    *ids.first().unwrap_or_else(|| panic!("no process of pod {pod}"))
}

#[test]
fn a_service_has_an_address_and_a_name_and_follows_its_pods() {
    let Some(plane) = plane_with_image() else { return };
    let script = "mkdir -p /www; hostname > /www/index.html; exec /bin/busybox httpd -f -p 8080 -h /www";
    plane.apply(&format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  replicas: 2\n  selector: {{matchLabels: {{app: web}}}}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    spec:\n      terminationGracePeriodSeconds: 1\n      containers:\n      - name: web\n        image: '{IMAGE}'\n        imagePullPolicy: Never\n        command: [/bin/busybox, sh, -c, '{script}']\n        readinessProbe: {{httpGet: {{port: 8080}}, periodSeconds: 1}}\n"
    ));
    plane.kubectl_ok(&["expose", "deployment", "web", "--port=80", "--target-port=8080"]);
    plane.kubectl_ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    let address =
        plane.get(&["service", "web"])["spec"]["clusterIP"].as_str().expect("an address").to_owned();
    let url = format!("http://{address}:80");
    let ask = || send(&url, "web", "GET", "/index.html", &[], "").filter(|answer| answer.status == 200);
    eventually("the Service answers", ask);
    let seen: std::collections::BTreeSet<String> = (0..40).filter_map(|_| Some(ask()?.body)).collect();
    assert_eq!(seen.len(), 2, "{seen:?}");

    // A pod finds it by name, and reaches it.
    let look = format!("nslookup web.default.svc.cluster.local; wget -qO- http://{address}/index.html");
    plane.apply(&pod("client", &look, "  restartPolicy: Never\n"));
    plane.kubectl_ok(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/client", "--timeout=60s"]);
    let said = plane.kubectl_ok(&["logs", "client"]);
    assert!(said.contains(&format!("Address: {address}")) && said.contains("web-"), "{said}");

    plane.kubectl_ok(&["scale", "deployment/web", "--replicas=1"]);
    eventually("one pod is left", || {
        (plane.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"]).out.lines().count() == 1)
            .then_some(())
    });
    let seen: std::collections::BTreeSet<String> = (0..20).filter_map(|_| Some(ask()?.body)).collect();
    assert_eq!(seen.len(), 1, "{seen:?}");
    plane.kubectl_ok(&["scale", "deployment/web", "--replicas=0"]);
    eventually("nobody answers", || ask().is_none().then_some(()));
}
