//! Probes: is a run of a container started, ready, alive?

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::k8s::api::core::v1::{Container, Pod, Probe};
use client::{EventType, Resource};
use clock::Tasks;
use runtime::{ContainerState, ContainerStatus, Runtime};
use tokio::sync::Notify;

use super::config;
use super::containers::{self, PodContainer};
use super::handler::{Target, Trouble};
use super::memory::{Memory, Probed};
use super::observed::Observed;
use crate::context::Context;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Startup,
    Readiness,
    Liveness,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Startup => "Startup",
            Kind::Readiness => "Readiness",
            Kind::Liveness => "Liveness",
        }
    }

    fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Kind::Startup => container.startup_probe.as_ref(),
            Kind::Readiness => container.readiness_probe.as_ref(),
            Kind::Liveness => container.liveness_probe.as_ref(),
        }
    }
}

/// The probes of one pod's containers, each a task for as long as its run lasts.
pub(crate) struct Prober {
    cx: Arc<Context>,
    nudged: Arc<Notify>,
    tasks: Tasks,
    board: Board,
    /// By container id.
    runs: HashMap<String, Tasks>,
}

type Board = Arc<Mutex<HashMap<String, Probed>>>;

fn read(board: &Board) -> MutexGuard<'_, HashMap<String, Probed>> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.tasks.token().cancel();
    }
}

impl Prober {
    pub(crate) fn new(cx: Arc<Context>, nudged: Arc<Notify>) -> Self {
        let tasks = cx.tasks.child();
        Self { cx, nudged, tasks, board: Board::default(), runs: HashMap::new() }
    }

    /// Begins and ends probes as runs do, and brings the memory up to date with what they found.
    pub(crate) fn follow(
        &mut self,
        pod: &Arc<Pod>,
        runtime: &Arc<dyn Runtime>,
        observed: &Observed,
        memory: &mut Memory,
    ) {
        let running: Vec<&ContainerStatus> =
            observed.containers().iter().filter(|run| run.state == ContainerState::Running).collect();
        self.runs.retain(|id, tasks| {
            let stays = running.iter().any(|run| run.id == *id);
            if !stays {
                tasks.token().cancel();
                read(&self.board).remove(id);
            }
            stays
        });
        for container in containers::all(pod) {
            let Some(run) = running.iter().find(|run| run.metadata.name == container.name()) else {
                continue;
            };
            if !self.runs.contains_key(&run.id) {
                self.begin(pod, runtime, observed, &container, run);
            }
            memory.container(container.name()).probes = read(&self.board).get(&run.id).cloned();
        }
    }

    fn begin(
        &mut self,
        pod: &Arc<Pod>,
        runtime: &Arc<dyn Runtime>,
        observed: &Observed,
        container: &PodContainer<'_>,
        run: &ContainerStatus,
    ) {
        let (field_path, container) = (container.field_path(), &container.spec);
        // A run that was found running keeps the name it had: it does not become unready because we were away.
        let (was_started, was_ready) = told_before(pod, &run.id);
        let first = Probed {
            container_id: run.id.clone(),
            started: container.startup_probe.is_none() || was_started,
            ready: container.readiness_probe.is_none() || was_ready,
            fatal: None,
        };
        read(&self.board).insert(run.id.clone(), first);
        let tasks = self.tasks.child();
        let sandbox = observed.ready_sandbox();
        let host_network = config::on_host_network(pod);
        let pod_ip = match sandbox {
            _ if host_network => self.cx.host_ips.first().copied(),
            Some(sandbox) => sandbox.ips.first().copied(),
            None => None,
        };
        for kind in [Kind::Startup, Kind::Readiness, Kind::Liveness] {
            let Some(probe) = kind.of(container) else { continue };
            let target = Target {
                runtime: runtime.clone(),
                clock: self.cx.ambient.clock.clone(),
                connector: self.cx.connector.clone(),
                container: container.clone().into_owned(),
                container_id: run.id.clone(),
                pod_ip,
                host_network,
            };
            let watch = Watch {
                kind,
                probe: probe.clone(),
                target,
                pod: pod.clone(),
                field_path: field_path.clone(),
                cx: self.cx.clone(),
                board: self.board.clone(),
                nudged: self.nudged.clone(),
            };
            tasks.spawn("probe", watch.run());
        }
        self.runs.insert(run.id.clone(), tasks);
    }
}

fn told_before(pod: &Pod, container_id: &str) -> (bool, bool) {
    let told = pod.status.iter().flat_map(containers::statuses).find(|told| {
        told.container_id
            .as_deref()
            .and_then(|id| id.split_once("://"))
            .is_some_and(|(_, id)| id == container_id)
    });
    told.map_or((false, false), |told| (told.started == Some(true), told.ready))
}

/// Successes and failures in a row.
#[derive(Debug, Default)]
struct Tally {
    successes: i32,
    failures: i32,
}

impl Tally {
    /// What the count comes to once it has reached a threshold.
    fn count(&mut self, success: bool, probe: &Probe) -> Option<bool> {
        if success {
            (self.successes, self.failures) = (self.successes.saturating_add(1), 0);
            (self.successes >= probe.success_threshold.unwrap_or(1)).then_some(true)
        } else {
            (self.successes, self.failures) = (0, self.failures.saturating_add(1));
            (self.failures >= probe.failure_threshold.unwrap_or(3)).then_some(false)
        }
    }
}

