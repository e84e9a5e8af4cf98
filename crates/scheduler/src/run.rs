//! The thin part: what informers tell goes into the snapshot and the queue, decisions come out, bindings are posted.

use crate::filters::Hindrance;
use crate::place::{Unplaceable, place};
use crate::pod::{Common, PodFacts};
use crate::queue::Queue;
use crate::snapshot::Snapshot;
use client::election::{Election, ElectionConfig};
use client::kube::api::{Api, Patch, PatchParams, PostParams};
use client::kube::{Client, Error, ResourceExt};
use client::reflector::{Selection, Sink, Whole, reflect};
use client::write::{is_conflict, is_not_found};
use client::{Ambient, Change, EventRecorder, EventType, Informer, InformerOptions};
use clock::{Panicked, Tasks};
use k8s_openapi::api::core::v1::{Binding, Node, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Status, Time};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// Writes under way at once.
const IN_FLIGHT: usize = 64;
/// Decisions made before others on this thread get a turn.
const BURST: usize = 16;

/// How the scheduler runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who this process is among those that could schedule; `None` runs without a lease.
    pub identity: Option<String>,
    /// Which pods are ours (`spec.schedulerName`).
    pub scheduler_name: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { identity: None, scheduler_name: "default-scheduler".to_owned() }
    }
}

/// Schedules until `cancel`: as long as this process holds the lease `kube-system/kube-scheduler`, or at all times
/// without an identity.
///
/// # Errors
/// When a part of it panicked: it has given up the lease and stopped, and should be started anew with its process.
pub async fn run(
    client: Client,
    ambient: Ambient,
    options: Options,
    cancel: CancellationToken,
) -> Result<(), Panicked> {
    let Some(identity) = options.identity.clone() else {
        return lead(client, ambient, options, cancel).await;
    };
    let config = ElectionConfig::new("kube-system", "kube-scheduler", identity);
    let election = Election::new(client.clone(), config, ambient.clone());
    let (stop, failed) = (cancel.child_token(), OnceLock::new());
    let lead = |leading| async {
        if let Err(panicked) = lead(client.clone(), ambient.clone(), options.clone(), leading).await {
            // Of several the first is the cause.
            let _ = failed.set(panicked);
            stop.cancel();
        }
    };
    election.run(&stop, lead).await;
    failed.into_inner().map_or(Ok(()), Err)
}

async fn lead(
    client: Client,
    ambient: Ambient,
    options: Options,
    leading: CancellationToken,
) -> Result<(), Panicked> {
    let tasks = Tasks::under(&leading);
    let scheduler = Arc::new(Scheduler {
        world: Mutex::default(),
        wake: Notify::new(),
        slots: Arc::new(Semaphore::new(IN_FLIGHT)),
        recorder: EventRecorder::start(
            client.clone(),
            &options.scheduler_name,
            None,
            ambient.clone(),
            &tasks,
        ),
        client: client.clone(),
        ambient: ambient.clone(),
        name: options.scheduler_name,
    });
    let trim = InformerOptions { trim: Box::new(trim_node), ..InformerOptions::default() };
    let nodes = Informer::start(Api::<Node>::all(client.clone()), trim, &ambient, &tasks);
    let told = scheduler.clone();
    nodes.on_change(move |change| told.node_changed(change));
    let mut listed = follow_pods(&scheduler, &tasks);
    let owner = tasks.clone();
    tasks.spawn("scheduler", async move {
        nodes.ready().await;
        // An error would mean that nobody tells of pods any more: all of this ends.
        let _ = listed.wait_for(|listed| *listed).await;
        scheduler.schedule(&owner).await;
    });
    let outcome = tokio::select! {
        biased;
        () = leading.cancelled() => Ok(()),
        panicked = tasks.failed() => Err(panicked),
    };
    tasks.stop().await;
    outcome
}

/// Nothing of a node is looked at but what the snapshot takes.
fn trim_node(node: &mut Node) {
    node.metadata.managed_fields = None;
    if let Some(status) = &mut node.status {
        status.images = None;
        status.conditions = None;
    }
}

