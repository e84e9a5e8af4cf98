//! Containers outlive the process that made them, and not their shim.

use std::io::BufRead;
use std::time::Duration;

use runtime::{ContainerState, NamespaceMode, Runtime, SandboxConfig, SandboxState};
use sandbox::Containers;

use crate::machine::{Machine, ended, with_machine};

/// The shim's process of a sandbox.
fn shim(machine: &Machine, sandbox: &str) -> i32 {
    shim_file(machine, sandbox, "pid")
}

fn shim_file(machine: &Machine, sandbox: &str, field: &str) -> i32 {
    let path = machine.directory.path().join("state/sandboxes").join(sandbox).join("shim.json");
    let shim: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    i32::try_from(shim[field].as_i64().unwrap()).unwrap()
}

/// Waits for a sandbox's end by the runtime's events.
async fn not_ready(runtime: &Containers, sandbox: &str) {
    let told = async {
        while runtime.sandbox_status(sandbox).await.unwrap().state == SandboxState::Ready {
            runtime.next_event().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(30), told).await.expect("the sandbox stays ready");
}

#[test]
fn a_new_process_adopts_what_runs_and_learns_what_ended() {
    with_machine(async |machine| {
        let sandbox = machine.run_sandbox().await;
        let lives = machine.start(&sandbox, "echo here; while true; do sleep 0.05; done").await;
        let ends = machine.start(&sandbox, "sleep 0.2; exit 9").await;
        let created =
            machine.runtime.create_container(&sandbox, crate::machine::shell("exit 4")).await.unwrap();
        let before = machine.runtime.container_status(&lives).await.unwrap();

        let second = machine.reopen().await;
        assert_eq!(second.sandbox_status(&sandbox).await.unwrap().state, SandboxState::Ready);
        let after = second.container_status(&lives).await.unwrap();
        assert_eq!(after, before);
        assert_eq!(ended(&second, &ends).await.exit_code, 9);
        second.start_container(&created).await.unwrap();
        assert_eq!(ended(&second, &created).await.exit_code, 4);
        let output =
            second.exec_sync(&lives, vec!["echo".into(), "hi".into()], Duration::from_secs(30)).await;
        assert_eq!(output.unwrap().stdout, "hi\n");
        second.stop_container(&lives, Duration::ZERO).await.unwrap();
        assert_eq!(second.container_status(&lives).await.unwrap().exit_code, 137);
        // The first process hears of it too.
        assert_eq!(machine.ended(&lives).await.exit_code, 137);

        second.stop_sandbox(&sandbox).await.unwrap();
        let third = machine.reopen().await;
        assert_eq!(third.sandbox_status(&sandbox).await.unwrap().state, SandboxState::NotReady);
        assert_eq!(third.container_status(&ends).await.unwrap().exit_code, 9);
    });
}

/// Not a test: the process that is killed by the next one, which starts it with a directory and a group.
#[test]
#[ignore = "started by kill_nine_of_the_owner_ends_no_container"]
fn owner() {
    let Ok(directory) = std::env::var("OWNED_DIRECTORY") else { return };
    let group = std::env::var("OWNED_GROUP").unwrap();
    let tokio = tokio::runtime::Runtime::new().unwrap();
    tokio.block_on(async {
        let owned = Machine::in_directory(directory.as_ref(), group).await;
        let sandbox = owned.run_sandbox().await;
        let id = owned.start(&sandbox, "n=0; while true; do echo $n; n=$((n+1)); sleep 0.01; done").await;
        println!("OWNED {sandbox} {id}");
        std::future::pending::<()>().await;
    });
}

#[test]
fn kill_nine_of_the_owner_ends_no_container() {
    with_machine(async |machine| {
        let mut owner = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "adoption::owner", "--ignored", "--nocapture"])
            .env("OWNED_DIRECTORY", machine.directory.path())
            .env("OWNED_GROUP", &machine.group)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(owner.stdout.take().unwrap()).lines();
        // The harness' own words may stand on the same line.
        let line = lines.map(|line| line.unwrap()).find(|line| line.contains("OWNED ")).unwrap();
        let words: Vec<&str> = line.split("OWNED ").nth(1).unwrap().split(' ').collect();
        let (sandbox, id) = (words[0], words[1]);
        let before = shim(&machine, sandbox);
        owner.kill().unwrap();
        owner.wait().unwrap();

        let second = machine.reopen().await;
        let status = second.container_status(id).await.unwrap();
        assert_eq!((status.state, shim(&machine, sandbox)), (ContainerState::Running, before));
        let log = || std::fs::read_to_string(&status.log_path).unwrap().lines().count();
        let now = log();
        while log() < now + 20 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        second.stop_container(id, Duration::ZERO).await.unwrap();
        let text = std::fs::read_to_string(&status.log_path).unwrap();
        let numbers = text.lines().map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap());
        assert!(numbers.enumerate().all(|(index, number)| index == number), "a line is lost:\n{text}");
        second.cleanup().await.unwrap();
    });
}

