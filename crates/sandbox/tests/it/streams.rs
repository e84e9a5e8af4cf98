//! Commands and containers with their streams, and ports.

use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use runtime::{Error, NamespaceMode, Runtime, SandboxConfig, Session, StreamOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::machine::{shell, with_machine};

const ALL: StreamOptions = StreamOptions { stdin: true, stdout: true, stderr: true, tty: false };
const TERMINAL: StreamOptions = StreamOptions { stdin: true, stdout: true, stderr: false, tty: true };

fn words(script: &str) -> Vec<String> {
    vec!["sh".into(), "-c".into(), script.into()]
}

async fn all(stream: impl AsyncRead + Unpin) -> String {
    let (mut stream, mut text) = (stream, Vec::new());
    stream.read_to_end(&mut text).await.unwrap();
    String::from_utf8(text).unwrap()
}

/// Reads until something has been said.
async fn until(stream: &mut (impl AsyncRead + Unpin), wanted: &str) -> String {
    let mut text = String::new();
    let mut piece = [0; 512];
    let read = async {
        while !text.contains(wanted) {
            let count = stream.read(&mut piece).await.unwrap();
            assert_ne!(count, 0, "it ended after {text:?}");
            text.push_str(&String::from_utf8_lossy(&piece[..count]));
        }
    };
    tokio::time::timeout(Duration::from_secs(30), read).await.expect("nothing like it is said");
    text
}

#[test]
fn a_command_has_streams_and_an_end() {
    with_machine(async |machine| {
        let sandbox = machine.run_sandbox().await;
        let id = machine.start(&sandbox, "while true; do sleep 0.05; done").await;
        let session = machine.runtime.exec(&id, words("echo err >&2; cat; exit 3"), ALL).await.unwrap();
        let Session { stdin, stdout, stderr, resize, ended } = session;
        assert!(resize.is_none());
        let big = "0123456789".repeat(100_000);
        let feed = async {
            let mut stdin = stdin.unwrap();
            stdin.write_all(big.as_bytes()).await.unwrap();
            stdin.close().await.unwrap();
            drop(stdin);
        };
        let ((), out, err, code) = tokio::join!(feed, all(stdout.unwrap()), all(stderr.unwrap()), ended);
        assert!(out == big && err == "err\n" && code.unwrap() == 3);

        let missing = machine.runtime.exec(&id, vec!["no-such".into()], ALL).await.err().unwrap();
        assert!(missing.to_string().contains("not found"), "{missing}");
        let none = StreamOptions { stdout: true, ..StreamOptions::default() };
        let session = machine.runtime.exec(&id, words("cat; echo end"), none).await.unwrap();
        assert!(session.stdin.is_none() && session.stderr.is_none());
        assert_eq!(all(session.stdout.unwrap()).await, "end\n");
    });
}

#[test]
fn a_command_goes_on_when_its_caller_has_gone() {
    with_machine(async |machine| {
        let sandbox = machine.run_sandbox().await;
        let script = "while [ ! -e /tmp/done ]; do sleep 0.05; done; cat /tmp/done";
        let id = machine.start(&sandbox, script).await;
        let session = machine.runtime.exec(&id, words("cat; echo after >/tmp/done"), ALL).await.unwrap();
        drop(session);
        assert_eq!(machine.ended(&id).await.exit_code, 0);
        assert_eq!(machine.log(&id).await, "after\n");
    });
}

#[test]
fn a_command_on_a_terminal() {
    with_machine(async |machine| {
        let sandbox = machine.run_sandbox().await;
        let id = machine.start(&sandbox, "while true; do sleep 0.05; done").await;
        let session = machine.runtime.exec(&id, vec!["sh".into()], TERMINAL).await.unwrap();
        let (mut input, mut output) = (session.stdin.unwrap(), session.stdout.unwrap());
        (session.resize.unwrap())(123, 45).unwrap();
        input.write_all(b"stty size; tty; echo $TERM $((40 + 2))\n").await.unwrap();
        let said = until(&mut output, " 42").await;
        assert!(said.contains("45 123") && said.contains("/dev/pts/") && said.contains("xterm 42"), "{said}");
        input.write_all(b"exit 7\n").await.unwrap();
        all(output).await;
        assert_eq!(session.ended.await.unwrap(), 7);

        // A terminal that is gone hangs up on what runs on it.
        let script = "trap 'echo gone >/tmp/gone; exit' HUP; echo ready; while true; do sleep 0.05; done";
        let session = machine.runtime.exec(&id, words(script), TERMINAL).await.unwrap();
        let Session { stdin, stdout, resize, ended, .. } = session;
        let mut output = stdout.unwrap();
        until(&mut output, "ready").await;
        drop((stdin, output, resize));
        ended.await.unwrap();
        let left = machine.runtime.exec_sync(&id, words("cat /tmp/gone"), Duration::from_secs(10)).await;
        assert_eq!(left.unwrap().stdout, "gone\n");
        // Nothing is left of the sockets that terminals came through.
        let left: Vec<_> = walk(machine.directory.path()).into_iter().filter(|path| is_left(path)).collect();
        assert!(left.is_empty(), "{left:?}");
    });
}

fn is_left(path: &std::path::Path) -> bool {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    name.starts_with("console-") || name.starts_with("tenant-tty")
}

fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !path.ends_with("rootfs") {
            found.extend(walk(&path));
        }
        found.push(path);
    }
    found
}

