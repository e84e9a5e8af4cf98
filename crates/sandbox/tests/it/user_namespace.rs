//! Pods with a user namespace: root inside, nobody outside.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::time::Duration;

use runtime::{
    ContainerConfig, Mount, NamespaceMode, Runtime, SandboxConfig, SecurityContext, UserNamespace,
};

use crate::machine::{Machine, shell, with_machine};

const SIZE: u32 = 65536;

fn ids(number: u32) -> UserNamespace {
    UserNamespace { base: number * SIZE, size: SIZE }
}

fn mapped(machine: &Machine, ids: UserNamespace) -> SandboxConfig {
    SandboxConfig { user_namespace: Some(ids), ..machine.sandbox() }
}

/// What the machine sees of a container's processes: the ids of each, real to file system.
fn outside(machine: &Machine, container: &str) -> Vec<String> {
    let groups = machine.groups().into_iter().filter(|group| group.ends_with(container));
    let mut found = Vec::new();
    for group in groups {
        for pid in std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().lines() {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let ids = status.lines().filter(|line| line.starts_with("Uid:") || line.starts_with("Gid:"));
            found.extend(ids.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")));
        }
    }
    found.sort();
    found.dedup();
    found
}

fn ids_of(uid: u32, gid: u32) -> Vec<String> {
    let four = |name: &str, id: u32| format!("{name}: {id} {id} {id} {id}");
    vec![four("Gid", gid), four("Uid", uid)]
}

fn map_of(text: &str) -> Vec<u32> {
    text.split_whitespace().map(|word| word.parse().unwrap()).collect()
}

fn words(command: &[&str]) -> Vec<String> {
    command.iter().map(|word| (*word).to_owned()).collect()
}

const FOR_EVER: &str = "echo ready; while true; do sleep 0.05; done";

async fn run_for_ever(machine: &Machine, sandbox: &str, security: SecurityContext) -> String {
    let id = machine.start_with(sandbox, ContainerConfig { security, ..shell(FOR_EVER) }).await;
    let ready = async {
        while !machine.log(&id).await.contains("ready") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ready).await.unwrap();
    id
}

#[test]
fn root_inside_is_nobody_outside_and_so_is_what_is_run_in_it() {
    with_machine(async |machine| {
        let (ids, patience) = (ids(3), Duration::from_secs(30));
        let sandbox = machine.runtime.run_sandbox(mapped(&machine, ids)).await.unwrap();
        let root = run_for_ever(&machine, &sandbox, SecurityContext::default()).await;
        assert_eq!(outside(&machine, &root), ids_of(ids.base, ids.base));
        let web = SecurityContext { run_as_user: Some(100), ..SecurityContext::default() };
        let web = run_for_ever(&machine, &sandbox, web).await;
        assert_eq!(outside(&machine, &web), ids_of(ids.base + 100, ids.base + 101));

        // Commands too, by this process and by the next one.
        for runtime in [machine.runtime.clone(), machine.reopen().await] {
            for map in ["uid_map", "gid_map"] {
                let command = words(&["cat", &format!("/proc/self/{map}")]);
                let output = runtime.exec_sync(&root, command, patience).await.unwrap();
                let text = String::from_utf8(output.stdout.to_vec()).unwrap();
                assert_eq!(map_of(&text), [0, ids.base, SIZE], "{text}");
            }
            let script = "id -u; id -g; grep Groups /proc/self/status; \
                          cat /proc/self/status /proc/1/status | grep CapEff | uniq | wc -l; readlink /proc/self/ns/user";
            let output = runtime.exec_sync(&root, words(&["sh", "-c", script]), patience).await.unwrap();
            let text = String::from_utf8(output.stdout.to_vec()).unwrap();
            assert!(text.starts_with("0\n0\nGroups:\t \n1\n"), "{text:?}");
            let namespace = std::fs::read_link("/proc/self/ns/user").unwrap();
            assert!(!text.contains(namespace.to_str().unwrap()), "{text}");
            let output = runtime.exec_sync(&web, words(&["id", "-u"]), patience).await.unwrap();
            assert_eq!(output.stdout, "100\n");
        }
        // A command seen from outside while it runs.
        let (runtime, id) = (machine.runtime.clone(), root.clone());
        let command = words(&["sh", "-c", "touch /began; while true; do sleep 0.05; done"]);
        let running = tokio::spawn(async move { runtime.exec_sync(&id, command, patience).await });
        let began = words(&["sh", "-c", "until ls /began 2>/dev/null; do sleep 0.01; done"]);
        machine.runtime.exec_sync(&root, began, patience).await.unwrap();
        assert_eq!(outside(&machine, &root), ids_of(ids.base, ids.base));
        running.abort();
        machine.runtime.remove_sandbox(&sandbox).await.unwrap();
    });
}

#[test]
fn pods_share_layers_and_nothing_else() {
    with_machine(async |machine| {
        let mut configs = vec![mapped(&machine, ids(1)), mapped(&machine, ids(2)), machine.sandbox()];
        for (number, config) in configs.iter_mut().enumerate() {
            config.cgroup_parent = format!("{}/pods/pod-u{number}", machine.group);
        }
        let mut sandboxes = Vec::new();
        for config in &configs {
            sandboxes.push(machine.runtime.run_sandbox(config.clone()).await.unwrap());
        }
        let layers = machine.directory.path().join("images/layers");
        for (sandbox, config) in sandboxes.iter().zip(&configs) {
            let base = config.user_namespace.map_or(0, |ids| ids.base);
            let script = "ls -lnd /bin/busybox /tmp / /dev/shm; touch /mine /bin/mine /dev/shm/mine; \
                          echo more >>/etc/passwd; ls -ln /mine /etc/passwd; echo by name >/dev/stdout";
            let id = machine.start(sandbox, script).await;
            assert_eq!(machine.ended(&id).await.exit_code, 0, "{}", machine.log(&id).await);
            let text = machine.log(&id).await;
            let listed = text.lines().filter(|line| !line.starts_with("by name"));
            for line in listed {
                let words: Vec<&str> = line.split_whitespace().collect();
                assert_eq!(words[2..4], ["0", "0"], "{line}");
            }
            assert!(text.ends_with("by name\n"), "{text}");
            let upper = machine.upper(sandbox, &id);
            for file in ["mine", "etc/passwd", "bin/mine"] {
                let file = std::fs::metadata(upper.join(file)).unwrap();
                assert_eq!((file.uid(), file.gid()), (base, base));
            }
        }
        let owners = owners(&layers);
        assert!(owners.len() > 5 && owners.iter().all(|owner| *owner == (0, 0)), "{owners:?}");
    });
}

fn owners(directory: &std::path::Path) -> Vec<(u32, u32)> {
    let (mut todo, mut found) = (vec![directory.to_owned()], Vec::new());
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            let about = std::fs::symlink_metadata(entry.path()).unwrap();
            found.push((about.uid(), about.gid()));
            if about.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    found
}

#[test]
fn the_ids_of_a_volume_on_the_disk_are_those_inside() {
    with_machine(async |machine| {
        let volume = machine.directory.path().join("volume");
        std::fs::create_dir_all(volume.join("part")).unwrap();
        std::fs::write(volume.join("part/secret"), "for web\n").unwrap();
        std::fs::set_permissions(volume.join("part/secret"), std::fs::Permissions::from_mode(0o400)).unwrap();
        chown(volume.join("part/secret"), Some(100), Some(101)).unwrap();
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(&volume, open).unwrap();
        let file = machine.directory.path().join("hosts");
        std::fs::write(&file, "hosts\n").unwrap();
        let mount = |inside: &str, outside: &PathBuf, part: &str, readonly| Mount {
            container_path: inside.into(),
            host_path: outside.clone(),
            sub_path: part.into(),
            readonly,
            ..Mount::default()
        };
        let mounts = vec![
            mount("/v", &volume, "", false),
            mount("/p", &volume, "part", true),
            mount("/etc/hosts", &file, "", false),
        ];
        let sandbox = machine.runtime.run_sandbox(mapped(&machine, ids(5))).await.unwrap();
        let script = "cat /p/secret; touch /v/mine; touch /p/x 2>/dev/null; echo $?; cat /etc/hosts";
        let security = SecurityContext { run_as_user: Some(100), ..SecurityContext::default() };
        let as_web = ContainerConfig { security, mounts: mounts.clone(), ..shell(script) };
        assert_eq!(machine.output(&sandbox, as_web).await.1, "for web\n1\nhosts\n");
        let root = ContainerConfig {
            mounts,
            ..shell("touch /v/roots; echo more >>/etc/hosts; ls -ln /v/mine | grep -c \" 100 *101 \"")
        };
        assert_eq!(machine.output(&sandbox, root).await.1, "1\n");
        let owner = |name: &str| {
            let about = std::fs::metadata(volume.join(name)).unwrap();
            (about.uid(), about.gid())
        };
        assert_eq!((owner("mine"), owner("roots")), ((100, 101), (0, 0)));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "hosts\nmore\n");

        // What cannot be mapped, or is not there, says so.
        let unmappable =
            ContainerConfig { mounts: vec![mount("/s", &"/proc/sys".into(), "", false)], ..shell("true") };
        let error = machine.runtime.create_container(&sandbox, unmappable).await.unwrap_err().to_string();
        assert!(error.contains("/proc/sys: ") && error.contains("cannot map ids"), "{error}");
        let security = SecurityContext { run_as_user: Some(70_000), ..SecurityContext::default() };
        let outside = ContainerConfig { security, ..shell("true") };
        let error = machine.runtime.create_container(&sandbox, outside).await.unwrap_err().to_string();
        assert!(error.contains("user 70000"), "{error}");
    });
}

