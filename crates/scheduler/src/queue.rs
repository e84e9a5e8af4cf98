//! Pods that wait for a node: ready to be tried, tried and pausing, or waiting for something to change.
//!
//! A decision and the note of what held a pod back are made under one lock, so no change can come between them unnoticed. A pod whose
//! decision is being carried out is told of nothing: should that fail, it pauses and is tried again whatever happened.

use crate::event::Event;
use crate::instruments::{Instruments, Place, Turn};
use crate::plugins::{self, PluginName};
use crate::pod::PodFacts;
use clock::Instant;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

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

impl Stage {
    fn place(self) -> Option<Place> {
        match self {
            Self::Active => Some(Place::Active),
            Self::Pausing => Some(Place::Backoff),
            Self::Waiting => Some(Place::Unschedulable),
            Self::Out => None,
        }
    }
}

/// Why a pod comes into a queue, besides what happens to the cluster.
const NEW: &str = "UnschedulablePodAdd";
const CHANGED: &str = "UnschedulablePodUpdate";
const FAILED: &str = "ScheduleAttemptFailure";
const PAUSED: &str = "BackoffComplete";
const PATIENT: &str = "UnschedulableTimeout";

struct Entry {
    facts: Arc<PodFacts>,
    stage: Stage,
    came: Instant,
    sequence: u64,
    attempts: u32,
    last_try: Instant,
    hindrances: BTreeSet<PluginName>,
    told: Option<String>,
}

impl Entry {
    fn enter(&mut self, stage: Stage, event: &'static str, counts: &Instruments) {
        self.leave(counts);
        self.stage = stage;
        if let Some(place) = stage.place() {
            counts.entered(place, event);
        }
    }

    fn leave(&mut self, counts: &Instruments) {
        if let Some(place) = std::mem::replace(&mut self.stage, Stage::Out).place() {
            counts.left(place);
        }
    }
}

/// The queue; see the module. Time is an argument.
pub(crate) struct Queue {
    first_pause: Duration,
    longest_pause: Duration,
    entries: HashMap<Arc<str>, Entry>,
    active: BinaryHeap<(i32, Reverse<u64>, Arc<str>)>,
    /// When a pause or a patience ends; entries that moved on since are skipped.
    timed: BinaryHeap<Reverse<(Instant, Arc<str>)>>,
    /// Those that wait, by what held them back, in the order in which they came; `None`: there was no node to be held back from.
    waiting: BTreeMap<Option<PluginName>, BTreeSet<(u64, Arc<str>)>>,
    sequence: u64,
    counts: Arc<Instruments>,
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.counts.forget_pending();
    }
}

/// What a pod waits for.
fn reasons(hindrances: &BTreeSet<PluginName>) -> impl Iterator<Item = Option<PluginName>> {
    let nothing = hindrances.is_empty().then_some(None);
    hindrances.iter().copied().map(Some).chain(nothing)
}

impl Queue {
    /// An empty one, in which a pod pauses for so long after its first failure, and never longer than that.
    pub(crate) fn new(first_pause: Duration, longest_pause: Duration, counts: Arc<Instruments>) -> Self {
        Self {
            first_pause,
            longest_pause,
            entries: HashMap::new(),
            active: BinaryHeap::new(),
            timed: BinaryHeap::new(),
            waiting: BTreeMap::new(),
            sequence: 0,
            counts,
        }
    }

    /// A pod that needs a node. One that is here already keeps its place, unless what matters about it changed.
    pub(crate) fn offer(&mut self, facts: PodFacts, now: Instant) {
        let uid = facts.uid.clone();
        match self.entries.get_mut(&uid) {
            Some(entry) => {
                let same = entry.facts.asks_the_same_as(&facts);
                entry.facts = Arc::new(facts);
                if !same && matches!(entry.stage, Stage::Waiting | Stage::Pausing) {
                    self.activate(&uid, CHANGED);
                }
            }
            None => {
                self.sequence += 1;
                let entry = Entry {
                    facts: Arc::new(facts),
                    stage: Stage::Out,
                    came: now,
                    sequence: self.sequence,
                    attempts: 0,
                    last_try: Instant::default(),
                    hindrances: BTreeSet::new(),
                    told: None,
                };
                self.entries.insert(uid.clone(), entry);
                self.activate(&uid, NEW);
            }
        }
    }

    /// A pod that needs none any more.
    pub(crate) fn remove(&mut self, uid: &str) {
        self.stop_waiting(uid);
        if let Some(mut entry) = self.entries.remove(uid) {
            entry.leave(&self.counts);
        }
    }