/// One probe of one run.
struct Watch {
    kind: Kind,
    probe: Probe,
    target: Target,
    pod: Arc<Pod>,
    /// Where in the pod the container is.
    field_path: String,
    cx: Arc<Context>,
    board: Board,
    nudged: Arc<Notify>,
}

impl Watch {
    async fn run(self) {
        let seconds = |value: Option<i32>, least: u64, default: u64| {
            let value = value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0);
            Duration::from_secs(value.unwrap_or(default).max(least))
        };
        let clock = &self.cx.ambient.clock;
        let (period, timeout) =
            (seconds(self.probe.period_seconds, 1, 10), seconds(self.probe.timeout_seconds, 1, 1));
        clock.sleep(seconds(self.probe.initial_delay_seconds, 0, 0)).await;
        let mut tally = Tally::default();
        let container = &self.target.container;
        let counted =
            self.cx.outcomes.begin(&self.pod, &container.name, &self.target.container_id, self.kind.name());
        loop {
            let started =
                read(&self.board).get(&self.target.container_id).is_some_and(|probed| probed.started);
            // Until it has started the others wait; once it has, its startup probe is done.
            if (self.kind == Kind::Startup) != started {
                let answer = tokio::select! {
                    answer = self.ask(timeout) => answer,
                    () = clock.sleep(timeout) => Err(Trouble::Failed("probe timed out".to_owned())),
                };
                counted.note(&answer);
                if let Err(trouble) = &answer {
                    self.complain(trouble);
                }
                // That it cannot be asked from here says nothing of it.
                let counts = !matches!(answer, Err(Trouble::CannotAsk(_)));
                if counts
                    && let Some(verdict) = tally.count(answer.is_ok(), &self.probe)
                    && self.post(verdict)
                {
                    return;
                }
            } else if self.kind == Kind::Startup {
                return;
            }
            clock.sleep(period).await;
        }
    }

    async fn ask(&self, timeout: Duration) -> Result<(), Trouble> {
        if let Some(action) = &self.probe.http_get {
            return match self.target.get(action).await? {
                (200..400, _) => Ok(()),
                (code, _) => Err(Trouble::Failed(format!("HTTP probe failed with statuscode: {code}"))),
            };
        }
        if let Some(action) = &self.probe.tcp_socket {
            return self.target.tcp(action).await;
        }
        if let Some(action) = &self.probe.grpc {
            return self.target.grpc(action).await;
        }
        if let Some(action) = &self.probe.exec {
            return match self.target.exec(action.command.as_ref(), timeout).await? {
                (0, _) => Ok(()),
                (_, output) => Err(Trouble::Failed(output)),
            };
        }
        Err(Trouble::CannotAsk("the probe has no handler".to_owned()))
    }

    fn complain(&self, trouble: &Trouble) {
        let mut regarding = self.pod.object_ref(&());
        regarding.field_path = Some(self.field_path.clone());
        let kind = self.kind.name();
        let (reason, message) = match trouble {
            Trouble::Failed(why) => ("Unhealthy", format!("{kind} probe failed: {why}")),
            Trouble::CannotAsk(why) => ("ProbeWarning", format!("{kind} probe warning: {why}")),
        };
        self.cx.recorder.record_on(regarding, EventType::Warning, reason, message);
    }

    /// Puts a verdict on the board; whether this probe has nothing left to find out.
    fn post(&self, verdict: bool) -> bool {
        let name = &self.target.container.name;
        let changed = {
            let mut board = read(&self.board);
            let Some(probed) = board.get_mut(&self.target.container_id) else { return true };
            let before = probed.clone();
            match (self.kind, verdict) {
                (Kind::Startup, true) => probed.started = true,
                (Kind::Readiness, ready) => probed.ready = ready,
                (Kind::Liveness, true) => {}
                (Kind::Startup | Kind::Liveness, false) => {
                    let kind = self.kind.name().to_lowercase();
                    let grace = self.probe.termination_grace_period_seconds;
                    let grace = grace.map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
                    let message = format!("Container {name} failed {kind} probe, will be restarted");
                    probed.fatal = Some((message, grace));
                }
            }
            *probed != before
        };
        if changed {
            tracing::debug!(pod = config::full_name(&self.pod), container = name, kind = ?self.kind, verdict, "probed");
            self.nudged.notify_one();
        }
        match self.kind {
            Kind::Readiness => false,
            Kind::Startup => true,
            Kind::Liveness => !verdict,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_count_in_a_row() {
        let probe = Probe { success_threshold: Some(2), failure_threshold: Some(3), ..Probe::default() };
        let mut tally = Tally::default();
        let verdicts: Vec<_> = [true, true, false, false, true, false, false, false, true]
            .into_iter()
            .map(|success| tally.count(success, &probe))
            .collect();
        let (yes, no) = (Some(true), Some(false));
        assert_eq!(verdicts, [None, yes, None, None, None, None, None, no, None]);
    }
}
