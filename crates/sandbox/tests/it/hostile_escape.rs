//! Attempts to get out of a container: by links, mounts, /proc, cgroups, set-uid files, traces of the runtime. Each has to
//! fail, and the machine and another pod's container have to be none the worse for it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use images::ImageBuilder;
use nix::libc;
use runtime::{ContainerConfig, Mount, Runtime, SecurityContext};

use crate::elf::write_caller;
use crate::machine::{Machine, shell, with_machine};
use crate::neighbour::Neighbour;

/// What the attempts reach for.
struct Secret(std::path::PathBuf);

impl Secret {
    fn of(machine: &Machine) -> Self {
        let directory = machine.directory.path().join("outside");
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("secret"), "untouched\n").unwrap();
        Self(directory)
    }

    fn path(&self) -> String {
        self.0.display().to_string()
    }

    #[track_caller]
    fn is_untouched(&self) {
        assert_eq!(std::fs::read_to_string(self.0.join("secret")).unwrap(), "untouched\n");
        assert_eq!(std::fs::read_dir(&self.0).unwrap().count(), 1);
        let mode = self.0.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o755);
    }
}

fn mount(inside: &str, outside: &Path) -> Mount {
    Mount { container_path: inside.into(), host_path: outside.to_owned(), ..Mount::default() }
}

#[test]
fn links_in_an_image_lead_nowhere_outside() {
    with_machine(async |machine| {
        let (secret, neighbour) = (Secret::of(&machine), Neighbour::start(&machine).await);
        let sandbox = machine.run_sandbox().await;
        let (outside, up) = (secret.path(), format!("../../../../../../../..{}", secret.path()));
        let volume = machine.directory.path().join("volume");
        std::fs::create_dir(&volume).unwrap();
        for target in [outside.as_str(), up.as_str(), "/proc/1/root", "/proc/self/cwd"] {
            for at in ["/proc", "/sys", "/dev", "/etc", "/data", "/work", "/dev/shm", "/tmp"] {
                let image =
                    ImageBuilder::new().file("/bin/busybox", 0o755, std::fs::read("/bin/busybox").unwrap());
                machine.import("test.local/links:1", image.symlink(at, target));
                let config = ContainerConfig {
                    image: "test.local/links:1".into(),
                    command: vec![
                        "/bin/busybox".into(),
                        "sh".into(),
                        "-c".into(),
                        "echo x >secret; echo x >new; cat /data/secret".into(),
                    ],
                    working_dir: "/work/made/for/it".into(),
                    mounts: vec![mount("/data/volume", &volume), mount("/etc/hosts", &volume.join("."))],
                    ..shell("")
                };
                // It may run in its own world, or not at all.
                if let Ok(id) = machine.runtime.create_container(&sandbox, config).await {
                    if machine.runtime.start_container(&id).await.is_ok() {
                        machine.ended(&id).await;
                    }
                    let log = machine.log(&id).await;
                    assert!(!log.contains("untouched"), "{at} -> {target}: {log}");
                    machine.runtime.remove_container(&id).await.unwrap();
                }
                secret.is_untouched();
            }
        }
        neighbour.is_well(&machine).await;
    });
}

#[test]
fn a_working_directory_is_one_of_the_container() {
    with_machine(async |machine| {
        let (secret, neighbour) = (Secret::of(&machine), Neighbour::start(&machine).await);
        let sandbox = machine.run_sandbox().await;
        // What the runtime may have left open leads to the machine's own files (CVE-2024-21626).
        let script = format!(
            "for up in ../.. ../../../.. ../../../../../../../..; do cat $up{}/secret; done",
            secret.path()
        );
        for number in 0..16 {
            for process in ["self", "1", "thread-self"] {
                let working_dir = format!("/proc/{process}/fd/{number}");
                let config = ContainerConfig { working_dir, ..shell(&script) };
                let Ok(id) = machine.runtime.create_container(&sandbox, config).await else { continue };
                if machine.runtime.start_container(&id).await.is_ok() {
                    machine.ended(&id).await;
                }
                assert!(!machine.log(&id).await.contains("untouched"), "{process} {number}");
                machine.runtime.remove_container(&id).await.unwrap();
            }
        }
        secret.is_untouched();
        neighbour.is_well(&machine).await;
    });
}

