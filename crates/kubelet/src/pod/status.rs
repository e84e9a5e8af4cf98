//! What is told of a pod: a function of the same things that its plan is made from.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::k8s::api::core::v1::{
    ContainerState as State, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus as Told, HostIP, Pod, PodCondition, PodIP, PodSpec, PodStatus,
};
use api::k8s::apimachinery::pkg::apis::meta::v1::Time;
use jiff::Timestamp;
use runtime::{ContainerState, ContainerStatus};

use super::containers::{self, Kind, PodContainer};
use super::memory::{EVICTED, Memory, Waiting};
use super::observed::Observed;
use super::plan::anew::RESTARTING;
use super::plan::{Goal, Plan};
use super::{resize, restart};
use crate::resources::Qos;

const RESIZE_PENDING: &str = "PodResizePending";
const RESIZE_IN_PROGRESS: &str = "PodResizeInProgress";
/// Why a resize is pending, in upstream's words: there is no room now, or there never will be.
pub(crate) const DEFERRED: &str = "Deferred";
pub(crate) const INFEASIBLE: &str = "Infeasible";

/// What surrounds a pod.
pub(crate) struct Surroundings<'a> {
    pub(crate) host_ips: &'a [IpAddr],
    /// The runtime handler's name: the scheme of container ids.
    pub(crate) handler: &'a str,
    pub(crate) now: Timestamp,
}

/// The status of a pod, whose newest known one is `pod.status`.
pub(crate) fn status(
    pod: &Pod,
    goal: &Goal,
    observed: &Observed,
    plan: &Plan,
    around: &Surroundings<'_>,
) -> PodStatus {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let before = pod.status.clone().unwrap_or_default();
    // What has ended stays as it was told, though the runtime does not know of it any more.
    let kept = plan.memory.last.as_deref().or(Some(&before)).filter(|_| *goal == Goal::Rest);
    let teller = Teller { observed, plan, around, kept };
    let all: Vec<PodContainer<'_>> = containers::of_spec(spec).collect();
    let not_yet = if teller.is_initializing(&all) { "PodInitializing" } else { "ContainerCreating" };
    let of = |kinds: &[Kind]| -> Vec<Told> {
        let these = all.iter().filter(|container| kinds.contains(&container.kind));
        these
            .map(|container| {
                teller.tell(container, if container.kind < Kind::App { "PodInitializing" } else { not_yet })
            })
            .collect()
    };
    let (init, apps) = (of(&[Kind::Init, Kind::Sidecar]), of(&[Kind::App]));
    let ephemeral = of(&[Kind::Ephemeral]);
    let ended = *goal != Goal::Run && observed.alive().next().is_none();
    let phase = match (&plan.memory.failed, before.phase.as_deref()) {
        (_, Some(phase @ ("Succeeded" | "Failed"))) => phase.to_owned(),
        (Some(_), _) if ended => "Failed".to_owned(),
        _ => phase(pod, &all, &init, &apps, ended).to_owned(),
    };
    let sandbox = observed.ready_sandbox();
    let host_network = spec.host_network == Some(true);
    let ips: Vec<String> = match sandbox {
        Some(_) if host_network => around.host_ips.iter().map(IpAddr::to_string).collect(),
        Some(sandbox) => sandbox.ips.iter().map(IpAddr::to_string).collect(),
        // An address that was told stays, as upstream's does, until another one replaces it.
        None => before.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect(),
    };
    let mut status = PodStatus {
        host_ip: around.host_ips.first().map(IpAddr::to_string),
        host_ips: Some(around.host_ips.iter().map(|ip| HostIP { ip: ip.to_string() }).collect()),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect()),
        start_time: Some(before.start_time.clone().unwrap_or(Time(seconds(around.now)))),
        qos_class: Some(Qos::of(pod).name().to_owned()),
        observed_generation: pod.metadata.generation,
        reason: plan.memory.failed.as_ref().map(|failed| failed.reason.clone()).or(before.reason.clone()),
        message: plan.memory.failed.as_ref().map(|failed| failed.message.clone()).or(before.message.clone()),
        phase: Some(phase),
        init_container_statuses: (!init.is_empty()).then_some(init),
        container_statuses: Some(apps),
        ephemeral_container_statuses: (!ephemeral.is_empty()).then_some(ephemeral),
        ..before.clone()
    };
    let mut facts = conditions(pod, &all, &status, sandbox.is_some());
    facts.extend(resize_conditions(plan));
    facts.extend(restarting_condition(pod, &status, plan));
    if let Some(failed) = plan.memory.failed.as_ref().filter(|failed| failed.reason == EVICTED) {
        facts.push(Fact {
            name: "DisruptionTarget",
            holds: true,
            reason: Some("TerminationByKubelet"),
            message: Some(failed.message.clone()),
        });
    }
    status.conditions = Some(merged(before.conditions.unwrap_or_default(), facts, pod, around.now));
    status
}

