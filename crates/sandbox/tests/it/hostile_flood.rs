//! Containers that take all that they can get: processes, memory, descriptors, log, shared memory. They meet their own
//! limits; the machine and another pod's container are none the worse for it.

use std::time::Duration;

use runtime::{ContainerConfig, Resources, Runtime, SandboxConfig};

use crate::machine::{Machine, shell, with_machine};
use crate::neighbour::Neighbour;

const PROCESSES: i64 = 40;

fn limited(script: &str) -> ContainerConfig {
    let resources =
        Resources { pids_limit: Some(PROCESSES), memory_limit: Some(64 << 20), ..Resources::default() };
    ContainerConfig { resources, ..shell(script) }
}

/// Waits until a container has written a line.
async fn says(machine: &Machine, id: &str, line: &str) {
    let said = async {
        while !machine.log(id).await.lines().any(|said| said == line) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), said).await.expect("the container says nothing");
}

#[test]
fn a_fork_bomb_fills_its_own_room() {
    with_machine(async |machine| {
        let neighbour = Neighbour::start(&machine).await;
        let sandbox = machine.run_sandbox().await;
        let script = "bomb() { bomb | bomb & }; (bomb) 2>/dev/null; echo lit; while true; do /bin/busybox sleep 1; done";
        let id = machine.start_with(&sandbox, limited(script)).await;
        says(&machine, &id, "lit").await;
        for _ in 0..20 {
            let stats = machine.runtime.container_stats(&id).await.unwrap();
            assert!(i64::try_from(stats.pids).unwrap() <= PROCESSES, "{stats:?}");
        }
        neighbour.is_well(&machine).await;
        machine.runtime.stop_container(&id, Duration::ZERO).await.unwrap();
        machine.runtime.remove_container(&id).await.unwrap();
        neighbour.is_well(&machine).await;
    });
}

#[test]
fn a_pods_containers_share_its_room_for_processes() {
    with_machine(async |machine| {
        let neighbour = Neighbour::start(&machine).await;
        let pod = SandboxConfig {
            resources: Resources { pids_limit: Some(PROCESSES), ..Resources::default() },
            ..machine.sandbox()
        };
        let sandbox = machine.runtime.run_sandbox(pod).await.unwrap();
        // A shell that cannot fork ends.
        let script = "(n=0; while [ $n -lt 100 ]; do /bin/busybox sleep 1000 & n=$((n+1)); done) 2>/dev/null; echo full; \
             exec /bin/busybox sleep 1000";
        let first = machine.start(&sandbox, script).await;
        says(&machine, &first, "full").await;
        let stats = machine.runtime.container_stats(&first).await.unwrap();
        assert!(i64::try_from(stats.pids).unwrap() <= PROCESSES, "{stats:?}");
        neighbour.is_well(&machine).await;
        machine.runtime.stop_container(&first, Duration::ZERO).await.unwrap();
        // What it had is there for others again.
        assert!(machine.output(&sandbox, shell("echo $(echo again)")).await.1.ends_with("again\n"));
    });
}

#[test]
fn the_dead_that_nobody_buries_stay_where_they_are() {
    with_machine(async |machine| {
        let neighbour = Neighbour::start(&machine).await;
        let sandbox = machine.run_sandbox().await;
        // Orphans end up with the first process, which does not ask after them.
        let script = "n=0; while [ $n -lt 200 ]; do (/bin/busybox true & ) 2>/dev/null; n=$((n+1)); done; echo full; \
             exec /bin/busybox sleep 1000";
        let id = machine.start_with(&sandbox, limited(script)).await;
        says(&machine, &id, "full").await;
        neighbour.is_well(&machine).await;
        machine.runtime.stop_container(&id, Duration::ZERO).await.unwrap();
        assert!(machine.output(&sandbox, shell("echo $(echo again)")).await.1.ends_with("again\n"));
    });
}

#[test]
fn who_takes_too_much_memory_dies_alone() {
    with_machine(async |machine| {
        let neighbour = Neighbour::start(&machine).await;
        let sandbox = machine.run_sandbox().await;
        let beside = machine.start(&sandbox, "while true; do sleep 0.05; done").await;
        // In memory of its own, and in files that lie in memory.
        let own = machine.start_with(&sandbox, limited("exec tail -c 1000000000 /dev/zero")).await;
        let status = machine.ended(&own).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
        let shm =
            "dd if=/dev/zero of=/dev/shm/x bs=1M count=200 2>/dev/null; ls -l /dev/shm/x | grep -c 67108864";
        let (code, seen) = machine.output(&sandbox, shell(shm)).await;
        assert_eq!((code, seen.as_str()), (0, "1\n"));
        let words = vec!["echo".into(), "here".into()];
        let answer = machine.runtime.exec_sync(&beside, words, Duration::from_secs(30)).await.unwrap();
        assert_eq!(answer.stdout, "here\n");
        neighbour.is_well(&machine).await;
    });
}

#[test]
fn a_log_without_end_has_one() {
    with_machine(async |machine| {
        let neighbour = Neighbour::start(&machine).await;
        let sandbox = machine.run_sandbox().await;
        // One line of 100 MB: more than all the files of a log hold.
        let script = "head -c 100000000 /dev/zero | /bin/busybox tr '\\0' x; echo; echo end";
        let id = machine.start(&sandbox, script).await;
        let status = machine.ended(&id).await;
        assert_eq!(status.exit_code, 0);
        let files = std::fs::read_dir(status.log_path.parent().unwrap()).unwrap();
        let sizes: Vec<u64> = files.map(|file| file.unwrap().metadata().unwrap().len()).collect();
        assert!(sizes.len() == 5 && sizes.iter().all(|size| *size <= 10 << 20), "{sizes:?}");
        assert_eq!(machine.log(&id).await.lines().last(), Some("end"));
        neighbour.is_well(&machine).await;
    });
}

#[test]
fn open_files_are_counted_for_who_opens_them() {
    with_machine(async |machine| {
        let neighbour = Neighbour::start(&machine).await;
        let sandbox = machine.run_sandbox().await;
        // Twenty processes that each open what they may, then sleep on it.
        let script = "ulimit -n 4096 2>/dev/null; hold() { n=3; while [ $n -lt 1000 ] && eval \"exec $n</dev/null\" 2>/dev/null; \
             do n=$((n+1)); done; exec /bin/busybox sleep 1000; }; \
             i=0; while [ $i -lt 20 ]; do hold & i=$((i+1)); done; echo held; wait";
        let id = machine.start_with(&sandbox, limited(script)).await;
        says(&machine, &id, "held").await;
        neighbour.is_well(&machine).await;
        let beside = machine.output(&sandbox, shell("cat /etc/passwd >/dev/null && echo fine")).await.1;
        assert!(beside.ends_with("fine\n"), "{beside}");
        machine.runtime.stop_container(&id, Duration::ZERO).await.unwrap();
    });
}
