//! Who a container's processes are, and what they see and may do.

use runtime::{ContainerConfig, Mount, NamespaceMode, Runtime, SandboxConfig, SecurityContext};

use crate::machine::{shell, with_machine};

fn secured(script: &str, security: SecurityContext) -> ContainerConfig {
    ContainerConfig { security, ..shell(script) }
}

#[test]
fn a_container_sees_its_own_world() {
    with_machine(async |machine| {
        let sandbox = machine.run_sandbox().await;
        let run = async |script: &str| machine.output(&sandbox, shell(script)).await.1;
        assert_eq!(run("echo $$; hostname; echo $HOSTNAME").await, "1\nthe-pod\nthe-pod\n");
        let mounts = run("cat /proc/mounts").await;
        for point in ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/etc/resolv.conf"] {
            assert!(mounts.lines().any(|line| line.split(' ').nth(1) == Some(point)), "{point}:\n{mounts}");
        }
        assert!(!mounts.contains(&machine.directory.path().display().to_string()), "{mounts}");
        assert!(
            mounts.lines().any(|line| line.starts_with("overlay / ") && line.contains("nodev")),
            "{mounts}"
        );
        assert_eq!(run("cat /proc/net/dev | grep -c :").await, "1\n");
        // Its complaint comes by another pipe than the answer, in any order.
        assert_eq!(run("{ echo x >/sys/kernel/x; } 2>/dev/null; echo $?").await, "1\n");
        assert_eq!(run("cat /proc/timer_list | wc -c").await, "0\n");
        assert_eq!(run("mknod /tmp/disk b 8 0 2>/dev/null; echo $?").await, "1\n");
        // Two containers, two file systems; one shared memory.
        assert_eq!(run("touch /new /dev/shm/new; ls /new").await, "/new\n");
        assert_eq!(run("ls /new /dev/shm/new 2>/dev/null").await, "/dev/shm/new\n");
    });
}

#[test]
fn users_groups_and_privileges_are_as_asked() {
    with_machine(async |machine| {
        let sandbox = machine.run_sandbox().await;
        let run = async |config| machine.output(&sandbox, config).await.1;
        let security = SecurityContext::default;
        assert_eq!(run(shell("id -u; id -g; id -G")).await, "0\n0\n0\n");
        let user = SecurityContext { run_as_user: Some(100), supplemental_groups: vec![77], ..security() };
        assert_eq!(run(secured("id -u; id -g; id -G", user)).await, "100\n101\n101 4 77\n");
        let group = SecurityContext { run_as_user: Some(5), run_as_group: Some(6), ..security() };
        assert_eq!(run(secured("id -u; id -g", group)).await, "5\n6\n");
        let strict = SecurityContext {
            run_as_user: Some(100),
            supplemental_groups: vec![77],
            supplemental_groups_policy: runtime::SupplementalGroupsPolicy::Strict,
            ..security()
        };
        assert_eq!(run(secured("id -G", strict)).await, "101 77\n");

        let caps = "grep CapEff /proc/self/status";
        let none = SecurityContext { drop_capabilities: vec!["ALL".into()], ..security() };
        assert_eq!(run(secured(caps, none)).await, "CapEff:\t0000000000000000\n");
        let one = SecurityContext {
            drop_capabilities: vec!["ALL".into()],
            add_capabilities: vec!["NET_BIND_SERVICE".into()],
            ..security()
        };
        assert_eq!(run(secured(caps, one)).await, "CapEff:\t0000000000000400\n");
        let locked = SecurityContext { no_new_privs: true, readonly_rootfs: true, ..security() };
        let script =
            "grep NoNewPrivs /proc/self/status; touch /x 2>/dev/null; echo $?; touch /dev/shm/x; echo $?";
        assert_eq!(run(secured(script, locked)).await, "NoNewPrivs:\t1\n1\n0\n");
    });
}

