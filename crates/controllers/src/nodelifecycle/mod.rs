//! Nodes that fall silent: said so, tainted, and in time emptied.

mod heard;
mod lease;

use crate::plan::{Plan, delete, merge_status, patch, patch_status, tell};
use crate::pod::Pod;
use crate::pods::{is_finished, node as node_of, ready_since};
use crate::taints::{leaves_at, wanted};
use crate::{Controller, Settings, World};
use client::kube::{Api, ResourceExt};
use client::reflector::Selection;
use client::{Change, EventType, ObjectKey, Reader, WorkQueue};
use heard::{Heard, silent_from};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use lease::Lease;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const LEASES: &str = "kube-node-lease";
/// The index of the nodes that are ready.
const READY: &str = "ready";
/// What a node says about itself, and nobody can know once it is silent.
const CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// The controller; see the module. Keys are names of nodes.
pub struct NodeLifecycle {
    nodes: Reader<Node>,
    heard: Arc<Heard>,
    pods: Reader<Pod>,
    settings: Arc<Settings>,
}

/// What it looks at.
pub struct View {
    /// The node, unless it is gone.
    pub node: Option<Arc<Node>>,
    /// Its last sign of life.
    pub heard: Option<Timestamp>,
    /// The pods on it.
    pub pods: Vec<Arc<Pod>>,
    /// Whether any node at all is ready.
    pub some_ready: bool,
    /// How long silence is borne, and how long at first.
    pub grace: (Duration, Duration),
}

/// What it remembers.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Memory {
    /// Since when each pod has been seen under taints that do not say since when they are there.
    tainted: BTreeMap<String, Timestamp>,
}

/// The pods on a node.
pub(crate) fn by_node() -> client::Index<Pod> {
    client::Index::new("node", |pod: &Pod| {
        Some(node_of(pod).to_owned()).filter(|node| !node.is_empty()).into_iter().collect()
    })
}

impl Controller for NodeLifecycle {
    const NAME: &'static str = "node-controller";
    type Key = String;
    type View = View;
    type Memory = Memory;

    fn wire(world: &World, queue: &Arc<WorkQueue<String>>) -> Self {
        let (nodes, pods) = (world.reader::<Node>(), world.pods());
        let leases =
            world.reader_of(Api::<Lease>::namespaced(world.client().clone(), LEASES), Selection::default());
        pods.informer().index_by(by_node());
        nodes.informer().index_by(client::Index::new(READY, |node: &Node| {
            is_ready(node).then(String::new).into_iter().collect()
        }));
        let heard = Arc::new(Heard::default());
        listen(world, &heard, &nodes, &leases, queue);
        let (add, all) = (queue.clone(), nodes.clone());
        nodes.informer().on_change(move |change| {
            add.add(change.object().name_any());
            let ready = |node: Option<&Arc<Node>>| node.is_some_and(|node| is_ready(node));
            let (before, after) = (ready(change.before()), ready(change.after()));
            // Whether any node is ready decides about all: so the first that is, and the last, concerns them.
            if before != after && count_ready(&all) == usize::from(after) {
                all.informer().store().list().iter().for_each(|node| add.add(node.name_any()));
            }
        });
        let add = queue.clone();
        pods.informer().on_change(move |change| {
            let moved = change.before().map(|pod| node_of(pod)) != change.after().map(|pod| node_of(pod));
            if let Some(pod) = change.after().filter(|pod| moved && !node_of(pod).is_empty()) {
                add.add(node_of(pod).to_owned());
            }
        });
        Self { nodes, heard, pods, settings: world.settings().clone() }
    }

    fn view(&self, name: &String) -> View {
        View {
            node: self.nodes.get(&ObjectKey::cluster(name)),
            heard: self.heard.last(name),
            pods: self.pods.by_index("node", name),
            some_ready: count_ready(&self.nodes) > 0,
            grace: (self.settings.node_grace, self.settings.node_startup_grace),
        }
    }

    fn plan(_name: &String, view: &View, memory: &Memory, now: Timestamp) -> Plan<Memory> {
        plan(view, memory, now)
    }
}

/// Hears what nodes say: in their leases all the time, and now and then in their statuses. Where a key is not woken, its last
/// plan has asked for another look at the end of the silence that it would bear, and that one sees what was said meanwhile.
fn listen(
    world: &World,
    heard: &Arc<Heard>,
    nodes: &Reader<Node>,
    leases: &Reader<Lease>,
    queue: &Arc<WorkQueue<String>>,
) {
    let borne = world.settings().node_grace.min(world.settings().node_startup_grace);
    let (ears, clock) = (heard.clone(), world.ambient().clock.clone());
    nodes.informer().on_change(move |change| {
        let name = change.object().name_any();
        let beat = |node: &Arc<Node>| ready_condition(conditions(node))?.last_heartbeat_time.clone();
        match change {
            Change::Deleted(_) => ears.forget(&name),
            Change::Updated { old, new } if beat(old) != beat(new) => {
                // Every change of a node wakes its key.
                ears.note(&name, borne, || clock.now());
            }
            _ => ears.meet(&name, || clock.now()),
        }
    });
    let (ears, clock) = (heard.clone(), world.ambient().clock.clone());
    let (add, known) = (queue.clone(), nodes.clone());
    leases.informer().on_change(move |change| {
        let name = change.object().name_any();
        let Some(lease) = change.after() else {
            // The node's own end has come before, or will be heard of.
            if known.informer().store().get(&ObjectKey::cluster(&name)).is_none() {
                ears.forget(&name);
            }
            return;
        };
        let before = change.before().map(|before| &**before);
        if lease.is_renewed(before) && ears.note(&name, borne, || clock.now()) {
            add.add(name);
        }
    });
}

