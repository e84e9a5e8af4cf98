//! A machine with a small kubelet: it registers, gives signs of life, and takes the pods that are bound to it through their
//! lives, as their status says it upstream. It keeps nothing over its death.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use client::kube::ResourceExt;
use client::kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use client::reflector::Selection;
use client::write::is_not_found;
use client::{Ambient, Client, Error, Informer, InformerOptions, ObjectKey, WorkQueue};
use clock::{Instant, Tasks};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use pki::Identity;
use serde_json::{Value, json};

use crate::chance::Chance;
use crate::link::client;
use crate::process::Process;
use crate::witness::Witness;
use crate::world::World;

const HEARTBEAT: Duration = Duration::from_secs(10);
const LEASES: &str = "kube-node-lease";

/// A machine.
#[derive(Debug)]
pub struct Machine {
    world: Arc<World>,
    name: &'static str,
    running: Mutex<Option<(Arc<Process>, Tasks)>>,
}

impl Machine {
    /// One that is switched off.
    pub fn new(world: &Arc<World>, name: &'static str) -> Arc<Self> {
        Arc::new(Self { world: world.clone(), name, running: Mutex::default() })
    }

    fn slot(&self) -> MutexGuard<'_, Option<(Arc<Process>, Tasks)>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it is called.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its kubelet, while it runs.
    pub fn process(&self) -> Option<Arc<Process>> {
        self.slot().as_ref().map(|(process, _)| process.clone())
    }

    /// Switches it on, if it is off.
    pub fn switch_on(&self) {
        let mut slot = self.slot();
        if slot.is_some() {
            return;
        }
        let (world, tasks) = (&self.world, self.world.tasks.child());
        let process = Process::new(format!("kubelet-{}", self.name), None, world.clock.clone());
        let part = format!("{} at {:?}", self.name, world.clock.elapsed());
        let kubelet = Arc::new(Kubelet {
            name: self.name,
            client: client(world, &process, Identity::Node(self.name.to_owned()), "kubelet"),
            ambient: process.ambient(world.seed),
            chance: Chance::of(world.seed, &part),
            witness: world.witness.clone(),
            pods: Mutex::default(),
        });
        kubelet.start(&tasks);
        *slot = Some((process, tasks));
    }

    /// Switches it off in the middle of what it does.
    pub async fn switch_off(&self) {
        let running = self.slot().take();
        if let Some((process, tasks)) = running {
            process.killed.cancel();
            tasks.stop().await;
            self.world.witness.stops_all(self.name);
        }
    }
}

/// What the kubelet knows of a pod and the API does not.
#[derive(Clone, Debug)]
struct Local {
    key: ObjectKey,
    runs: Instant,
    ready: Instant,
    /// For a pod that ends by itself.
    ends: Instant,
    succeeds: bool,
    stopped: Option<Instant>,
}

struct Kubelet {
    name: &'static str,
    client: Client,
    ambient: Ambient,
    chance: Chance,
    witness: Arc<Witness>,
    /// By UID.
    pods: Mutex<BTreeMap<String, Local>>,
}

impl Kubelet {
    fn start(self: Arc<Self>, tasks: &Tasks) {
        let queue = WorkQueue::new(self.ambient.clone());
        let selection =
            Selection { fields: Some(format!("spec.nodeName={}", self.name)), ..Selection::default() };
        let options = InformerOptions { selection, ..InformerOptions::default() };
        let pods = Informer::start(Api::<Pod>::all(self.client.clone()), options, &self.ambient, tasks);
        let add = queue.clone();
        pods.on_change(move |change| add.add(ObjectKey::of(&**change.object())));
        for _ in 0..3 {
            let (kubelet, pods, queue) = (self.clone(), pods.clone(), queue.clone());
            tasks.spawn("pods", async move {
                pods.ready().await;
                while let Some(working) = queue.next().await {
                    let key = working.key();
                    let pod = pods.store().get(key);
                    let uid = pod.as_ref().and_then(|pod| pod.uid());
                    kubelet
                        .end_others(key, uid)
                        .into_iter()
                        .for_each(|wait| queue.add_after(key.clone(), wait));
                    let Some(pod) = pod else { continue };
                    match kubelet.sync(&pod).await {
                        Ok(again) => {
                            queue.forget(key);
                            again.into_iter().for_each(|wait| queue.add_after(key.clone(), wait));
                        }
                        Err(_) => queue.add_failed(key.clone()),
                    }
                }
            });
        }
        tasks.spawn("heartbeat", async move {
            loop {
                // What fails now is tried again soon.
                let wait = match self.beat().await {
                    Ok(()) => HEARTBEAT,
                    Err(_) => self.chance.milliseconds(200, 2_000),
                };
                self.ambient.clock.sleep(wait).await;
            }
        });
    }

