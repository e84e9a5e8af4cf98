//! The task that owns one pod: it looks, plans, tells and acts, and then waits for something to happen.

use std::sync::Arc;
use std::time::Duration;

use api::k8s::api::core::v1::{Pod, PodStatus};
use api::k8s::api::node::v1::RuntimeClass;
use client::{Api, DeleteParams, EventType, ObjectKey, ObjectMeta, Patch, PatchParams, Preconditions, write};
use jiff::{SignedDuration, Timestamp};
use runtime::{ContainerState, Runtime};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::act::Actor;
use super::config;
use super::memory::{Memory, Waiting};
use super::observed::Observed;
use super::plan::{Action, Goal, Plan, plan};
use super::probe::Prober;
use super::status::{Surroundings, status};
use super::volume;
use crate::context::Context;

/// How long a sandbox that outlived its pod's record has to end.
const ORPHAN_GRACE: Duration = Duration::from_secs(1);
/// How long to wait before something that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// So many passes without a rest are more than any pod needs.
const BUSY: u32 = 64;
/// As much of a termination message as is told.
const MESSAGE_LIMIT: usize = 4096;

/// Whom a worker works for.
#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    pub(crate) uid: String,
    /// Where the pod is in the API; `None` for what was found in the runtime only.
    pub(crate) key: Option<ObjectKey>,
    /// The handler whose runtime holds what was found.
    pub(crate) handler: Option<String>,
}

pub(crate) struct Worker {
    cx: Arc<Context>,
    assignment: Assignment,
    nudged: Arc<Notify>,
    /// The newest known form of the pod.
    pod: Arc<Pod>,
    memory: Memory,
    prober: Prober,
    /// The last status that the API took.
    told: Option<PodStatus>,
    runtime: Option<Arc<dyn Runtime>>,
}

/// What a pass came to.
enum Pass {
    /// Something was done: look again.
    Again,
    /// Nothing to do until something happens, or until then.
    Wait(Option<Duration>),
    /// Nothing is left.
    Gone,
}

impl Worker {
    pub(crate) fn new(cx: Arc<Context>, assignment: Assignment, nudged: Arc<Notify>) -> Self {
        let metadata = ObjectMeta { uid: Some(assignment.uid.clone()), ..ObjectMeta::default() };
        let pod = Arc::new(Pod { metadata, ..Pod::default() });
        let prober = Prober::new(cx.clone(), nudged.clone());
        Self { cx, assignment, nudged, pod, memory: Memory::default(), prober, told: None, runtime: None }
    }

    /// Works until nothing of the pod is left, here or in the API.
    pub(crate) async fn run(mut self) {
        let mut passes = 0;
        loop {
            match self.pass().await {
                Pass::Again => {
                    passes += 1;
                    if passes % BUSY == 0 {
                        // A runtime whose lists do not follow its answers must not keep a core busy.
                        self.cx.ambient.clock.sleep(RETRY).await;
                    }
                }
                Pass::Gone => return,
                Pass::Wait(None) => self.nudged.notified().await,
                Pass::Wait(Some(duration)) => {
                    tokio::select! {
                        () = self.nudged.notified() => {}
                        () = self.cx.ambient.clock.sleep(duration) => {}
                    }
                }
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
                return Pass::Wait(Some(Duration::from_secs(10)));
            }
        };
        let observed = match self.observe(&runtime).await {
            Ok(observed) => observed,
            Err(error) => {
                tracing::warn!(uid = self.assignment.uid, %error, "the runtime could not be asked");
                return Pass::Wait(Some(RETRY));
            }
        };
        if matches!(goal, Goal::Leave(_)) && observed.is_empty() {
            return self.depart().await;
        }
        let now = self.cx.ambient.clock.now();
        self.prober.follow(&self.pod, &runtime, &observed, &mut self.memory);
        let deadline = self.check_deadline(&goal, now);
        let goal = if self.memory.failed.is_some() && goal == Goal::Run { Goal::Rest } else { goal };
        let plan = plan(&self.pod, &goal, &observed, &self.memory, now);
        self.announce(&plan);
        let status = self.status(&goal, &observed, &plan, &runtime, now);
        self.memory = plan.memory;
        let wake = [plan.wake_at, deadline].into_iter().flatten().min();
        self.perform(&goal, &runtime, &observed, plan.actions, status, wake).await
    }

