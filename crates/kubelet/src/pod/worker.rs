//! The task that owns one pod: it looks, plans, begins what is to be done and tells, and then waits for something to
//! happen. It never waits for what it has begun: an operation that ends is one more thing that happens.

mod end;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::k8s::api::core::v1::{Pod, PodStatus};
use api::k8s::api::node::v1::RuntimeClass;
use client::{Api, EventType, ObjectKey, ObjectMeta, Resource};
use jiff::{SignedDuration, Timestamp};
use runtime::{ContainerState, Runtime};
use tokio::sync::Notify;

use super::backoff::Backoff;
use super::config;
use super::containers;
use super::given::Given;
use super::last_words;
use super::memory::{Failure, Memory, Waiting};
use super::observed::Observed;
use super::operation::{Began, Operations, Outcome, Refused, Scope, Told};
use super::plan::{Action, Goal, Plan, UNSUPPORTED, plan};
use super::probe::Prober;
use super::recall;
use super::status::{DEFERRED, INFEASIBLE, Surroundings, status};
use crate::allocation::Verdict;
use crate::context::Context;
use crate::static_pods::{self, mirrored};

/// How long a sandbox that outlived its pod's record has to end.
const ORPHAN_GRACE: Duration = Duration::from_secs(1);
/// How long to wait before what the machine refused is tried again.
const RETRY: SignedDuration = SignedDuration::from_secs(1);
/// How long to wait before what does not depend on the machine alone is tried again, as upstream.
const LONG_RETRY: SignedDuration = SignedDuration::from_secs(10);
/// How long volumes are good for, as upstream.
const RENEW: SignedDuration = SignedDuration::from_secs(60);

/// Whom a worker works for.
#[derive(Clone)]
pub(crate) struct Assignment {
    pub(crate) uid: String,
    /// Where the pod is in the API; `None` for what was found in the runtime only.
    pub(crate) key: Option<ObjectKey>,
    /// The runtime that holds what was found.
    pub(crate) runtime: Option<Arc<dyn Runtime>>,
}

pub(crate) struct Worker {
    cx: Arc<Context>,
    assignment: Assignment,
    nudged: Arc<Notify>,
    /// The newest known form of the pod.
    pod: Arc<Pod>,
    memory: Memory,
    prober: Prober,
    /// What the runtime does not know has been looked for in the pod's status.
    has_recalled: bool,
    /// The last status that the API took.
    told: Option<PodStatus>,
    /// The UID of the API's image of it, which took that.
    image: Option<String>,
    /// The reason that was last given for a container's waiting, by its name.
    announced: BTreeMap<String, String>,
    /// What ended runs have left to say, by their id.
    messages: BTreeMap<String, Option<String>>,
    runtime: Option<Arc<dyn Runtime>>,
    /// Which of the runtime's handlers the pod wants.
    handler: String,
    given: Arc<Given>,
    /// The generation of the pod that was last given what it asks for, or refused.
    settled: Option<Option<i64>>,
    /// With which the last operations were begun.
    scope: Option<Scope>,
    operations: Operations,
}

/// What a pass came to.
enum Pass {
    /// Nothing more to do until something happens, or until then.
    Wait(Option<Timestamp>),
    /// Nothing is left.
    Gone,
}

impl Worker {
    pub(crate) fn new(cx: Arc<Context>, assignment: Assignment, nudged: Arc<Notify>) -> Self {
        let metadata = ObjectMeta { uid: Some(assignment.uid.clone()), ..ObjectMeta::default() };
        Self {
            assignment,
            pod: Arc::new(Pod { metadata, ..Pod::default() }),
            memory: Memory::default(),
            prober: Prober::new(cx.clone(), nudged.clone()),
            has_recalled: false,
            told: None,
            image: None,
            announced: BTreeMap::new(),
            messages: BTreeMap::new(),
            runtime: None,
            handler: String::new(),
            given: Arc::default(),
            settled: None,
            scope: None,
            operations: Operations::new(cx.ambient.clock.clone()),
            nudged,
            cx,
        }
    }

