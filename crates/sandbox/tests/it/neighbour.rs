//! Who lives beside a container that misbehaves.

use std::time::Duration;

use runtime::{ContainerState, Runtime, SandboxConfig, SandboxMetadata};

use crate::machine::Machine;

/// Another pod's container, that has nothing to do with what goes on beside it.
pub(crate) struct Neighbour(String);

impl Neighbour {
    pub(crate) async fn start(machine: &Machine) -> Self {
        let metadata = SandboxMetadata { uid: "u2".into(), ..machine.sandbox().metadata };
        let config = SandboxConfig {
            metadata,
            log_directory: machine.directory.path().join("neighbours-logs"),
            cgroup_parent: format!("{}/pods/pod-u2", machine.group),
            ..machine.sandbox()
        };
        let sandbox = machine.runtime.run_sandbox(config).await.unwrap();
        Self(machine.start(&sandbox, "echo alive >/tmp/word; while true; do sleep 0.05; done").await)
    }

    /// It runs, and a command that starts processes, reads and writes goes through in it.
    pub(crate) async fn is_well(&self, machine: &Machine) {
        let script = "echo $(cat /tmp/word) >/tmp/again && cat /tmp/again";
        let words = vec!["sh".into(), "-c".into(), script.into()];
        let answer = machine.runtime.exec_sync(&self.0, words, Duration::from_secs(30)).await.unwrap();
        assert_eq!((answer.exit_code, &answer.stdout[..]), (0, &b"alive\n"[..]));
        let status = machine.runtime.container_status(&self.0).await.unwrap();
        assert_eq!(status.state, ContainerState::Running);
    }
}
