//! Pods that wait for a node: ready to be tried, tried and pausing, or waiting for something to change.

use crate::filters::Hindrance;
use crate::pod::PodFacts;
use clock::Instant;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Upstream's pauses: from a second, doubling, to ten.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// What waits for a change is tried anyway after so long: a hint may have been missed.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Active,
    Pausing,
    Waiting,
    /// Being tried, or being bound.
    Out,
}

struct Entry {
    facts: Arc<PodFacts>,
    stage: Stage,
    sequence: u64,
    attempts: u32,
    last_try: Instant,
    hindrances: BTreeSet<Hindrance>,
    told: Option<String>,
}

/// The queue; see the module. Time is an argument.
#[derive(Default)]
pub(crate) struct Queue {
    entries: HashMap<Arc<str>, Entry>,
    active: BinaryHeap<(i32, Reverse<u64>, Arc<str>)>,
    /// When a pause or a patience ends; entries that moved on since are skipped.
    timed: BinaryHeap<Reverse<(Instant, Arc<str>)>>,
    sequence: u64,
}

impl Queue {
    /// A pod that needs a node. One that is here already keeps its place, unless what matters about it changed.
    pub(crate) fn offer(&mut self, facts: PodFacts) {
        match self.entries.get_mut(&facts.uid) {
            Some(entry) if *entry.facts == facts => {}
            Some(entry) => {
                entry.facts = Arc::new(facts);
                if matches!(entry.stage, Stage::Waiting | Stage::Pausing) {
                    let uid = entry.facts.uid.clone();
                    self.activate(&uid);
                }
            }
            None => {
                let uid = facts.uid.clone();
                self.sequence += 1;
                let entry = Entry {
                    facts: Arc::new(facts),
                    stage: Stage::Waiting,
                    sequence: self.sequence,
                    attempts: 0,
                    last_try: Instant::default(),
                    hindrances: BTreeSet::new(),
                    told: None,
                };
                self.entries.insert(uid.clone(), entry);
                self.activate(&uid);
            }
        }
    }

    /// A pod that needs none any more.
    pub(crate) fn remove(&mut self, uid: &str) {
        self.entries.remove(uid);
    }

    /// The UIDs of all that are here.
    pub(crate) fn uids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.entries.keys()
    }

    /// Whether it is being tried or bound.
    pub(crate) fn is_out(&self, uid: &str) -> bool {
        self.entries.get(uid).is_some_and(|entry| entry.stage == Stage::Out)
    }

    /// The next pod to try: the most important, and of equals the one that came first.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Arc<PodFacts>> {
        self.wake(now);
        while let Some((_, Reverse(sequence), uid)) = self.active.pop() {
            if let Some(entry) = self.entries.get_mut(&uid)
                && entry.stage == Stage::Active
                && entry.sequence == sequence
            {
                entry.stage = Stage::Out;
                entry.attempts = entry.attempts.saturating_add(1);
                entry.last_try = now;
                return Some(entry.facts.clone());
            }
        }
        None
    }

    /// No node could take it: it waits for one of the hindrances to change. Whether this reason is new for this pod.
    pub(crate) fn unplaceable(
        &mut self,
        uid: &str,
        hindrances: BTreeSet<Hindrance>,
        reason: &str,
        now: Instant,
    ) -> bool {
        let Some(entry) = self.entries.get_mut(uid) else { return false };
        entry.stage = Stage::Waiting;
        entry.hindrances = hindrances;
        self.timed.push(Reverse((now + PATIENCE, entry.facts.uid.clone())));
        let news = entry.told.as_deref() != Some(reason);
        if news {
            entry.told = Some(reason.to_owned());
        }
        news
    }

    /// It did not work for reasons that have nothing to do with nodes: it pauses.
    pub(crate) fn failed(&mut self, uid: &str, now: Instant) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        entry.stage = Stage::Pausing;
        let until = now + pause(entry.attempts);
        self.timed.push(Reverse((until, entry.facts.uid.clone())));
    }

    /// Something changed: pods that were hindered by one of these may find a node now.
    pub(crate) fn changed(&mut self, may_help: &[Hindrance], now: Instant) {
        let helped = |entry: &Entry| {
            let hindered = &entry.hindrances;
            hindered.is_empty() || may_help.iter().any(|hindrance| hindered.contains(hindrance))
        };
        let waiting = self.entries.iter().filter(|(_, entry)| entry.stage == Stage::Waiting && helped(entry));
        let uids: Vec<_> = waiting.map(|(uid, _)| uid.clone()).collect();
        for uid in uids {
            let Some(entry) = self.entries.get_mut(&uid) else { continue };
            let until = entry.last_try + pause(entry.attempts);
            if until > now {
                entry.stage = Stage::Pausing;
                self.timed.push(Reverse((until, uid)));
            } else {
                self.activate(&uid);
            }
        }
    }

    /// When something ends by the clock alone, if nothing can be tried before.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.timed.peek().map(|Reverse((at, _))| *at)
    }

    fn wake(&mut self, now: Instant) {
        while let Some(Reverse((at, _))) = self.timed.peek()
            && *at <= now
        {
            let Some(Reverse((at, uid))) = self.timed.pop() else { return };
            let Some(entry) = self.entries.get(&uid) else { continue };
            let over = match entry.stage {
                Stage::Pausing => at >= entry.last_try + pause(entry.attempts),
                Stage::Waiting => at >= entry.last_try + PATIENCE,
                Stage::Active | Stage::Out => false,
            };
            if over {
                self.activate(&uid);
            }
        }
    }

    fn activate(&mut self, uid: &str) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.stage = Stage::Active;
            self.active.push((entry.facts.priority, Reverse(entry.sequence), entry.facts.uid.clone()));
        }
    }
}

