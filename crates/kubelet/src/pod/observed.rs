//! What the runtime holds of one pod.

use std::collections::{BTreeMap, BTreeSet};

use runtime::{ContainerState, ContainerStatus, SandboxState, SandboxStatus};

use super::operation::Key;

/// Sandboxes and containers of one pod, as a runtime listed them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// The newest first.
    sandboxes: Vec<SandboxStatus>,
    /// The newest first.
    containers: Vec<ContainerStatus>,
    /// What containers left in their termination message files, by container id.
    pub(crate) messages: BTreeMap<String, String>,
    /// What is being done.
    pub(crate) in_flight: BTreeSet<Key>,
}

impl Observed {
    /// Takes what belongs to the pod.
    pub(crate) fn of(uid: &str, sandboxes: Vec<SandboxStatus>, containers: Vec<ContainerStatus>) -> Self {
        let mut sandboxes: Vec<_> =
            sandboxes.into_iter().filter(|sandbox| sandbox.metadata.uid == uid).collect();
        sandboxes.sort_by_key(|sandbox| std::cmp::Reverse((sandbox.metadata.attempt, sandbox.created_at)));
        let mut containers: Vec<_> = containers
            .into_iter()
            .filter(|container| sandboxes.iter().any(|sandbox| sandbox.id == container.sandbox_id))
            .collect();
        containers
            .sort_by_key(|container| std::cmp::Reverse((container.metadata.attempt, container.created_at)));
        Self { sandboxes, containers, ..Self::default() }
    }

    /// All sandboxes, the newest first.
    pub(crate) fn sandboxes(&self) -> &[SandboxStatus] {
        &self.sandboxes
    }

    /// All containers, the newest first.
    pub(crate) fn containers(&self) -> &[ContainerStatus] {
        &self.containers
    }

    /// The sandbox that the pod lives in, if it can hold running containers.
    pub(crate) fn ready_sandbox(&self) -> Option<&SandboxStatus> {
        self.sandboxes.first().filter(|sandbox| sandbox.state == SandboxState::Ready)
    }

    /// The runs of a container, the newest first.
    pub(crate) fn runs<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a ContainerStatus> {
        self.containers.iter().filter(move |container| container.metadata.name == name)
    }

    /// The newest run of a container.
    pub(crate) fn latest(&self, name: &str) -> Option<&ContainerStatus> {
        self.containers.iter().find(|container| container.metadata.name == name)
    }

    /// The newest run of a container in one sandbox.
    pub(crate) fn latest_in(&self, sandbox: &str, name: &str) -> Option<&ContainerStatus> {
        let mut all = self.containers.iter();
        all.find(|container| container.metadata.name == name && container.sandbox_id == sandbox)
    }

    /// Containers that run, or that the runtime is not sure of.
    pub(crate) fn alive(&self) -> impl Iterator<Item = &ContainerStatus> {
        self.containers
            .iter()
            .filter(|container| matches!(container.state, ContainerState::Running | ContainerState::Unknown))
    }

    /// Whether something is being done to the pod as a whole.
    pub(crate) fn is_busy(&self) -> bool {
        self.in_flight.contains(&Key::Pod)
    }

    /// Whether a run of the container is being made.
    pub(crate) fn is_starting(&self, name: &str) -> bool {
        self.in_flight.contains(&Key::Start(name.to_owned()))
    }

    /// Whether the hook after the start of a run has not ended yet.
    pub(crate) fn is_hooking(&self, run: &str) -> bool {
        self.in_flight.contains(&Key::PostStart(run.to_owned()))
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.sandboxes.is_empty() && self.containers.is_empty()
    }
}
