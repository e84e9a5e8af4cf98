//! kubectl logs, flag by flag.

use harness::eventually;

use crate::containers::{IMAGE, plane_with_image, pod};

#[test]
fn every_flag_of_logs() {
    let Some(plane) = plane_with_image() else { return };
    let script = "echo one; echo two >&2; echo three; while true; do sleep 1; done";
    let init = format!(
        "  initContainers:\n  - {{name: first, image: '{IMAGE}', imagePullPolicy: Never, command: [/bin/busybox, echo, from init]}}\n  - {{name: side, image: '{IMAGE}', imagePullPolicy: Never, restartPolicy: Always, command: [/bin/busybox, sh, -c, 'echo from side; sleep 1000']}}\n"
    );
    let labelled =
        |name: &str| pod(name, script, &init).replace("metadata: {", "metadata: {labels: {app: l}, ");
    for name in ["p", "q"] {
        plane.apply(&labelled(name));
    }
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/p", "pod/q", "--timeout=60s"]);
    let logs = |words: &[&str]| plane.kubectl_ok(&[&["logs"], words].concat());
    // Two outputs of one process come over two pipes: the order between them is nobody's to promise.
    eventually("all is said", || (logs(&["p", "-c", "main"]).lines().count() == 3).then_some(()));
    let sorted = |text: String| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(logs(&["p", "-c", "main"])), ["one", "three", "two"]);
    assert_eq!(logs(&["p", "-c", "first"]), "from init\n");
    assert_eq!(logs(&["p", "-c", "side"]), "from side\n");
    assert_eq!(sorted(logs(&["p", "--all-containers"])), ["from init", "from side", "one", "three", "two"]);
    assert_eq!(logs(&["p", "-c", "main", "--tail=1"]).lines().count(), 1);
    assert_eq!(logs(&["p", "-c", "main", "--limit-bytes=5"]).len(), 5);
    let prefixed = logs(&["p", "-c", "main", "--prefix"]);
    assert!(prefixed.contains("[pod/p/main] one"), "{prefixed}");
    let stamped = logs(&["p", "-c", "side", "--timestamps"]);
    let stamp = stamped.split(' ').next().expect("a time").to_owned();
    assert!(stamp.starts_with("20") && stamp.ends_with('Z') && stamp.contains('.'), "{stamped}");
    assert_eq!(logs(&["p", "-c", "side", &format!("--since-time={stamp}")]), "from side\n");
    assert_eq!(logs(&["p", "-c", "side", "--since-time=2999-01-01T00:00:00Z"]), "");
    assert_eq!(logs(&["p", "-c", "side", "--since=1h"]), "from side\n");
    let selected = logs(&["-l", "app=l", "-c", "side", "--prefix", "--max-log-requests=2"]);
    assert!(selected.contains("[pod/p/side]") && selected.contains("[pod/q/side]"), "{selected}");
    assert_eq!(logs(&["p", "-c", "side", "--insecure-skip-tls-verify-backend"]), "from side\n");
    let all = sorted(logs(&["p", "--all-containers", "--prefix"]));
    assert_eq!(all.first().map(String::as_str), Some("[pod/p/first] from init"));
    assert!(all.contains(&"[pod/p/side] from side".to_owned()), "{all:?}");
    let few = plane.kubectl(&["logs", "-f", "-l", "app=l", "-c", "side", "--max-log-requests=1"]);
    assert!(!few.ok && few.err.contains("maximum allowed concurrency"), "{few:?}");
    let path = "/api/v1/namespaces/default/pods/p/log?container=main&stream=";
    assert_eq!(plane.kubectl_ok(&["get", "--raw", &format!("{path}Stderr")]), "two\n");
    assert_eq!(plane.kubectl_ok(&["get", "--raw", &format!("{path}Stdout")]), "one\nthree\n");
}

