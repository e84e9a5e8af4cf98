//! What pods get of the machine, and what becomes of those that want more.

use harness::{Plane, eventually};
use serde_json::Value;

use crate::containers::{IMAGE, first_process, plane_with_image};

fn pod(name: &str, script: &str, resources: &str, rest: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - name: main\n    image: {IMAGE}\n    imagePullPolicy: Never\n    command: [/bin/busybox, sh, -c]\n    args: ['{script}']\n    resources: {resources}\n{rest}"
    )
}

/// A file of the control group that a process is in, of whichever layout is there.
fn group_file(process: u32, controller: &str, names: [&str; 2]) -> String {
    let groups = std::fs::read_to_string(format!("/proc/{process}/cgroup")).expect("the process is there");
    let of = |wanted: &dyn Fn(&str) -> bool| {
        let line = groups.lines().find(|line| wanted(line.split(':').nth(1).unwrap_or_default()))?;
        Some(line.rsplit(':').next()?.to_owned())
    };
    let v1 = of(&|controllers| controllers.split(',').any(|one| one == controller))
        .map(|group| format!("/sys/fs/cgroup/{controller}{group}/{}", names[0]));
    let v2 = of(&str::is_empty).map(|group| format!("/sys/fs/cgroup{group}/{}", names[1]));
    let read = v1.into_iter().chain(v2).find_map(|path| std::fs::read_to_string(path).ok());
    read.expect("a control group").trim().to_owned()
}

fn memory_limit(process: u32) -> String {
    group_file(process, "memory", ["memory.limit_in_bytes", "memory.max"])
}

