//! All that the scheduler knows, behind one lock: what is told changes it, and decisions are made from it.

use crate::config::Config;
use crate::event::{Aspects, Event};
use crate::instruments::{Instruments, Turn};
use crate::place::{Placement, Unplaceable, attempt};
use crate::pod::PodFacts;
use crate::preempt::{Preemption, preempt};
use crate::queue::Queue;
use crate::snapshot::Snapshot;
use crate::volumes::{Kept, VolumePlan};
use clock::Instant;
use k8s_openapi::api::core::v1::{Node, Pod};
use std::sync::Arc;

pub(super) struct World {
    pub(super) config: Config,
    pub(super) snapshot: Snapshot,
    pub(super) queue: Queue,
    pub(super) counts: Arc<Instruments>,
}

/// What is to be done about a pod.
pub(super) enum Decision {
    Bind(Arc<PodFacts>, Placement, Turn),
    /// No node takes it as things are.
    Wait {
        facts: Arc<PodFacts>,
        turn: Turn,
        why: Box<Unplaceable>,
        /// Whether nobody was told yet.
        news: bool,
        /// Room is being made, or no more: what the pod's status should say.
        nominated: Nominated,
    },
}

/// What changes about the node on which room is made for a pod.
pub(super) enum Nominated {
    AsItWas,
    Nowhere,
    By(Preemption),
}

impl Decision {
    pub(super) fn waits_for_volumes(&self) -> bool {
        matches!(self, Self::Bind(_, placement, _) if !placement.volumes.is_empty())
    }
}

impl World {
    pub(super) fn new(config: Config, counts: Arc<Instruments>) -> Self {
        let queue = Queue::new(config.first_pause, config.longest_pause, counts.clone());
        Self { config, snapshot: Snapshot::default(), queue, counts }
    }

    pub(super) fn node_changed(&mut self, name: &str, node: Option<&Node>, now: Instant) {
        let Some(node) = node else {
            self.snapshot.remove_node(name);
            self.queue.happened(&Event::NodeGone, now);
            return;
        };
        let aspects: Aspects = self.snapshot.take_node(node);
        if aspects.any()
            && let Some(at) = self.snapshot.node_at(name)
        {
            self.queue.happened(&Event::Node(&self.snapshot.nodes[at], aspects), now);
        }
    }