    /// What is wanted of the pod now.
    fn goal(&mut self) -> Goal {
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

    /// Returns once the pod is to leave, or to leave sooner. Everything is looked at again after acting anyway.
    async fn until_other(cx: &Context, assignment: &Assignment, nudged: &Notify, goal: &Goal) {
        loop {
            nudged.notified().await;
            let known = assignment.key.as_ref().and_then(|key| cx.pods.get(key));
            let known = known.filter(|pod| pod.metadata.uid.as_ref() == Some(&assignment.uid));
            let other = match (known.map(|pod| wanted(&pod)), goal) {
                (None, Goal::Leave(_)) => false,
                (None, _) => true,
                (Some(wanted), goal) => matches!(wanted, Goal::Leave(_)) && wanted != *goal,
            };
            if other {
                return;
            }
        }
    }

    async fn runtime(&mut self) -> Result<Arc<dyn Runtime>, String> {
        if let Some(runtime) = &self.runtime {
            return Ok(runtime.clone());
        }
        let handler = match (&self.assignment.handler, self.pod.spec.as_ref()) {
            (Some(handler), _) => handler.clone(),
            (None, Some(spec)) => match &spec.runtime_class_name {
                None => String::new(),
                Some(class) => {
                    let classes: Api<RuntimeClass> = Api::all(self.cx.client.clone());
                    let class = classes.get(class).await;
                    class.map_err(|error| format!("failed to get sandbox runtime: {error}"))?.handler
                }
            },
            (None, None) => String::new(),
        };
        let found = self.cx.runtimes.get(&handler).cloned();
        let found = found.ok_or_else(|| {
            format!("Failed to create pod sandbox: no runtime for \"{handler}\" is configured")
        })?;
        self.runtime = Some(found.clone());
        Ok(found)
    }

    async fn observe(&self, runtime: &Arc<dyn Runtime>) -> Result<Observed, runtime::Error> {
        let sandboxes = runtime.list_sandboxes().await?;
        let containers = runtime.list_containers().await?;
        let mut observed = Observed::of(&self.assignment.uid, sandboxes, containers);
        for run in observed.containers().to_vec() {
            if run.state == ContainerState::Exited {
                let path =
                    self.cx.paths.message(&self.assignment.uid, &run.metadata.name, run.metadata.attempt);
                if let Some(message) = message(&path) {
                    observed.messages.insert(run.id.clone(), message);
                }
            }
        }
        Ok(observed)
    }

    /// Fails the pod if it has run longer than it may; else when that will be.
    fn check_deadline(&mut self, goal: &Goal, now: Timestamp) -> Option<Timestamp> {
        let seconds = self.pod.spec.as_ref()?.active_deadline_seconds?;
        let started = self.pod.status.as_ref()?.start_time.as_ref()?.0;
        let deadline = started.checked_add(SignedDuration::from_secs(seconds)).ok()?;
        if *goal == Goal::Run && now >= deadline && self.memory.failed.is_none() {
            let message = "Pod was active on the node longer than the specified deadline";
            self.memory.failed = Some(Waiting::new("DeadlineExceeded", message));
            self.warn("DeadlineExceeded", message);
        }
        (now < deadline).then_some(deadline)
    }

    /// Events of waiting that has just begun.
    fn announce(&self, plan: &Plan) {
        let shown = |name: &str| {
            let statuses = self.told.as_ref()?;
            let all = statuses.container_statuses.iter().chain(&statuses.init_container_statuses).flatten();
            let told = all.into_iter().find(|told| told.name == name)?;
            told.state.as_ref()?.waiting.as_ref()?.reason.clone()
        };
        for (name, waiting) in &plan.waiting {
            if shown(name).as_deref() == Some(waiting.reason.as_str()) {
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
                    self.cx.recorder.record(&*self.pod, EventType::Normal, "BackOff", words);
                }
                _ => {}
            }
        }
    }

    fn status(
        &self,
        goal: &Goal,
        observed: &Observed,
        plan: &Plan,
        runtime: &Arc<dyn Runtime>,
        now: Timestamp,
    ) -> PodStatus {
        let around = Surroundings { host_ips: &self.cx.host_ips, handler: runtime.name(), now };
        status(&self.pod, goal, observed, plan, &around)
    }