    /// A pod that is here, as last heard of.
    pub(crate) fn facts(&self, uid: &str) -> Option<&Arc<PodFacts>> {
        self.entries.get(uid).map(|entry| &entry.facts)
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
    pub(crate) fn next(&mut self, now: Instant) -> Option<(Arc<PodFacts>, Turn)> {
        self.wake(now);
        while let Some((_, Reverse(sequence), uid)) = self.active.pop() {
            if let Some(entry) = self.entries.get_mut(&uid)
                && entry.stage == Stage::Active
                && entry.sequence == sequence
            {
                entry.leave(&self.counts);
                entry.attempts = entry.attempts.saturating_add(1);
                entry.last_try = now;
                let turn = Turn { began: now, came: entry.came, attempts: entry.attempts };
                return Some((entry.facts.clone(), turn));
            }
        }
        None
    }

    /// No node could take it: it waits, behind those that came meanwhile, for one of the hindrances to change. Whether this
    /// reason is new for this pod.
    pub(crate) fn unplaceable(
        &mut self,
        uid: &str,
        hindrances: BTreeSet<PluginName>,
        reason: &str,
        now: Instant,
    ) -> bool {
        let Some(entry) = self.entries.get_mut(uid) else { return false };
        self.sequence += 1;
        entry.sequence = self.sequence;
        entry.enter(Stage::Waiting, FAILED, &self.counts);
        for held_back in reasons(&hindrances) {
            let waiting = self.waiting.entry(held_back).or_default();
            waiting.insert((entry.sequence, entry.facts.uid.clone()));
        }
        entry.hindrances = hindrances;
        self.timed.push(Reverse((now + PATIENCE, entry.facts.uid.clone())));
        self.is_news(uid, reason)
    }

    /// Whether a reason is new for a pod. From now on it is not.
    pub(crate) fn is_news(&mut self, uid: &str, reason: &str) -> bool {
        let Some(entry) = self.entries.get_mut(uid) else { return false };
        let news = entry.told.as_deref() != Some(reason);
        if news {
            entry.told = Some(reason.to_owned());
        }
        news
    }

    /// It did not work for reasons that have nothing to do with nodes, or the world is being changed for it: it pauses.
    pub(crate) fn pause(&mut self, uid: &str, now: Instant) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        entry.enter(Stage::Pausing, FAILED, &self.counts);
        let until = now + pause(self.first_pause, self.longest_pause, entry.attempts);
        self.timed.push(Reverse((until, entry.facts.uid.clone())));
    }

    /// Something happened: pods that were held back by a plugin that says it may help are tried again.
    pub(crate) fn happened(&mut self, event: &Event<'_>, now: Instant) {
        let mut helped: BTreeSet<(u64, Arc<str>)> = BTreeSet::new();
        for (held_back, waiting) in &self.waiting {
            let plugin = held_back.and_then(plugins::of);
            match (plugin, event) {
                (None, Event::Node(..)) => helped.extend(waiting.iter().cloned()),
                (Some(plugin), event) if event.may_concern(plugin.name) => {
                    let helps = |uid: &Arc<str>| {
                        self.entries.get(uid).is_some_and(|entry| (plugin.helps)(event, &entry.facts))
                    };
                    helped.extend(waiting.iter().filter(|(_, uid)| helps(uid)).cloned());
                }
                _ => {}
            }
        }
        for (_, uid) in helped {
            self.stop_waiting(&uid);
            let Some(entry) = self.entries.get_mut(&uid) else { continue };
            let until = entry.last_try + pause(self.first_pause, self.longest_pause, entry.attempts);
            if until > now {
                entry.enter(Stage::Pausing, event.label(), &self.counts);
                self.timed.push(Reverse((until, uid)));
            } else {
                self.activate(&uid, event.label());
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
            let (until, event) = match entry.stage {
                Stage::Pausing => {
                    (entry.last_try + pause(self.first_pause, self.longest_pause, entry.attempts), PAUSED)
                }
                Stage::Waiting => (entry.last_try + PATIENCE, PATIENT),
                Stage::Active | Stage::Out => continue,
            };
            if at >= until {
                self.activate(&uid, event);
            }
        }
    }

    fn stop_waiting(&mut self, uid: &str) {
        let Some(entry) = self.entries.get(uid) else { return };
        if entry.stage != Stage::Waiting {
            return;
        }
        let key = (entry.sequence, entry.facts.uid.clone());
        for held_back in reasons(&entry.hindrances) {
            if let Some(waiting) = self.waiting.get_mut(&held_back) {
                waiting.remove(&key);
                if waiting.is_empty() {
                    self.waiting.remove(&held_back);
                }
            }
        }
    }

    fn activate(&mut self, uid: &str, event: &'static str) {
        self.stop_waiting(uid);
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.enter(Stage::Active, event, &self.counts);
            self.active.push((entry.facts.priority, Reverse(entry.sequence), entry.facts.uid.clone()));
        }
    }
}