    pub(super) fn pod_changed(&mut self, pod: &Pod, facts: PodFacts, now: Instant) {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
            self.pod_gone(&facts.uid, now);
        } else if let Some(node) = facts.node_name.clone() {
            self.queue.remove(&facts.uid);
            self.placed(&node, Arc::new(facts), now);
        } else if !self.snapshot.holds(&facts.uid) {
            if !self.is_ours(pod) {
                self.queue.remove(&facts.uid);
                self.snapshot.nominate(&Arc::new(facts), None);
                return;
            }
            // What the API does not say yet may be so all the same; what it says no more is not.
            let was = self.queue.facts(&facts.uid).is_some_and(|before| before.nominated.is_some());
            if was || facts.nominated.is_some() {
                let nominated = facts.nominated.clone();
                self.snapshot.nominate(&Arc::new(facts.clone()), nominated.as_deref());
            }
            self.queue.offer(facts, now);
        }
    }

    /// A pod is on a node, by whosever doing; pods that wait may be glad of it, or of what it was before.
    fn placed(&mut self, node: &str, facts: Arc<PodFacts>, now: Instant) {
        let before = self.snapshot.pod(&facts.uid).cloned();
        self.snapshot.nominate(&facts, None);
        self.snapshot.place(node, facts.clone());
        if before.as_ref().is_some_and(|before| before.asks_the_same_as(&facts)) {
            return;
        }
        self.queue.happened(&Event::PodPlaced(&facts), now);
        if let Some(before) = before {
            self.queue.happened(&Event::PodGone(&before), now);
        }
    }

    pub(super) fn pod_gone(&mut self, uid: &str, now: Instant) {
        self.queue.remove(uid);
        let was_placed = self.snapshot.remove_pod(uid);
        let nominated_to = self.snapshot.nomination(uid).cloned();
        let was_nominated = nominated_to
            .and_then(|node| self.snapshot.nominated_to(&node).find(|facts| *facts.uid == *uid).cloned());
        if let Some(facts) = &was_nominated {
            self.snapshot.nominate(facts, None);
        }
        // Room that was being made for it is room for others.
        if let Some(facts) = was_placed.or(was_nominated) {
            self.queue.happened(&Event::PodGone(&facts), now);
        }
    }

    pub(super) fn storage_changed<K: Kept>(&mut self, key: &(String, String), is: Option<K>, now: Instant) {
        K::keep(&mut self.snapshot.volumes, key, is);
        self.queue.happened(&Event::Storage(K::STORAGE), now);
    }

    pub(super) fn namespace_changed(
        &mut self,
        name: &str,
        labels: Option<&crate::terms::Labels>,
        now: Instant,
    ) {
        if self.snapshot.set_namespace(name, labels) {
            self.queue.happened(&Event::Namespace, now);
        }
    }

    /// Ours to place, and ready to be: not gated, not going away.
    fn is_ours(&self, pod: &Pod) -> bool {
        let Some(spec) = &pod.spec else { return false };
        let name = spec.scheduler_name.as_deref().unwrap_or("default-scheduler");
        let gated = spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
        !gated && pod.metadata.deletion_timestamp.is_none() && self.config.profile(name).is_some()
    }

    /// Decides about the next pod, if one is to be decided about.
    pub(super) fn decide(&mut self, now: Instant, chance: u64) -> Option<Decision> {
        let (facts, turn) = self.queue.next(now)?;
        let profile = self.config.profile(&facts.scheduler_name)?.clone();
        let (cycle, mut why) = match attempt(&facts, &profile, &mut self.snapshot, chance) {
            Ok(placement) => {
                self.snapshot.volumes.promise(&placement.volumes, &placement.node);
                self.placed(&placement.node, facts.clone(), now);
                return Some(Decision::Bind(facts, placement, turn));
            }
            Err(failed) => failed,
        };
        let mut nominated = Nominated::AsItWas;
        if profile.preempts
            && let Some(cycle) = &cycle
        {
            let preempted = preempt(cycle, &mut self.snapshot, &why, chance);
            self.counts.preempted(preempted.as_ref().ok().map(|preemption| preemption.victims.len()));
            match preempted {
                Ok(preemption) => {
                    preemption.rivals.iter().for_each(|rival| self.snapshot.nominate(rival, None));
                    self.snapshot.nominate(&facts, Some(&preemption.node));
                    nominated = Nominated::By(preemption);
                }
                Err(reason) => {
                    let stays = reason.starts_with("not eligible");
                    if !stays && self.snapshot.nomination(&facts.uid).is_some() {
                        self.snapshot.nominate(&facts, None);
                        nominated = Nominated::Nowhere;
                    }
                    why.preemption = Some(reason);
                }
            }
        }
        let reason = why.to_string();
        let news = match nominated {
            // It stays out until its victims have been told to go; see `Queue`.
            Nominated::By(_) => self.queue.is_news(&facts.uid, &reason),
            _ => self.queue.unplaceable(&facts.uid, why.by.clone(), &reason, now),
        };
        Some(Decision::Wait { facts, turn, why, news, nominated })
    }

    /// A binding came to nothing: the place is given back. Whether there was one to give back: where the watch was faster, the
    /// pod is bound after all, or gone, and its place is counted as it should be.
    pub(super) fn not_bound(
        &mut self,
        facts: &PodFacts,
        volumes: &VolumePlan,
        again: bool,
        now: Instant,
    ) -> bool {
        self.snapshot.volumes.release(volumes);
        if !self.queue.is_out(&facts.uid) {
            return false;
        }
        self.snapshot.remove_pod(&facts.uid);
        self.queue.happened(&Event::PodGone(facts), now);
        if again {
            self.queue.pause(&facts.uid, now);
        } else {
            self.queue.remove(&facts.uid);
        }
        true
    }
}
