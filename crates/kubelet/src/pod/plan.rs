//! What to do next for a pod: a function of its spec, of what the runtime holds, of what is remembered, and of the time.
//!
//! It is asked again after each thing that was done, so it plans no further than it can see.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use api::k8s::api::core::v1::{Container, Pod};
use jiff::{SignedDuration, Timestamp};
use runtime::{ContainerState, ContainerStatus, SandboxState};

use super::backoff::Backoff;
use super::config;
use super::memory::{Memory, Waiting};
use super::observed::Observed;

/// A pod has no more than one new sandbox in so long, however often they are lost.
const SANDBOX_PAUSE: SignedDuration = SignedDuration::from_secs(5);

/// What is wanted of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// It runs, as its spec says.
    Run,
    /// It has ended for good: nothing runs any more, what is left of it can be looked at.
    Rest,
    /// It goes away, its containers having so long to end.
    Leave(Duration),
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Make the pod's directories and volumes, then its sandbox.
    RunSandbox { attempt: u32 },
    /// Stop a sandbox; it stays listed.
    StopSandbox { id: String },
    /// Remove a sandbox and its containers.
    RemoveSandbox { id: String },
    /// Create and start a run of a container.
    Start { container: String, attempt: u32 },
    /// Stop a run. All stops of a plan are done at once.
    Stop { id: String, container: String, grace: Duration, message: String },
    /// Forget an old run.
    Remove { id: String },
}

/// What to do, and what to tell meanwhile.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// In order.
    pub(crate) actions: Vec<Action>,
    /// Containers that are to run and do not, and why.
    pub(crate) waiting: BTreeMap<String, Waiting>,
    /// When to look again though nothing has happened.
    pub(crate) wake_at: Option<Timestamp>,
    /// What to remember.
    pub(crate) memory: Memory,
}

impl Plan {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |before| before.min(at)));
    }
}

/// What to do next.
pub(crate) fn plan(pod: &Pod, goal: &Goal, observed: &Observed, memory: &Memory, now: Timestamp) -> Plan {
    let mut planner =
        Planner { pod, observed, now, plan: Plan { memory: memory.clone(), ..Plan::default() } };
    match goal {
        Goal::Run => planner.run(),
        Goal::Rest => planner.rest(Duration::from_secs(planner.grace_seconds())),
        Goal::Leave(grace) => planner.leave(*grace),
    }
    planner.plan
}

/// What has become of the run that a container should have.
enum Standing<'a> {
    /// It has not had one.
    New,
    Running(&'a ContainerStatus),
    /// It ended, and stays so.
    Done,
    /// It ended and has to run again.
    Again(&'a ContainerStatus),
}

struct Planner<'a> {
    pod: &'a Pod,
    observed: &'a Observed,
    now: Timestamp,
    plan: Plan,
}

impl<'a> Planner<'a> {
    fn run(&mut self) {
        self.forget_old();
        match self.observed.ready_sandbox() {
            Some(sandbox) => self.run_containers(&sandbox.id),
            None => self.run_sandbox(),
        }
    }

    fn run_sandbox(&mut self) {
        // What still runs in a sandbox that is lost cannot be reached any more.
        if self.stop_all(Duration::from_secs(self.grace_seconds()), |_| true) {
            return;
        }
        if self.is_over() {
            return;
        }
        if let Some((_, until)) =
            self.plan.memory.sandbox.as_ref().and_then(|failure| failure.waits(self.now))
        {
            self.plan.wake(until);
            return;
        }
        let lost = self.observed.sandboxes().first();
        if let Some(until) = lost.and_then(|lost| moment(lost.created_at).checked_add(SANDBOX_PAUSE).ok())
            && until > self.now
        {
            self.plan.wake(until);
            return;
        }
        let attempt = lost.map_or(0, |sandbox| sandbox.metadata.attempt + 1);
        self.plan.actions.push(Action::RunSandbox { attempt });
    }