fn ready_condition(conditions: &[NodeCondition]) -> Option<&NodeCondition> {
    conditions.iter().find(|condition| condition.type_ == "Ready")
}

fn conditions(node: &Node) -> &[NodeCondition] {
    node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default()
}

fn count_ready(nodes: &Reader<Node>) -> usize {
    nodes.informer().store().count(READY, "")
}

fn is_ready(node: &Node) -> bool {
    ready_condition(conditions(node)).is_some_and(|condition| condition.status == "True")
}

/// Decides what to do about one node; pure.
pub fn plan(view: &View, memory: &Memory, now: Timestamp) -> Plan<Memory> {
    // A pod that cannot be written must not keep the others of its node from being written.
    let mut plan = Plan::independent();
    let Some(node) = view.node.as_deref() else { return plan };
    let grace = if ready_condition(conditions(node)).is_some() { view.grace.0 } else { view.grace.1 };
    let silent_from = silent_from(view.heard.unwrap_or(now), grace);
    let current = conditions(node).to_vec();
    let conditions = if now < silent_from {
        plan.look_again(silent_from);
        current.clone()
    } else {
        unknown(&current, now)
    };
    let changed = conditions != current;
    if changed {
        plan.then(patch_status(node, json!({ "conditions": conditions })));
    }
    let ready = ready_condition(&conditions).is_some_and(|condition| condition.status == "True");
    let said = ready_condition(&conditions).is_some();
    let evict = view.some_ready;
    let taints = if said { wanted(node, &conditions, evict, now) } else { current_taints(node) };
    if taints != current_taints(node) && !changed {
        // The status write above has made another version; the taints follow on the next look.
        plan.then(patch(node, json!({ "spec": { "taints": taints } })));
    }
    let mut tainted = BTreeMap::new();
    for pod in view.pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        if said && !ready {
            mark_not_ready(pod, &mut plan, now);
        }
        evict_in_time(pod, &current_taints(node), memory, &mut tainted, &mut plan, now);
    }
    if said && !ready && is_ready(node) {
        let message = format!("Node {} status is now: NodeNotReady", node.name_any());
        plan.then(tell(node, EventType::Normal, "NodeNotReady", message));
    }
    plan.memory = Some(Memory { tainted });
    plan
}

fn current_taints(node: &Node) -> Vec<Taint> {
    node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default()
}

/// What a silent node's conditions are: unknown, for upstream's reasons.
fn unknown(current: &[NodeCondition], now: Timestamp) -> Vec<NodeCondition> {
    let mut conditions = current.to_vec();
    for kind in CONDITIONS {
        match conditions.iter_mut().find(|condition| condition.type_ == kind) {
            Some(condition) if condition.status == "Unknown" => {}
            Some(condition) => {
                condition.status = "Unknown".to_owned();
                condition.reason = Some("NodeStatusUnknown".to_owned());
                condition.message = Some("Kubelet stopped posting node status.".to_owned());
                condition.last_transition_time = Some(Time(now));
            }
            None => conditions.push(NodeCondition {
                type_: kind.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                message: Some("Kubelet never posted node status.".to_owned()),
                last_heartbeat_time: None,
                last_transition_time: Some(Time(now)),
            }),
        }
    }
    conditions
}

/// Nobody should be sent to a pod of which nobody knows.
fn mark_not_ready(pod: &Pod, plan: &mut Plan<Memory>, now: Timestamp) {
    if ready_since(pod).is_none() {
        return;
    }
    let ready = json!({ "type": "Ready", "status": "False", "lastTransitionTime": Time(now) });
    plan.then(merge_status(pod, json!({ "conditions": [ready] })));
    plan.then(tell(pod, EventType::Warning, "NodeNotReady", "Node is not ready"));
}

fn evict_in_time(
    pod: &Pod,
    taints: &[Taint],
    memory: &Memory,
    tainted: &mut BTreeMap<String, Timestamp>,
    plan: &mut Plan<Memory>,
    now: Timestamp,
) {
    let uid = pod.uid().unwrap_or_default();
    let seen = memory.tainted.get(&uid).copied().unwrap_or(now);
    let since = |taint: &Taint| taint.time_added.as_ref().map_or(seen, |added| added.0);
    let Some(at) = leaves_at(pod, taints, since).filter(|_| !is_finished(pod)) else { return };
    tainted.insert(uid, seen);
    if at > now {
        plan.look_again(at);
        return;
    }
    let key = ObjectKey::of(pod);
    plan.then(tell(
        pod,
        EventType::Normal,
        "TaintManagerEviction",
        format!("Marking for deletion Pod {key}"),
    ));
    plan.then(delete(pod));
}

#[cfg(test)]
mod tests;