    /// Works until nothing of the pod is left, here or in the API.
    pub(crate) async fn run(mut self) {
        let mut others = self.cx.pods_changed.subscribe();
        while let Pass::Wait(until) = self.pass().await {
            let deferred = self.is_deferred();
            let clock = self.cx.ambient.clock.clone();
            let alarm = async {
                match until {
                    Some(at) => {
                        let left = at.duration_since(clock.now());
                        clock.sleep(left.try_into().unwrap_or(Duration::ZERO)).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.nudged.notified() => {}
                Ok(()) = others.changed(), if deferred => {}
                Some(outcome) = self.operations.next() => self.hear(outcome),
                () = alarm => {}
            }
        }
    }

    async fn pass(&mut self) -> Pass {
        let goal = self.goal();
        let runtime = match self.runtime().await {
            Ok(runtime) => runtime,
            // It never had one, so nothing of it can be there.
            Err(_) if matches!(goal, Goal::Leave(_)) => return self.depart().await,
            Err(message) => {
                self.warn("FailedCreatePodSandBox", &message);
                return self.again(LONG_RETRY);
            }
        };
        let observed = match self.observe(&runtime).await {
            Ok(observed) => observed,
            Err(error) => {
                tracing::warn!(uid = self.assignment.uid, %error, "the runtime could not be asked");
                return self.again(RETRY);
            }
        };
        let gone = matches!(goal, Goal::Leave(_)) && observed.is_empty();
        if gone && observed.in_flight.is_empty() {
            return self.depart().await;
        }
        let now = self.cx.ambient.clock.now();
        self.prober.follow(&self.pod, &runtime, &observed, &mut self.memory);
        let deadline = self.check_deadline(&goal, now);
        self.check_eviction(&goal);
        let admitted = self.check_admission(&goal, &observed).await;
        let pod = match admitted.and_then(|()| self.allocated(&goal)) {
            Ok(pod) => pod,
            Err(error) => {
                tracing::warn!(uid = self.assignment.uid, %error, "what the pod was given cannot be written down");
                return self.again(RETRY);
            }
        };
        let goal = if self.memory.failed.is_some() && goal == Goal::Run { Goal::Rest } else { goal };
        let mut plan = plan(&pod, &goal, &observed, &self.memory, now);
        self.announce(&plan);
        let around = Surroundings { host_ips: &self.cx.host_ips, handler: runtime.name(), now };
        let status = status(&pod, &goal, &observed, &plan, &around);
        let scope = self.scope(pod, &runtime, &observed);
        let mut wakes = vec![plan.wake_at, deadline];
        // Nothing is told of what is gone; nor is anything removed that could not be told of afterwards.
        let told = gone || self.tell(&scope, status.clone(), &mut wakes);
        let actions = std::mem::take(&mut plan.actions);
        self.memory = plan.memory;
        let clears = |action: &Action| matches!(action, Action::RemoveSandbox { .. });
        if goal == Goal::Rest && self.memory.last.is_none() && actions.iter().any(clears) {
            self.memory.last = Some(Box::new(status.clone()));
        }
        for action in actions {
            let removes = matches!(action, Action::RemoveSandbox { .. }) && matches!(goal, Goal::Leave(_));
            if told || !removes {
                wakes.push(self.operations.begin(&scope, action, &self.memory));
            }
        }
        self.scope = Some(scope);
        Pass::Wait(wakes.into_iter().flatten().min())
    }

    fn again(&self, after: SignedDuration) -> Pass {
        Pass::Wait(Some(later(self.cx.ambient.clock.now(), after)))
    }

    fn scope(&self, pod: Arc<Pod>, runtime: &Arc<dyn Runtime>, observed: &Observed) -> Scope {
        let sandbox = observed.ready_sandbox();
        let ips = match sandbox {
            Some(_) if config::on_host_network(&self.pod) => self.cx.host_ips.clone(),
            Some(sandbox) => sandbox.ips.clone(),
            None => Vec::new(),
        };
        Scope {
            cx: self.cx.clone(),
            pod,
            runtime: runtime.clone(),
            handler: self.handler.clone(),
            sandbox: sandbox.map(|sandbox| sandbox.id.clone()),
            ips,
            given: self.given.clone(),
        }
    }

    /// Takes note of how an operation came out.
    fn hear(&mut self, outcome: Outcome) {
        let now = self.cx.ambient.clock.now();
        match outcome {
            Outcome::Sandbox(Ok(())) => {
                self.memory.sandbox = None;
                self.memory.renew_at = Some(later(now, RENEW));
            }
            Outcome::Sandbox(Err(what)) => {
                let retry_at = later(now, LONG_RETRY);
                self.memory.sandbox = Some(Failure { what, then: None, at: now, retry_at });
            }
            Outcome::Released(done) => self.memory.released = done,
            Outcome::Volumes(result) => {
                let after = if result.is_ok() { RENEW } else { LONG_RETRY };
                self.memory.renew_at = Some(later(now, after));
            }
            Outcome::Told(told) => match *told {
                Told::Taken(pod, status) => {
                    self.told = Some(status);
                    self.learn(pod);
                }
                Told::Conflict(Some(pod)) => self.learn(pod),
                Told::Gone(status) => self.told = Some(status),
                Told::Conflict(None) | Told::Failed => {}
            },
            Outcome::Started { container, result, crash } => {
                if let Ok(Began::Run { .. } | Began::Unstarted(_)) = &result {
                    self.memory.container(&container).crash = crash;
                }
                self.hear_of_start(container, result, now);
            }
            Outcome::PostStart { container, run, failure } => {
                let condemned = failure.map(|message| (run, message));
                self.memory.container(&container).condemned = condemned;
            }
            Outcome::Stopped { run, done } => {
                self.cx.events.send_replace(());
                if let Some(stopping) = self.memory.stops.get_mut(&run) {
                    (stopping.hooked, stopping.done) = (true, done);
                }
            }
            Outcome::Resized(result) => {
                let retry_at = later(now, LONG_RETRY);
                self.memory.resize.failed = result.err().map(|error| (error, retry_at));
            }
            Outcome::Removed { id, done } => {
                self.cx.events.send_replace(());
                if done {
                    self.memory.recalled.retain(|known| known.id != id);
                    self.memory.forgotten.take_if(|known| known.id == id);
                }
            }
        }
    }

    /// Takes over the pod as the API has it, unless that is but an image of it.
    fn learn(&mut self, pod: Arc<Pod>) {
        if pod.metadata.uid.as_ref() == Some(&self.assignment.uid) {
            self.pod = pod;
        }
    }

    fn hear_of_start(&mut self, container: String, result: Result<Began, Refused>, now: Timestamp) {
        let remembered = self.memory.container(&container);
        match result {
            Ok(began) => {
                remembered.failure = None;
                remembered.pull = None;
                match (began, &self.scope) {
                    (Began::Run { id, hook: true }, Some(scope)) => {
                        self.operations.post_start(scope, container, id);
                    }
                    (Began::Unstarted(run), _) => self.memory.recalled.push(*run),
                    _ => {}
                }
            }
            Err(Refused { what, then, .. }) => {
                let mut after = LONG_RETRY;
                if then.is_some() {
                    let next = Backoff::next(remembered.pull, now, now);
                    remembered.pull = Some(next);
                    after = next.delay;
                }
                remembered.failure = Some(Failure { what, then, at: now, retry_at: later(now, after) });
            }
        }
    }

    /// What is wanted of the pod now.
    fn goal(&mut self) -> Goal {
        if let Some(fixed) = self.cx.statics.get(&self.assignment.uid) {
            if self.pod.spec.is_none() {
                self.pod = fixed;
            }
            return wanted(&self.pod);
        }
        let known = self.assignment.key.as_ref().and_then(|key| self.cx.pods.get(key));
        let Some(known) = known.filter(|pod| pod.metadata.uid.as_ref() == Some(&self.assignment.uid)) else {
            let grace = match &self.pod.spec {
                Some(_) => Duration::from_secs(config::grace_seconds(&self.pod)),
                None => ORPHAN_GRACE,
            };
            return Goal::Leave(grace);
        };
        if version(&known) >= version(&self.pod) {
            self.pod = known;
        }
        wanted(&self.pod)
    }

    async fn runtime(&mut self) -> Result<Arc<dyn Runtime>, String> {
        if let Some(runtime) = &self.runtime {
            return Ok(runtime.clone());
        }
        let class = self.pod.spec.as_ref().and_then(|spec| spec.runtime_class_name.as_ref());
        let handler = match (&self.assignment.runtime, class) {
            (Some(runtime), _) => {
                self.runtime = Some(runtime.clone());
                return Ok(runtime.clone());
            }
            (None, None) => String::new(),
            (None, Some(class)) => {
                let classes: Api<RuntimeClass> = Api::all(self.cx.client.clone());
                let class = classes.get(class).await;
                class
                    .map_err(|error| format!("failed to get sandbox runtime: {}", client::message(&error)))?
                    .handler
            }
        };
        let found = self.cx.runtimes.get(&handler).cloned();
        let found = found.ok_or_else(|| {
            format!("Failed to create pod sandbox: no runtime for \"{handler}\" is configured")
        })?;
        self.runtime = Some(found.clone());
        self.handler = handler;
        Ok(found)
    }

    async fn observe(&mut self, runtime: &Arc<dyn Runtime>) -> Result<Observed, runtime::Error> {
        let mut sandboxes = runtime.list_sandboxes().await?;
        let mut containers = runtime.list_containers().await?;
        if !std::mem::replace(&mut self.has_recalled, true) {
            let rests = wanted(&self.pod) == Goal::Rest;
            recall::take_over(&mut self.memory, &self.pod, &self.cx.paths, &sandboxes, rests);
        }
        sandboxes.extend(self.memory.forgotten.clone());
        containers.extend(self.memory.recalled.iter().cloned());
        let mut observed = Observed::of(&self.assignment.uid, sandboxes, containers);
        observed.in_flight = self.operations.keys();
        self.messages.retain(|id, _| observed.containers().iter().any(|run| run.id == *id));
        for run in observed.containers().iter().filter(|run| run.state == ContainerState::Exited) {
            // What an ended run has left does not change any more.
            if !self.messages.contains_key(&run.id) {
                let message = last_words::of(&self.cx.paths, &self.pod, &self.assignment.uid, run);
                self.messages.insert(run.id.clone(), message);
            }
        }
        let left = self.messages.iter().filter_map(|(id, message)| Some((id.clone(), message.clone()?)));
        observed.messages = left.collect();
        Ok(observed)
    }

    /// The pod with the resources that it has been given; a resize that its spec asks for is decided upon first.
    fn allocated(&mut self, goal: &Goal) -> std::io::Result<Arc<Pod>> {
        let generation = self.pod.metadata.generation;
        let deferred = self.is_deferred();
        let wanted = *goal == Goal::Run && self.memory.failed.is_none();
        if wanted && (self.settled != Some(generation) || deferred) {
            let verdict = self.cx.allocations.settle(&self.pod, &self.cx.all_pods())?;
            self.settled = Some(generation);
            let pending = match verdict {
                Verdict::Same => None,
                Verdict::Given => {
                    self.memory.resize.failed = None;
                    self.cx.recorder.record(
                        &*self.pod,
                        EventType::Normal,
                        "ResizeStarted",
                        "Pod resize started",
                    );
                    None
                }
                Verdict::Deferred(message) => Some(Waiting::new(DEFERRED, message)),
                Verdict::Infeasible(message) => Some(Waiting::new(INFEASIBLE, message)),
            };
            if let Some(waiting) = pending.as_ref().filter(|_| pending != self.memory.resize.pending) {
                let Waiting { reason, message } = waiting;
                self.warn(&format!("Resize{reason}"), &format!("Pod resize {reason}: {message}"));
            }
            self.memory.resize.pending = pending;
        }
        Ok(self.cx.allocations.of(&self.pod))
    }

    /// Whether the pod waits for room that others may leave.
    fn is_deferred(&self) -> bool {
        self.memory.resize.pending.as_ref().is_some_and(|pending| pending.reason == DEFERRED)
    }

    /// Events of waiting that has just begun.
    fn announce(&mut self, plan: &Plan) {
        self.announced.retain(|name, _| plan.waiting.contains_key(name));
        let mut refused = false;
        for (name, waiting) in &plan.waiting {
            let before = self.announced.insert(name.clone(), waiting.reason.clone());
            if before.as_deref() == Some(waiting.reason.as_str()) {
                continue;
            }
            match waiting.reason.as_str() {
                "CrashLoopBackOff" => {
                    let pod = config::full_name(&self.pod);
                    self.warn(
                        "BackOff",
                        &format!("Back-off restarting failed container {name} in pod {pod}"),
                    );
                }
                "ImagePullBackOff" => {
                    let words = waiting.message.split(": ErrImagePull").next().unwrap_or_default();
                    let mut regarding = self.pod.object_ref(&());
                    regarding.field_path = containers::find(&self.pod, name).map(|found| found.field_path());
                    let recorder = &self.cx.recorder;
                    recorder.record_on(regarding.clone(), EventType::Normal, "BackOff", words);
                    recorder.record_on(regarding, EventType::Warning, "Failed", "Error: ImagePullBackOff");
                }
                UNSUPPORTED if !refused => {
                    refused = true;
                    self.warn(UNSUPPORTED, &waiting.message);
                }
                _ => {}
            }
        }
    }

    /// Has the API brought up to date; whether it is already.
    fn tell(&mut self, scope: &Scope, status: PodStatus, wakes: &mut Vec<Option<Timestamp>>) -> bool {
        let Some(key) = self.assignment.key.clone() else { return true };
        if self.pod.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(static_pods::HASH)) {
            return self.tell_image(scope, key, status, wakes);
        }
        if self.pod.status.as_ref() == Some(&status) || self.told.as_ref() == Some(&status) {
            return true;
        }
        wakes.push(self.operations.tell(scope, key, status));
        false
    }

    /// The same for a pod that the node's own files ask for: the API holds an image of it, or none.
    fn tell_image(
        &mut self,
        scope: &Scope,
        key: ObjectKey,
        status: PodStatus,
        wakes: &mut Vec<Option<Timestamp>>,
    ) -> bool {
        if self.pod.status.as_ref() != Some(&status) {
            self.pod = Arc::new(Pod { status: Some(status.clone()), ..(*self.pod).clone() });
        }
        let image = self.cx.pods.get(&key);
        let image = image.filter(|image| mirrored(image) == Some(self.assignment.uid.as_str()));
        let uid = image.as_ref().and_then(|image| image.metadata.uid.clone());
        if uid != self.image {
            // Another image has not been told anything.
            (self.image, self.told) = (uid, None);
        }
        if let Some(image) = image.filter(|image| image.status.as_ref() != Some(&status))
            && self.told.as_ref() != Some(&status)
        {
            let scope = Scope { pod: image, ..scope.clone() };
            wakes.push(self.operations.tell(&scope, key, status));
        }
        // Nothing of it waits for the API.
        true
    }

    fn warn(&self, reason: &str, message: &str) {
        self.cx.recorder.record(&*self.pod, EventType::Warning, reason, message);
    }
}

/// What is wanted of a pod that the API holds.
fn wanted(pod: &Pod) -> Goal {
    if pod.metadata.deletion_timestamp.is_some() {
        let seconds = pod.metadata.deletion_grace_period_seconds;
        let seconds =
            seconds.map_or(config::grace_seconds(pod), |seconds| u64::try_from(seconds).unwrap_or(0));
        return Goal::Leave(Duration::from_secs(seconds));
    }
    match pod.status.as_ref().and_then(|status| status.phase.as_deref()) {
        Some("Succeeded" | "Failed") => Goal::Rest,
        _ => Goal::Run,
    }
}

fn version(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}
