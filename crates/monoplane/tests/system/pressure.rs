//! A node that runs short of memory or of disk: who leaves, who may still come, and that the others do not notice.

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{Plane, eventually, is_root};
use serde_json::Value;

use crate::containers::{IMAGE, plane_with_image_and, with_image};

fn pod(name: &str, spec: &str, container: &str, script: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  \
         restartPolicy: Never\n{spec}  containers:\n  - name: main\n    image: {IMAGE}\n    imagePullPolicy: Never\n    \
         command: [/bin/busybox, sh, -c]\n    args: ['{script}']\n{container}"
    )
}

/// A pod that keeps so many MiB in memory, and asks for as many as it says.
fn holder(name: &str, holds: u32, requests: &str, spec: &str) -> String {
    let container = format!("    resources: {requests}\n    volumeMounts: [{{name: m, mountPath: /m}}]\n");
    let spec = format!("{spec}  volumes: [{{name: m, emptyDir: {{medium: Memory}}}}]\n");
    let script = format!("dd if=/dev/zero of=/m/file bs=1M count={holds} 2>/dev/null; echo held; sleep 1000");
    pod(name, &spec, &container, &script)
}

#[track_caller]
fn failed(plane: &Plane, name: &str) -> Value {
    let is_failed = || {
        let object = plane.get(&["pod", name]);
        (object["status"]["phase"] == "Failed").then_some(object)
    };
    eventually("the pod has failed", is_failed)
}

fn condition(plane: &Plane, name: &str) -> String {
    let node = plane.get(&["node", "test-node"]);
    let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|one| one["type"] == name);
    found.and_then(|found| found["status"].as_str()).unwrap_or_default().to_owned()
}

fn is_tainted(plane: &Plane, key: &str) -> bool {
    let node = plane.get(&["node", "test-node"]);
    let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    taints.iter().any(|taint| taint["key"] == key && taint["effect"] == "NoSchedule")
}

fn held(plane: &Plane, name: &str) {
    eventually("the memory is taken", || plane.kubectl(&["logs", name]).out.contains("held").then_some(()));
}

#[test]
fn the_greedy_pod_leaves_when_memory_runs_short() {
    let total = std::fs::read_to_string("/proc/meminfo").expect("the machine's memory");
    let total: u64 =
        total.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse().ok()).expect("kB");
    // All pods together may have 400 MiB.
    let reserved = format!("memory={}Ki", total - (400 << 10));
    let flags = [
        "--system-reserved",
        &reserved,
        "--eviction-hard",
        "memory.available<100Mi",
        "--eviction-pressure-transition-period",
        "25s",
    ];
    let Some(plane) = plane_with_image_and(&flags) else { return };
    plane.apply(&holder("modest", 150, "{requests: {memory: 200Mi}}", ""));
    plane.apply(&holder("small", 10, "{requests: {memory: 5Mi}}", ""));
    held(&plane, "modest");
    held(&plane, "small");
    assert_eq!(condition(&plane, "MemoryPressure"), "False");
    plane.apply(&holder("greedy", 180, "{requests: {memory: 20Mi}}", ""));

    let greedy = failed(&plane, "greedy");
    assert_eq!(greedy["status"]["reason"], "Evicted", "{greedy}");
    let message = greedy["status"]["message"].as_str().unwrap_or_default();
    assert!(
        message.starts_with("The node was low on resource: memory. Threshold quantity: 100Mi, available: ")
            && message.contains("Container main was using")
            && message.contains("request is 20Mi, has larger consumption of memory. "),
        "{message}"
    );
    // What it had is told though the node has kept nothing of it.
    let told = &greedy["status"]["containerStatuses"][0];
    assert!(told["state"]["terminated"]["exitCode"].is_i64(), "{told}");
    eventually("the condition holds", || (condition(&plane, "MemoryPressure") == "True").then_some(()));
    let taint = "node.kubernetes.io/memory-pressure";
    eventually("the node is tainted", || is_tainted(&plane, taint).then_some(()));

    // While it holds, only those may come that say what they need.
    let bound = "  nodeName: test-node\n";
    plane.apply(&pod("anyone", bound, "", "true"));
    let asks = "    resources: {requests: {memory: 1Mi}}\n";
    plane.apply(&pod("asking", bound, asks, "true"));
    let refused = failed(&plane, "anyone");
    assert_eq!(refused["status"]["reason"], "Evicted", "{refused}");
    assert_eq!(refused["status"]["message"], "Pod was rejected: The node had condition: [MemoryPressure]. ");
    plane.kubectl_ok(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/asking", "--timeout=60s"]);

    eventually("the condition has gone", || (condition(&plane, "MemoryPressure") == "False").then_some(()));
    eventually("so has the taint", || (!is_tainted(&plane, taint)).then_some(()));
    for name in ["modest", "small"] {
        let pod = plane.get(&["pod", name]);
        assert_eq!(pod["status"]["phase"], "Running", "{pod}");
        assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0, "{pod}");
    }
    let events = plane.kubectl_ok(&["get", "events", "-A", "-o", "custom-columns=R:.reason,M:.message"]);
    assert!(
        events.contains("EvictionThresholdMet") && events.contains("Attempting to reclaim memory"),
        "{events}"
    );
    plane.kubectl_ok(&["delete", "pods", "--all", "--timeout=60s"]);
}

