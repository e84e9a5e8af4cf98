//! What the runtime holds of one pod.

use std::collections::{BTreeMap, BTreeSet};

use api::k8s::api::core::v1::Pod;
use runtime::{ContainerMetadata, ContainerState, ContainerStatus, SandboxState, SandboxStatus};

use super::containers;
use super::operation::{Key, START_ERROR};

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

/// Runs that ended before they began, as the pod's status tells of them: no runtime has ever known them.
pub(crate) fn unstarted<'a>(pod: &'a Pod, sandbox: &'a str) -> impl Iterator<Item = ContainerStatus> + 'a {
    let statuses = pod.status.iter().flat_map(containers::statuses);
    statuses.filter_map(move |told| {
        let state = told.state.as_ref()?;
        let before = told.last_state.as_ref().filter(|_| state.waiting.is_some());
        let ended = state.terminated.as_ref().or(before.and_then(|before| before.terminated.as_ref()))?;
        let nanoseconds = |at: jiff::Timestamp| i64::try_from(at.as_nanosecond()).unwrap_or(0);
        let at = ended.finished_at.as_ref().map_or(0, |at| nanoseconds(at.0));
        (ended.reason.as_deref() == Some(START_ERROR)).then(|| ContainerStatus {
            id: told
                .container_id
                .as_deref()
                .and_then(|id| id.split_once("://"))
                .map_or("", |(_, id)| id)
                .into(),
            sandbox_id: sandbox.to_owned(),
            metadata: ContainerMetadata {
                name: told.name.clone(),
                attempt: u32::try_from(told.restart_count).unwrap_or(0),
            },
            state: ContainerState::Exited,
            created_at: at,
            started_at: 0,
            finished_at: at,
            exit_code: ended.exit_code,
            reason: START_ERROR.to_owned(),
            message: ended.message.clone().unwrap_or_default(),
            image: told.image.clone(),
            resources: Default::default(),
            image_id: String::new(),
            image_ref: told.image_id.clone(),
            mounted_images: Vec::new(),
            log_path: Default::default(),
            labels: Default::default(),
            annotations: Default::default(),
        })
    })
}
