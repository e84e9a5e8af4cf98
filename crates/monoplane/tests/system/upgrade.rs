//! A node's process goes and another comes, as in an upgrade, while the pods are at work: they notice nothing.

use std::path::Path;

use harness::{Plane, eventually};

use crate::containers::{IMAGE, plane_with_image};

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
