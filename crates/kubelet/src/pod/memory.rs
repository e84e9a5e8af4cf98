//! What is remembered of a pod between two looks at it, and lost with the process: nothing that the runtime or the API
//! could tell.

use std::collections::BTreeMap;
use std::time::Duration;

use api::k8s::api::core::v1::PodStatus;
use jiff::{SignedDuration, Timestamp};
use runtime::{ContainerStatus, SandboxStatus};

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

/// Why a pod has failed that had to leave.
pub(crate) const EVICTED: &str = "Evicted";

/// A pod's memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) containers: BTreeMap<String, ContainerMemory>,
    /// When the pod's sandbox or volumes may be tried again, and what was wrong.
    pub(crate) sandbox: Option<Failure>,
    /// A reason for which the pod has failed as a whole.
    pub(crate) failed: Option<Waiting>,
    /// How long its containers have to end then, if that is not theirs to say.
    pub(crate) rest_grace: Option<Duration>,
    /// By when all of the pod has to have ended, once it ends.
    pub(crate) ending: Option<Ending>,
    /// What is known of the ends of runs, by their id.
    pub(crate) stops: BTreeMap<String, Stopping>,
    /// Runs that the runtime does not know, since they ended before they began or it has forgotten them.
    pub(crate) recalled: Vec<ContainerStatus>,
    /// The sandbox that it has forgotten.
    pub(crate) forgotten: Option<SandboxStatus>,
    /// When what the API gives to volumes is looked at again.
    pub(crate) renew_at: Option<Timestamp>,
    /// How its resize fares.
    pub(crate) resize: Resize,
    /// Its volumes have been removed after its end.
    pub(crate) released: bool,
    /// Once it has ended, nothing is kept of its containers.
    pub(crate) clear: bool,
    /// What was to be told of it when its containers were removed after its end.
    pub(crate) last: Option<Box<PodStatus>>,
}

/// A pod's resize in place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resize {
    /// Why it has not been given what its spec wants: `Deferred` or `Infeasible`.
    pub(crate) pending: Option<Waiting>,
    /// Why what it was given could not be set, and when that is tried again.
    pub(crate) failed: Option<(String, Timestamp)>,
}

/// The end of a whole pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    /// How long it was given; less may be asked for later.
    pub(crate) grace: Duration,
    pub(crate) deadline: Timestamp,
}

/// The end of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stopping {
    /// When it was first to end.
    pub(crate) since: Timestamp,
    /// When it is killed at the latest; only ever moved nearer.
    pub(crate) deadline: Timestamp,
    /// Its hook has been run, and is not run twice.
    pub(crate) hooked: bool,
    /// The runtime says that it has ended.
    pub(crate) done: bool,
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
    /// The run that its hook after the start has failed for, and in which words.
    pub(crate) condemned: Option<(String, String)>,
    /// The run that ends for another to take its place, whatever the restart policy says.
    pub(crate) replaced: Option<String>,
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
    /// Why the run has to end, if its liveness or startup probe has failed, and how long that probe gives it.
    pub(crate) fatal: Option<(String, Option<Duration>)>,
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
