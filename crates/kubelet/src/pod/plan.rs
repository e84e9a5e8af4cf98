//! What to do next for a pod: a function of its spec, of what the runtime holds, of what is being done, of what is
//! remembered, and of the time.
//!
//! It is asked again after each thing that was done, so it plans no further than it can see. What is being done already
//! may be planned again, and is not begun twice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use api::k8s::api::core::v1::{Container, Pod};
use jiff::{SignedDuration, Timestamp};
use runtime::{ContainerState, ContainerStatus, Resources, SandboxState};

pub(crate) mod anew;

use super::backoff::Backoff;
use super::config;
use super::containers::{self, Kind, PodContainer};
use super::fields;
use super::memory::{EVICTED, Ending, Memory, Stopping, Waiting};
use super::observed::Observed;
use super::operation::Key;
use super::{resize, restart, volume};
use crate::resources;

/// A pod has no more than one new sandbox in so long, however often they are lost.
const SANDBOX_PAUSE: SignedDuration = SignedDuration::from_secs(5);
/// What a run has to end though the pod's time is over, unless it was given less from the start: upstream's number.
const LEAST: Duration = Duration::from_secs(2);
/// Why a pod waits whose fields this node cannot honour.
pub(crate) const UNSUPPORTED: &str = "UnsupportedField";

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

/// One thing to do. All of a plan's are done at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Make the pod's volumes, then its sandbox.
    RunSandbox { attempt: u32 },
    /// Stop a sandbox; it stays listed.
    StopSandbox { id: String },
    /// Remove a sandbox and its containers, with their logs.
    RemoveSandbox { id: String },
    /// Bring volumes up to date with what they are made from.
    RenewVolumes,
    /// Remove the volumes of a pod that has ended: what it wrote there is nobody's any more.
    ReleaseVolumes,
    /// Create and start a run of a container. Once it has begun, the next one has to wait as `crash` says.
    Start { container: String, attempt: u32, crash: Option<Backoff> },
    /// Stop a run by then; one that is being stopped may have to be gone sooner than was said before.
    Stop { id: String, container: String, deadline: Timestamp, message: String },
    /// Give runs, by their id, other limits, and the pod that holds them.
    Resize { runs: Vec<(String, Resources)>, pod: Resources },
    /// Forget an old run.
    Remove { id: String },
    /// Give up what is being done, as far as it can be.
    Abandon { key: Key },
}