#[test]
fn the_kernels_files_steer_nothing() {
    with_machine(async |machine| {
        let neighbour = Neighbour::start(&machine).await;
        let sandbox = machine.run_sandbox().await;
        let own = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let watched = [
            "/proc/sys/kernel/core_pattern",
            "/proc/sys/kernel/modprobe",
            "/proc/sys/vm/panic_on_oom",
            "/sys/kernel/uevent_helper",
        ];
        let before = watched.map(own);
        let script = "for file in /proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe \
             /proc/sys/kernel/panic /proc/sys/vm/panic_on_oom /proc/sys/fs/binfmt_misc/register /proc/irq/default_smp_affinity \
             /sys/kernel/uevent_helper /sys/power/state /sys/class/net/lo/mtu /sys/kernel/mm/ksm/run \
             /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/release_agent \
             /sys/fs/cgroup/*/release_agent /sys/fs/cgroup/*/notify_on_release; do \
               [ -e $file ] && (echo 1 >$file) 2>/dev/null && echo wrote $file; \
             done; \
             for file in /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug /proc/interrupts; do \
               [ -s $file ] && head -c 1 $file 2>/dev/null | wc -c | grep -q 1 && echo read $file; \
             done; \
             ls /sys/firmware /proc/scsi /proc/acpi 2>/dev/null | grep -v : | grep . ; echo end";
        for security in [
            SecurityContext::default(),
            SecurityContext {
                add_capabilities: vec!["SYS_PTRACE".into(), "DAC_READ_SEARCH".into()],
                ..SecurityContext::default()
            },
        ] {
            let config = ContainerConfig { security, ..shell(script) };
            assert_eq!(machine.output(&sandbox, config).await, (0, "end\n".to_owned()));
        }
        assert_eq!(watched.map(own), before);
        neighbour.is_well(&machine).await;
    });
}

#[test]
fn nothing_is_mounted_or_taken_away() {
    with_machine(async |machine| {
        let neighbour = Neighbour::start(&machine).await;
        let sandbox = machine.run_sandbox().await;
        let volume = machine.directory.path().join("volume");
        std::fs::create_dir(&volume).unwrap();
        let script = "B=/bin/busybox; try() { \"$@\" >/dev/null 2>&1 && echo done: \"$@\"; }; \
             try $B mount -t tmpfs none /tmp; try $B mount -t proc proc /tmp; try $B mount -t cgroup none /tmp; \
             try $B mount -o remount,rw /proc/sys; try $B mount -o remount,rw /sys; try $B mount -o bind / /tmp; \
             try $B mount -o remount,dev /v; try $B mount -o remount,rw,bind /ro; try $B umount /proc/kcore; \
             try $B umount /sys/firmware; try $B umount -l /proc; try $B unshare -m true; try $B chroot /proc/1/root/.. ls /outside; \
             try $B pivot_root / /tmp; try $B mknod /tmp/disk b 8 0; try $B mknod /dev/mem c 1 1; \
             try $B insmod /bin/busybox; try $B reboot -f; try $B swapon /tmp; try $B hostname stolen; \
             try $B dmesg -c; try $B nsenter -t 1 -m ls /outside; try touch /ro/x; \
             ls /dev | $B tr '\\n' ' '";
        let config = ContainerConfig {
            mounts: vec![mount("/v", &volume), Mount { readonly: true, ..mount("/ro", &volume) }],
            ..shell(script)
        };
        let (_, seen) = machine.output(&sandbox, config).await;
        let devices = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero";
        assert_eq!(seen.trim(), devices);
        neighbour.is_well(&machine).await;
    });
}

#[test]
fn a_device_node_opens_nothing_even_for_who_may_make_it() {
    with_machine(async |machine| {
        let neighbour = Neighbour::start(&machine).await;
        let sandbox = machine.run_sandbox().await;
        let add = ["MKNOD", "SYS_ADMIN"].map(str::to_owned).to_vec();
        let security = SecurityContext { add_capabilities: add, ..SecurityContext::default() };
        // On a file system of its own making, where no mount forbids devices.
        let script = "B=/bin/busybox; $B mount -t tmpfs none /tmp && echo mounted; \
             for device in 'disk b 7 0' 'disk b 8 0' 'disk b 254 0' 'mem c 1 1' 'kmsg c 1 11' 'fuse c 10 229'; do \
               set -- $device; $B rm -f /tmp/$1; \
               { $B mknod /tmp/$1 $2 $3 $4 && head -c 1 /tmp/$1; } >/dev/null 2>&1 && echo opened $device; \
             done; $B mknod /tmp/null c 1 3 && echo x >/tmp/null && echo null";
        let config = ContainerConfig { security, ..shell(script) };
        assert_eq!(machine.output(&sandbox, config).await, (0, "mounted\nnull\n".to_owned()));
        neighbour.is_well(&machine).await;
    });
}