#[test]
fn a_sandbox_that_loses_its_shim_is_not_ready_and_nothing_of_it_runs_on() {
    with_machine(async |machine| {
        let runtime = &machine.runtime;
        let sandbox = runtime.run_sandbox(machine.sandbox()).await.unwrap();
        let id = machine.start(&sandbox, "while true; do sleep 0.05; done").await;
        let done = machine.start(&sandbox, "exit 5").await;
        machine.ended(&done).await;
        kill(shim(&machine, &sandbox));
        let status = machine.ended(&id).await;
        assert_eq!(status.exit_code, 137);
        assert!(status.message.contains("shim"), "{}", status.message);
        not_ready(runtime, &sandbox).await;
        assert_eq!(runtime.container_status(&done).await.unwrap().exit_code, 5);
        assert!(machine.processes().is_empty());
        runtime.remove_sandbox(&sandbox).await.unwrap();
    });
}

#[test]
fn a_shim_that_died_while_nobody_watched_is_found_out() {
    with_machine(async |machine| {
        let sandbox = machine.run_sandbox().await;
        let id = machine.start(&sandbox, "while true; do sleep 0.05; done").await;
        kill(shim(&machine, &sandbox));
        let second = machine.reopen().await;
        assert_eq!(second.sandbox_status(&sandbox).await.unwrap().state, SandboxState::NotReady);
        let status = second.container_status(&id).await.unwrap();
        assert_eq!((status.state, status.exit_code), (ContainerState::Exited, 137));
        assert!(machine.processes().is_empty());
    });
}

#[test]
fn what_another_process_has_stopped_is_found_out() {
    with_machine(async |machine| {
        let sandbox = machine.run_sandbox().await;
        let id = machine.start(&sandbox, "while true; do sleep 0.05; done").await;
        let second = machine.reopen().await;
        assert_eq!(second.sandbox_status(&sandbox).await.unwrap().state, SandboxState::Ready);
        machine.runtime.stop_sandbox(&sandbox).await.unwrap();
        not_ready(&second, &sandbox).await;
        assert_eq!(second.container_status(&id).await.unwrap().state, ContainerState::Exited);
    });
}

/// As when the machine is started again: processes, mounts and all that is in memory are gone, what is on the disk is not.
#[test]
fn after_a_reboot_nothing_of_before_is_left() {
    with_machine(async |machine| {
        let state = machine.directory.path().join("state");
        let Ok(memory) = std::fs::read_link(state.join("sandboxes")) else { return };
        let sandbox = machine.run_sandbox().await;
        let id = machine.start(&sandbox, "echo written >/file; exec sleep 1000").await;
        assert_eq!(machine.upper(&sandbox, &id), state.join("writable").join(&id).join("upper"));
        kill(shim(&machine, &sandbox));
        machine.ended(&id).await;
        std::fs::remove_dir_all(memory).unwrap();

        let second = machine.reopen().await;
        assert!(second.list_sandboxes().await.unwrap().is_empty());
        assert_eq!(std::fs::read_dir(state.join("writable")).unwrap().count(), 0);
        let sandbox = second.run_sandbox(machine.sandbox()).await.unwrap();
        let next =
            second.create_container(&sandbox, crate::machine::shell("cat /file; exit 3")).await.unwrap();
        second.start_container(&next).await.unwrap();
        assert_eq!(ended(&second, &next).await.exit_code, 3);
        second.cleanup().await.unwrap();
    });
}

#[test]
fn what_cannot_be_read_is_kept_and_runs_on() {
    with_machine(async |machine| {
        let (unread, partly) = (machine.run_sandbox().await, machine.run_sandbox().await);
        let script = "exec sleep 1000";
        let (first, second) = (machine.start(&unread, script).await, machine.start(&partly, script).await);
        let directory = |sandbox: &str| machine.directory.path().join("state/sandboxes").join(sandbox);
        let records = [
            directory(&unread).join("sandbox.json"),
            directory(&partly).join("containers").join(&second).join("container.json"),
        ];
        // Two shims and two containers, once the helpers that started these have ended.
        while machine.processes().len() > 4 {
            tokio::task::yield_now().await;
        }
        let before = machine.processes();
        for (index, torn) in [&b"{"[..], br#"{"version":999}"#].into_iter().enumerate() {
            let whole: Vec<_> = records.iter().map(|record| std::fs::read(record).unwrap()).collect();
            records.iter().for_each(|record| std::fs::write(record, torn).unwrap());
            let other = machine.reopen().await;
            assert!(other.sandbox_status(&unread).await.is_err(), "{index}");
            assert_eq!(other.sandbox_status(&partly).await.unwrap().state, SandboxState::Ready);
            assert_eq!(machine.processes(), before);
            assert_eq!(machine.network.attached().len(), 2);
            assert!(machine.upper(&partly, &second).exists());
            records.iter().zip(whole).for_each(|(record, bytes)| std::fs::write(record, bytes).unwrap());
        }
        let last = machine.reopen().await;
        for id in [first, second] {
            assert_eq!(last.container_status(&id).await.unwrap().state, ContainerState::Running);
        }
    });
}