fn told(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

#[test]
fn a_pod_is_held_to_its_class_and_resized_while_it_runs() {
    let Some(plane) = plane_with_image() else { return };
    let amounts = "{requests: {cpu: 250m, memory: 32Mi}, limits: {memory: 64Mi}}";
    plane.apply(&pod("held", "while true; do sleep 1; done", amounts, ""));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/held", "--timeout=60s"]);
    let object = plane.get(&["pod", "held"]);
    assert_eq!(object["status"]["qosClass"], "Burstable");
    let (uid, process) = (object["metadata"]["uid"].as_str().expect("a UID"), first_process(&plane, "held"));
    let groups = std::fs::read_to_string(format!("/proc/{process}/cgroup")).expect("it runs");
    assert!(groups.contains(&format!("/kubepods/burstable/pod{uid}/")), "{groups}");
    assert_eq!(memory_limit(process), (64 << 20).to_string());
    let node = plane.get(&["node", "test-node"]);
    for resource in ["cpu", "memory", "ephemeral-storage", "pods"] {
        assert!(node["status"]["allocatable"][resource].is_string(), "{resource}");
    }
    eventually("the image is told of", || {
        let node = plane.get(&["node", "test-node"]);
        node["status"]["images"].as_array().filter(|images| !images.is_empty()).map(drop)
    });

    let resize = |memory: &str| {
        let patch = format!(
            r#"{{"spec":{{"containers":[{{"name":"main","resources":{{"limits":{{"memory":"{memory}"}}}}}}]}}}}"#
        );
        plane.kubectl(&["patch", "pod", "held", "--subresource", "resize", "--patch", &patch])
    };
    let said = resize("96Mi");
    assert!(said.ok, "{said:?}");
    eventually("the container has more", || {
        (told(&plane.get(&["pod", "held"]))["resources"]["limits"]["memory"] == "96Mi").then_some(())
    });
    assert_eq!(memory_limit(process), (96 << 20).to_string());
    assert_eq!(told(&plane.get(&["pod", "held"]))["restartCount"], 0);
    let said = resize("1Mi");
    assert!(said.err.contains("must be less than or equal to memory limit"), "{said:?}");

    // Somebody looks at it from beside it.
    let debug =
        ["debug", "held", "--image", IMAGE, "--target=main", "--image-pull-policy=Never", "-c", "look"];
    plane.kubectl_ok(&[&debug[..], &["--", "/bin/busybox", "ps", "-o", "pid,args"]].concat());
    eventually("it has been looked at", || {
        let told = plane.get(&["pod", "held"]);
        (told["status"]["ephemeralContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 0)
            .then_some(())
    });
    let seen = plane.kubectl_ok(&["logs", "held", "-c", "look"]);
    assert!(seen.contains("while true; do sleep 1; done"), "{seen}");
    plane.kubectl_ok(&["delete", "pod", "held", "--timeout=30s"]);
}

/// Waits for a pod to have failed.
fn failed(plane: &Plane, name: &str) -> Value {
    plane.kubectl_ok(&[
        "wait",
        "--for=jsonpath={.status.phase}=Failed",
        &format!("pod/{name}"),
        "--timeout=90s",
    ]);
    plane.get(&["pod", name])
}

#[test]
fn who_takes_too_much_is_ended_and_it_is_said_why() {
    let Some(plane) = plane_with_image() else { return };
    let never = "  restartPolicy: Never\n";
    let limit = "{limits: {memory: 16Mi}}";
    plane.apply(&pod("greedy", "exec tail -c 1000000000 /dev/zero", limit, never));
    let file = "dd if=/dev/zero of=/v/file bs=1M count=5; sleep 1000";
    let mount =
        "    volumeMounts: [{name: v, mountPath: /v}]\n  volumes: [{name: v, emptyDir: {sizeLimit: 1Mi}}]\n";
    plane.apply(&pod("full", file, "{}", &format!("{mount}{never}")));
    let root = file.replace("/v/file", "/file");
    plane.apply(&pod("writer", &root, "{limits: {ephemeral-storage: 2Mi}}", never));

    let object = failed(&plane, "greedy");
    let ended = &told(&object)["state"]["terminated"];
    assert_eq!((ended["reason"].as_str(), ended["exitCode"].as_i64()), (Some("OOMKilled"), Some(137)));
    for (name, message) in [
        ("full", "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". "),
        ("writer", "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. "),
    ] {
        let object = failed(&plane, name);
        assert_eq!(
            (&object["status"]["reason"], &object["status"]["message"]),
            (&"Evicted".into(), &message.into())
        );
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let disrupted = conditions.iter().find(|one| one["type"] == "DisruptionTarget").expect("a condition");
        assert_eq!(disrupted["reason"], "TerminationByKubelet");
    }
    plane.kubectl_ok(&["delete", "pod", "greedy", "full", "writer", "--timeout=30s"]);
}

#[test]
fn a_file_on_the_node_is_a_pod() {
    let Some(mut plane) = plane_with_image() else { return };
    let directory = plane.data().join("node/manifests");
    std::fs::create_dir_all(&directory).expect("a directory");
    std::fs::write(directory.join("fixed.yaml"), pod("fixed", "echo one; sleep 1000", "{}", ""))
        .expect("a file");
    eventually("its image is there", || plane.kubectl(&["get", "pod", "fixed-test-node"]).ok.then_some(()));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/fixed-test-node", "--timeout=60s"]);
    assert_eq!(plane.kubectl_ok(&["logs", "fixed-test-node"]), "one\n");
    // It outlives the plane, and is found again.
    let object = plane.get(&["pod", "fixed-test-node"]);
    let id = told(&object)["containerID"].clone();
    plane.kill_everything();
    plane.up();
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/fixed-test-node", "--timeout=60s"]);
    assert_eq!(told(&plane.get(&["pod", "fixed-test-node"]))["containerID"], id);
    std::fs::write(directory.join("fixed.yaml"), pod("fixed", "echo two; sleep 1000", "{}", ""))
        .expect("a file");
    eventually("the new one runs", || {
        (plane.kubectl(&["logs", "fixed-test-node"]).out == "two\n").then_some(())
    });
    std::fs::remove_file(directory.join("fixed.yaml")).expect("it was there");
    eventually("it is gone", || (!plane.kubectl(&["get", "pod", "fixed-test-node"]).ok).then_some(()));
}