#[test]
fn who_was_bound_to_a_node_that_cannot_have_it_fails() {
    let Some(plane) = plane_with_image_and(&[]) else { return };
    plane.kubectl_ok(&["label", "node", "test-node", "disk=slow"]);
    let bound = |rest: &str| format!("  nodeName: test-node\n{rest}");
    let check = |name: &str, manifest: &str, reason: &str, message: &str| {
        plane.apply(manifest);
        let object = failed(&plane, name);
        let told = object["status"]["message"].as_str().unwrap_or_default();
        assert_eq!(object["status"]["reason"], reason, "{object}");
        assert!(told.starts_with("Pod was rejected: ") && told.contains(message), "{told}");
        let selector = format!("involvedObject.name={name}");
        eventually("an event tells of it", || {
            plane.kubectl_ok(&["get", "events", "--field-selector", &selector]).contains(reason).then_some(())
        });
    };
    let cpus = "    resources: {requests: {cpu: 1000}}\n";
    let words = "Node didn't have enough resource: cpu, requested: 1000000, used: ";
    check("large", &pod("large", &bound(""), cpus, "true"), "OutOfcpu", words);
    let memory = "    resources: {requests: {memory: 1000Ti}}\n";
    let words = "Node didn't have enough resource: memory, requested: 1099511627776000, used: ";
    check("fat", &pod("fat", &bound(""), memory, "true"), "OutOfmemory", words);
    let words = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
    check("away", &pod("away", &bound("  nodeSelector: {disk: fast}\n"), "", "true"), "NodeAffinity", words);
    let port = "    ports: [{containerPort: 80, hostPort: 30999}]\n";
    plane.apply(&pod("first", &bound(""), port, "sleep 1000"));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/first", "--timeout=60s"]);
    let words = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
    check("second", &pod("second", &bound(""), port, "true"), "NodePorts", words);
    // A label that somebody has given since is known.
    plane.apply(&pod("here", &bound("  nodeSelector: {disk: slow}\n"), "", "true"));
    plane.kubectl_ok(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/here", "--timeout=60s"]);
    plane.kubectl_ok(&["delete", "pods", "--all", "--timeout=60s"]);
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let each = entries.flat_map(|entry| match entry.path() {
        path if path.is_dir() => files(&path),
        path => vec![path],
    });
    each.collect()
}

/// A file system of its own, of so many MiB, until it is dropped.
pub(crate) struct Disk(pub(crate) PathBuf);

impl Disk {
    pub(crate) fn of(mebibytes: u32) -> Self {
        let directory = tempfile::tempdir().expect("a directory").keep();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&directory, open).expect("permissions");
        let options = format!("size={mebibytes}m,mode=755");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&directory).status();
        assert!(mounted.expect("mount runs").success());
        Self(directory)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_disk_flood_ends_and_the_neighbours_stay() {
    if !is_root() {
        return;
    }
    let disk = Disk::of(1600);
    let flags = ["--eviction-hard", "nodefs.available<300Mi", "--eviction-pressure-transition-period", "15s"];
    let plane = with_image(Plane::start_in(&disk.0, env!("CARGO_BIN_EXE_monoplane"), &flags));
    let roles = ["server", "node", "edge"].map(|role| plane.pid(role));
    let count = "n=0; while true; do echo $n; n=$((n+1)); /bin/busybox sleep 0.1; done";
    plane.apply(&pod("neighbour", "", "", count));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/neighbour", "--timeout=60s"]);
    // None of them has any limit. The log alone may go on: it is bounded.
    plane.apply(&pod(
        "talker",
        "",
        "",
        "exec /bin/busybox yes all work and no play makes a long line of log",
    ));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/talker", "--timeout=60s"]);
    plane.apply(&pod("writer", "", "", "while true; do cat /dev/zero >> /flood; done"));
    let volume = ("  volumes: [{name: v, emptyDir: {}}]\n", "    volumeMounts: [{name: v, mountPath: /v}]\n");
    plane.apply(&pod("filler", volume.0, volume.1, "while true; do cat /dev/zero >> /v/flood; done"));

    for name in ["writer", "filler"] {
        let object = failed(&plane, name);
        // Who came while the disk was full was not even let in.
        assert_eq!(object["status"]["reason"], "Evicted", "{object}");
    }
    eventually("the condition holds", || (condition(&plane, "DiskPressure") == "True").then_some(()));
    eventually("there is no pressure any more", || {
        (condition(&plane, "DiskPressure") == "False").then_some(())
    });
    for name in ["writer", "filler"] {
        let said = plane.kubectl(&["logs", name]);
        let words = ["unable to retrieve container logs for ", "is terminated"];
        assert!(!said.ok && words.iter().any(|words| said.err.contains(words)), "{said:?}");
        let logs = std::fs::read_dir(plane.data().join("node/logs")).expect("logs").flatten();
        let own = logs.filter(|entry| entry.file_name().to_string_lossy().contains(name));
        let left: Vec<_> = own.flat_map(|entry| files(&entry.path())).collect();
        assert!(left.is_empty(), "{left:?}");
    }
    // The plane's own data are on that disk: it refused writes for a while, and nothing worse.
    assert_eq!(["server", "node", "edge"].map(|role| plane.pid(role)), roles);
    let log = std::fs::read_to_string(plane.data().join("up.log")).expect("a log");
    assert!(log.contains("there is room on the device again"), "the disk was never full:\n{log}");
    let room = rustix::fs::statvfs(&disk.0).expect("a file system");
    assert!(room.f_bavail * room.f_frsize > 300 << 20, "what they wrote is gone: {}", room.f_bavail);
    // A line that met the full disk may have been cut off.
    let before: u64 = eventually("a whole line", || {
        plane.kubectl_ok(&["logs", "neighbour", "--tail=1"]).trim().parse().ok()
    });
    eventually("the neighbour goes on", || {
        let now: u64 = plane.kubectl_ok(&["logs", "neighbour", "--tail=1"]).trim().parse().ok()?;
        (now > before).then_some(())
    });
    for name in ["neighbour", "talker"] {
        let pod = plane.get(&["pod", name]);
        assert_eq!(pod["status"]["phase"], "Running", "{pod}");
        assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0, "{pod}");
    }
    plane.apply(&pod("new", "", "", "echo welcome"));
    plane.kubectl_ok(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/new", "--timeout=60s"]);
    plane.kubectl_ok(&["delete", "pods", "--all", "--timeout=60s"]);
    drop(plane);
}