#[test]
fn records_without_the_fields_of_this_release_are_adopted() {
    with_machine(async |machine| {
        let sandbox = machine.run_sandbox().await;
        let id = machine.start(&sandbox, "while true; do sleep 0.05; done").await;
        let directory = machine.directory.path().join("state/sandboxes").join(&sandbox);
        let container = directory.join("containers").join(&id);
        for record in
            [directory.join("sandbox.json"), directory.join("shim.json"), container.join("container.json")]
        {
            let mut value: serde_json::Value =
                serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
            for field in ["version", "boot_id", "stop_signal"] {
                value.as_object_mut().unwrap().remove(field);
            }
            std::fs::write(&record, value.to_string()).unwrap();
        }
        let second = machine.reopen().await;
        assert_eq!(second.container_status(&id).await.unwrap().state, ContainerState::Running);
    });
}

#[test]
fn a_shim_that_is_slow_to_answer_is_waited_for() {
    with_machine(async |machine| {
        let sandbox = machine.run_sandbox().await;
        let id = machine.start(&sandbox, "while true; do sleep 0.05; done").await;
        let shim = shim(&machine, &sandbox);
        signal(shim, rustix::process::Signal::STOP);
        let second = machine.reopen().await;
        assert_eq!(second.sandbox_status(&sandbox).await.unwrap().state, SandboxState::Ready);
        assert_eq!(second.container_status(&id).await.unwrap().state, ContainerState::Running);
        signal(shim, rustix::process::Signal::CONT);
        second.stop_container(&id, Duration::ZERO).await.unwrap();
        assert_eq!(ended(&second, &id).await.exit_code, 137);
    });
}

#[test]
fn a_pod_whose_shared_processes_end_has_ended() {
    with_machine(async |machine| {
        let shared = SandboxConfig { pid: NamespaceMode::Pod, ..machine.sandbox() };
        let sandbox = machine.runtime.run_sandbox(shared).await.unwrap();
        let id = machine.start(&sandbox, "while true; do sleep 0.05; done").await;
        kill(shim_file(&machine, &sandbox, "pause_pid"));
        assert_eq!(machine.ended(&id).await.exit_code, 137);
        not_ready(&machine.runtime, &sandbox).await;
        assert!(machine.processes().is_empty());
    });
}

#[test]
fn nothing_is_left_of_a_sandbox_that_cannot_be_made() {
    with_machine(async |machine| {
        let bad = SandboxConfig {
            sysctls: [("vm.swappiness".to_owned(), "1".to_owned())].into(),
            ..machine.sandbox()
        };
        machine.runtime.run_sandbox(bad).await.unwrap_err();
        assert!(!machine.groups().iter().any(|group| group.ends_with("pod-u1")));
        assert!(machine.network.attached().is_empty());
        // The shim was told to end, and does when it gets to run.
        let ended = async {
            while !machine.processes().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), ended).await.unwrap();
        let left = machine.directory.path().join("state/sandboxes");
        assert_eq!(std::fs::read_dir(left).unwrap().count(), 0);
    });
}

/// This process' own children that fork shims.
fn spawners() -> Vec<i32> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let children =
        tasks.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
    let children: Vec<i32> = children
        .flat_map(|text| text.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
        .collect();
    let name = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    children.into_iter().filter(|pid| name(pid).trim() == "shim-spawner").collect()
}

/// The only one, once those that were killed are gone.
async fn spawner() -> i32 {
    let only = async {
        loop {
            if let Ok([only]) = <[i32; 1]>::try_from(spawners()) {
                return only;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), only).await.unwrap_or_else(|_| panic!("{:?}", spawners()))
}

#[test]
fn a_spawner_that_is_stuck_or_gone_is_replaced() {
    with_machine(async |machine| {
        let first = machine.run_sandbox().await;
        let stuck = spawner().await;
        signal(stuck, rustix::process::Signal::STOP);
        let pods = (2..6).map(|number| {
            let mut pod = machine.sandbox();
            pod.metadata.uid = format!("u{number}");
            pod.cgroup_parent = format!("{}/pods/pod-u{number}", machine.group);
            machine.runtime.run_sandbox(pod)
        });
        let started = futures::future::try_join_all(pods).await.unwrap();
        assert_eq!(started.len(), 4);
        let next = spawner().await;
        assert_ne!(next, stuck);
        // Its shims live on.
        assert_eq!(machine.runtime.sandbox_status(&first).await.unwrap().state, SandboxState::Ready);
        machine.runtime.remove_sandbox(&first).await.unwrap();
        // It dies with what it was asked unread.
        signal(next, rustix::process::Signal::STOP);
        let dies = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            kill(next);
        };
        let (again, ()) = tokio::join!(machine.run_sandbox(), dies);
        let last = spawner().await;
        assert_ne!(last, next);
        // And it dies between.
        machine.runtime.remove_sandbox(&again).await.unwrap();
        kill(last);
        machine.run_sandbox().await;
    });
}

fn kill(pid: i32) {
    signal(pid, rustix::process::Signal::KILL);
}

fn signal(pid: i32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}