    fn run_containers(&mut self, sandbox: &str) {
        let apps = self.apps();
        let begun = apps.iter().any(|container| self.observed.latest_in(sandbox, &container.name).is_some());
        for container in self.inits() {
            if !self.run_init(sandbox, container, begun) {
                return;
            }
        }
        let mut done = true;
        for container in apps {
            match self.standing(container) {
                Standing::Done => {}
                Standing::Running(run) => {
                    done = false;
                    self.keep_running(container, run);
                }
                Standing::New => {
                    done = false;
                    self.start(container, None);
                }
                Standing::Again(run) => {
                    done = false;
                    self.start(container, Some(run));
                }
            }
        }
        if done {
            self.rest(Duration::from_secs(self.grace_seconds()));
        }
    }

    /// Brings one init container forward; whether what comes after it may begin.
    fn run_init(&mut self, sandbox: &str, container: &'a Container, begun: bool) -> bool {
        let sidecar = config::is_sidecar(container);
        if begun && !sidecar {
            return true;
        }
        let Some(run) = self.observed.latest_in(sandbox, &container.name) else {
            let earlier = self.observed.latest(&container.name);
            self.start_after(container, earlier, None);
            return begun;
        };
        match run.state {
            ContainerState::Running => {
                self.keep_running(container, run);
                let started = container.startup_probe.is_none()
                    || self.plan.memory.probed(&container.name, &run.id).is_some_and(|probed| probed.started);
                begun || (sidecar && started)
            }
            ContainerState::Exited if run.exit_code == 0 && !sidecar => true,
            ContainerState::Exited if !sidecar && self.policy() == "Never" => false,
            ContainerState::Created | ContainerState::Exited | ContainerState::Unknown => {
                self.start(container, Some(run));
                begun
            }
        }
    }

    /// Whether nothing of the pod has to run any more.
    fn is_over(&self) -> bool {
        let failed_init = self.inits().iter().any(|container| {
            let run = self.observed.latest(&container.name);
            self.policy() == "Never"
                && !config::is_sidecar(container)
                && run.is_some_and(|run| run.state == ContainerState::Exited && run.exit_code != 0)
        });
        failed_init || self.apps().iter().all(|container| matches!(self.standing(container), Standing::Done))
    }