/// Keeps the world equal to what pods there are; the first complete list is told of. No pod is kept but in its facts.
fn follow_pods(scheduler: &Arc<Scheduler>, tasks: &Tasks) -> watch::Receiver<bool> {
    let (listed, told) = watch::channel(false);
    let mut sink = IntoWorld {
        scheduler: scheduler.clone(),
        common: Common::default(),
        unlisted: BTreeSet::new(),
        listed,
    };
    tasks.spawn("scheduler-pods", async move {
        let (api, ambient) = (Api::all(sink.scheduler.client.clone()), sink.scheduler.ambient.clone());
        reflect(Whole(api), Selection::default(), &mut sink, &ambient).await;
    });
    told
}

/// Where pods are read.
struct IntoWorld {
    scheduler: Arc<Scheduler>,
    common: Common,
    /// The UIDs of what was known before the list that is being applied, and has not been in it yet.
    unlisted: BTreeSet<Arc<str>>,
    listed: watch::Sender<bool>,
}

impl Sink<Pod> for IntoWorld {
    fn listing(&mut self) {
        let world = self.scheduler.world();
        self.unlisted = world.snapshot.uids().chain(world.queue.uids()).cloned().collect();
    }

    fn apply(&mut self, pod: Pod) {
        let facts = self.common.share(PodFacts::of(&pod));
        self.unlisted.remove(&facts.uid);
        self.scheduler.pod_changed(&pod, facts);
    }

    fn delete(&mut self, pod: Pod) {
        self.scheduler.pod_gone(&pod.uid().unwrap_or_default());
    }

    fn listed(&mut self) {
        for gone in std::mem::take(&mut self.unlisted) {
            self.scheduler.pod_gone(&gone);
        }
        self.listed.send_replace(true);
    }
}

#[derive(Default)]
struct World {
    snapshot: Snapshot,
    queue: Queue,
}

struct Scheduler {
    world: Mutex<World>,
    wake: Notify,
    slots: Arc<Semaphore>,
    recorder: EventRecorder,
    client: Client,
    ambient: Ambient,
    name: String,
}

enum Decision {
    Bind(Arc<PodFacts>, Arc<str>),
    Unplaceable(Arc<PodFacts>, Unplaceable, bool),
}

impl Scheduler {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn node_changed(&self, change: &Change<Node>) {
        let now = self.ambient.clock.monotonic();
        let mut world = self.world();
        match change.after() {
            Some(node) => world.snapshot.set_node(node),
            None => world.snapshot.remove_node(&change.object().name_any()),
        }
        let helps = may_help(change);
        if !helps.is_empty() {
            world.queue.changed(&helps, now);
            self.wake.notify_one();
        }
    }

