//! System calls that a container may make, and may not.

use std::path::PathBuf;
use std::time::Duration;

use nix::libc;
use runtime::{ContainerConfig, Mount, Runtime, SecurityContext, SecurityProfile};

use crate::elf::write_caller;
use crate::machine::{Machine, shell, with_machine};

const EPERM: i32 = 1;
const ENOSYS: i32 = 38;

fn confined(script: &str, security: SecurityContext) -> ContainerConfig {
    let security = SecurityContext { seccomp: SecurityProfile::RuntimeDefault, ..security };
    ContainerConfig { security, ..shell(script) }
}

fn profile(machine: &Machine, text: &str) -> SecurityProfile {
    let path = machine.directory.path().join("profile.json");
    std::fs::write(&path, text).unwrap();
    SecurityProfile::Localhost(path.display().to_string())
}

const STATUS: &str = "grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status";

/// What [`STATUS`] says.
fn status(permitted: &str, bounding: &str, no_new_privs: u8, seccomp: u8) -> String {
    let none = "0000000000000000";
    format!(
        "CapInh:\t{none}\nCapPrm:\t{permitted}\nCapEff:\t{permitted}\nCapBnd:\t{bounding}\nCapAmb:\t{none}\n\
         NoNewPrivs:\t{no_new_privs}\nSeccomp:\t{seccomp}\n"
    )
}

#[test]
fn a_confined_container_has_the_capabilities_it_was_given_and_no_more() {
    with_machine(async |machine| {
        let sandbox = machine.run_sandbox().await;
        let run = async |config| machine.output(&sandbox, config).await.1;
        let plain = SecurityContext::default;
        let none = "0000000000000000";
        let unconfined = run(shell(STATUS)).await;
        let default = unconfined.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap();
        assert_eq!(unconfined, status(default, default, 0, 0));
        assert_eq!(run(confined(STATUS, plain())).await, status(default, default, 0, 2));
        let locked = SecurityContext { no_new_privs: true, ..plain() };
        assert_eq!(run(confined(STATUS, locked)).await, status(default, default, 1, 2));
        let user = SecurityContext { run_as_user: Some(100), ..plain() };
        assert_eq!(run(confined(STATUS, user)).await, status(none, default, 0, 2));
        let dropped = SecurityContext { drop_capabilities: vec!["ALL".into()], ..plain() };
        assert_eq!(run(confined(STATUS, dropped)).await, status(none, none, 0, 2));
        let admin = SecurityContext { add_capabilities: vec!["SYS_ADMIN".into()], ..plain() };
        let more = format!("{:016x}", u64::from_str_radix(default, 16).unwrap() | 1 << 21);
        assert_eq!(run(confined(STATUS, admin)).await, status(&more, &more, 0, 2));
        let privileged = SecurityContext { privileged: true, ..plain() };
        assert!(run(confined(STATUS, privileged)).await.ends_with("Seccomp:\t0\n"));
    });
}

#[test]
fn a_command_in_a_container_is_confined_as_it() {
    with_machine(async |machine| {
        let sandbox = machine.run_sandbox().await;
        for no_new_privs in [false, true] {
            let security = SecurityContext { no_new_privs, ..SecurityContext::default() };
            let id =
                machine.start_with(&sandbox, confined("while true; do sleep 0.05; done", security)).await;
            let run = async |script: &str| {
                let words = vec!["sh".into(), "-c".into(), script.into()];
                machine.runtime.exec_sync(&id, words, Duration::from_secs(30)).await.unwrap().stdout
            };
            let own = run("grep -E '^(Cap|NoNewPrivs|Seccomp)' /proc/1/status").await;
            assert_eq!(run("grep -E '^(Cap|NoNewPrivs|Seccomp)' /proc/self/status").await, own);
            let own = String::from_utf8_lossy(&own).into_owned();
            assert!(own.contains("Seccomp:\t2\n") && own.contains("Seccomp_filters:\t1\n"), "{own}");
            machine.runtime.remove_container(&id).await.unwrap();
        }
    });
}