    fn standing(&self, container: &'a Container) -> Standing<'a> {
        let Some(run) = self.observed.latest(&container.name) else { return Standing::New };
        match run.state {
            ContainerState::Running => Standing::Running(run),
            // Lost between being made and being started, or lost track of: it may have had effects, so it counts as a run.
            ContainerState::Created | ContainerState::Unknown => Standing::Again(run),
            ContainerState::Exited => match self.policy() {
                "Never" => Standing::Done,
                "OnFailure" if run.exit_code == 0 => Standing::Done,
                _ => Standing::Again(run),
            },
        }
    }

    /// Ends a run that may not go on: its probe failed, or it is not what the spec says any more.
    fn keep_running(&mut self, container: &Container, run: &ContainerStatus) {
        let name = &container.name;
        let probed = self.plan.memory.probed(name, &run.id);
        let message = if let Some(fatal) = probed.and_then(|probed| probed.fatal.clone()) {
            fatal
        } else if run.annotations.get(config::HASH).is_some_and(|hash| *hash != config::hash(container)) {
            format!("Container {name} definition changed, will be restarted")
        } else {
            return;
        };
        let grace = config::probe_grace(container).unwrap_or(self.grace_seconds());
        self.stop(run, Duration::from_secs(grace), message);
    }

    fn start(&mut self, container: &Container, before: Option<&ContainerStatus>) {
        self.start_after(container, before, before);
    }

    /// Starts the run after `before`, unless the one that `crashed` makes it wait.
    fn start_after(
        &mut self,
        container: &Container,
        before: Option<&ContainerStatus>,
        crashed: Option<&ContainerStatus>,
    ) {
        let (name, now) = (&container.name, self.now);
        let memory = self.plan.memory.container(name);
        if let Some((waiting, until)) = memory.failure.as_ref().and_then(|failure| failure.waits(now)) {
            self.plan.waiting.insert(name.clone(), waiting);
            self.plan.wake(until);
            return;
        }
        if let Some(crashed) = crashed {
            let ended = ended_at(crashed);
            if let Some(until) = Backoff::wait(memory.crash, ended, now) {
                let delay = memory.crash.map_or(0, |crash| crash.delay.as_secs());
                let message = format!(
                    "back-off {} restarting failed container={name} pod={}",
                    written(delay),
                    config::full_name(self.pod)
                );
                self.plan.waiting.insert(name.clone(), Waiting::new("CrashLoopBackOff", message));
                self.plan.wake(until);
                return;
            }
            memory.crash = Some(Backoff::next(memory.crash, ended, now));
        }
        let attempt = before.map_or(0, |run| run.metadata.attempt + 1);
        if let Some(run) = before.filter(|run| run.state == ContainerState::Created) {
            self.plan.actions.push(Action::Remove { id: run.id.clone() });
        }
        if let Some(run) = before.filter(|run| run.state == ContainerState::Unknown) {
            self.stop(
                run,
                Duration::ZERO,
                format!("Container {name} is in unknown state, try killing it before restart"),
            );
        }
        self.plan.actions.push(Action::Start { container: name.clone(), attempt });
    }

    fn rest(&mut self, grace: Duration) {
        if self.stop_all(grace, |_| true) {
            return;
        }
        for sandbox in self.observed.sandboxes().iter().filter(|sandbox| sandbox.state == SandboxState::Ready)
        {
            self.plan.actions.push(Action::StopSandbox { id: sandbox.id.clone() });
        }
    }

    fn leave(&mut self, grace: Duration) {
        // Sidecars serve the others to the end.
        let sidecars: BTreeSet<&str> = self
            .inits()
            .iter()
            .filter(|container| config::is_sidecar(container))
            .map(|container| container.name.as_str())
            .collect();
        if self.stop_all(grace, |run| !sidecars.contains(run.metadata.name.as_str())) {
            return;
        }
        if self.stop_all(grace, |_| true) {
            return;
        }
        for sandbox in self.observed.sandboxes() {
            self.plan.actions.push(Action::RemoveSandbox { id: sandbox.id.clone() });
        }
    }

    /// Plans to stop what runs; whether there is any.
    fn stop_all(&mut self, grace: Duration, which: impl Fn(&ContainerStatus) -> bool) -> bool {
        let runs: Vec<_> = self.observed.alive().filter(|run| which(run)).collect();
        for run in &runs {
            self.stop(run, grace, format!("Stopping container {}", run.metadata.name));
        }
        !runs.is_empty()
    }

    fn stop(&mut self, run: &ContainerStatus, grace: Duration, message: String) {
        let (id, container) = (run.id.clone(), run.metadata.name.clone());
        self.plan.actions.push(Action::Stop { id, container, grace, message });
    }

    /// Of each container the newest run and the one before are kept, to be told of and to be read; so are their sandboxes.
    fn forget_old(&mut self) {
        let names: BTreeSet<&str> =
            self.observed.containers().iter().map(|run| run.metadata.name.as_str()).collect();
        let kept: BTreeSet<&str> = names
            .iter()
            .flat_map(|name| self.observed.runs(name).take(2))
            .map(|run| run.id.as_str())
            .collect();
        for run in self.observed.containers() {
            if run.state == ContainerState::Exited && !kept.contains(run.id.as_str()) {
                self.plan.actions.push(Action::Remove { id: run.id.clone() });
            }
        }
        for sandbox in self.observed.sandboxes().iter().skip(1) {
            let held = |run: &ContainerStatus| run.sandbox_id == sandbox.id && kept.contains(run.id.as_str());
            if !self.observed.containers().iter().any(held) {
                self.plan.actions.push(Action::RemoveSandbox { id: sandbox.id.clone() });
            }
        }
    }

    fn apps(&self) -> &'a [Container] {
        self.pod.spec.as_ref().map_or(&[], |spec| spec.containers.as_slice())
    }

    fn inits(&self) -> &'a [Container] {
        self.pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default()
    }

    fn policy(&self) -> &'a str {
        config::restart_policy(self.pod)
    }

    fn grace_seconds(&self) -> u64 {
        config::grace_seconds(self.pod)
    }
}

fn ended_at(run: &ContainerStatus) -> Timestamp {
    let nanoseconds = [run.finished_at, run.started_at, run.created_at].into_iter().find(|at| *at != 0);
    moment(nanoseconds.unwrap_or(0))
}

fn moment(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A number of seconds as upstream writes durations: `10s`, `1m20s`, `5m0s`.
fn written(seconds: i64) -> String {
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests;
