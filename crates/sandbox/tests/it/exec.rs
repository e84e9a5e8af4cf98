//! Commands run in containers.

use std::time::{Duration, Instant};

use runtime::{Error, Runtime};

use crate::machine::{Machine, shell, with_machine};

const PATIENCE: Duration = Duration::from_secs(30);

fn words(script: &str) -> Vec<String> {
    vec!["sh".into(), "-c".into(), script.into()]
}

#[test]
fn commands_run_as_if_the_container_had_started_them() {
    with_machine(async |machine| {
        let sandbox = machine.run_sandbox().await;
        let config = runtime::ContainerConfig {
            working_dir: "/made/for/it".into(),
            envs: vec![("MINE".into(), "1".into())],
            security: runtime::SecurityContext { run_as_user: Some(100), ..Default::default() },
            ..shell("echo $$ >/tmp/first; while true; do sleep 0.05; done")
        };
        let id = machine.start_with(&sandbox, config).await;
        let run = async |script: &str| machine.runtime.exec_sync(&id, words(script), PATIENCE).await.unwrap();

        let output = run("echo out; echo err >&2; exit 3").await;
        assert_eq!(
            (&output.stdout[..], &output.stderr[..], output.exit_code),
            (&b"out\n"[..], &b"err\n"[..], 3)
        );
        assert_eq!(run("id -u; id -g").await.stdout, "100\n101\n");
        assert_eq!(run("pwd; echo $MINE $FROM_IMAGE").await.stdout, "/made/for/it\n1 yes\n");
        assert_eq!(run("hostname; cat /etc/hostname").await.stdout, "the-pod\nthe-pod\n");
        // The same process namespace: the container's first process is number 1, and no other's are seen.
        assert_eq!(run("cat /tmp/first").await.stdout, "1\n");
        let seen = run("ls -d /proc/[0-9]* | wc -l").await.stdout;
        assert!(String::from_utf8_lossy(&seen).trim().parse::<u32>().unwrap() < 8, "{seen:?}");
        // The same control group.
        let pid = run("cat /proc/self/cgroup").await.stdout;
        assert_eq!(pid, run("cat /proc/1/cgroup").await.stdout);
        assert_eq!(
            run("grep -i capeff /proc/self/status").await.stdout,
            run("grep -i capeff /proc/1/status").await.stdout
        );
        let big = run("head -c 3000000 /dev/zero").await;
        assert_eq!(big.stdout.len(), 3_000_000);
    });
}

#[test]
fn what_fails_says_how() {
    with_machine(async |machine| {
        let sandbox = machine.run_sandbox().await;
        let id = machine.start(&sandbox, "while true; do sleep 0.05; done").await;
        let missing =
            machine.runtime.exec_sync(&id, vec!["no-such".into()], PATIENCE).await.unwrap_err().to_string();
        assert!(missing.contains("no-such") && missing.contains("not found"), "{missing}");
        let killed = machine.runtime.exec_sync(&id, words("kill -9 $$"), PATIENCE).await.unwrap();
        assert_eq!(killed.exit_code, 137);
        assert!(matches!(
            machine.runtime.exec_sync("no-such", words("true"), PATIENCE).await,
            Err(Error::NotFound { .. })
        ));
        machine.runtime.stop_container(&id, Duration::ZERO).await.unwrap();
        assert!(machine.runtime.exec_sync(&id, words("true"), PATIENCE).await.is_err());
    });
}

/// Processes of the container whose command line holds a word.
async fn running(machine: &Machine, id: &str, word: &str) -> usize {
    let script = format!("cat /proc/[0-9]*/cmdline | grep -c '{word}'");
    let words = words(&script);
    let output = machine.runtime.exec_sync(id, words, PATIENCE).await.unwrap();
    // The search sees itself.
    String::from_utf8_lossy(&output.stdout).trim().parse::<usize>().unwrap()
}

#[test]
fn a_command_that_takes_too_long_is_ended() {
    with_machine(async |machine| {
        let sandbox = machine.run_sandbox().await;
        let id = machine.start(&sandbox, "while true; do sleep 0.05; done").await;
        let none = running(&machine, &id, "sleep.1234").await;
        let began = Instant::now();
        let late = machine
            .runtime
            .exec_sync(&id, vec!["sleep".into(), "1234".into()], Duration::from_millis(300))
            .await;
        assert!(matches!(late, Err(Error::Timeout(_))), "{late:?}");
        assert!(began.elapsed() < Duration::from_secs(10));
        let mut tries = 0;
        while running(&machine, &id, "sleep.1234").await > none {
            tries += 1;
            assert!(tries < 200, "the command runs on");
        }
    });
}

#[test]
fn commands_run_side_by_side() {
    with_machine(async |machine| {
        let sandbox = machine.run_sandbox().await;
        let id = machine.start(&sandbox, "while true; do sleep 0.05; done").await;
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..12 {
            let (machine, id) = (std::sync::Arc::clone(&machine), id.clone());
            tasks.spawn(async move {
                let script = format!("echo {number}; exit {number}");
                let output = machine.runtime.exec_sync(&id, words(&script), PATIENCE).await.unwrap();
                assert_eq!((output.stdout, output.exit_code), (format!("{number}\n").into(), number));
            });
        }
        while let Some(task) = tasks.join_next().await {
            task.unwrap();
        }
    });
}