fn pause(attempts: u32) -> Duration {
    client::backoff::delay(FIRST_PAUSE, LONGEST_PAUSE, attempts.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    fn pod(uid: &str, priority: i32) -> PodFacts {
        let pod = json!({ "metadata": { "uid": uid }, "spec": { "priority": priority, "containers": [] } });
        PodFacts::of(&from_value(pod).unwrap())
    }

    fn next(queue: &mut Queue, now: Instant) -> Option<String> {
        queue.next(now).map(|facts| facts.uid.to_string())
    }

    #[test]
    fn the_important_and_then_the_early_come_first() {
        let mut queue = Queue::default();
        for (uid, priority) in [("a", 0), ("b", 5), ("c", 0), ("d", 5)] {
            queue.offer(pod(uid, priority));
        }
        queue.remove("c");
        let order: Vec<_> = std::iter::from_fn(|| next(&mut queue, Instant::default())).collect();
        assert_eq!(order, ["b", "d", "a"]);
    }

    #[test]
    fn the_unplaceable_wait_for_what_hindered_them() {
        let start = Instant::default();
        let mut queue = Queue::default();
        queue.offer(pod("a", 0));
        next(&mut queue, start);
        assert!(queue.unplaceable("a", [Hindrance::Resources].into(), "why", start));
        queue.changed(&[Hindrance::Taint], start + Duration::from_secs(5));
        assert_eq!(next(&mut queue, start + Duration::from_secs(5)), None);
        queue.changed(&[Hindrance::Resources], start + Duration::from_secs(5));
        assert_eq!(next(&mut queue, start + Duration::from_secs(5)).as_deref(), Some("a"));
        assert!(
            !queue.unplaceable("a", [Hindrance::Resources].into(), "why", start + Duration::from_secs(5)),
            "no news"
        );
        // A change within the pause is not lost, but has to wait for its end.
        queue.changed(&[Hindrance::Resources], start + Duration::from_secs(6));
        assert_eq!(next(&mut queue, start + Duration::from_secs(6)), None);
        assert_eq!(queue.due(), Some(start + Duration::from_secs(7)));
        assert_eq!(next(&mut queue, start + Duration::from_secs(7)).as_deref(), Some("a"));
    }

    #[test]
    fn nobody_waits_for_ever() {
        let start = Instant::default();
        let mut queue = Queue::default();
        queue.offer(pod("a", 0));
        next(&mut queue, start);
        queue.unplaceable("a", [Hindrance::Affinity].into(), "why", start);
        assert_eq!(next(&mut queue, start + Duration::from_secs(299)), None);
        assert!(next(&mut queue, start + Duration::from_secs(300)).is_some());
    }

    #[test]
    fn a_pod_that_is_told_of_again_is_tried_again_only_if_it_changed() {
        let start = Instant::default();
        let mut queue = Queue::default();
        queue.offer(pod("a", 0));
        next(&mut queue, start);
        queue.unplaceable("a", [Hindrance::Affinity].into(), "why", start);
        queue.offer(pod("a", 0));
        assert_eq!(next(&mut queue, start), None);
        queue.offer(pod("a", 1));
        assert!(next(&mut queue, start).is_some());
    }
}