    async fn perform(
        &mut self,
        goal: &Goal,
        runtime: &Arc<dyn Runtime>,
        observed: &Observed,
        actions: Vec<Action>,
        status: PodStatus,
        wake: Option<Timestamp>,
    ) -> Pass {
        // What is removed cannot be told of afterwards.
        let removes = matches!(goal, Goal::Leave(_))
            && actions.iter().any(|action| matches!(action, Action::RemoveSandbox { .. }));
        if (removes || actions.is_empty()) && !self.tell(status.clone()).await {
            return Pass::Wait(Some(RETRY));
        }
        if actions.is_empty() {
            let now = self.cx.ambient.clock.now();
            let left = wake.map(|at| at.duration_since(now).try_into().unwrap_or(Duration::ZERO));
            return Pass::Wait(left);
        }
        let (cx, assignment, nudged) = (self.cx.clone(), self.assignment.clone(), self.nudged.clone());
        let pod = self.pod.clone();
        let mut memory = std::mem::take(&mut self.memory);
        let mut actor = Actor { cx: &cx, pod: &pod, runtime, observed, memory: &mut memory };
        let acting = async {
            tokio::select! {
                done = actor.act(actions) => done,
                () = Self::until_other(&cx, &assignment, &nudged, goal) => true,
            }
        };
        let telling = async { removes || self.tell(status).await };
        let (did, told) = tokio::join!(acting, telling);
        self.memory = memory;
        if did && told { Pass::Again } else { Pass::Wait(Some(RETRY)) }
    }

    /// Brings the API up to date. `false`: it could not be reached, and has to be tried again.
    async fn tell(&mut self, status: PodStatus) -> bool {
        let Some(key) = self.assignment.key.clone() else { return true };
        if self.pod.status.as_ref() == Some(&status) || self.told.as_ref() == Some(&status) {
            return true;
        }
        let pods: Api<Pod> = Api::namespaced(self.cx.client.clone(), &key.namespace);
        let patch = Patch::Merge(patch(&self.pod, &status));
        match pods.patch_status(&key.name, &PatchParams::default(), &patch).await {
            Ok(pod) => {
                self.pod = Arc::new(pod);
                self.told = Some(status);
                true
            }
            Err(error) if write::is_conflict(&error) => {
                self.refresh(&pods, &key).await;
                false
            }
            // The watch will say so, too.
            Err(error) if write::is_not_found(&error) => true,
            Err(error) => {
                tracing::warn!(pod = %key, %error, "the pod's status could not be written");
                false
            }
        }
    }

    async fn refresh(&mut self, pods: &Api<Pod>, key: &ObjectKey) {
        if let Ok(Some(pod)) = pods.get_opt(&key.name).await
            && pod.metadata.uid.as_ref() == Some(&self.assignment.uid)
        {
            self.pod = Arc::new(pod);
        }
        // Look again at once.
        self.nudged.notify_one();
    }

    /// Removes what the pod left on the disk, and then its record in the API.
    async fn depart(&mut self) -> Pass {
        let directory = self.cx.paths.pod(&self.assignment.uid);
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let meta = &self.pod.metadata;
        let logs = self.cx.paths.log(&text(&meta.namespace), &text(&meta.name), &self.assignment.uid);
        let removed = tokio::task::spawn_blocking(move || {
            volume::remove(&directory)?;
            volume::remove(&logs)
        })
        .await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(uid = self.assignment.uid, %error, "the pod's directory could not be removed");
            return Pass::Wait(Some(Duration::from_secs(10)));
        }
        let (Some(key), Some(_)) = (self.assignment.key.clone(), &self.pod.metadata.deletion_timestamp)
        else {
            return Pass::Gone;
        };
        let pods: Api<Pod> = Api::namespaced(self.cx.client.clone(), &key.namespace);
        let preconditions =
            Preconditions { uid: Some(self.assignment.uid.clone()), ..Preconditions::default() };
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        match pods.delete(&key.name, &params).await {
            Ok(_) => Pass::Gone,
            // Gone, or another pod of that name by now.
            Err(error) if write::is_not_found(&error) || write::is_conflict(&error) => Pass::Gone,
            Err(error) => {
                tracing::warn!(pod = %key, %error, "the pod could not be deleted");
                Pass::Wait(Some(RETRY))
            }
        }
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

/// A merge patch that makes the API's status this one: only of this very pod, and only if nobody wrote in between.
fn patch(pod: &Pod, status: &PodStatus) -> Value {
    let mut fields = serde_json::to_value(status).unwrap_or_default();
    if let (Value::Object(fields), Ok(Value::Object(before))) =
        (&mut fields, serde_json::to_value(&pod.status))
    {
        // What is no longer said has to be unsaid.
        for (name, _) in before {
            fields.entry(name).or_insert(Value::Null);
        }
    }
    json!({
        "metadata": {"uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version},
        "status": fields,
    })
}

fn message(path: &std::path::Path) -> Option<String> {
    use std::io::Read;
    let mut text = Vec::new();
    std::fs::File::open(path).ok()?.take(MESSAGE_LIMIT as u64).read_to_end(&mut text).ok()?;
    (!text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned())
}