#[test]
fn a_set_uid_file_gives_what_the_pod_allows() {
    with_machine(async |machine| {
        let programs = machine.directory.path().join("programs");
        std::fs::create_dir(&programs).unwrap();
        let program = programs.join("become-root");
        write_caller(&program, u32::try_from(libc::SYS_setuid).unwrap(), [0; 6]);
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o4755)).unwrap();
        let sandbox = machine.run_sandbox().await;
        for (no_new_privs, expected) in [(false, 0), (true, 1)] {
            let security =
                SecurityContext { run_as_user: Some(100), no_new_privs, ..SecurityContext::default() };
            let config = ContainerConfig {
                security: security.clone(),
                mounts: vec![mount("/p", &programs)],
                ..shell("/p/become-root")
            };
            assert_eq!(machine.output(&sandbox, config).await.0, expected);
            let confined = SecurityContext { seccomp: runtime::SecurityProfile::RuntimeDefault, ..security };
            let config = ContainerConfig {
                security: confined,
                mounts: vec![mount("/p", &programs)],
                ..shell("/p/become-root")
            };
            assert_eq!(machine.output(&sandbox, config).await.0, expected);
        }
    });
}

#[test]
fn what_enters_a_container_is_not_turned_against_the_machine() {
    with_machine(async |machine| {
        let neighbour = Neighbour::start(&machine).await;
        let program = Path::new(env!("CARGO_BIN_EXE_sandbox-shim"));
        let before = std::fs::metadata(program).unwrap();
        let sandbox = machine.run_sandbox().await;
        // It waits for whoever comes in, and writes to the program that he runs (CVE-2019-5736).
        let script = "while true; do for exe in /proc/[0-9]*/exe; do \
               case $exe in /proc/$$/*) ;; *) (echo x >>$exe) 2>/dev/null && echo wrote $exe;; esac; \
             done; done";
        let security =
            SecurityContext { add_capabilities: vec!["SYS_PTRACE".into()], ..SecurityContext::default() };
        let config = ContainerConfig { security, ..shell(script) };
        let id = machine.start_with(&sandbox, config).await;
        for _ in 0..10 {
            for command in ["/proc/self/exe", "/bin/true"] {
                let _ = machine.runtime.exec_sync(&id, vec![command.into()], Duration::from_secs(30)).await;
            }
        }
        machine.runtime.stop_container(&id, Duration::ZERO).await.unwrap();
        let after = std::fs::metadata(program).unwrap();
        assert_eq!((after.len(), after.modified().unwrap()), (before.len(), before.modified().unwrap()));
        neighbour.is_well(&machine).await;
    });
}

#[test]
fn no_process_of_another_is_seen_or_reached() {
    with_machine(async |machine| {
        let neighbour = Neighbour::start(&machine).await;
        let sandbox = machine.run_sandbox().await;
        let me = std::process::id();
        let script = format!(
            "ls -d /proc/[0-9]* | wc -l; [ -e /proc/{me} ] && echo seen; \
             /bin/busybox kill -9 -1; for pid in {me} 2 3 4 5 6 7 8 9; do /bin/busybox kill -9 $pid 2>/dev/null; done; \
             /bin/busybox readlink /proc/1/root; ls /proc/1/root/bin/busybox; echo end"
        );
        let security = SecurityContext {
            add_capabilities: vec!["SYS_PTRACE".into(), "KILL".into()],
            ..SecurityContext::default()
        };
        let (_, seen) = machine.output(&sandbox, ContainerConfig { security, ..shell(&script) }).await;
        let count: u32 = seen.lines().next().unwrap().parse().unwrap();
        assert!(
            count < 6 && !seen.contains("seen") && seen.ends_with("/\n/proc/1/root/bin/busybox\nend\n"),
            "{seen}"
        );
        neighbour.is_well(&machine).await;
    });
}

#[test]
fn a_log_is_written_where_it_belongs() {
    with_machine(async |machine| {
        let secret = Secret::of(&machine);
        let sandbox = machine.run_sandbox().await;
        // As somebody may who has the logs' directory mounted.
        let logs = machine.directory.path().join("logs/c");
        std::fs::create_dir_all(&logs).unwrap();
        std::os::unix::fs::symlink(secret.0.join("secret"), logs.join("0.log")).unwrap();
        let error = machine.runtime.create_container(&sandbox, shell("echo overwritten")).await.unwrap_err();
        assert!(error.to_string().contains("0.log"), "{error}");
        secret.is_untouched();
    });
}
