//! kubectl exec, attach, cp, port-forward and run, over WebSocket as kubectl does by itself, and over SPDY.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Command, Stdio};

use harness::{Plane, Said, eventually, kill};

use crate::containers::{IMAGE, plane_with_image, pod};

/// What makes kubectl speak SPDY.
const SPDY: [(&str, &str); 2] =
    [("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false"), ("KUBECTL_PORT_FORWARD_WEBSOCKETS", "false")];
const WEB_SOCKET: [(&str, &str); 2] =
    [("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "true"), ("KUBECTL_PORT_FORWARD_WEBSOCKETS", "true")];
/// Both of them, each as kubectl's environment says it.
pub(crate) const BOTH: [[(&str, &str); 2]; 2] = [WEB_SOCKET, SPDY];

fn run(mut command: Command, input: &[u8]) -> Said {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("kubectl runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    std::thread::scope(|scope| {
        // A command that does not read its input is no failure of the writer's.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().expect("kubectl ends").into()
    })
}

fn kubectl(plane: &Plane, transport: [(&str, &str); 2], words: &[&str]) -> Command {
    let mut command = plane.kubectl_command();
    command.args(words).envs(transport);
    command
}

fn steady(plane: &Plane, name: &str, rest: &str) {
    plane.apply(&pod(name, "while true; do sleep 1; done", rest));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=60s"]);
}

#[test]
fn commands_run_and_tell_how_they_end() {
    let Some(plane) = plane_with_image() else { return };
    steady(&plane, "p", "");
    for transport in BOTH {
        let exec = |words: &[&str], input: &str| {
            run(kubectl(&plane, transport, &[&["exec"], words].concat()), input.as_bytes())
        };
        let said = exec(&["p", "--", "/bin/busybox", "sh", "-c", "echo out; echo err >&2; exit 3"], "");
        assert!(!said.ok && said.out == "out\n", "{transport:?} {said:?}");
        assert!(said.err.contains("err\n") && said.err.contains("exit code 3"), "{transport:?} {said:?}");
        let big = "line of input\n".repeat(50_000);
        let said = exec(&["-i", "p", "-c", "main", "--", "/bin/busybox", "cat"], &big);
        assert!(said.ok && said.out == big, "{transport:?} {} {}", said.out.len(), said.err);
        let said = exec(&["p", "--", "no-such"], "");
        assert!(said.err.contains("executable file not found"), "{transport:?} {said:?}");
        let said = exec(&["p", "-c", "other", "--", "true"], "");
        assert!(said.err.contains("container other is not valid for pod p"), "{transport:?} {said:?}");
        let said = exec(&["nobody", "--", "true"], "");
        assert!(said.err.contains("pods \"nobody\" not found"), "{transport:?} {said:?}");
    }
    plane.apply(&pod("done", "true", "  restartPolicy: Never\n"));
    plane.kubectl_ok(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/done", "--timeout=60s"]);
    let said = run(kubectl(&plane, SPDY, &["exec", "done", "--", "true"]), b"");
    assert!(!said.ok && said.err.contains("completed pod"), "{said:?}");
}

/// Runs words of kubectl on a terminal of their own (`script` makes one), with keys typed.
pub(crate) fn on_terminal(plane: &Plane, transport: [(&str, &str); 2], words: &str, keys: &str) -> Said {
    let kubectl = plane.kubectl_command();
    let line: Vec<String> = std::iter::once(kubectl.get_program())
        .chain(kubectl.get_args())
        .map(|word| format!("'{}'", word.to_string_lossy()))
        .collect();
    let mut command = Command::new("script");
    command.args(["-qec", &format!("stty cols 101 rows 37; {} {words}", line.join(" ")), "/dev/null"]);
    command.envs(transport);
    run(command, keys.as_bytes())
}

#[test]
fn a_shell_on_a_terminal_knows_how_large_it_is() {
    let Some(plane) = plane_with_image() else { return };
    steady(&plane, "p", "");
    for transport in BOTH {
        let keys = "/bin/busybox stty size; /bin/busybox tty; exit 5\n";
        let said = on_terminal(&plane, transport, "exec -it p -- /bin/busybox sh", keys);
        assert!(said.out.contains("37 101") && said.out.contains("/dev/pts/"), "{transport:?} {said:?}");
        assert!(!said.ok && said.out.contains("exit code 5"), "{transport:?} {said:?}");
    }
}

#[test]
fn who_may_only_read_runs_nothing() {
    let Some(plane) = plane_with_image() else { return };
    steady(&plane, "p", "");
    plane.kubectl_ok(&["create", "role", "reader", "--verb=get", "--resource=pods,pods/exec"]);
    plane.kubectl_ok(&["create", "rolebinding", "reader", "--role=reader", "--user=ann"]);
    let denied = |transport| run(kubectl(&plane, transport, &["exec", "--as=ann", "p", "--", "true"]), b"");
    for transport in BOTH {
        let said = denied(transport);
        assert!(
            !said.ok && said.err.contains("cannot create resource \"pods/exec\""),
            "{transport:?} {said:?}"
        );
    }
    plane.kubectl_ok(&["create", "role", "runner", "--verb=create", "--resource=pods/exec"]);
    plane.kubectl_ok(&["create", "rolebinding", "runner", "--role=runner", "--user=ann"]);
    for transport in BOTH {
        eventually("ann may", || {
            let words = ["exec", "--as=ann", "p", "--", "/bin/busybox", "true"];
            run(kubectl(&plane, transport, &words), b"").ok.then_some(())
        });
    }
}

#[test]
fn files_are_copied_both_ways() {
    let Some(plane) = plane_with_image() else { return };
    // kubectl runs `tar` in the container.
    let script = "mkdir -p /tmp/t; ln -s /bin/busybox /bin/tar; while true; do sleep 1; done";
    plane.apply(&pod("p", script, ""));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/p", "--timeout=60s"]);
    let work = tempfile::tempdir().expect("a directory");
    let content: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::create_dir(work.path().join("d")).expect("a directory");
    std::fs::write(work.path().join("d/file"), &content).expect("a file");
    for transport in BOTH {
        let copy = |from: &str, to: &str| {
            let mut command = kubectl(&plane, transport, &["cp", from, to]);
            command.current_dir(work.path());
            let said = run(command, b"");
            assert!(said.ok, "{transport:?} {said:?}");
        };
        copy("d", "p:/tmp/t/there");
        copy("p:/tmp/t/there/file", "back");
        assert!(std::fs::read(work.path().join("back")).expect("a file") == content);
        plane.kubectl_ok(&["exec", "p", "--", "/bin/busybox", "rm", "-r", "/tmp/t/there"]);
    }
}

#[test]
fn a_container_is_attached_to_and_run_in_one_go() {
    let Some(plane) = plane_with_image() else { return };
    for (name, transport) in ["a", "b"].into_iter().zip(BOTH) {
        let script = "while read line; do echo \"got $line\"; done";
        let stdin = "    stdin: true\n";
        plane.apply(&pod(name, script, stdin));
        plane.kubectl_ok(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=60s"]);
        let mut listener = kubectl(&plane, transport, &["attach", name, "-q"]);
        let mut listener =
            listener.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().expect("kubectl runs");
        let mut heard = BufReader::new(listener.stdout.take().expect("a pipe"));
        let mut typist = kubectl(&plane, transport, &["attach", "-i", name, "-q"]);
        let mut typist = typist.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("kubectl runs");
        let mut said = BufReader::new(typist.stdout.take().expect("a pipe"));
        let mut line = String::new();
        // Typed again until both are there to hear it.
        let mut stdin = typist.stdin.take().expect("a pipe");
        let typing = std::thread::spawn(move || {
            while stdin.write_all(b"word\n").is_ok() {
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
        });
        said.read_line(&mut line).expect("a line");
        heard.read_line(&mut line).expect("a line");
        assert_eq!(line, "got word\ngot word\n", "{transport:?}");
        for mut child in [typist, listener] {
            kill(child.id(), 9);
            child.wait().expect("kubectl ends");
        }
        typing.join().expect("the typist");
        // Both have gone; the container has not.
        let object = plane.get(&["pod", name]);
        assert_eq!(object["status"]["containerStatuses"][0]["restartCount"], 0);
    }
    for (name, transport) in ["c", "d"].into_iter().zip(BOTH) {
        let words = ["run", name, "-i", "--rm", "-q", "--restart=Never", "--image", IMAGE];
        let rest =
            ["--image-pull-policy=Never", "--command", "--", "/bin/busybox", "sh", "-c", "cat; exit 6"];
        let said = run(kubectl(&plane, transport, &[&words[..], &rest].concat()), b"all of it\n");
        assert!(said.out.contains("all of it\n") && !said.ok, "{transport:?} {said:?}");
        assert!(plane.get(&["pod", name]).is_null(), "{name} is removed");
    }
}

/// kubectl port-forward, and the port that it listens on.
fn forwarding(plane: &Plane, transport: [(&str, &str); 2], what: &str, port: u16) -> (Child, u16) {
    let mut command = kubectl(plane, transport, &["port-forward", what, &format!(":{port}")]);
    let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().expect("kubectl runs");
    let mut line = String::new();
    let mut said = BufReader::new(child.stdout.take().expect("a pipe"));
    said.read_line(&mut line).expect("a line");
    // It tells of each connection, and would end where nobody listens.
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    let local = line.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next());
    let local = local.and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("no port in {line:?}"));
    (child, local)
}

#[test]
fn ports_are_forwarded_many_at_once() {
    let Some(plane) = plane_with_image() else { return };
    // What counts bytes until its input ends, and then says so: both ways have an end of their own.
    let script = "cd /tmp; echo $HOSTNAME > index.html; /bin/busybox httpd -p 127.0.0.1:8080; /bin/busybox nc -ll -p 8081 -e /bin/busybox wc -c";
    plane.apply(&format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  selector: {{matchLabels: {{app: web}}}}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    spec:\n      terminationGracePeriodSeconds: 1\n      containers:\n      - name: web\n        image: '{IMAGE}'\n        imagePullPolicy: Never\n        command: [/bin/busybox, sh, -c, '{script}']\n"
    ));
    plane.kubectl_ok(&["expose", "deployment", "web", "--port=80", "--target-port=8080"]);
    plane.kubectl_ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    eventually("both servers listen", || {
        let listening =
            plane.kubectl(&["exec", "deployment/web", "--", "/bin/busybox", "netstat", "-ltn"]).out;
        (listening.contains(":8080") && listening.contains(":8081")).then_some(())
    });
    for transport in BOTH {
        let (mut child, port) = forwarding(&plane, transport, "service/web", 80);
        let get = || {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("kubectl listens");
            stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").expect("it is sent");
            let mut text = String::new();
            stream.read_to_string(&mut text).expect("an answer");
            text
        };
        std::thread::scope(|scope| {
            let asking: Vec<_> = (0..60).map(|_| scope.spawn(get)).collect();
            for asked in asking {
                let text = asked.join().expect("a thread");
                assert!(text.contains("200 OK") && text.contains("web-"), "{transport:?} {text}");
            }
        });
        kill(child.id(), 9);
        child.wait().expect("kubectl ends");

        let (mut child, port) = forwarding(&plane, transport, "deployment/web", 8081);
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("kubectl listens");
        stream.write_all(&vec![b'x'; 2_000_000]).expect("it is sent");
        stream.shutdown(Shutdown::Write).expect("half of it is closed");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        assert_eq!(text.trim(), "2000000", "{transport:?}");
        kill(child.id(), 9);
        child.wait().expect("kubectl ends");
    }
}

#[test]
fn a_node_that_restarts_breaks_the_stream_and_not_the_container() {
    let Some(plane) = plane_with_image() else { return };
    steady(&plane, "p", "");
    let words = ["exec", "-i", "p", "--", "/bin/busybox", "sh", "-c", "echo $$; cat; echo > /ended"];
    let mut command = kubectl(&plane, WEB_SOCKET, &words);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("kubectl runs");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    kill(plane.pid("node"), 9);
    child.wait().expect("kubectl ends");
    // The command had its input's end, and went on; the container never noticed.
    eventually("the node is back, and the command has ended", || {
        plane.kubectl(&["exec", "p", "--", "/bin/busybox", "ls", "/ended"]).ok.then_some(())
    });
    assert_eq!(plane.get(&["pod", "p"])["status"]["containerStatuses"][0]["restartCount"], 0);
}

#[test]
fn a_client_that_vanishes_takes_its_terminal_along() {
    let Some(plane) = plane_with_image() else { return };
    steady(&plane, "p", "");
    // Killed, so that it says no goodbye.
    let mut command =
        kubectl(&plane, WEB_SOCKET, &["exec", "-i", "-t", "p", "--", "/bin/busybox", "sleep", "12345"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("kubectl");
    let sleeps = || {
        let listed = plane.kubectl_ok(&["exec", "p", "--", "/bin/busybox", "ps"]);
        listed.contains("sleep 12345")
    };
    eventually("the command runs", || sleeps().then_some(()));
    kill(child.id(), 9);
    child.wait().expect("kubectl ends");
    // Without a terminal of kubectl's own there is none in the container: its input ends, and it goes on.
    assert!(sleeps());
    let words = "exec -it p -- /bin/busybox sleep 54321";
    let kubectl = plane.kubectl_command();
    let line: Vec<_> = std::iter::once(kubectl.get_program()).chain(kubectl.get_args()).collect();
    let line: Vec<String> = line.iter().map(|word| format!("'{}'", word.to_string_lossy())).collect();
    let mut terminal = Command::new("script");
    terminal.args(["-qec", &format!("exec {} {words}", line.join(" ")), "/dev/null"]);
    let mut child = terminal.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("script runs");
    let sleeps = || plane.kubectl_ok(&["exec", "p", "--", "/bin/busybox", "ps"]).contains("sleep 54321");
    eventually("the command runs", || sleeps().then_some(()));
    kill(child.id(), 9);
    child.wait().expect("script ends");
    eventually("its terminal has hung up on it", || (!sleeps()).then_some(()));
}

/// Bytes that a process has resident.
fn resident(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default().to_owned();
    line.split_ascii_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or(0)
        << 10
}

#[test]
fn a_gigabyte_goes_both_ways_in_a_few_megabytes() {
    const SIZE: u64 = 1 << 30;
    let Some(plane) = plane_with_image() else { return };
    steady(&plane, "p", "");
    let before = (resident(plane.pid("server")), resident(plane.pid("node")));
    let mut command = kubectl(&plane, WEB_SOCKET, &["exec", "-i", "p", "--", "/bin/busybox", "cat"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("kubectl runs");
    let (mut stdin, mut stdout) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    let writing = std::thread::spawn(move || {
        let piece = vec![7; 1 << 20];
        (0..SIZE >> 20).for_each(|_| stdin.write_all(&piece).expect("kubectl reads"));
    });
    let (mut read, mut piece, mut highest) = (0, vec![0; 1 << 20], (0, 0));
    while let Ok(count @ 1..) = stdout.read(&mut piece) {
        if read >> 26 != (read + count as u64) >> 26 {
            highest.0 = highest.0.max(resident(plane.pid("server")));
            highest.1 = highest.1.max(resident(plane.pid("node")));
        }
        read += count as u64;
    }
    writing.join().expect("the writer");
    assert!(child.wait().expect("kubectl ends").success());
    assert_eq!(read, SIZE);
    let room = 24 << 20;
    assert!(highest.0 < before.0 + room && highest.1 < before.1 + room, "{before:?} {highest:?}");
}
