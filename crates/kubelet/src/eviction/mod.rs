//! Eviction: pods leave when the node runs short, or when they take more than they may of its disk.
//!
//! Begin with [`decide`], which is pure; [`measure`] looks, and [`run`] has it happen.

mod decide;
mod limits;
mod measure;
mod threshold;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::k8s::api::core::v1::{ObjectReference, Pod};
use apimachinery::quantity::Quantity;
use client::EventType;
use clock::Instant;
use runtime::{ContainerStatus, Runtime};

use crate::cgroups;
use crate::context::Context;
use crate::images;
use crate::pod::containers;
use crate::resources;
use decide::{Candidate, Memory, Met};
use measure::PodDisk;
pub use threshold::{Eviction, Signal, Written, duration};

/// How often is looked, as upstream.
const LOOK: Duration = Duration::from_secs(10);
/// How often is looked while something that was short is being given back.
const SOON: Duration = Duration::from_secs(1);
/// How long a pod that was evicted is waited for before the next one is.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a pod has to end that has to leave at once, as upstream.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Pods of this priority and above are the plane's own, and are not evicted.
const CRITICAL: i32 = 2_000_000_000;

/// A container, and the runtime that has it.
type Run = (Arc<dyn Runtime>, ContainerStatus);

/// A pod has to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Evicted {
    pub(crate) message: String,
    /// How long its containers have to end.
    pub(crate) grace: Duration,
}

/// Pods that have to leave, by their UID, until their workers have taken note.
#[derive(Default)]
pub(crate) struct Evictions(Mutex<BTreeMap<String, Word>>);

/// What a pod's worker is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// It has to leave.
    Leave(Evicted),
    /// It has ended, and what it keeps of the disk is needed.
    Clear,
}

impl Evictions {
    fn add(&self, uid: &str, word: Word) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.to_owned(), word);
    }

    pub(crate) fn take(&self, uid: &str) -> Option<Word> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid)
    }
}

/// Looks after the node, for ever.
pub(crate) async fn run(cx: Arc<Context>, eviction: Eviction) {
    let mut keeper = Keeper { cx: cx.clone(), eviction, memory: Memory::default(), leaving: None };
    loop {
        let again = keeper.look().await;
        cx.ambient.clock.sleep(again).await;
    }
}

struct Keeper {
    cx: Arc<Context>,
    eviction: Eviction,
    memory: Memory,
    /// Who was evicted last, and when.
    leaving: Option<(String, Instant)>,
}

impl Keeper {
    /// Looks once; says after how long to look again.
    async fn look(&mut self) -> Duration {
        let data = self.cx.paths.pods.parent().unwrap_or(&self.cx.paths.pods).to_owned();
        let images = self.cx.runtimes.get("").and_then(|runtime| runtime.image_directory());
        let (groups, group) = (self.cx.groups.clone(), self.cx.cgroup.clone());
        let memory = self.cx.of_pods.get("memory").map_or(0, Quantity::value);
        let measure = move || {
            let of_pods = measure::pods(&*groups, &group, memory);
            measure::node(&data, images.as_deref()).into_iter().chain(of_pods).collect::<Vec<_>>()
        };
        let measured = tokio::task::spawn_blocking(measure).await;
        let now = self.cx.ambient.clock.now();
        let readings = measured.unwrap_or_default();
        let decision = decide::decide(&self.eviction, &readings, &mut self.memory, now);
        self.cx.pressure.send_if_modified(|known| {
            let news = *known != decision.conditions;
            known.clone_from(&decision.conditions);
            news
        });
        let pods = self.active();
        let runs = self.runs(&pods).await;
        if self.is_leaving().await {
            return SOON;
        }
        if self.enforce_limits(&pods, &runs).await {
            return LOOK;
        }
        let Some(met) = decision.act else { return LOOK };
        self.tell(&met);
        let given_back = met.threshold.signal.condition() == "DiskPressure" && self.reclaim().await;
        if !given_back {
            self.evict_one(&pods, &runs, &met).await;
        }
        SOON
    }