#[test]
fn the_pods_namespaces_are_its_roots() {
    with_machine(async |machine| {
        let config = SandboxConfig {
            pid: NamespaceMode::Pod,
            sysctls: [
                ("net.ipv4.ip_unprivileged_port_start".to_owned(), "99".to_owned()),
                ("kernel.shmmax".to_owned(), "4096".to_owned()),
            ]
            .into(),
            ..mapped(&machine, ids(4))
        };
        let sandbox = machine.runtime.run_sandbox(config).await.unwrap();
        let neighbour = run_for_ever(&machine, &sandbox, SecurityContext::default()).await;
        let script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shmmax; \
                      echo 7 >/proc/sys/net/ipv4/ip_unprivileged_port_start; \
                      cat /proc/sys/net/ipv4/ip_unprivileged_port_start; hostname other; hostname; \
                      { echo x >/proc/sys/kernel/hung_task_warnings; } 2>/dev/null; echo $?; \
                      mknod /disk b 8 0 2>/dev/null; echo $?; mount -t tmpfs none /tmp; echo $?; \
                      ps | grep -c \"sleep 0.05\"";
        let privileged = SecurityContext { privileged: true, ..SecurityContext::default() };
        let config = ContainerConfig { security: privileged, ..shell(script) };
        let text = machine.output(&sandbox, config).await.1;
        assert!(text.contains("99\n4096\n7\nother\n1\n1\n0\n"), "{text}");
        // It is the machine's no more than before.
        let shared = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert_ne!(shared.trim(), "other");
        let of_shim = machine.directory.path().join("state/sandboxes").join(&sandbox).join("shim.json");
        let shim: serde_json::Value = serde_json::from_slice(&std::fs::read(of_shim).unwrap()).unwrap();
        let pause = std::fs::read_to_string(format!("/proc/{}/status", shim["pause_pid"])).unwrap();
        assert!(pause.contains(&format!("Uid:\t{}\t", ids(4).base)), "{pause}");
        machine.runtime.stop_container(&neighbour, Duration::ZERO).await.unwrap();
    });
}
