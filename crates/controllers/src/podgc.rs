//! Pods that nobody will ever finish: on nodes that are gone, ended long ago, or told to go before they had a node.

use crate::nodelifecycle::by_node;
use crate::ownership::is_terminating;
use crate::plan::{Plan, delete, merge_status};
use crate::pod::Pod;
use crate::pods::{is_finished, node as node_of};
use crate::{Controller, Settings, World};
use async_trait::async_trait;
use client::kube::{Api, Client, Error, ResourceExt};
use client::{ObjectKey, Reader, WorkQueue};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The controller; see the module.
pub struct PodGarbage {
    nodes: Reader<Node>,
    pods: Reader<Pod>,
    client: Client,
    settings: Arc<Settings>,
}

/// What may be wrong.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A node may be gone.
    Node(String),
    /// A pod may be going without a node.
    Unplaced(ObjectKey),
    /// There may be too many ended pods.
    Ended,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(f, "node {name}"),
            Self::Unplaced(key) => write!(f, "pod {key}"),
            Self::Ended => f.write_str("ended pods"),
        }
    }
}

/// What it looks at.
#[derive(Default)]
pub struct View {
    /// Whether the node is there.
    pub node_exists: bool,
    /// The pods that the key means.
    pub pods: Vec<Arc<Pod>>,
    /// How many ended pods may stay.
    pub keep: usize,
    /// How long a node must be gone.
    pub quarantine: Duration,
}

/// Since when the node is gone.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Memory {
    gone: Option<Timestamp>,
}

fn by_ended() -> client::Index<Pod> {
    client::Index::new("ended", |pod: &Pod| is_finished(pod).then(String::new).into_iter().collect())
}

#[async_trait]
impl Controller for PodGarbage {
    const NAME: &'static str = "pod-garbage-collector";
    type Key = Key;
    type View = View;
    type Memory = Memory;

    fn wire(world: &World, queue: &Arc<WorkQueue<Key>>) -> Self {
        let (nodes, pods) = (world.reader::<Node>(), world.pods());
        pods.informer().index_by(by_node()).index_by(by_ended());
        let add = queue.clone();
        nodes.informer().on_change(move |change| {
            // One that is back has to be seen to be back, or the next absence would count from the last.
            if change.before().is_none() || change.after().is_none() {
                add.add(Key::Node(change.object().name_any()));
            }
        });
        let (add, all) = (queue.clone(), nodes.clone());
        pods.informer().on_change(move |change| {
            let Some(pod) = change.after() else { return };
            let node = node_of(pod);
            if !node.is_empty() && change.before().is_none_or(|before| node_of(before) != node) {
                // At a start nodes may not be listed yet: who looks then asks the server.
                if all.informer().store().get(&ObjectKey::cluster(node)).is_none() {
                    add.add(Key::Node(node.to_owned()));
                }
            }
            if node.is_empty() && is_terminating(&**pod) {
                add.add(Key::Unplaced(ObjectKey::of(&**pod)));
            }
            if is_finished(pod) && change.before().is_none_or(|before| !is_finished(before)) {
                add.add(Key::Ended);
            }
        });
        Self { nodes, pods, client: world.client().clone(), settings: world.settings().clone() }
    }

    fn view(&self, key: &Key) -> View {
        let pods = match key {
            Key::Node(name) => self.pods.by_index("node", name),
            Key::Unplaced(key) => self.pods.get(key).into_iter().collect(),
            Key::Ended => self.pods.by_index("ended", ""),
        };
        View {
            node_exists: matches!(key, Key::Node(name) if self.nodes.get(&ObjectKey::cluster(name)).is_some()),
            pods,
            keep: self.settings.terminated_pods,
            quarantine: self.settings.orphan_quarantine,
        }
    }

    async fn observe(&self, key: &Key, view: &mut View) -> Result<(), Error> {
        if let Key::Node(name) = key
            && !view.node_exists
            && !view.pods.is_empty()
        {
            view.node_exists = Api::<Node>::all(self.client.clone()).get_metadata_opt(name).await?.is_some();
        }
        Ok(())
    }

    fn plan(key: &Key, view: &View, memory: &Memory, now: Timestamp) -> Plan<Memory> {
        plan(key, view, memory, now)
    }
}