    fn pod_changed(&self, pod: &Pod, facts: PodFacts) {
        let now = self.ambient.clock.monotonic();
        let mut world = self.world();
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
            world.gone(&facts.uid, now);
        } else if let Some(node) = facts.node_name.clone() {
            world.queue.remove(&facts.uid);
            world.snapshot.place(&node, Arc::new(facts));
        } else if !world.snapshot.holds(&facts.uid) {
            if self.is_ours(pod) { world.queue.offer(facts) } else { world.queue.remove(&facts.uid) }
        }
        drop(world);
        self.wake.notify_one();
    }

    fn pod_gone(&self, uid: &str) {
        self.world().gone(uid, self.ambient.clock.monotonic());
        self.wake.notify_one();
    }

    /// Ours to place, and ready to be: not gated, not going away.
    fn is_ours(&self, pod: &Pod) -> bool {
        let Some(spec) = &pod.spec else { return false };
        let ours = spec.scheduler_name.as_deref().unwrap_or("default-scheduler") == self.name;
        let gated = spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
        ours && !gated && pod.metadata.deletion_timestamp.is_none()
    }

    async fn schedule(self: Arc<Self>, tasks: &Tasks) {
        for round in 0usize.. {
            if round % BURST == 0 {
                tokio::task::yield_now().await;
            }
            // A place for the write first: what is decided must soon be done, or it was decided on old facts.
            let Ok(slot) = self.slots.clone().acquire_owned().await else { return };
            let Some(decision) = self.decide() else {
                drop(slot);
                self.idle().await;
                continue;
            };
            let scheduler = self.clone();
            tasks.spawn("bind", async move {
                scheduler.carry_out(decision).await;
                drop(slot);
            });
        }
    }

    async fn idle(&self) {
        let due = self.world().queue.due();
        match due {
            None => self.wake.notified().await,
            Some(at) => tokio::select! {
                biased;
                () = self.wake.notified() => {}
                () = self.ambient.clock.sleep_until(at) => {}
            },
        }
    }

    fn decide(&self) -> Option<Decision> {
        let now = self.ambient.clock.monotonic();
        let mut world = self.world();
        let facts = world.queue.next(now)?;
        match place(&facts, &mut world.snapshot, self.ambient.random.u64()) {
            Ok(node) => {
                world.snapshot.place(&node, facts.clone());
                Some(Decision::Bind(facts, node))
            }
            Err(unplaceable) => {
                let reason = unplaceable.to_string();
                let news = world.queue.unplaceable(&facts.uid, unplaceable.hindrances.clone(), &reason, now);
                Some(Decision::Unplaceable(facts, unplaceable, news))
            }
        }
    }

    async fn carry_out(&self, decision: Decision) {
        match decision {
            Decision::Bind(facts, node) => match self.bind(&facts, &node).await {
                Ok(()) => {
                    let message =
                        format!("Successfully assigned {}/{} to {node}", facts.namespace, facts.name);
                    self.recorder.record_on(reference(&facts), EventType::Normal, "Scheduled", message);
                }
                Err(error) => self.not_bound(&facts, &error),
            },
            Decision::Unplaceable(facts, why, news) => {
                let message = why.to_string();
                self.recorder.record_on(
                    reference(&facts),
                    EventType::Warning,
                    "FailedScheduling",
                    message.clone(),
                );
                if news {
                    self.say_unschedulable(&facts, &message).await;
                }
            }
        }
    }

    async fn bind(&self, facts: &PodFacts, node: &str) -> Result<(), Error> {
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(facts.name.to_string()),
                namespace: Some(facts.namespace.to_string()),
                uid: Some(facts.uid.to_string()),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                kind: Some("Node".to_owned()),
                name: Some(node.to_owned()),
                ..ObjectReference::default()
            },
        };
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &facts.namespace);
        let params = PostParams::default();
        pods.create_subresource::<_, Status>("binding", &facts.name, &params, &binding).await.map(drop)
    }

    /// The place is given back. A pod that is gone, or bound by another, is no longer ours; anything else is tried again.
    fn not_bound(&self, facts: &PodFacts, error: &Error) {
        let now = self.ambient.clock.monotonic();
        let mut world = self.world();
        if !world.queue.is_out(&facts.uid) {
            // The watch was faster: it is bound after all, or gone, and its place is counted as it should be.
            tracing::debug!(pod = %facts.name, %error, "binding failed, and something happened all the same");
            return;
        }
        world.snapshot.remove_pod(&facts.uid);
        world.queue.changed(&[Hindrance::Resources, Hindrance::Ports], now);
        if is_not_found(error) || is_conflict(error) {
            tracing::debug!(pod = %facts.name, %error, "was not ours to bind");
            world.queue.remove(&facts.uid);
        } else {
            tracing::info!(pod = %facts.name, %error, "binding failed");
            world.queue.failed(&facts.uid, now);
        }
        drop(world);
        self.wake.notify_one();
    }

    async fn say_unschedulable(&self, facts: &PodFacts, message: &str) {
        let condition = json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
            "lastTransitionTime": Time(self.ambient.clock.now()),
        });
        let patch = json!({ "metadata": { "uid": *facts.uid }, "status": { "conditions": [condition] } });
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &facts.namespace);
        let params = PatchParams::default();
        if let Err(error) = pods.patch_status(&facts.name, &params, &Patch::Strategic(patch)).await {
            tracing::debug!(pod = %facts.name, %error, "could not say why it is not scheduled");
        }
    }
}