#[test]
fn several_are_attached_to_one_container() {
    with_machine(async |machine| {
        let sandbox = machine.run_sandbox().await;
        let config = runtime::ContainerConfig {
            stdin: true,
            ..shell("while read line; do echo got $line; [ $line = end ] && exit 4; done")
        };
        let id = machine.start_with(&sandbox, config).await;
        let first = machine.runtime.attach(&id, ALL).await.unwrap();
        let second = machine.runtime.attach(&id, ALL).await.unwrap();
        let (mut one, mut two) = (first.stdin.unwrap(), second.stdin.unwrap());
        let (mut out_one, mut out_two) = (first.stdout.unwrap(), second.stdout.unwrap());
        one.write_all(b"one\n").await.unwrap();
        until(&mut out_one, "got one\n").await;
        until(&mut out_two, "got one\n").await;
        // One that leaves takes neither the input nor the others along.
        drop((one, out_one, first.ended));
        two.write_all(b"two\nend\n").await.unwrap();
        assert_eq!(all(out_two).await, "got two\ngot end\n");
        assert_eq!(second.ended.await.unwrap(), 4);
        assert_eq!(machine.log(&id).await, "got one\ngot two\ngot end\n");
        let late = machine.runtime.attach(&id, ALL).await.err().unwrap();
        assert!(late.to_string().contains("not running"), "{late}");
    });
}

#[test]
fn an_input_that_is_for_once_ends_with_its_first_caller() {
    with_machine(async |machine| {
        let sandbox = machine.run_sandbox().await;
        let config = runtime::ContainerConfig { stdin: true, stdin_once: true, ..shell("cat; echo end") };
        let id = machine.start_with(&sandbox, config).await;
        let session = machine.runtime.attach(&id, ALL).await.unwrap();
        let mut input = session.stdin.unwrap();
        input.write_all(b"all\n").await.unwrap();
        drop(input);
        assert_eq!(all(session.stdout.unwrap()).await, "all\nend\n");
        assert_eq!(session.ended.await.unwrap(), 0);
    });
}

#[test]
fn a_container_on_a_terminal() {
    with_machine(async |machine| {
        let sandbox = machine.run_sandbox().await;
        let config = runtime::ContainerConfig {
            stdin: true,
            tty: true,
            ..shell("echo begun; read line; stty size; echo got $line")
        };
        let id = machine.start_with(&sandbox, config).await;
        let session = machine.runtime.attach(&id, TERMINAL).await.unwrap();
        (session.resize.unwrap())(99, 11).unwrap();
        session.stdin.unwrap().write_all(b"word\n").await.unwrap();
        let said = all(session.stdout.unwrap()).await;
        assert!(said.contains("11 99") && said.contains("got word"), "{said}");
        assert_eq!(session.ended.await.unwrap(), 0);
        let log = machine.log(&id).await;
        // What is typed is echoed, maybe before the program has said anything.
        assert!(log.contains("begun") && log.contains("got word"), "{log}");
    });
}

#[test]
fn who_is_attached_and_takes_nothing_is_cut_off() {
    with_machine(async |machine| {
        let sandbox = machine.run_sandbox().await;
        let config =
            runtime::ContainerConfig { stdin: true, ..shell("read go; yes | head -c 8000000; echo end") };
        let id = machine.start_with(&sandbox, config).await;
        let stuck = machine.runtime.attach(&id, ALL).await.unwrap();
        let reading = machine.runtime.attach(&id, ALL).await.unwrap();
        reading.stdin.unwrap().write_all(b"go\n").await.unwrap();
        // The other one gets all of it.
        let said = all(reading.stdout.unwrap()).await;
        assert_eq!(said.len(), 8_000_000 + "end\n".len());
        assert!(matches!(stuck.ended.await, Err(Error::Failed(why)) if why.contains("taken")));
    });
}

#[test]
fn ports_are_reached_within_the_sandbox() {
    with_machine(async |machine| {
        let config = SandboxConfig { network: NamespaceMode::Node, ..machine.sandbox() };
        let sandbox = machine.runtime.run_sandbox(config).await.unwrap();
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connection, accepted) =
            tokio::join!(machine.runtime.port_forward(&sandbox, port), listener.accept());
        let (mut connection, mut peer) = (connection.unwrap(), accepted.unwrap().0);
        connection.write_all(b"ask").await.unwrap();
        connection.close().await.unwrap();
        let mut asked = Vec::new();
        peer.read_to_end(&mut asked).await.unwrap();
        peer.write_all(b"answer").await.unwrap();
        drop(peer);
        assert_eq!((asked, all(connection).await), (b"ask".to_vec(), "answer".to_owned()));
        drop(listener);
        let refused = machine.runtime.port_forward(&sandbox, port).await.err().unwrap().to_string();
        assert!(refused.contains(&format!("localhost:{port}")) && refused.contains("refused"), "{refused}");
    });
}