    /// Tells of what is short.
    fn tell(&self, met: &Met) {
        let node = ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(self.cx.node_name.clone()),
            // As upstream's kubelet names its node: by its name only.
            uid: Some(self.cx.node_name.clone()),
            ..ObjectReference::default()
        };
        let message = format!("Attempting to reclaim {}", met.threshold.signal.resource());
        self.cx.recorder.record_on(node, EventType::Warning, "EvictionThresholdMet", message);
    }

    /// Gives back what nobody uses: images, and what ended pods keep. Whether there was any.
    async fn reclaim(&self) -> bool {
        let images = images::gc::reclaim(&self.cx).await;
        let kept = self.sandboxes().await;
        let ended = self.cx.all_pods().into_iter().filter(|pod| cgroups::has_ended(pod));
        let ended: Vec<_> = ended.filter(|pod| kept.contains(uid(pod))).collect();
        for pod in &ended {
            self.cx.evictions.add(uid(pod), Word::Clear);
            self.cx.inbox.add(uid(pod), None);
        }
        images || !ended.is_empty()
    }

    /// UIDs of the pods that have a sandbox.
    async fn sandboxes(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for runtime in self.cx.runtimes.all() {
            let listed = runtime.list_sandboxes().await.unwrap_or_default();
            found.extend(listed.into_iter().map(|sandbox| sandbox.metadata.uid));
        }
        found
    }

    /// Pods that have not ended and are not about to.
    fn active(&self) -> Vec<Arc<Pod>> {
        let pods = self.cx.all_pods().into_iter();
        pods.filter(|pod| !cgroups::has_ended(pod) && pod.metadata.deletion_timestamp.is_none()).collect()
    }

    /// Containers by the pod's UID, with their runtimes.
    async fn runs(&self, pods: &[Arc<Pod>]) -> BTreeMap<String, Vec<Run>> {
        let mut found: BTreeMap<String, Vec<_>> = BTreeMap::new();
        if pods.is_empty() {
            return found;
        }
        for runtime in self.cx.runtimes.all() {
            let (Ok(sandboxes), Ok(containers)) =
                (runtime.list_sandboxes().await, runtime.list_containers().await)
            else {
                continue;
            };
            let whose: BTreeMap<&str, &str> =
                sandboxes.iter().map(|one| (one.id.as_str(), one.metadata.uid.as_str())).collect();
            for run in containers {
                if let Some(uid) = whose.get(run.sandbox_id.as_str()) {
                    found.entry((*uid).to_owned()).or_default().push((runtime.clone(), run));
                }
            }
        }
        found
    }

    /// Evicts those that take more of the disk than they may. Whether there were any.
    async fn enforce_limits(&mut self, pods: &[Arc<Pod>], runs: &BTreeMap<String, Vec<Run>>) -> bool {
        let mut any = false;
        for pod in pods.iter().filter(|pod| limits::has_any(pod)) {
            if self.is_critical(pod) {
                continue;
            }
            let disk = measure::pod(&self.cx, pod, runs.get(uid(pod)).map_or(&[], Vec::as_slice)).await;
            if let Some(message) = limits::exceeded(pod, &disk) {
                self.evict(pod, message, AT_ONCE);
                any = true;
            }
        }
        any
    }

    /// Whether one that was evicted has not given back yet what it held.
    async fn is_leaving(&mut self) -> bool {
        let Some((leaving, since)) = self.leaving.clone() else { return false };
        let volumes = self.cx.paths.volumes(&leaving);
        let holds = self.sandboxes().await.contains(&leaving) || volumes.exists();
        let waits = holds && self.cx.ambient.clock.monotonic().since(since) < PATIENCE;
        if !waits {
            self.leaving = None;
        }
        waits
    }

    async fn evict_one(&mut self, pods: &[Arc<Pod>], runs: &BTreeMap<String, Vec<Run>>, met: &Met) {
        let signal = met.threshold.signal;
        let mut candidates = Vec::new();
        let mut disks = BTreeMap::new();
        for pod in pods.iter().filter(|pod| !self.is_critical(pod)) {
            let request = match signal.condition() {
                "PIDPressure" => 0,
                _ => resources::pod_request(pod, signal.resource()),
            };
            let disk = match signal.condition() {
                "DiskPressure" => {
                    measure::pod(&self.cx, pod, runs.get(uid(pod)).map_or(&[], Vec::as_slice)).await
                }
                _ => PodDisk::default(),
            };
            let usage = self.usage(signal, pod, &disk).await;
            disks.insert(uid(pod).to_owned(), disk);
            let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
            candidates.push(Candidate { uid: uid(pod).to_owned(), priority, request, usage });
        }
        decide::rank(signal, &mut candidates);
        let Some(pod) = candidates.first().and_then(|first| pods.iter().find(|pod| uid(pod) == first.uid))
        else {
            let signal = signal.name();
            tracing::warn!(signal, "the node runs short, and there is no pod that could leave");
            return;
        };
        let greedy = match signal.condition() {
            "PIDPressure" => String::new(),
            _ => self.greedy(signal, pod, disks.get(uid(pod)), runs.get(uid(pod))).await,
        };
        let amount = |value: i64| match signal.is_amount() {
            true => Quantity::from_bytes(value).to_string(),
            false => value.to_string(),
        };
        let message = format!(
            "The node was low on resource: {}. Threshold quantity: {}, available: {}. {greedy}",
            signal.resource(),
            amount(met.wanted()),
            amount(met.reading.available)
        );
        let own = Duration::from_secs(crate::pod::config::grace_seconds(pod));
        let grace = match met.threshold.grace {
            Some(_) => own.min(self.eviction.max_pod_grace),
            None => AT_ONCE,
        };
        self.evict(pod, message, grace);
    }

    async fn usage(&self, signal: Signal, pod: &Pod, disk: &PodDisk) -> i64 {
        let whole = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
        match signal {
            Signal::NodefsAvailable | Signal::ImagefsAvailable => whole(disk.total().bytes),
            Signal::NodefsInodesFree | Signal::ImagefsInodesFree => whole(disk.total().inodes),
            Signal::MemoryAvailable | Signal::AllocatableMemory | Signal::PidAvailable => {
                let (groups, group) = (self.cx.groups.clone(), cgroups::of_pod(&self.cx.cgroup, pod));
                let used = tokio::task::spawn_blocking(move || groups.usage(&group)).await;
                let Ok(Ok(used)) = used else { return 0 };
                whole(if signal == Signal::PidAvailable { used.pids } else { used.memory_working_set })
            }
        }
    }

    /// Which containers take more than they asked for, in upstream's words.
    async fn greedy(
        &self,
        signal: Signal,
        pod: &Pod,
        disk: Option<&PodDisk>,
        runs: Option<&Vec<Run>>,
    ) -> String {
        let mut text = String::new();
        let resource = signal.resource();
        for container in containers::all(pod) {
            let used = match signal.condition() {
                "DiskPressure" => disk.and_then(|disk| disk.containers.get(container.name())).copied(),
                _ => None,
            };
            let used = match (used, resource) {
                (Some(used), "inodes") => used.inodes,
                (Some(used), _) => used.bytes,
                (None, _) => {
                    let mut sum = 0_u64;
                    for (runtime, run) in runs.into_iter().flatten() {
                        if run.metadata.name == container.name()
                            && let Ok(stats) = runtime.container_stats(&run.id).await
                        {
                            sum = sum.saturating_add(stats.memory_working_set);
                        }
                    }
                    sum
                }
            };
            let used = Quantity::from_bytes(i64::try_from(used).unwrap_or(i64::MAX));
            let asked = resources::request(&container.spec, resource).unwrap_or_default();
            if used > asked {
                let name = container.name();
                text.push_str(&format!(
                    "Container {name} was using {used}, request is {asked}, has larger consumption of {resource}. "
                ));
            }
        }
        text
    }

    fn is_critical(&self, pod: &Pod) -> bool {
        is_critical(pod, self.cx.statics.get(uid(pod)).is_some())
    }

    fn evict(&mut self, pod: &Pod, message: String, grace: Duration) {
        tracing::info!(pod = crate::pod::config::full_name(pod), message, "evicting");
        self.cx.recorder.record(pod, EventType::Warning, "Evicted", message.clone());
        self.cx.evictions.add(uid(pod), Word::Leave(Evicted { message, grace }));
        self.cx.inbox.add(uid(pod), None);
        self.leaving = Some((uid(pod).to_owned(), self.cx.ambient.clock.monotonic()));
    }
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// Whether a pod stays whatever is short: the node's own (`fixed`; an annotation could say so of any pod), and those of a
/// priority that only the plane gives.
pub(crate) fn is_critical(pod: &Pod, fixed: bool) -> bool {
    fixed || pod.spec.as_ref().and_then(|spec| spec.priority).is_some_and(|priority| priority >= CRITICAL)
}

/// The node's conditions of running short, as they hold.
pub(crate) type Pressure = BTreeSet<&'static str>;