/// Wire times have no fractions of seconds: what is told must compare equal to what comes back.
fn seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

fn time(nanoseconds: i64) -> Option<Time> {
    let at = Timestamp::from_nanosecond(i128::from(nanoseconds)).ok()?;
    (nanoseconds != 0).then(|| Time(seconds(at)))
}

#[derive(Clone, Copy)]
struct Teller<'a> {
    observed: &'a Observed,
    plan: &'a Plan,
    around: &'a Surroundings<'a>,
    /// What was told of containers before, if that still holds.
    kept: Option<&'a PodStatus>,
}

impl Teller<'_> {
    fn is_initializing(&self, all: &[PodContainer<'_>]) -> bool {
        let begun = |container: &PodContainer<'_>| {
            container.kind == Kind::App && self.observed.latest(container.name()).is_some()
        };
        let done = |container: &PodContainer<'_>| {
            let run = self.observed.latest(container.name());
            run.is_some_and(|run| match run.state {
                ContainerState::Exited => run.exit_code == 0,
                ContainerState::Running => container.kind == Kind::Sidecar,
                ContainerState::Created | ContainerState::Unknown => false,
            })
        };
        !all.iter().any(begun) && !all.iter().filter(|container| container.kind < Kind::App).all(done)
    }

    fn memory(&self) -> &Memory {
        &self.plan.memory
    }

    fn tell(&self, container: &PodContainer<'_>, not_yet: &str) -> Told {
        let (kind, container) = (container.kind, &container.spec);
        let name = &container.name;
        let mut runs = self.observed.runs(name);
        let (latest, earlier) = (runs.next(), runs.next());
        let ended = |told: &&Told| {
            told.name == *name && told.state.as_ref().is_some_and(|state| state.terminated.is_some())
        };
        if latest.is_none()
            && let Some(told) = self.kept.and_then(|kept| containers::statuses(kept).find(ended))
        {
            return told.clone();
        }
        let waiting = self.plan.waiting.get(name);
        let mut told = Told {
            name: name.clone(),
            image: container.image.clone().unwrap_or_default(),
            restart_count: latest.map_or(0, |run| i32::try_from(run.metadata.attempt).unwrap_or(i32::MAX)),
            started: Some(false),
            ..Told::default()
        };
        if kind != Kind::Ephemeral {
            let running = latest.filter(|run| run.state == ContainerState::Running);
            told.resources = Some(resize::actual(container, running));
            let asked = container.resources.as_ref().and_then(|resources| resources.requests.clone());
            told.allocated_resources = asked.filter(|asked| !asked.is_empty());
        }
        let Some(run) = latest else {
            let shown = waiting.cloned().unwrap_or_else(|| Waiting::new(not_yet, ""));
            told.state = Some(waits(&shown));
            return told;
        };
        told.container_id = Some(self.id(run));
        told.image_id = if run.image_ref.is_empty() { &run.image_id } else { &run.image_ref }.clone();
        told.last_state =
            earlier.filter(|run| run.state == ContainerState::Exited).map(|run| self.ended(run));
        match run.state {
            ContainerState::Running => {
                let probed = self.memory().probed(name, &run.id);
                let started = probed.map_or(container.startup_probe.is_none(), |probed| probed.started);
                let ready = probed.map_or(container.readiness_probe.is_none(), |probed| probed.ready);
                told.started = Some(started);
                told.ready = started && ready;
                told.state = Some(State {
                    running: Some(ContainerStateRunning { started_at: time(run.started_at) }),
                    ..State::default()
                });
            }
            ContainerState::Created => {
                told.state = Some(waits(&waiting.cloned().unwrap_or_else(|| Waiting::new(not_yet, ""))));
            }
            ContainerState::Exited | ContainerState::Unknown => match waiting {
                Some(waiting) => {
                    told.last_state = Some(self.ended(run));
                    told.state = Some(waits(waiting));
                }
                None => {
                    // An init container that has done its work is ready.
                    told.ready = run.exit_code == 0 && kind < Kind::App;
                    told.state = Some(self.ended(run));
                }
            },
        }
        told
    }

    fn id(&self, run: &ContainerStatus) -> String {
        format!("{}://{}", self.around.handler, run.id)
    }

    fn ended(&self, run: &ContainerStatus) -> State {
        let lost = run.state == ContainerState::Unknown;
        let reason = match run.reason.as_str() {
            _ if lost => "ContainerStatusUnknown",
            "" if run.exit_code == 0 => "Completed",
            "" => "Error",
            reason => reason,
        };
        let left = self.observed.messages.get(&run.id).cloned();
        let message = left.or_else(|| (!run.message.is_empty()).then(|| run.message.clone()));
        State {
            terminated: Some(ContainerStateTerminated {
                container_id: Some(self.id(run)),
                exit_code: if lost { 137 } else { run.exit_code },
                finished_at: time(run.finished_at),
                message,
                reason: Some(reason.to_owned()),
                signal: None,
                started_at: time(run.started_at),
            }),
            ..State::default()
        }
    }
}