/// Decides which pods to take away; pure.
pub fn plan(key: &Key, view: &View, memory: &Memory, now: Timestamp) -> Plan<Memory> {
    let mut plan = Plan::independent();
    match key {
        Key::Node(_) if view.node_exists || view.pods.is_empty() => {}
        Key::Node(_) => {
            let gone = memory.gone.unwrap_or(now);
            let quarantine = SignedDuration::try_from(view.quarantine).unwrap_or(SignedDuration::MAX);
            let over = gone.checked_add(quarantine).unwrap_or(Timestamp::MAX);
            if now < over {
                plan.look_again(over);
                plan.memory = Some(Memory { gone: Some(gone) });
            } else {
                // It is forgotten then: a node of this name that comes and goes once more gets its time again.
                view.pods.iter().for_each(|pod| remove(pod, Some(now), &mut plan));
            }
        }
        Key::Unplaced(_) => {
            let stuck = view.pods.iter().filter(|pod| is_terminating(&***pod) && node_of(pod).is_empty());
            stuck.for_each(|pod| remove(pod, None, &mut plan));
        }
        Key::Ended => {
            let mut ended: Vec<_> = view.pods.iter().filter(|pod| !is_terminating(&***pod)).collect();
            ended.sort_by_key(|pod| (pod.creation_timestamp(), pod.name_any()));
            let surplus = ended.len().saturating_sub(view.keep);
            ended.into_iter().take(surplus).for_each(|pod| remove(pod, None, &mut plan));
        }
    }
    plan
}

/// Takes a pod away at once: there is nobody who could end it gently. What was still to run when it was disrupted has failed.
fn remove(pod: &Pod, disrupted: Option<Timestamp>, plan: &mut Plan<Memory>) {
    if let Some(now) = disrupted.filter(|_| !is_finished(pod)) {
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
            "message": "PodGC: node no longer exists", "lastTransitionTime": Time(now),
        });
        plan.then(merge_status(pod, json!({ "phase": "Failed", "conditions": [condition] })));
    }
    let mut delete = delete(pod);
    delete.immediately = true;
    plan.then(delete);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Action;
    use serde_json::{Value, from_value};

    fn pod(name: &str, extra: Value) -> Arc<Pod> {
        let mut pod = json!({ "metadata": { "name": name, "namespace": "x", "uid": name }, "spec": { "containers": [] } });
        testkit::merge(&mut pod, &extra);
        Arc::new(from_value(pod).unwrap())
    }

    fn removed(plan: &Plan<Memory>) -> Vec<String> {
        let deletes = plan.actions.iter().filter_map(|action| match action {
            Action::Delete(delete) if delete.immediately => Some(delete.key.name.clone()),
            _ => None,
        });
        deletes.collect()
    }

    fn view(pods: Vec<Arc<Pod>>) -> View {
        View { node_exists: false, pods, keep: 2, quarantine: Duration::from_secs(40) }
    }

    #[test]
    fn a_node_that_stays_away_loses_its_pods() {
        let start: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let view = view(vec![pod("a", json!({ "spec": { "nodeName": "n" } }))]);
        let key = Key::Node("n".into());
        let first = plan(&key, &view, &Memory::default(), start);
        assert!(first.actions.is_empty());
        let due = first.requeue_at.unwrap();
        let second = plan(&key, &view, first.memory.as_ref().unwrap(), due);
        assert_eq!(removed(&second), ["a"]);
        let Action::Patch(failed) = &second.actions[0] else { panic!() };
        assert_eq!(failed.body["status"]["phase"], "Failed");
        let back = View { node_exists: true, ..view };
        assert_eq!(plan(&key, &back, first.memory.as_ref().unwrap(), due), Plan::independent());
        assert_eq!(second.memory, None, "the next absence is borne as long");
    }

    #[test]
    fn only_the_oldest_of_too_many_ended_pods_go() {
        let ended = |name: &str, second: u8| {
            let created = format!("2026-01-02T03:04:0{second}Z");
            pod(
                name,
                json!({ "metadata": { "creationTimestamp": created }, "status": { "phase": "Succeeded" } }),
            )
        };
        let view = view(vec![ended("young", 3), ended("old", 1), ended("middle", 2)]);
        assert_eq!(removed(&plan(&Key::Ended, &view, &Memory::default(), Timestamp::UNIX_EPOCH)), ["old"]);
    }

    #[test]
    fn a_pod_that_goes_without_a_node_goes_at_once() {
        let going = pod("a", json!({ "metadata": { "deletionTimestamp": "2026-01-02T03:04:05Z" } }));
        let placed = pod(
            "b",
            json!({ "metadata": { "deletionTimestamp": "2026-01-02T03:04:05Z" }, "spec": { "nodeName": "n" } }),
        );
        let key = Key::Unplaced(ObjectKey::new("x", "a"));
        assert_eq!(
            removed(&plan(&key, &view(vec![going]), &Memory::default(), Timestamp::UNIX_EPOCH)),
            ["a"]
        );
        assert!(
            removed(&plan(&key, &view(vec![placed]), &Memory::default(), Timestamp::UNIX_EPOCH)).is_empty()
        );
    }
}
