//! Limits, and what happens at them.

use runtime::{ContainerConfig, Resources, Runtime, SandboxConfig};

use crate::machine::{shell, with_machine};

/// Reads a control group file of whichever layout is there.
fn limit(machine: &crate::machine::Machine, container: &str, names: [&str; 2]) -> String {
    let of = |name: &str| {
        let mut groups = machine.groups().into_iter();
        groups.find_map(|group| match group.ends_with(container) {
            true => std::fs::read_to_string(group.join(name)).ok(),
            false => None,
        })
    };
    of(names[0]).or_else(|| of(names[1])).unwrap().trim().to_owned()
}

#[test]
fn limits_are_the_kernels() {
    with_machine(async |machine| {
        let pod = SandboxConfig {
            resources: Resources { memory_limit: Some(256 << 20), ..Resources::default() },
            ..machine.sandbox()
        };
        let sandbox = machine.runtime.run_sandbox(pod).await.unwrap();
        let config = ContainerConfig {
            resources: Resources {
                cpu_shares: Some(512),
                cpu_quota: Some(50_000),
                cpu_period: Some(100_000),
                memory_limit: Some(64 << 20),
                pids_limit: Some(50),
                oom_score_adj: 500,
            },
            ..shell("while true; do sleep 0.05; done")
        };
        let id = machine.start_with(&sandbox, config).await;
        let read = |names| limit(&machine, &id, names);
        assert_eq!(read(["memory.limit_in_bytes", "memory.max"]), (64u64 << 20).to_string());
        assert_eq!(read(["pids.max", "pids.max"]), "50");
        assert!(["50000", "50000 100000"].contains(&read(["cpu.cfs_quota_us", "cpu.max"]).as_str()));
        assert!(["512", "59"].contains(&read(["cpu.shares", "cpu.weight"]).as_str()));
        let pod = limit(&machine, "pod-u1", ["memory.limit_in_bytes", "memory.max"]);
        assert_eq!(pod, (256u64 << 20).to_string());
        // Who says nothing of processes gets a share of what all pods have together.
        assert_eq!(limit(&machine, "pod-u1", ["pids.max", "pids.max"]), "1000");
        assert_eq!(limit(&machine, "pods", ["pids.max", "pids.max"]), "4000");
        let score = machine
            .runtime
            .exec_sync(
                &id,
                vec!["cat".into(), "/proc/1/oom_score_adj".into()],
                std::time::Duration::from_secs(30),
            )
            .await;
        assert_eq!(score.unwrap().stdout, "500\n");
        // Programs that size themselves by their limits find them where they look.
        let script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null";
        let words = vec!["sh".into(), "-c".into(), script.into()];
        let own = machine.runtime.exec_sync(&id, words, std::time::Duration::from_secs(30)).await.unwrap();
        assert_eq!(own.stdout, format!("{}\n", 64 << 20));
        let stats = machine.runtime.container_stats(&id).await.unwrap();
        assert!(stats.pids >= 1 && stats.memory_working_set > 0 && stats.cpu_nanoseconds > 0, "{stats:?}");
    });
}

#[test]
fn a_container_that_takes_too_much_memory_is_killed_and_it_shows() {
    with_machine(async |machine| {
        let sandbox = machine.run_sandbox().await;
        let config = ContainerConfig {
            resources: Resources { memory_limit: Some(16 << 20), ..Resources::default() },
            command: vec!["sh".into(), "-c".into(), "exec tail -c 1000000000 /dev/zero".into()],
            ..shell("")
        };
        let id = machine.start_with(&sandbox, config).await;
        let status = machine.ended(&id).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
        // And another is not blamed for it.
        let id = machine.start(&sandbox, "exit 1").await;
        assert_eq!(machine.ended(&id).await.reason, "Error");
    });
}

#[test]
fn limits_change_while_it_runs_and_take_nothing_away() {
    with_machine(async |machine| {
        let of = |memory: i64, quota: i64| Resources {
            memory_limit: Some(memory),
            cpu_shares: Some(512),
            cpu_quota: Some(quota),
            cpu_period: Some(100_000),
            ..Resources::default()
        };
        let pod = SandboxConfig { resources: of(64 << 20, 50_000), ..machine.sandbox() };
        let sandbox = machine.runtime.run_sandbox(pod).await.unwrap();
        // Something that has 8 MiB and keeps them.
        let script =
            "x=$(head -c 8000000 /dev/zero | tr \"\\0\" x); echo ready; while true; do sleep 0.05; done";
        let config = ContainerConfig { resources: of(32 << 20, 20_000), ..shell(script) };
        let id = machine.start_with(&sandbox, config).await;
        let memory = |id: &str| limit(&machine, id, ["memory.limit_in_bytes", "memory.max"]);
        // The pod first: a container may not have more than it.
        machine.runtime.update_sandbox(&sandbox, of(128 << 20, 100_000)).await.unwrap();
        machine.runtime.update_container(&id, of(96 << 20, 80_000)).await.unwrap();
        assert_eq!((memory(&id), memory("pod-u1")), ((96u64 << 20).to_string(), (128u64 << 20).to_string()));
        let quota = limit(&machine, &id, ["cpu.cfs_quota_us", "cpu.max"]);
        assert!(["80000", "80000 100000"].contains(&quota.as_str()), "{quota}");
        let status = machine.runtime.container_status(&id).await.unwrap();
        assert_eq!(
            (status.resources.memory_limit, status.resources.cpu_quota),
            (Some(96 << 20), Some(80_000))
        );
        // Down again, and no further than what is in use.
        machine.runtime.update_container(&id, of(48 << 20, 20_000)).await.unwrap();
        while machine.runtime.container_stats(&id).await.unwrap().memory_working_set < 6 << 20 {
            tokio::task::yield_now().await;
        }
        let error = machine.runtime.update_container(&id, of(1 << 20, 20_000)).await.unwrap_err();
        assert!(error.to_string().contains("below what is in use"), "{error}");
        assert_eq!(memory(&id), (48u64 << 20).to_string());
        let status = machine.runtime.container_status(&id).await.unwrap();
        assert_eq!(
            (status.state, status.resources.memory_limit),
            (runtime::ContainerState::Running, Some(48 << 20))
        );
    });
}

#[test]
fn what_a_container_writes_is_counted_and_another_may_look_at_it() {
    with_machine(async |machine| {
        let sandbox = machine.run_sandbox().await;
        let id = machine
            .start(&sandbox, "head -c 3000000 /dev/zero > /file; while true; do sleep 0.05; done")
            .await;
        while machine.runtime.container_disk(&id).await.unwrap().bytes < 3_000_000 {
            tokio::task::yield_now().await;
        }
        let config = ContainerConfig { pid_target: Some(id.clone()), ..shell("cat /proc/1/cmdline") };
        let other = machine.start_with(&sandbox, config).await;
        assert_eq!(machine.ended(&other).await.exit_code, 0);
        let log = machine.runtime.container_status(&other).await.unwrap().log_path;
        let seen = std::fs::read_to_string(log).unwrap();
        assert!(seen.contains("head -c 3000000"), "{seen}");
        let gone = ContainerConfig { pid_target: Some(other), ..shell("true") };
        let error = machine.runtime.create_container(&sandbox, gone).await.unwrap_err();
        assert!(error.to_string().contains("is not running"), "{error}");
    });
}