#[test]
fn the_default_profile_refuses_what_reaches_for_the_machine() {
    with_machine(async |machine| {
        let programs = machine.directory.path().join("programs");
        std::fs::create_dir(&programs).unwrap();
        let calls: [(&str, libc::c_long, [u64; 6], i32); 12] = [
            ("keyctl", libc::SYS_keyctl, [0; 6], EPERM),
            ("add_key", libc::SYS_add_key, [0; 6], EPERM),
            ("io_uring_setup", libc::SYS_io_uring_setup, [1, 0, 0, 0, 0, 0], EPERM),
            ("userfaultfd", libc::SYS_userfaultfd, [0; 6], EPERM),
            ("bpf", libc::SYS_bpf, [0; 6], EPERM),
            ("unshare", libc::SYS_unshare, [libc::CLONE_NEWUSER as u64, 0, 0, 0, 0, 0], EPERM),
            ("clone", libc::SYS_clone, [libc::CLONE_NEWUSER as u64 | 17, 0, 0, 0, 0, 0], EPERM),
            ("clone3", libc::SYS_clone3, [0; 6], ENOSYS),
            ("perf_event_open", libc::SYS_perf_event_open, [0; 6], EPERM),
            ("open_by_handle_at", libc::SYS_open_by_handle_at, [0; 6], EPERM),
            ("kexec_load", libc::SYS_kexec_load, [0; 6], EPERM),
            ("vsock", libc::SYS_socket, [40, 1, 0, 0, 0, 0], EPERM),
        ];
        for (name, number, arguments, _) in calls {
            write_caller(&programs.join(name), u32::try_from(number).unwrap(), arguments);
        }
        write_caller(&programs.join("getppid"), u32::try_from(libc::SYS_getppid).unwrap(), [0; 6]);
        let sandbox = machine.run_sandbox().await;
        let script = |names: &[&str]| {
            names.iter().map(|name| format!("/p/{name}; echo {name} $?\n")).collect::<String>()
        };
        let mounts = vec![Mount {
            container_path: "/p".into(),
            host_path: programs.clone(),
            readonly: true,
            ..Mount::default()
        }];
        let names: Vec<&str> = calls.iter().map(|(name, ..)| *name).chain(["getppid"]).collect();
        for no_new_privs in [false, true] {
            let security = SecurityContext { no_new_privs, ..SecurityContext::default() };
            let config = ContainerConfig { mounts: mounts.clone(), ..confined(&script(&names), security) };
            let wanted: String =
                calls.iter().map(|(name, _, _, error)| format!("{name} {error}\n")).collect();
            assert_eq!(machine.output(&sandbox, config).await.1, format!("{wanted}getppid 0\n"));
        }
        // It is the profile that refuses these: without one they get through, or fail for another reason.
        let config =
            ContainerConfig { mounts, ..shell(&script(&["unshare", "io_uring_setup", "keyctl", "clone3"])) };
        let seen = machine.output(&sandbox, config).await.1;
        assert!(seen.contains("unshare 0\n") && !seen.contains("keyctl 1\n"), "{seen}");
        assert!(!seen.contains("io_uring_setup 1\n") && !seen.contains("clone3 38\n"), "{seen}");
    });
}

#[test]
fn a_profile_of_the_machine_holds_word_for_word() {
    with_machine(async |machine| {
        let sandbox = machine.run_sandbox().await;
        let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
            {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":122},
            {"names":["chmod","fchmodat","fchmodat2","fchmod"],"action":"SCMP_ACT_ERRNO"},
            {"names":["sync"],"action":"SCMP_ACT_KILL_PROCESS"},
            {"names":["no_such_call"],"action":"SCMP_ACT_KILL"}]}"#;
        for no_new_privs in [false, true] {
            let security = SecurityContext {
                no_new_privs,
                seccomp: profile(&machine, text),
                ..SecurityContext::default()
            };
            let script = "exec 2>&1; busybox mkdir /tmp/d; busybox chmod 700 /tmp; (busybox sync); echo $?";
            let (_, seen) = machine.output(&sandbox, ContainerConfig { security, ..shell(script) }).await;
            assert!(seen.contains("quota exceeded") && seen.contains("Operation not permitted"), "{seen}");
            // SIGSYS
            assert!(seen.ends_with("159\n"), "{seen}");
        }
    });
}

#[test]
fn a_profile_for_one_program_need_not_know_who_starts_it() {
    with_machine(async |machine| {
        // What busybox needs to begin and to say a word: none of the calls by which a container is made.
        let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_AARCH64"],"syscalls":[
            {"names":["execve","brk","mmap","munmap","mprotect","arch_prctl","set_tid_address","set_robust_list","rseq",
                "prlimit64","readlinkat","readlink","getrandom","write","exit_group","getuid","newfstatat","fstat","ioctl"],
             "action":"SCMP_ACT_ALLOW"}]}"#;
        let security = SecurityContext {
            no_new_privs: true,
            seccomp: profile(&machine, text),
            ..SecurityContext::default()
        };
        let command = vec!["echo".into(), "hello".into()];
        let sandbox = machine.run_sandbox().await;
        let seen = machine.output(&sandbox, ContainerConfig { security, command, ..shell("") }).await;
        assert_eq!(seen, (0, "hello\n".to_owned()));
    });
}

#[test]
fn a_profile_that_cannot_be_used_makes_no_container() {
    with_machine(async |machine| {
        let sandbox = machine.run_sandbox().await;
        let refused = async |seccomp: SecurityProfile| {
            let security = SecurityContext { seccomp, ..SecurityContext::default() };
            let config = ContainerConfig { security, ..shell("true") };
            machine.runtime.create_container(&sandbox, config).await.unwrap_err().to_string()
        };
        let missing = PathBuf::from("/no/such/profile.json");
        let error = refused(SecurityProfile::Localhost(missing.display().to_string())).await;
        assert!(
            error.contains("cannot load seccomp profile \"/no/such/profile.json\": No such file"),
            "{error}"
        );
        let error = refused(SecurityProfile::Localhost("/dev/zero".into())).await;
        assert!(error.contains("it is not a file"), "{error}");
        let error = refused(profile(&machine, "{")).await;
        assert!(error.contains("profile.json") && error.contains("line 1"), "{error}");
        let notify = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mount"],"action":"SCMP_ACT_NOTIFY"}]}"#;
        let error = refused(profile(&machine, notify)).await;
        assert!(error.contains("syscalls[0]: SCMP_ACT_NOTIFY is not supported"), "{error}");
        assert_eq!(machine.runtime.list_containers().await.unwrap(), []);
    });
}