/// What to do, and what to tell meanwhile.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) actions: Vec<Action>,
    /// Containers that are to run and do not, and why.
    pub(crate) waiting: BTreeMap<String, Waiting>,
    /// When to look again though nothing has happened.
    pub(crate) wake_at: Option<Timestamp>,
    /// Something that runs has other limits than it should have.
    pub(crate) resizing: bool,
    /// All containers end, to begin anew.
    pub(crate) restarting: bool,
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
    let containers: Vec<_> = containers::all(pod).collect();
    let mut plan = Plan { memory: memory.clone(), ..Plan::default() };
    plan.memory.stops.retain(|id, _| observed.containers().iter().any(|run| run.id == *id));
    let cause = anew::cause(&containers, observed);
    let mut planner = Planner { pod, containers: &containers, observed, cause, now, plan };
    match goal {
        Goal::Run => planner.run(),
        Goal::Rest => {
            let grace = planner.grace();
            planner.rest(memory.rest_grace.map_or(grace, |given| given.min(grace)));
        }
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
    containers: &'a [PodContainer<'a>],
    observed: &'a Observed,
    /// The run for whose end all containers last began anew, or do so now.
    cause: Option<&'a ContainerStatus>,
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
        if self.end(self.grace()) || self.is_over() || self.observed.is_busy() {
            return;
        }
        if let Some(refusal) = fields::of(self.pod).refused.into_iter().next() {
            // A spec does not change: there is nothing to try again.
            for container in self.containers {
                let waiting = Waiting::new(UNSUPPORTED, refusal.clone());
                self.plan.waiting.insert(container.name().to_owned(), waiting);
            }
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
        if self.is_over() {
            return self.rest(self.grace());
        }
        self.plan.memory.ending = None;
        self.renew_volumes();
        if self.ends_for_all_anew() {
            return;
        }
        let begun = self.of(Kind::App).any(|app| self.current_in(sandbox, app.name()).is_some());
        self.resize(sandbox);
        // Whoever wants to look need not wait for what may be the trouble.
        for container in self.of(Kind::Ephemeral) {
            if self.observed.latest(container.name()).is_none() {
                self.start(&container.spec, None);
            }
        }
        for container in self.containers {
            match container.kind {
                Kind::Init | Kind::Sidecar if !self.run_init(sandbox, container, begun) => return,
                _ => {}
            }
        }
        self.run_apps();
    }

    /// Plans new limits for what runs with others than it should have. What wants to be started again for them is ended
    /// elsewhere, and begins with them.
    fn resize(&mut self, sandbox: &str) {
        let mut runs = Vec::new();
        for container in self.containers.iter().filter(|one| matches!(one.kind, Kind::App | Kind::Sidecar)) {
            let run = self.observed.latest_in(sandbox, container.name());
            let Some(run) = run.filter(|run| run.state == ContainerState::Running) else { continue };
            let Some((difference, wanted)) = resize::difference(self.pod, &container.spec, run) else {
                continue;
            };
            self.plan.resizing = true;
            if !difference.restarts(&container.spec) {
                runs.push((run.id.clone(), wanted));
            }
        }
        if !self.plan.resizing {
            self.plan.memory.resize.failed = None;
        }
        if runs.is_empty() {
            return;
        }
        match &self.plan.memory.resize.failed {
            Some((_, until)) if *until > self.now => {
                let until = *until;
                self.plan.wake(until);
            }
            _ => self.plan.actions.push(Action::Resize { runs, pod: resources::of_pod(self.pod) }),
        }
    }

    /// The first run of each begins once those before it have been started, and their hooks have ended, as upstream: some
    /// rely on it. What has run already is restarted alone.
    fn run_apps(&mut self) {
        let mut starting = false;
        for container in self.of(Kind::App) {
            match self.standing(&container.spec) {
                Standing::Done => {}
                Standing::Running(run) => {
                    starting |= self.observed.is_hooking(&run.id);
                    self.keep_running(&container.spec, run);
                }
                Standing::New if starting => {}
                Standing::New => {
                    let earlier = self.observed.latest(container.name());
                    starting |= self.start_after(&container.spec, earlier, self.crashed(earlier));
                }
                Standing::Again(run) => {
                    self.start(&container.spec, Some(run));
                }
            }
            starting |= self.observed.is_starting(container.name());
        }
    }

    /// Brings one init container forward; whether what comes after it may begin.
    fn run_init(&mut self, sandbox: &str, container: &PodContainer<'a>, begun: bool) -> bool {
        let (sidecar, spec) = (container.kind == Kind::Sidecar, &container.spec);
        if begun && !sidecar {
            return true;
        }
        let Some(run) = self.current_in(sandbox, &spec.name) else {
            let earlier = self.observed.latest(&spec.name);
            self.start_after(spec, earlier, self.crashed(earlier));
            return begun;
        };
        match run.state {
            ContainerState::Running => {
                self.keep_running(spec, run);
                let probed = self.plan.memory.probed(&spec.name, &run.id);
                let started = spec.startup_probe.is_none() || probed.is_some_and(|probed| probed.started);
                begun || (sidecar && started && !self.observed.is_hooking(&run.id))
            }
            ContainerState::Exited if run.exit_code == 0 && !sidecar => true,
            ContainerState::Created | ContainerState::Exited | ContainerState::Unknown => {
                self.start(spec, Some(run));
                begun
            }
        }
    }

    /// Whether nothing of the pod has to run any more.
    fn is_over(&self) -> bool {
        let failed_init = self.of(Kind::Init).any(|container| {
            let run = self.current(container.name());
            run.is_some_and(|run| {
                let failed = run.state == ContainerState::Exited && run.exit_code != 0;
                failed && !restart::again(self.pod, &container.spec, run.exit_code)
            })
        });
        failed_init
            || self.of(Kind::App).all(|container| matches!(self.standing(&container.spec), Standing::Done))
    }

    fn standing(&self, container: &Container) -> Standing<'a> {
        let Some(run) = self.current(&container.name) else { return Standing::New };
        match run.state {
            ContainerState::Running => Standing::Running(run),
            // Lost between being made and being started, or lost track of.
            ContainerState::Created | ContainerState::Unknown => Standing::Again(run),
            ContainerState::Exited if self.is_replaced(run) => Standing::Again(run),
            ContainerState::Exited if restart::again(self.pod, container, run.exit_code) => {
                Standing::Again(run)
            }
            ContainerState::Exited => Standing::Done,
        }
    }

    /// The newest run that counts.
    fn current(&self, name: &str) -> Option<&'a ContainerStatus> {
        self.observed.latest(name).filter(|run| self.counts(run))
    }

    fn current_in(&self, sandbox: &str, name: &str) -> Option<&'a ContainerStatus> {
        self.observed.latest_in(sandbox, name).filter(|run| self.counts(run))
    }

    /// An earlier run for which the next one has to wait though it does not count any more: the one for whose end all begin
    /// anew.
    fn crashed(&self, earlier: Option<&'a ContainerStatus>) -> Option<&'a ContainerStatus> {
        earlier.filter(|run| self.cause.is_some_and(|cause| cause.id == run.id))
    }

    /// Whether a run ended for another to take its place.
    fn is_replaced(&self, run: &ContainerStatus) -> bool {
        let memory = self.plan.memory.containers.get(&run.metadata.name);
        memory.is_some_and(|memory| memory.replaced.as_ref() == Some(&run.id))
    }

    /// Ends a run that may not go on: a probe or its hook failed, or it is not what the spec says any more.
    fn keep_running(&mut self, container: &Container, run: &ContainerStatus) {
        let name = &container.name;
        let memory = self.plan.memory.containers.get(name);
        let condemned = memory.and_then(|memory| memory.condemned.clone()).filter(|(id, _)| *id == run.id);
        let probed = self.plan.memory.probed(name, &run.id);
        let mut grace = self.grace();
        let message = if let Some((_, message)) = condemned {
            message
        } else if let Some((message, own)) = probed.and_then(|probed| probed.fatal.clone()) {
            grace = own.unwrap_or(grace);
            message
        } else if let Some(message) = self.outdated(container, run) {
            self.plan.memory.container(name).replaced = Some(run.id.clone());
            message
        } else {
            return;
        };
        self.stop(run, grace, later(self.now, grace), message);
    }

    /// Why a run is not what the spec says any more, and cannot become it while it runs.
    fn outdated(&self, container: &Container, run: &ContainerStatus) -> Option<String> {
        let name = &container.name;
        if run.annotations.get(config::HASH).is_some_and(|hash| *hash != config::hash(container)) {
            return Some(format!("Container {name} definition changed, will be restarted"));
        }
        let (difference, _) = resize::difference(self.pod, container, run)?;
        difference.restarts(container).then(|| format!("Container {name} resize requires restart"))
    }

    /// Starts the run after `before`; whether it really does so now.
    fn start(&mut self, container: &Container, before: Option<&ContainerStatus>) -> bool {
        let crashed = before.filter(|run| !self.is_replaced(run));
        self.start_after(container, before, crashed)
    }

    /// Starts the run after `before`, unless the one that `crashed` makes it wait.
    fn start_after(
        &mut self,
        container: &Container,
        before: Option<&ContainerStatus>,
        crashed: Option<&ContainerStatus>,
    ) -> bool {
        let (name, now) = (&container.name, self.now);
        if self.observed.is_starting(name) || before.is_some_and(|run| self.clears(run)) {
            return false;
        }
        let memory = self.plan.memory.container(name);
        if let Some((waiting, until)) = memory.failure.as_ref().and_then(|failure| failure.waits(now)) {
            self.plan.waiting.insert(name.clone(), waiting);
            self.plan.wake(until);
            return false;
        }
        let mut crash = memory.crash;
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
                return false;
            }
            crash = Some(Backoff::next(memory.crash, ended, now));
        }
        let attempt = before.map_or(0, |run| run.metadata.attempt + 1);
        self.plan.actions.push(Action::Start { container: name.clone(), attempt, crash });
        true
    }

    /// Whether a run stands in the way of the next one; then it is got rid of.
    fn clears(&mut self, run: &ContainerStatus) -> bool {
        match run.state {
            ContainerState::Created => {
                self.plan.actions.push(Action::Remove { id: run.id.clone() });
                true
            }
            ContainerState::Unknown if !self.has_ended(run) => {
                let name = &run.metadata.name;
                let message = format!("Container {name} is in unknown state, try killing it before restart");
                self.stop(run, Duration::ZERO, self.now, message);
                true
            }
            _ => false,
        }
    }

    fn rest(&mut self, grace: Duration) {
        if self.abandon() | self.end(grace) {
            return;
        }
        let sandboxes = self.observed.sandboxes();
        let ready = sandboxes.iter().filter(|sandbox| sandbox.state == SandboxState::Ready);
        let stops = ready.map(|sandbox| Action::StopSandbox { id: sandbox.id.clone() });
        let before = self.plan.actions.len();
        self.plan.actions.extend(stops);
        if self.plan.actions.len() == before {
            self.give_back();
        }
    }

    /// Gives back what a pod that has ended holds of the disk: its volumes, and where the room is needed all that its
    /// containers wrote, their logs too.
    fn give_back(&mut self) {
        if !self.plan.memory.released {
            self.plan.actions.push(Action::ReleaseVolumes);
        }
        let status = self.pod.status.as_ref();
        let evicted = status.is_some_and(|status| status.reason.as_deref() == Some(EVICTED));
        if evicted || self.plan.memory.clear {
            let left = self.observed.sandboxes().iter();
            self.plan.actions.extend(left.map(|sandbox| Action::RemoveSandbox { id: sandbox.id.clone() }));
        }
    }

    fn leave(&mut self, grace: Duration) {
        if self.abandon() | self.end(grace) {
            return;
        }
        for sandbox in self.observed.sandboxes() {
            self.plan.actions.push(Action::RemoveSandbox { id: sandbox.id.clone() });
        }
    }

    /// Gives up what would make more of the pod. Whether there is any: it has to be waited for, since what is half made is
    /// known to nobody else.
    fn abandon(&mut self) -> bool {
        let ending = |key: &&Key| matches!(key, Key::Stop(_) | Key::Status | Key::Resize);
        let before = self.plan.actions.len();
        for key in self.observed.in_flight.iter().filter(|key| !ending(key)) {
            self.plan.actions.push(Action::Abandon { key: key.clone() });
        }
        self.plan.actions.len() > before
    }

    /// Plans to end what runs, within one deadline for the whole pod: sidecars serve the others to the end, and those that
    /// began before them. Whether there is any.
    fn end(&mut self, grace: Duration) -> bool {
        let observed = self.observed;
        let runs: Vec<_> = observed.alive().filter(|run| !self.has_ended(run)).collect();
        if runs.is_empty() {
            return false;
        }
        let (now, ending) = (self.now, &mut self.plan.memory.ending);
        let ending = ending.get_or_insert(Ending { grace, deadline: later(now, grace) });
        if grace < ending.grace {
            *ending = Ending { grace, deadline: ending.deadline.min(later(now, grace)) };
        }
        let deadline = ending.deadline;
        let containers = self.containers;
        let sidecar = |run: &ContainerStatus| {
            let named = |known: &PodContainer<'_>| known.name() == run.metadata.name;
            containers.iter().position(|known| known.kind == Kind::Sidecar && named(known))
        };
        let others = runs.iter().any(|run| sidecar(run).is_none());
        let turn = if others { None } else { runs.iter().filter_map(|run| sidecar(run)).max() };
        for run in runs.into_iter().filter(|run| sidecar(run) == turn) {
            self.stop(run, grace, deadline, format!("Stopping container {}", run.metadata.name));
        }
        true
    }

    fn stop(&mut self, run: &ContainerStatus, grace: Duration, deadline: Timestamp, message: String) {
        let stopping = self.plan.memory.stops.entry(run.id.clone()).or_insert(Stopping {
            since: self.now,
            deadline: Timestamp::MAX,
            hooked: false,
            done: false,
        });
        let least = later(stopping.since, grace.min(LEAST));
        stopping.deadline = stopping.deadline.min(deadline.max(least));
        let deadline = stopping.deadline;
        let (id, container) = (run.id.clone(), run.metadata.name.clone());
        self.plan.actions.push(Action::Stop { id, container, deadline, message });
    }

    /// Whether a run that the runtime lost track of has been stopped nonetheless.
    fn has_ended(&self, run: &ContainerStatus) -> bool {
        run.state == ContainerState::Unknown
            && self.plan.memory.stops.get(&run.id).is_some_and(|stopping| stopping.done)
    }

    fn renew_volumes(&mut self) {
        if !volume::refreshes(self.pod) {
            return;
        }
        match self.plan.memory.renew_at {
            Some(at) if at > self.now => self.plan.wake(at),
            _ => self.plan.actions.push(Action::RenewVolumes),
        }
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

    fn of(&self, kind: Kind) -> impl Iterator<Item = &'a PodContainer<'a>> + use<'a> {
        self.containers.iter().filter(move |container| container.kind == kind)
    }

    fn grace(&self) -> Duration {
        Duration::from_secs(config::grace_seconds(self.pod))
    }
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
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