#[test]
fn logs_of_what_runs_no_more_or_not_yet() {
    let Some(plane) = plane_with_image() else { return };
    let script = "echo run; sleep 1; exit 1";
    plane.apply(&pod("crasher", script, ""));
    let previous = || plane.kubectl(&["logs", "crasher", "--previous"]);
    let early = previous();
    assert!(!early.ok, "{early:?}");
    eventually("it has run twice", || previous().ok.then_some(()));
    assert_eq!(previous().out, "run\n");
    plane.apply(&pod("done", "echo all", "  restartPolicy: Never\n"));
    plane.kubectl_ok(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/done", "--timeout=60s"]);
    assert_eq!(plane.kubectl_ok(&["logs", "done", "-f"]), "all\n");
    let said = plane.kubectl(&["logs", "done", "--previous"]);
    let words = "previous terminated container \"main\" in pod \"done\" not found";
    assert!(!said.ok && said.err.contains(words), "{said:?}");
    let said = plane.kubectl(&["logs", "-f", "done", "-c", "other"]);
    assert!(said.err.contains("container other is not valid for pod done"), "{said:?}");
    let init = format!(
        "  initContainers:\n  - {{name: first, image: '{IMAGE}', imagePullPolicy: Never, command: [/bin/busybox, sh, -c, 'echo early; sleep 1000']}}\n"
    );
    plane.apply(&pod("waits", "true", &init));
    // One container has nothing to show yet: that ends the command, or it does not.
    eventually("the first has spoken", || plane.kubectl(&["logs", "waits", "-c", "first"]).ok.then_some(()));
    let all = ["logs", "waits", "--all-containers"];
    let said = plane.kubectl(&all);
    assert!(!said.ok && said.err.contains("PodInitializing"), "{said:?}");
    let said = plane.kubectl(&[&all[..], &["--ignore-errors"]].concat());
    assert!(said.ok && said.out.contains("early\n") && said.out.contains("PodInitializing"), "{said:?}");
    eventually("it is told to wait", || {
        let said = plane.kubectl(&["logs", "waits", "-c", "main"]);
        let words = "container \"main\" in pod \"waits\" is waiting to start: PodInitializing";
        said.err.contains(words).then_some(())
    });
}

#[test]
fn a_follower_sees_every_line_of_a_log_that_is_rotated() {
    let Some(plane) = plane_with_image() else { return };
    // 24 MB: put aside twice meanwhile. It waits for a sign, so that all of it is followed.
    let script = "until [ -e /go ]; do sleep 0.1; done; awk \"BEGIN { for (n = 1; n <= 200000; n++) printf \\\"%0100d\\\\n\\\", n }\"; sleep 3";
    plane.apply(&pod("long", script, "  restartPolicy: Never\n"));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/long", "--timeout=60s"]);
    let mut follower = plane.kubectl_command();
    let follower = follower.args(["logs", "-f", "long"]).stdout(std::process::Stdio::piped());
    let mut follower = follower.spawn().expect("kubectl runs");
    let mut said = std::io::BufReader::new(follower.stdout.take().expect("a pipe"));
    plane.kubectl_ok(&["exec", "long", "--", "/bin/busybox", "touch", "/go"]);
    let (mut line, mut seen) = (String::new(), 0);
    while std::io::BufRead::read_line(&mut said, &mut line).expect("a line") > 0 {
        seen += 1;
        assert_eq!(line.trim_end().trim_start_matches('0'), seen.to_string());
        line.clear();
    }
    assert_eq!(seen, 200_000);
    // It ends by itself, since the container has.
    assert!(follower.wait().expect("kubectl ends").success());
    let logs = plane.data().join("node/logs");
    let files = walk(&logs);
    assert!(files.iter().any(|file| file.ends_with("0.log.2")), "{files:?}");
}

fn walk(directory: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let each = entries.flat_map(|entry| match entry.path() {
        path if path.is_dir() => walk(&path),
        path => vec![path.display().to_string()],
    });
    each.collect()
}