#[test]
fn mounts_go_where_they_are_asked_to() {
    with_machine(async |machine| {
        let volume = machine.directory.path().join("volume");
        std::fs::create_dir(&volume).unwrap();
        std::fs::write(volume.join("file"), "from outside\n").unwrap();
        let hosts = machine.directory.path().join("hosts");
        std::fs::write(&hosts, "my hosts\n").unwrap();
        let mount = |inside: &str, outside: &std::path::Path, readonly| Mount {
            container_path: inside.into(),
            host_path: outside.to_owned(),
            readonly,
            ..Mount::default()
        };
        let sandbox = machine.run_sandbox().await;
        let config = ContainerConfig {
            mounts: vec![
                mount("/a/b", &volume, false),
                mount("/ro", &volume, true),
                mount("/etc/hosts", &hosts, true),
            ],
            ..shell("cat /a/b/file /etc/hosts; echo in >/a/b/back; touch /ro/x 2>/dev/null; echo $?")
        };
        assert_eq!(machine.output(&sandbox, config).await.1, "from outside\nmy hosts\n1\n");
        assert_eq!(std::fs::read_to_string(volume.join("back")).unwrap(), "in\n");
    });
}

#[test]
fn a_pod_may_share_its_processes() {
    with_machine(async |machine| {
        let shared = SandboxConfig { pid: NamespaceMode::Pod, ..machine.sandbox() };
        let sandbox = machine.runtime.run_sandbox(shared).await.unwrap();
        let first = machine.start(&sandbox, "while true; do sleep 0.05; done #first").await;
        let (_, seen) = machine
            .output(
                &sandbox,
                shell("cat /proc/[0-9]*/cmdline 2>/dev/null | tail -c 100000 | grep -c '#first'; cat /proc/1/comm"),
            )
            .await;
        assert_eq!(seen, "1\npause\n");
        // A container of a shared namespace ends with all it started.
        let leaves = machine.start(&sandbox, "sleep 4321 & exit 2").await;
        assert_eq!(machine.ended(&leaves).await.exit_code, 2);
        machine.runtime.stop_container(&first, std::time::Duration::ZERO).await.unwrap();
        let (_, left) = machine.output(&sandbox, shell("ls -d /proc/[0-9]* | wc -l")).await;
        assert!(left.trim().parse::<u32>().unwrap() <= 4, "{left}");
    });
}

#[test]
fn a_pod_may_live_in_the_machines_network() {
    with_machine(async |machine| {
        let host = SandboxConfig { network: NamespaceMode::Node, ..machine.sandbox() };
        let sandbox = machine.runtime.run_sandbox(host).await.unwrap();
        assert!(machine.runtime.sandbox_status(&sandbox).await.unwrap().ips.is_empty());
        let ours = std::fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
        let theirs = machine.output(&sandbox, shell("ls -l /proc/self/ns/net")).await.1;
        assert!(theirs.trim().ends_with(&ours), "{theirs} is not {ours}");
    });
}

#[test]
fn read_only_goes_as_deep_as_it_is_asked_to() {
    with_machine(async |machine| {
        let volume = machine.directory.path().join("volume");
        let below = volume.join("below");
        std::fs::create_dir_all(&below).unwrap();
        let status = std::process::Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&below).status();
        assert!(status.unwrap().success());
        let sandbox = machine.run_sandbox().await;
        let script = "touch /v/x 2>/dev/null; echo $?; touch /v/below/x 2>/dev/null; echo $?";
        let mut seen = Vec::new();
        for recursive_readonly in [false, true] {
            let volume = Mount {
                container_path: "/v".into(),
                host_path: volume.clone(),
                readonly: true,
                recursive_readonly,
                ..Mount::default()
            };
            let config = ContainerConfig { mounts: vec![volume], ..shell(script) };
            seen.push(machine.output(&sandbox, config).await.1);
        }
        let status = std::process::Command::new("umount").arg(&below).status();
        assert!(status.unwrap().success());
        assert_eq!(seen, ["1\n0\n", "1\n1\n"]);
    });
}

#[test]
fn the_kernels_files_are_masked_unless_they_are_asked_for() {
    with_machine(async |machine| {
        let sandbox = machine.run_sandbox().await;
        let script = "cat /proc/interrupts | wc -l; grep -c ' /proc/sys proc ro' /proc/mounts";
        assert_eq!(machine.output(&sandbox, shell(script)).await.1, "0\n1\n");
        let open = SecurityContext { unmasked_proc: true, ..SecurityContext::default() };
        let (_, seen) = machine.output(&sandbox, secured(script, open)).await;
        assert!(!seen.starts_with("0\n") && seen.ends_with("\n0\n"), "{seen}");
    });
}