impl World {
    fn gone(&mut self, uid: &str, now: clock::Instant) {
        self.queue.remove(uid);
        if self.snapshot.remove_pod(uid) {
            self.queue.changed(&[Hindrance::Resources, Hindrance::Ports], now);
        }
    }
}

/// Which hindrances the change of a node may have removed.
fn may_help(change: &Change<Node>) -> Vec<Hindrance> {
    use Hindrance::{Affinity, NodeName, Ports, Resources, Taint, Unschedulable};
    match change {
        Change::Added(_) => vec![Unschedulable, NodeName, Taint, Affinity, Ports, Resources],
        Change::Deleted(_) => Vec::new(),
        Change::Updated { old, new } => {
            let mut helps = Vec::new();
            let cordoned =
                |node: &Node| node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
            let taints =
                |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
            let allocatable =
                |node: &Node| node.status.as_ref().and_then(|status| status.allocatable.clone());
            if cordoned(old) && !cordoned(new) {
                helps.push(Unschedulable);
            }
            if taints(old) != taints(new) {
                helps.push(Taint);
            }
            if old.labels() != new.labels() {
                helps.push(Affinity);
            }
            if allocatable(old) != allocatable(new) {
                helps.push(Resources);
            }
            helps
        }
    }
}

fn reference(facts: &PodFacts) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(facts.namespace.to_string()),
        name: Some(facts.name.to_string()),
        uid: Some(facts.uid.to_string()),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clock::{ManualClock, SeededRandom};
    use serde_json::{Value, from_value};
    use testkit::FakeApi;

    fn scheduler() -> Scheduler {
        let clock = Arc::new(ManualClock::new("2026-01-02T03:04:05Z".parse().unwrap()));
        let ambient = Ambient { clock, random: Arc::new(SeededRandom::new(1)) };
        let client = FakeApi::new(ambient.clone()).client();
        let tasks = Tasks::default();
        Scheduler {
            world: Mutex::default(),
            wake: Notify::new(),
            slots: Arc::new(Semaphore::new(1)),
            recorder: EventRecorder::start(client.clone(), "test", None, ambient.clone(), &tasks),
            client,
            ambient,
            name: "default-scheduler".to_owned(),
        }
    }

    fn pod(node: Option<&str>) -> Pod {
        let pod: Value = json!({
            "metadata": { "name": "p", "namespace": "x", "uid": "p" },
            "spec": {
                "nodeName": node, "containers": [{ "name": "c", "resources": { "requests": { "cpu": "1" } } }],
            },
        });
        from_value(pod).unwrap()
    }

    fn changed(scheduler: &Scheduler, pod: &Pod) {
        scheduler.pod_changed(pod, PodFacts::of(pod));
    }

    fn timed_out() -> Error {
        Error::Service("the answer was lost".into())
    }

    #[tokio::test]
    async fn a_binding_that_failed_gives_its_place_back_unless_the_watch_saw_it_happen() {
        let scheduler = scheduler();
        let node: Node = from_value(json!({
            "metadata": { "name": "n" }, "status": { "allocatable": { "cpu": "1", "pods": "10" } },
        }))
        .unwrap();
        scheduler.node_changed(&Change::Added(Arc::new(node)));
        changed(&scheduler, &pod(None));
        let Some(Decision::Bind(facts, _)) = scheduler.decide() else { panic!("there is room") };
        scheduler.not_bound(&facts, &timed_out());
        assert!(!scheduler.world().snapshot.holds("p"));

        scheduler.world().queue.failed("p", scheduler.ambient.clock.monotonic());
        let now = scheduler.ambient.clock.monotonic() + std::time::Duration::from_secs(60);
        assert!(scheduler.world().queue.next(now).is_some());
        scheduler.world().snapshot.place("n", facts.clone());
        // The request was carried out, though its answer was lost; the watch says so first.
        changed(&scheduler, &pod(Some("n")));
        scheduler.not_bound(&facts, &timed_out());
        assert!(scheduler.world().snapshot.holds("p"), "its place is taken");
    }
}
