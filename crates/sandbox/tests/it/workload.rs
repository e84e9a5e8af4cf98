//! Containers whose program is run by a workload of the shim's.

use std::time::Duration;

use images::{ImageBuilder, Store};
use runtime::{ContainerConfig, ContainerState, Mount, Runtime, SandboxConfig};

use crate::machine::{BUSYBOX, Machine, shell, with_machine};

const SCRIPTS: &str = "test.local/scripts:1";

fn image(machine: &Machine) {
    let layout = machine.directory.path().join("scripts");
    let image = ImageBuilder::new()
        .file("/app/hello", 0o644, "echo hello\n")
        .file("/app/broken", 0o644, "echo broken\n")
        .file("/bin/busybox", 0o755, std::fs::read("/bin/busybox").unwrap())
        .env("FROM_IMAGE", "yes")
        .entrypoint(["/app/hello"]);
    image.build(&SCRIPTS.parse().unwrap()).unwrap().write_layout(&layout).unwrap();
    Store::open(machine.directory.path().join("images")).unwrap().import(&layout, None).unwrap();
}

async fn sandbox(machine: &Machine) -> String {
    let config = SandboxConfig { handler: "echo".into(), ..machine.sandbox() };
    machine.runtime.run_sandbox(config).await.unwrap()
}

fn script() -> ContainerConfig {
    ContainerConfig { image: SCRIPTS.into(), command: Vec::new(), ..shell("") }
}

#[test]
fn a_workload_runs_what_it_knows_within_the_container() {
    with_machine(|machine| async move {
        image(&machine);
        let pod = sandbox(&machine).await;
        let volume = machine.directory.path().join("volume");
        std::fs::create_dir(&volume).unwrap();
        let mut config = ContainerConfig {
            args: vec!["a".into(), "b".into()],
            working_dir: "/app".into(),
            ports: vec![8081],
            mounts: vec![Mount {
                container_path: "/volume".into(),
                host_path: volume,
                readonly: true,
                ..Mount::default()
            }],
            ..script()
        };
        config.resources.memory_limit = Some(64 << 20);
        let id = machine.runtime.create_container(&pod, config).await.unwrap();
        machine.runtime.start_container(&id).await.unwrap();
        let status = machine.ended(&id).await;
        let log = std::fs::read_to_string(&status.log_path).unwrap();
        assert_eq!(status.exit_code, 7, "{log}");
        for words in [
            "echo hello \"settings reach it\" Some(67108864)",
            "[\"/app/hello\", \"a\", \"b\"] at /app",
            "Some((\"FROM_IMAGE\", \"yes\"))",
            "[(\"/volume\", true)] [8081] false",
            "CapEff:\t0000000000000000",
            "NoNewPrivs:\t1",
            "proc: false",
            "busybox: true",
            // The standard three, the root, the script, and the one that lists them.
            "files open: 6",
            "still open: Some(11)",
        ] {
            assert!(log.contains(words), "{words} in {log}");
        }
    });
}

#[test]
fn what_a_workload_does_not_know_is_executed() {
    with_machine(|machine| async move {
        image(&machine);
        let pod = sandbox(&machine).await;
        let config = ContainerConfig { image: BUSYBOX.into(), ..shell("exit 3") };
        let id = machine.runtime.create_container(&pod, config).await.unwrap();
        machine.runtime.start_container(&id).await.unwrap();
        assert_eq!(machine.ended(&id).await.exit_code, 3);
    });
}

#[test]
fn why_a_workload_cannot_run_it_is_said() {
    with_machine(|machine| async move {
        image(&machine);
        let pod = sandbox(&machine).await;
        let config = ContainerConfig { command: vec!["/app/broken".into()], ..script() };
        let error = machine.runtime.create_container(&pod, config).await.unwrap_err();
        assert!(error.to_string().contains("the script is broken"), "{error}");
        // Its own program and nothing else.
        let id = machine.runtime.create_container(&pod, script()).await.unwrap();
        let exec = machine.runtime.exec_sync(&id, vec!["/bin/busybox".into()], Duration::from_secs(10)).await;
        let error = exec.unwrap_err().to_string();
        assert!(error.contains("runs no other program than its own"), "{error}");
        let state = machine.runtime.container_status(&id).await.unwrap().state;
        assert_eq!(state, ContainerState::Created);
        let unknown = SandboxConfig { handler: "unheard of".into(), ..machine.sandbox() };
        let error = machine.runtime.run_sandbox(unknown).await.unwrap_err();
        assert!(error.to_string().contains("no handler"), "{error}");
    });
}