fn waits(waiting: &Waiting) -> State {
    let message = (!waiting.message.is_empty()).then(|| waiting.message.clone());
    State {
        waiting: Some(ContainerStateWaiting { message, reason: Some(waiting.reason.clone()) }),
        ..State::default()
    }
}

fn exit_code(state: Option<&State>) -> Option<i32> {
    Some(state?.terminated.as_ref()?.exit_code)
}

fn is_running(told: &Told) -> bool {
    told.state.as_ref().is_some_and(|state| state.running.is_some())
}

/// Whether what a container did before does not count any more.
fn begins_anew(told: &Told) -> bool {
    let waiting = told.state.as_ref().and_then(|state| state.waiting.as_ref());
    waiting.is_some_and(|waiting| waiting.reason.as_deref() == Some(RESTARTING))
}

/// The phase, by upstream's rules. `ended`: the pod goes away and nothing of it runs any more.
fn phase(pod: &Pod, all: &[PodContainer<'_>], init: &[Told], apps: &[Told], ended: bool) -> &'static str {
    let (mut pending, mut failed, mut failed_for_good) = (0, 0, false);
    for (container, told) in all.iter().zip(init) {
        if begins_anew(told) {
            pending += 1;
            continue;
        }
        let code = exit_code(told.state.as_ref()).or_else(|| exit_code(told.last_state.as_ref()));
        if container.kind == Kind::Sidecar {
            pending += usize::from(told.started != Some(true) && code.is_none());
        } else if is_running(told) {
            pending += 1;
        } else {
            match code {
                Some(0) => {}
                Some(code) => {
                    failed += 1;
                    failed_for_good |= !restart::again(pod, &container.spec, code);
                }
                None => pending += 1,
            }
        }
    }
    let (mut running, mut waiting, mut stopped, mut succeeded, mut again) = (0, 0, 0, 0, false);
    let containers = all.iter().filter(|container| container.kind == Kind::App);
    for (container, told) in containers.zip(apps) {
        let waits = told.state.as_ref().is_some_and(|state| state.waiting.is_some());
        match exit_code(told.state.as_ref()) {
            Some(code) => {
                stopped += 1;
                succeeded += usize::from(code == 0);
                again |= restart::again(pod, &container.spec, code);
            }
            None if is_running(told) => running += 1,
            None if waits && told.last_state.is_some() => {
                stopped += 1;
                again = true;
            }
            None => waiting += 1,
        }
    }
    if failed_for_good {
        return "Failed";
    }
    if ended {
        let clean = stopped == apps.len() && succeeded == stopped && failed == 0;
        return if clean { "Succeeded" } else { "Failed" };
    }
    match () {
        () if pending + failed > 0 && running + stopped == 0 => "Pending",
        () if waiting > 0 => "Pending",
        () if running > 0 => "Running",
        () if stopped > 0 && again => "Running",
        () if stopped > 0 && stopped == succeeded => "Succeeded",
        () if stopped > 0 => "Failed",
        () => "Pending",
    }
}

/// A condition without its times.
struct Fact {
    name: &'static str,
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

fn conditions(pod: &Pod, all: &[PodContainer<'_>], status: &PodStatus, sandboxed: bool) -> Vec<Fact> {
    let fact = |name, holds| Fact { name, holds, reason: None, message: None };
    let listed =
        |words: &str, names: &[&str]| Some(format!("containers with {words} status: [{}]", names.join(" ")));
    let phase = status.phase.as_deref().unwrap_or_default();
    let inits = status.init_container_statuses.as_deref().unwrap_or_default();
    let apps = status.container_statuses.as_deref().unwrap_or_default();
    let sidecar = |name: &str| all.iter().any(|known| known.kind == Kind::Sidecar && known.name() == name);

    let incomplete: Vec<&str> = inits
        .iter()
        .filter(|told| if sidecar(&told.name) { told.started != Some(true) } else { !told.ready })
        .map(|told| told.name.as_str())
        .collect();
    let initialized = match phase {
        "Succeeded" => Fact { reason: Some("PodCompleted"), ..fact("Initialized", true) },
        _ if incomplete.is_empty() => fact("Initialized", true),
        _ => Fact {
            reason: Some("ContainersNotInitialized"),
            message: listed("incomplete", &incomplete),
            ..fact("Initialized", false)
        },
    };

    let sidecars = inits.iter().filter(|told| sidecar(&told.name));
    let unready: Vec<&str> =
        sidecars.chain(apps).filter(|told| !told.ready).map(|told| told.name.as_str()).collect();
    let containers = match phase {
        "Succeeded" => Fact { reason: Some("PodCompleted"), ..fact("ContainersReady", false) },
        "Failed" => Fact { reason: Some("PodFailed"), ..fact("ContainersReady", false) },
        _ if unready.is_empty() => fact("ContainersReady", true),
        _ => Fact {
            reason: Some("ContainersNotReady"),
            message: listed("unready", &unready),
            ..fact("ContainersReady", false)
        },
    };

    let known = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let known: BTreeMap<&str, &str> =
        known.map(|known| (known.type_.as_str(), known.status.as_str())).collect();
    let gates = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    let shut: Vec<String> = gates
        .filter(|gate| known.get(gate.condition_type.as_str()) != Some(&"True"))
        .map(|gate| match known.contains_key(gate.condition_type.as_str()) {
            true => format!("the status of pod readiness gate \"{}\" is not \"True\"", gate.condition_type),
            false => format!(
                "corresponding condition of pod readiness gate \"{}\" does not exist.",
                gate.condition_type
            ),
        })
        .collect();
    let ready = if containers.holds && !shut.is_empty() {
        Fact {
            reason: Some("ReadinessGatesNotReady"),
            message: Some(shut.join(", ")),
            ..fact("Ready", false)
        }
    } else {
        Fact {
            reason: containers.reason,
            message: containers.message.clone(),
            ..fact("Ready", containers.holds)
        }
    };
    let sandboxed = fact("PodReadyToStartContainers", sandboxed);
    vec![sandboxed, initialized, ready, containers, fact("PodScheduled", true)]
}

/// Whether all containers are about to begin anew, told of pods to which that may happen.
fn restarting_condition(pod: &Pod, status: &PodStatus, plan: &Plan) -> Option<Fact> {
    let fact = Fact { name: "AllContainersRestarting", holds: false, reason: None, message: None };
    restart::may_begin_all_anew(pod).then(|| match status.phase.as_deref() {
        Some("Succeeded") => Fact { reason: Some("PodCompleted"), ..fact },
        Some("Failed") => Fact { reason: Some("PodFailed"), ..fact },
        _ if plan.restarting => Fact {
            holds: true,
            reason: Some("RestartAllContainersStarted"),
            message: Some("container exited with restart policy rule".to_owned()),
            ..fact
        },
        _ => fact,
    })
}

/// What is only told while there is something to tell.
fn resize_conditions(plan: &Plan) -> impl Iterator<Item = Fact> {
    let resize = &plan.memory.resize;
    let pending = resize.pending.as_ref().map(|pending| Fact {
        name: RESIZE_PENDING,
        holds: true,
        reason: Some(if pending.reason == DEFERRED { DEFERRED } else { INFEASIBLE }),
        message: Some(pending.message.clone()),
    });
    let error = resize.failed.as_ref().map(|(error, _)| error.clone());
    let in_progress = plan.resizing.then_some(Fact {
        name: RESIZE_IN_PROGRESS,
        holds: true,
        reason: error.as_ref().map(|_| "Error"),
        message: error,
    });
    pending.into_iter().chain(in_progress)
}

/// Our facts among the conditions that others wrote; a time moves only when its condition does.
fn merged(before: Vec<PodCondition>, facts: Vec<Fact>, pod: &Pod, now: Timestamp) -> Vec<PodCondition> {
    let mut conditions: Vec<PodCondition> = Vec::new();
    for Fact { name, holds, reason, message } in facts {
        let status = if holds { "True" } else { "False" }.to_owned();
        let old = before.iter().find(|condition| condition.type_ == name);
        let since = old.filter(|old| old.status == status).and_then(|old| old.last_transition_time.clone());
        conditions.push(PodCondition {
            type_: name.to_owned(),
            status,
            reason: reason.map(str::to_owned),
            message,
            last_transition_time: since.or(Some(Time(seconds(now)))),
            observed_generation: pod.metadata.generation,
            ..PodCondition::default()
        });
    }
    let passing = [RESIZE_PENDING, RESIZE_IN_PROGRESS];
    let ours = |old: &PodCondition| {
        passing.contains(&old.type_.as_str()) || conditions.iter().any(|ours| ours.type_ == old.type_)
    };
    let others = before.into_iter().filter(|old| !ours(old));
    let others: Vec<_> = others.collect();
    conditions.into_iter().chain(others).collect()
}