    async fn beat(&self) -> Result<(), Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = match nodes.get_opt(self.name).await? {
            Some(node) => node,
            None => nodes
                .create(
                    &PostParams::default(),
                    &read(json!({
                        "metadata": { "name": self.name, "labels": { "kubernetes.io/hostname": self.name } },
                    })),
                )
                .await?,
        };
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
        let ready = conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready");
        if ready.is_none_or(|ready| ready.status != "True") {
            let now = self.ambient.clock.now();
            let room = json!({ "cpu": "16", "memory": "64Gi", "pods": "110" });
            let status = json!({ "status": {
                "capacity": room, "allocatable": room,
                "conditions": [{
                    "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "simulated",
                    "lastHeartbeatTime": now.strftime("%FT%TZ").to_string(),
                    "lastTransitionTime": now.strftime("%FT%TZ").to_string(),
                }],
            }});
            nodes.patch_status(self.name, &PatchParams::default(), &Patch::Strategic(status)).await?;
        }
        self.renew(&node).await
    }

    async fn renew(&self, node: &Node) -> Result<(), Error> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), LEASES);
        let renewed = self.ambient.clock.now().strftime("%FT%T%.6fZ").to_string();
        let spec = json!({ "holderIdentity": self.name, "leaseDurationSeconds": 40, "renewTime": renewed });
        let patch = Patch::Merge(json!({ "spec": spec }));
        match leases.patch(self.name, &PatchParams::default(), &patch).await {
            Err(error) if is_not_found(&error) => {
                let owner = json!([{
                    "apiVersion": "v1", "kind": "Node", "name": self.name, "uid": node.metadata.uid,
                }]);
                let lease = json!({
                    "metadata": { "name": self.name, "namespace": LEASES, "ownerReferences": owner }, "spec": spec,
                });
                leases.create(&PostParams::default(), &read(lease)).await.map(drop)
            }
            outcome => outcome.map(drop),
        }
    }

    fn pods(&self) -> MutexGuard<'_, BTreeMap<String, Local>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a pod; of one that was not, how its life will be.
    fn local(&self, pod: &Pod) -> Local {
        let now = self.ambient.clock.monotonic();
        let new = || {
            let runs = now + self.chance.milliseconds(50, 2_000);
            let ready = runs + self.chance.milliseconds(0, 3_000);
            let ends = ready + self.chance.milliseconds(500, 8_000);
            let succeeds = self.chance.in_a_thousand(900);
            Local { key: ObjectKey::of(pod), runs, ready, ends, succeeds, stopped: None }
        };
        self.pods().entry(pod.uid().unwrap_or_default()).or_insert_with(new).clone()
    }

    /// Ends what runs under a name and is no longer in the API; says after what time there is more to end.
    fn end_others(&self, key: &ObjectKey, uid: Option<String>) -> Option<Duration> {
        let now = self.ambient.clock.monotonic();
        let mut pods = self.pods();
        let others =
            pods.iter_mut().filter(|(other, local)| local.key == *key && Some(*other) != uid.as_ref());
        let stops: Vec<_> = others
            .map(|(other, local)| {
                let stops = local.stopped.get_or_insert_with(|| now + self.chance.milliseconds(0, 3_000));
                (other.clone(), *stops)
            })
            .collect();
        for (other, _) in stops.iter().filter(|(_, stops)| *stops <= now) {
            pods.remove(other);
            self.witness.stops(other);
        }
        stops.into_iter().filter(|(_, stops)| *stops > now).map(|(_, stops)| stops - now).min()
    }

    /// Does what is to be done for a pod now; says after what time there is more.
    async fn sync(&self, pod: &Pod) -> Result<Option<Duration>, Error> {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
        let now = self.ambient.clock.monotonic();
        let local = self.local(pod);
        if pod.metadata.deletion_timestamp.is_some() {
            let grace = u64::try_from(pod.metadata.deletion_grace_period_seconds.unwrap_or(0)).unwrap_or(0);
            let stopped =
                local.stopped.unwrap_or_else(|| now + self.chance.milliseconds(0, 3_000.min(grace * 1_000)));
            if let Some(local) = self.pods().get_mut(&pod.uid().unwrap_or_default()) {
                local.stopped = Some(stopped);
            }
            return match stopped > now {
                true => Ok(Some(stopped - now)),
                false => {
                    self.witness.stops(&pod.uid().unwrap_or_default());
                    self.remove(pod).await.map(|()| None)
                }
            };
        }
        if matches!(phase, "Succeeded" | "Failed") {
            return Ok(None);
        }
        let ends = pod.spec.as_ref().is_some_and(|spec| spec.restart_policy.as_deref() != Some("Always"));
        let (wanted, next) = match () {
            () if now < local.runs => ("Pending", Some(local.runs)),
            () if now < local.ready => ("Starting", Some(local.ready)),
            () if ends && now >= local.ends => (if local.succeeds { "Succeeded" } else { "Failed" }, None),
            () => ("Running", ends.then_some(local.ends)),
        };
        match wanted {
            "Starting" | "Running" => {
                self.witness.runs(self.name, &local.key, &pod.uid().unwrap_or_default())
            }
            _ => self.witness.stops(&pod.uid().unwrap_or_default()),
        }
        self.say(pod, wanted).await?;
        Ok(next.map(|next| next - now))
    }

    async fn remove(&self, pod: &Pod) -> Result<(), Error> {
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: pod.uid(), resource_version: None }),
            ..DeleteParams::default()
        };
        match self.api(pod).delete(&pod.name_any(), &params).await {
            Err(error) if !is_not_found(&error) && !client::write::is_conflict(&error) => Err(error),
            _ => Ok(()),
        }
    }

    fn api(&self, pod: &Pod) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default())
    }

    /// Says how a pod is, unless that is what is said of it already.
    async fn say(&self, pod: &Pod, stage: &str) -> Result<(), Error> {
        let ready = stage == "Running";
        let phase = if stage == "Starting" { "Running" } else { stage };
        let status = pod.status.clone().unwrap_or_default();
        let is_said = |condition: &str| {
            let found = status.conditions.iter().flatten().find(|found| found.type_ == condition);
            found.is_some_and(|found| (found.status == "True") == ready)
        };
        if status.phase.as_deref() == Some(phase) && is_said("Ready") {
            return Ok(());
        }
        let now = self.ambient.clock.now().strftime("%FT%TZ").to_string();
        let condition = |kind: &str, holds: bool| {
            let status = if holds { "True" } else { "False" };
            json!({ "type": kind, "status": status, "lastTransitionTime": now })
        };
        let mut patch = json!({
            "metadata": { "uid": pod.uid() },
            "status": {
                "phase": phase,
                "startTime": status.start_time.map_or(Value::from(now.clone()), |start| json!(start)),
                "conditions": [
                    condition("Initialized", true), condition("ContainersReady", ready), condition("Ready", ready),
                ],
            },
        });
        if stage != "Pending" {
            let number = self.chance.below(250);
            patch["status"]["podIP"] =
                status.pod_ip.unwrap_or_else(|| format!("10.42.0.{}", number + 2)).into();
            patch["status"]["podIPs"] = json!([{ "ip": patch["status"]["podIP"] }]);
        }
        match self
            .api(pod)
            .patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(patch))
            .await
        {
            Err(error) if !is_not_found(&error) => Err(error),
            _ => Ok(()),
        }
    }
}

/// An object of our own making.
fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    #[allow(clippy::expect_used)]
    serde_json::from_value(value).expect("an object written down here")
}
