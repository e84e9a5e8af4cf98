//! Containers that try to get out.

use runtime::{ContainerConfig, Mount, NamespaceMode, Runtime, SandboxConfig, SecurityContext};

use crate::machine::{shell, with_machine};

#[test]
fn the_first_process_of_a_shared_namespace_leads_nowhere() {
    with_machine(async |machine| {
        let shared = SandboxConfig { pid: NamespaceMode::Pod, ..machine.sandbox() };
        let sandbox = machine.runtime.run_sandbox(shared).await.unwrap();
        let security =
            SecurityContext { add_capabilities: vec!["SYS_PTRACE".into()], ..SecurityContext::default() };
        let tracer = |script: &str| ContainerConfig { security: security.clone(), ..shell(script) };
        let script = "cat /proc/1/comm; ls -a /proc/1/root/ /proc/1/cwd/; ls /proc/1/root/etc 2>/dev/null; \
                      grep -E '^(Cap|NoNewPrivs)' /proc/1/status; ls -l /proc/1/fd | grep -v pipe: | wc -l";
        let (code, seen) = machine.output(&sandbox, tracer(script)).await;
        let none = "0000000000000000";
        let wanted = format!(
            "pause\n/proc/1/cwd/:\n.\n..\n\n/proc/1/root/:\n.\n..\n\
             CapInh:\t{none}\nCapPrm:\t{none}\nCapEff:\t{none}\nCapBnd:\t{none}\nCapAmb:\t{none}\n\
             NoNewPrivs:\t1\n1\n"
        );
        assert_eq!((code, seen), (0, wanted));
        // And nowhere at all for whoever may not trace.
        let (code, seen) = machine.output(&sandbox, shell("ls /proc/1/root/ 2>&1")).await;
        assert!(code != 0 && seen.contains("denied"), "{seen}");
    });
}

#[test]
fn the_shims_program_cannot_be_written_to() {
    with_machine(async |machine| {
        let shared = SandboxConfig { pid: NamespaceMode::Pod, ..machine.sandbox() };
        let sandbox = machine.runtime.run_sandbox(shared).await.unwrap();
        let security =
            SecurityContext { add_capabilities: vec!["SYS_PTRACE".into()], ..SecurityContext::default() };
        // Not only while it runs, which is what "busy" would say.
        let config = ContainerConfig { security, ..shell("echo >/proc/1/exe") };
        let (code, seen) = machine.output(&sandbox, config).await;
        assert!(code != 0 && seen.contains("Read-only file system"), "{code}: {seen}");
    });
}

#[test]
fn a_part_of_a_volume_is_found_within_it_when_it_is_mounted() {
    with_machine(async |machine| {
        let volume = machine.directory.path().join("volume");
        std::fs::create_dir_all(volume.join("a/b")).unwrap();
        std::fs::write(volume.join("a/b/file"), "part\n").unwrap();
        std::os::unix::fs::symlink("a", volume.join("within")).unwrap();
        std::os::unix::fs::symlink("/etc", volume.join("out")).unwrap();
        std::os::unix::fs::symlink("../..", volume.join("up")).unwrap();
        let sandbox = machine.run_sandbox().await;
        let mounts = |parts: &[&str]| {
            let mount = |(number, part): (usize, &&str)| Mount {
                container_path: format!("/m{number}"),
                host_path: volume.clone(),
                sub_path: part.into(),
                ..Mount::default()
            };
            parts.iter().enumerate().map(mount).collect::<Vec<_>>()
        };
        let reads = ContainerConfig {
            mounts: mounts(&["a/b", "within/b/file", "", "within"]),
            ..shell("cat /m0/file /m1 /m2/a/b/file /m3/b/file; echo in >/m0/back")
        };
        assert_eq!(machine.output(&sandbox, reads).await, (0, "part\n".repeat(4)));
        assert_eq!(std::fs::read_to_string(volume.join("a/b/back")).unwrap(), "in\n");
        // What was a directory when somebody looked may be a link by now.
        for part in ["out", "up", "out/passwd", "../volume", "/etc"] {
            let config = ContainerConfig { mounts: mounts(&[part]), ..shell("true") };
            let error = machine.runtime.create_container(&sandbox, config).await.unwrap_err();
            assert!(error.to_string().contains("part"), "{part}: {error}");
        }
        assert_eq!(machine.runtime.list_containers().await.unwrap(), []);
        // Nothing of it stays mounted, which the machine checks, and nothing of the volume was removed.
        assert!(volume.join("a/b/file").exists());
    });
}

#[test]
fn a_device_in_a_volume_is_no_device() {
    with_machine(async |machine| {
        let volume = machine.directory.path().join("volume");
        std::fs::create_dir(&volume).unwrap();
        let null = rustix::fs::makedev(1, 3);
        let (kind, mode) = (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::from_raw_mode(0o666));
        rustix::fs::mknodat(rustix::fs::CWD, volume.join("null"), kind, mode, null).unwrap();
        let sandbox = machine.run_sandbox().await;
        let config = ContainerConfig {
            mounts: vec![Mount { container_path: "/v".into(), host_path: volume, ..Mount::default() }],
            ..shell("cat /dev/null && cat /v/null 2>&1")
        };
        let (code, seen) = machine.output(&sandbox, config).await;
        assert!(code == 1 && seen.contains("denied"), "{code}: {seen}");
    });
}
