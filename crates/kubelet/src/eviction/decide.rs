//! What to do when the node runs short: a function of what was measured, of what is remembered, and of the time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::threshold::{Eviction, Signal, Threshold};

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) signal: Signal,
    pub(crate) available: i64,
    pub(crate) capacity: i64,
}

/// What is remembered from one look to the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    /// Since when thresholds are met, by their place in the list.
    met: BTreeMap<usize, Timestamp>,
    /// When conditions held last.
    held: BTreeMap<&'static str, Timestamp>,
}

/// What follows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Decision {
    /// The conditions that hold.
    pub(crate) conditions: BTreeSet<&'static str>,
    /// The threshold for which a pod has to leave.
    pub(crate) act: Option<Met>,
}

/// A threshold that is met.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Met {
    pub(crate) threshold: Threshold,
    pub(crate) reading: Reading,
}

impl Met {
    /// The amount that there should have been at least.
    pub(crate) fn wanted(&self) -> i64 {
        self.threshold.amount.of(self.reading.capacity)
    }
}

/// Decides. A threshold that was met counts as met until there is more than it asks for by what is to be reclaimed; a
/// condition holds for a while after its thresholds were met last, so that it does not flutter.
pub(crate) fn decide(
    eviction: &Eviction,
    readings: &[Reading],
    memory: &mut Memory,
    now: Timestamp,
) -> Decision {
    let mut met = Vec::new();
    for (index, threshold) in eviction.thresholds.iter().enumerate() {
        let Some(reading) = readings.iter().find(|reading| reading.signal == threshold.signal) else {
            // What cannot be measured stays as it was.
            continue;
        };
        let mut wanted = threshold.amount.of(reading.capacity);
        if memory.met.contains_key(&index) {
            let more = threshold.min_reclaim.map_or(0, |more| more.of(reading.capacity));
            wanted = wanted.saturating_add(more);
        }
        if reading.available < wanted {
            let since = *memory.met.entry(index).or_insert(now);
            met.push((since, Met { threshold: *threshold, reading: *reading }));
        } else {
            memory.met.remove(&index);
        }
    }
    for (_, met) in &met {
        memory.held.insert(met.threshold.signal.condition(), now);
    }
    memory.held.retain(|_, last| lasting(*last, now) < eviction.pressure_transition || *last == now);
    let due = met
        .into_iter()
        .filter(|(since, met)| met.threshold.grace.is_none_or(|grace| lasting(*since, now) >= grace));
    // Memory first: it is the one that kills.
    let act = due.map(|(_, met)| met).min_by_key(|met| met.threshold.signal);
    Decision { conditions: memory.held.keys().copied().collect(), act }
}

fn lasting(since: Timestamp, now: Timestamp) -> Duration {
    let lasted: SignedDuration = now.duration_since(since);
    lasted.try_into().unwrap_or(Duration::ZERO)
}

/// A pod that could leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) uid: String,
    pub(crate) priority: i32,
    /// What it asked for of the resource that is short, and what it takes of it.
    pub(crate) request: i64,
    pub(crate) usage: i64,
}

/// Who leaves first: those that take more than they asked for, of these the least important, of these the greediest. Files
/// and processes cannot be asked for: there it is importance, then greed.
pub(crate) fn rank(signal: Signal, candidates: &mut [Candidate]) {
    let asked = signal.is_amount();
    candidates.sort_by_key(|one| {
        let beyond = one.usage.saturating_sub(one.request);
        (Reverse(asked && beyond > 0), one.priority, Reverse(if asked { beyond } else { one.usage }))
    });
}

#[cfg(test)]
mod tests {
    use super::super::threshold::Written;
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    fn reading(signal: Signal, available: i64) -> Reading {
        Reading { signal, available, capacity: 1000 }
    }

    /// The time, memory and disk that are left, and what follows.
    type Step<'a> = (i64, i64, i64, &'a [&'a str], Option<Signal>);

    fn check(written: Written<'_>, steps: &[Step<'_>]) {
        let eviction = Eviction::parse(written, Duration::from_secs(100), Duration::ZERO).unwrap();
        let mut memory = Memory::default();
        for (time, ram, disk, conditions, act) in steps {
            let readings = [reading(Signal::MemoryAvailable, *ram), reading(Signal::NodefsAvailable, *disk)];
            let found = decide(&eviction, &readings, &mut memory, at(*time));
            let shown: Vec<_> = found.conditions.into_iter().collect();
            assert_eq!(
                (shown.as_slice(), found.act.map(|met| met.threshold.signal)),
                (*conditions, *act),
                "{time}"
            );
        }
    }

    #[test]
    fn hard_thresholds_act_at_once_and_memory_first() {
        let written = Written { hard: "memory.available<100,nodefs.available<10%", ..Written::default() };
        let (ram, disk) = (Some(Signal::MemoryAvailable), Some(Signal::NodefsAvailable));
        let both: &[&str] = &["DiskPressure", "MemoryPressure"];
        check(
            written,
            &[
                (0, 100, 100, &[], None),
                (1, 500, 99, &["DiskPressure"], disk),
                (2, 99, 99, both, ram),
                (3, 100, 100, both, None),
                // The conditions stay for a while.
                (101, 500, 500, both, None),
                (102, 500, 500, &[], None),
            ],
        );
    }

    #[test]
    fn soft_thresholds_have_time_and_what_was_met_has_to_be_passed() {
        let written = Written {
            soft: "memory.available<100",
            soft_grace: "memory.available=30s",
            min_reclaim: "memory.available=50",
            ..Written::default()
        };
        let (ram, pressure): (_, &[&str]) = (Some(Signal::MemoryAvailable), &["MemoryPressure"]);
        check(
            written,
            &[
                (0, 90, 0, pressure, None),
                (29, 120, 0, pressure, None),
                (30, 120, 0, pressure, ram),
                (40, 150, 0, pressure, None),
                (50, 120, 0, pressure, None),
                (60, 90, 0, pressure, None),
                (89, 90, 0, pressure, None),
                (90, 90, 0, pressure, ram),
            ],
        );
    }

    #[test]
    fn what_is_not_measured_is_not_acted_on() {
        let written = Written { hard: "pid.available<10", ..Written::default() };
        check(written, &[(0, 0, 0, &[], None)]);
    }

    #[test]
    fn the_greedy_and_unimportant_go_first() {
        let pod =
            |uid: &str, priority, request, usage| Candidate { uid: uid.into(), priority, request, usage };
        let order = |signal, mut pods: Vec<Candidate>| {
            rank(signal, &mut pods);
            pods.into_iter().map(|pod| pod.uid).collect::<String>()
        };
        let pods = || {
            vec![
                pod("a", 0, 50, 40),
                pod("b", 10, 10, 90),
                pod("c", 0, 10, 20),
                pod("d", 0, 0, 70),
                pod("e", -5, 100, 99),
            ]
        };
        assert_eq!(order(Signal::MemoryAvailable, pods()), "dcbea");
        assert_eq!(order(Signal::PidAvailable, pods()), "edacb");
    }
}
