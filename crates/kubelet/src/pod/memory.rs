//! What is remembered of a pod between two looks at it, and lost with the process: nothing that the runtime or the API
//! could tell.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::backoff::Backoff;

/// A reason and a message, as `state.waiting` shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Waiting {
    pub(crate) fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), message: message.into() }
    }
}

/// A pod's memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) containers: BTreeMap<String, ContainerMemory>,
    /// When the pod's sandbox or volumes may be tried again, and what was wrong.
    pub(crate) sandbox: Option<Failure>,
    /// A reason for which the pod has failed as a whole.
    pub(crate) failed: Option<Waiting>,
}

/// A container's memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct ContainerMemory {
    /// Its wait before the next restart.
    pub(crate) crash: Option<Backoff>,
    /// Its image's wait before the next pull.
    pub(crate) pull: Option<Backoff>,
    /// Why its next run could not begin.
    pub(crate) failure: Option<Failure>,
    /// What its probes say.
    pub(crate) probes: Option<Probed>,
}

/// Something that did not work and will be tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) what: Waiting,
    /// What is shown while waiting, a moment after `what` was.
    pub(crate) then: Option<Waiting>,
    pub(crate) at: Timestamp,
    pub(crate) retry_at: Timestamp,
}

/// How long a failure is shown before the wait that follows it is.
const SHOWN: SignedDuration = SignedDuration::from_secs(2);

impl Failure {
    /// While it has to be waited for: what to show, and when to look again.
    pub(crate) fn waits(&self, now: Timestamp) -> Option<(Waiting, Timestamp)> {
        if now >= self.retry_at {
            return None;
        }
        let turn = self.at.checked_add(SHOWN).unwrap_or(Timestamp::MAX);
        match &self.then {
            Some(_) if now < turn => Some((self.what.clone(), turn.min(self.retry_at))),
            Some(then) => Some((then.clone(), self.retry_at)),
            None => Some((self.what.clone(), self.retry_at)),
        }
    }
}

/// What the probes of one run say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Probed {
    /// The run.
    pub(crate) container_id: String,
    /// Startup probe passed, or there is none.
    pub(crate) started: bool,
    /// Readiness probe passes, or there is none.
    pub(crate) ready: bool,
    /// Why the run has to end, if its liveness or startup probe has failed.
    pub(crate) fatal: Option<String>,
}

impl Memory {
    /// What the probes of a run say; `None`: nothing yet.
    pub(crate) fn probed(&self, name: &str, container_id: &str) -> Option<&Probed> {
        let probes = self.containers.get(name)?.probes.as_ref()?;
        (probes.container_id == container_id).then_some(probes)
    }

    pub(crate) fn container(&mut self, name: &str) -> &mut ContainerMemory {
        self.containers.entry(name.to_owned()).or_default()
    }
}