fn pause(first: Duration, longest: Duration, attempts: u32) -> Duration {
    client::backoff::delay(first, longest, attempts.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Storage;
    use crate::snapshot::NodeInfo;
    use serde_json::{from_value, json};

    fn queue() -> Queue {
        Queue::new(Duration::from_secs(1), Duration::from_secs(10), Arc::default())
    }

    fn pod(uid: &str, priority: i32) -> PodFacts {
        let pod = json!({ "metadata": { "uid": uid }, "spec": { "priority": priority, "containers": [] } });
        PodFacts::of(&from_value(pod).unwrap())
    }

    #[test]
    fn a_hint_wakes_only_whom_it_may_help() {
        let start = Instant::default();
        let mut queue = queue();
        for (uid, by) in
            [("a", vec![PluginName::NodeAffinity]), ("b", vec![PluginName::NodePorts]), ("c", vec![])]
        {
            queue.offer(pod(uid, 0), Instant::default());
            next(&mut queue, start);
            queue.unplaceable(uid, by.into_iter().collect(), "why", start);
        }
        let later = start + Duration::from_secs(20);
        let node = NodeInfo::default();
        let aspects = crate::event::Aspects { labels: true, ..Default::default() };
        queue.happened(&Event::Node(&node, aspects), later);
        assert_eq!((next(&mut queue, later), next(&mut queue, later)), (Some("a".into()), Some("c".into())));
        assert_eq!(next(&mut queue, later), None);
        queue.remove("b");
        assert!(queue.waiting.is_empty(), "nothing is left of those that went");
    }

    fn next(queue: &mut Queue, now: Instant) -> Option<String> {
        queue.next(now).map(|(facts, _)| facts.uid.to_string())
    }

    #[test]
    fn the_important_and_then_the_early_come_first() {
        let mut queue = queue();
        for (uid, priority) in [("a", 0), ("b", 5), ("c", 0), ("d", 5)] {
            queue.offer(pod(uid, priority), Instant::default());
        }
        queue.remove("c");
        let order: Vec<_> = std::iter::from_fn(|| next(&mut queue, Instant::default())).collect();
        assert_eq!(order, ["b", "d", "a"]);
    }

    #[test]
    fn the_unplaceable_wait_for_what_hindered_them() {
        let start = Instant::default();
        let mut queue = queue();
        queue.offer(pod("a", 0), Instant::default());
        next(&mut queue, start);
        assert!(queue.unplaceable("a", [PluginName::NodeResourcesFit].into(), "why", start));
        queue.happened(&Event::Storage(Storage::Claim), start + Duration::from_secs(5));
        assert_eq!(next(&mut queue, start + Duration::from_secs(5)), None);
        queue.happened(&Event::PodGone(&pod("other", 0)), start + Duration::from_secs(5));
        assert_eq!(next(&mut queue, start + Duration::from_secs(5)).as_deref(), Some("a"));
        assert!(
            !queue.unplaceable(
                "a",
                [PluginName::NodeResourcesFit].into(),
                "why",
                start + Duration::from_secs(5)
            ),
            "no news"
        );
        // A change within the pause is not lost, but has to wait for its end.
        queue.happened(&Event::PodGone(&pod("other", 0)), start + Duration::from_secs(6));
        assert_eq!(next(&mut queue, start + Duration::from_secs(6)), None);
        assert_eq!(queue.due(), Some(start + Duration::from_secs(7)));
        assert_eq!(next(&mut queue, start + Duration::from_secs(7)).as_deref(), Some("a"));
    }

    #[test]
    fn nobody_waits_for_ever() {
        let start = Instant::default();
        let mut queue = queue();
        queue.offer(pod("a", 0), Instant::default());
        next(&mut queue, start);
        queue.unplaceable("a", [PluginName::NodeAffinity].into(), "why", start);
        assert_eq!(next(&mut queue, start + Duration::from_secs(299)), None);
        assert!(next(&mut queue, start + Duration::from_secs(300)).is_some());
    }

    #[test]
    fn a_pod_that_is_told_of_again_is_tried_again_only_if_it_changed() {
        let start = Instant::default();
        let mut queue = queue();
        queue.offer(pod("a", 0), Instant::default());
        next(&mut queue, start);
        queue.unplaceable("a", [PluginName::NodeAffinity].into(), "why", start);
        queue.offer(pod("a", 0), Instant::default());
        assert_eq!(next(&mut queue, start), None);
        queue.offer(pod("a", 1), Instant::default());
        assert!(next(&mut queue, start).is_some());
    }
}
