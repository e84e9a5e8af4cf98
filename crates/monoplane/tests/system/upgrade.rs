//! A node's process goes and another comes, while the pods are at work: they notice nothing. Nor when the program that
//! comes is another one than that which went.

use std::path::Path;

use harness::{Plane, eventually, kill};

use crate::containers::{IMAGE, plane_with_image, plane_with_image_of};
use crate::earlier_release;

fn pod(name: &str, script: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  restartPolicy: Never\n  containers:\n  - name: main\n    image: {IMAGE}\n    imagePullPolicy: Never\n    command: [/bin/busybox, sh, -c]\n    args: ['{script}']\n"
    )
}

/// Writes numbers as fast as may be without filling more than the log files that are kept.
const WRITER: &str = "n=0; while true; do i=0; while [ $i -lt 100 ]; do echo $n; n=$((n+1)); i=$((i+1)); done; sleep 0.02; done";

/// The numbers in all of a container's log files, the oldest first.
fn numbers(plane: &Plane, pod: &str) -> Vec<u64> {
    let uid = plane.get(&["pod", pod])["metadata"]["uid"].as_str().expect("a UID").to_owned();
    let logs = plane.data().join("node/logs");
    let directory = std::fs::read_dir(&logs)
        .expect("logs")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.to_string_lossy().ends_with(&uid))
        .expect("the pod's logs");
    let text = (0..5).rev().map(|number| {
        let name = if number == 0 { "main/0.log".to_owned() } else { format!("main/0.log.{number}") };
        read(&directory.join(name))
    });
    let text: String = text.collect();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let number = |line: &str| line.rsplit(' ').next().and_then(|word| word.parse().ok());
    whole.lines().map(|line| number(line).unwrap_or_else(|| panic!("{line:?}"))).collect()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn assert_none_is_missing(pod: &str, numbers: &[u64]) {
    let gap = numbers.iter().zip(0..).find(|(found, expected)| *found != expected);
    assert_eq!(gap, None, "{pod}: found, expected");
}

#[test]
fn no_line_and_no_connection_is_lost_when_the_node_is_upgraded() {
    let Some(plane) = plane_with_image() else { return };
    // With an input that has no end: its end would be the connection's.
    plane.apply(&pod("listener", "while true; do sleep 1000; done | nc -l -p 9000"));
    plane.apply(&pod("writer", WRITER));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/listener", "pod/writer", "--timeout=60s"]);
    let address = plane.get(&["pod", "listener"])["status"]["podIP"].as_str().expect("an address").to_owned();
    // One connection: who asks for a second is refused, and both ends end when it breaks.
    let counter = "n=0; while true; do echo $n; n=$((n+1)); sleep 0.01; done";
    plane.apply(&pod("speaker", &format!("({counter}) | nc {address} 9000")));
    let heard = || {
        let said = plane.kubectl(&["logs", "listener", "--tail=1"]).out;
        said.trim().parse::<u64>().ok()
    };
    eventually("the pods talk", heard);
    for signal in [15, 9, 15] {
        let before = numbers(&plane, "writer").len();
        plane.restart("node", signal);
        let then = eventually("the next process passes logs on", heard);
        eventually("the pods talk on", || (heard()? > then + 20).then_some(()));
        assert!(numbers(&plane, "writer").len() > before + 100);
    }
    for name in ["writer", "listener", "speaker"] {
        let object = plane.get(&["pod", name]);
        let status = &object["status"]["containerStatuses"][0];
        let running = status["state"]["running"].is_object();
        assert_eq!((status["restartCount"].as_i64(), running), (Some(0), true), "{object}");
    }
    for name in ["writer", "listener"] {
        assert_none_is_missing(name, &numbers(&plane, name));
    }
    plane.kubectl_ok(&["delete", "pod", "writer", "listener", "speaker", "--timeout=30s"]);
}

/// The only container's directory of a pod.
fn container(plane: &Plane, uid: &str) -> std::path::PathBuf {
    let of_pod = |record: &Path| read(record).contains(uid);
    let sandboxes = std::fs::read_dir(plane.data().join("node/containers/sandboxes")).expect("sandboxes");
    let sandbox = sandboxes
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| of_pod(&path.join("sandbox.json")))
        .expect("the pod's sandbox");
    let mut containers = std::fs::read_dir(sandbox.join("containers")).expect("containers");
    containers.next().expect("a container").expect("an entry").path()
}

fn number(record: &Path, field: &str) -> u32 {
    let record: serde_json::Value = serde_json::from_str(&read(record)).expect("a record");
    record[field].as_u64().and_then(|number| number.try_into().ok()).expect("a number")
}

/// With a probe that runs in it and passes at once.
fn probed(name: &str) -> String {
    let probe =
        "    readinessProbe: {periodSeconds: 1, exec: {command: [/bin/busybox, test, -e, /bin/busybox]}}\n";
    pod(name, WRITER).replace("restartPolicy: Never", "restartPolicy: Always") + probe
}

#[test]
fn another_program_adopts_the_pods_of_the_first_release() {
    let there = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let old = there.path().join("monoplane-0.1");
    let new = env!("CARGO_BIN_EXE_monoplane");
    std::fs::hard_link(new, &old).expect("a name of its own for the program");
    let Some(mut plane) = plane_with_image_of(old.to_str().expect("a path"), &[]) else { return };
    plane.apply(&probed("writer"));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/writer", "--timeout=60s"]);
    let uid = plane.get(&["pod", "writer"])["metadata"]["uid"].as_str().expect("a UID").to_owned();
    let container = container(&plane, &uid);
    let shim = number(&container.join("../../shim.json"), "pid");
    let program = |plane: &Plane| {
        let exe = std::fs::read_link(format!("/proc/{}/exe", plane.pid("node")));
        exe.expect("the node's process runs")
    };
    assert_eq!(program(&plane), old);

    plane.stop();
    let sandboxes = earlier_release::set_back(&plane.data().join("node/containers"));
    assert_eq!(sandboxes, 1);
    std::fs::remove_file(&old).expect("the program is removed");
    plane.up_with(new);
    assert_eq!(program(&plane), Path::new(new));
    let before = numbers(&plane, "writer").len();
    eventually("the pod writes on", || (numbers(&plane, "writer").len() > before + 100).then_some(()));
    let status = || plane.get(&["pod", "writer"])["status"]["containerStatuses"][0].clone();
    assert_eq!((&status()["restartCount"], &status()["ready"]), (&0.into(), &true.into()));
    assert_none_is_missing("writer", &numbers(&plane, "writer"));
    let refused = plane.kubectl(&["exec", "writer", "--", "/bin/busybox", "true"]);
    assert!(!refused.ok && refused.err.contains("of an earlier release"), "{refused:?}");

    // Its shim makes the next container too, and runs the probe in it.
    kill(number(&container.join("state.json"), "pid"), 9);
    let again = || (status()["restartCount"] == 1 && status()["ready"] == true).then_some(());
    eventually("it is started again and ready", again);
    assert_eq!(number(&container.join("../../shim.json"), "pid"), shim);
    plane.apply(&probed("next"));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/next", "--timeout=60s"]);
    plane.kubectl_ok(&["exec", "next", "--", "/bin/busybox", "true"]);
    plane.kubectl_ok(&["delete", "pod", "writer", "next", "--timeout=30s"]);
}
