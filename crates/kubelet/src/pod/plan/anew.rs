//! All containers of a pod beginning anew because one of them ended as its rules say (`RestartAllContainers`): the sandbox
//! and the volumes stay, everything else is ended at once and begins as in a new pod.
//!
//! Which runs are over with needs no memory: it is all that began before the run ended that brought it about.

use std::time::Duration;

use runtime::{ContainerState, ContainerStatus};

use super::{Planner, ended_at};
use crate::pod::backoff::Backoff;
use crate::pod::containers::{Kind, PodContainer};
use crate::pod::memory::Waiting;
use crate::pod::observed::Observed;
use crate::pod::restart;

/// Why containers wait meanwhile, in upstream's word.
pub(crate) const RESTARTING: &str = "RestartingAllContainers";

/// The run whose end brought it about, the last one if there were several.
pub(super) fn cause<'a>(
    containers: &[PodContainer<'_>],
    observed: &'a Observed,
) -> Option<&'a ContainerStatus> {
    let ended = observed.containers().iter().filter(|run| run.state == ContainerState::Exited);
    let caused = ended.filter(|run| {
        let container = containers.iter().find(|known| known.name() == run.metadata.name);
        container.is_some_and(|known| {
            known.kind != Kind::Ephemeral && restart::begins_all_anew(&known.spec, run.exit_code)
        })
    });
    caused.max_by_key(|run| run.finished_at)
}

impl<'a> Planner<'a> {
    /// Whether a run is one that counts: it began after all were last to begin anew.
    pub(super) fn counts(&self, run: &ContainerStatus) -> bool {
        self.cause.is_none_or(|cause| run.created_at > cause.finished_at)
    }

    fn concerned(&self) -> impl Iterator<Item = &'a PodContainer<'a>> + use<'a> {
        self.containers.iter().filter(|container| container.kind != Kind::Ephemeral)
    }

    /// Ends what runs from before, and waits as the one that caused it has to. Whether that still goes on.
    pub(super) fn ends_for_all_anew(&mut self) -> bool {
        let Some(cause) = self.cause else { return false };
        let current =
            |planner: &Self, name: &str| planner.observed.latest(name).is_some_and(|run| planner.counts(run));
        let waits: Vec<_> = self.concerned().filter(|one| !current(self, one.name())).collect();
        for container in &waits {
            let waiting = Waiting::new(RESTARTING, "");
            self.plan.waiting.insert(container.name().to_owned(), waiting);
        }
        let alive: Vec<_> = waits
            .iter()
            .filter_map(|one| self.observed.latest(one.name()))
            .filter(|run| matches!(run.state, ContainerState::Running | ContainerState::Unknown))
            .filter(|run| !self.has_ended(run))
            .collect();
        if !alive.is_empty() {
            for run in alive {
                let message = format!("Stopping container {} to restart all containers", run.metadata.name);
                self.stop(run, Duration::ZERO, self.now, message);
            }
            self.plan.restarting = true;
            return true;
        }
        if self.concerned().any(|one| current(self, one.name())) {
            return false;
        }
        let crash = self.plan.memory.containers.get(&cause.metadata.name).and_then(|memory| memory.crash);
        let until = Backoff::wait(crash, ended_at(cause), self.now);
        until.into_iter().for_each(|until| self.plan.wake(until));
        self.plan.restarting = until.is_some();
        until.is_some()
    }
}
