//! The last two readings of each node, and the rates between them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::reading::{Point, Reading};

/// A container that has just started has a rate after this time: since its start.
const FRESH: SignedDuration = SignedDuration::from_secs(10);
/// Until this age. Later it takes two readings, as for any other.
const NO_LONGER_FRESH: SignedDuration = SignedDuration::from_secs(30);

/// What something used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Usage {
    /// Until when.
    pub(crate) at: Timestamp,
    /// For how long.
    pub(crate) window: SignedDuration,
    /// Nanoseconds of CPU time a second.
    pub(crate) cpu: u64,
    /// Bytes of the working set at the end.
    pub(crate) memory: u64,
}

#[derive(Debug, Default)]
struct Two {
    last: Reading,
    before: Option<Reading>,
}

/// All nodes, by name.
#[derive(Debug, Default)]
pub(crate) struct Store {
    nodes: BTreeMap<String, Two>,
    /// Where each pod is.
    places: BTreeMap<(String, String), String>,
}

impl Store {
    /// Takes what nodes said in one round. Of those that said nothing nothing is known any more: old figures are worse than
    /// none to whoever scales by them.
    pub(crate) fn take(&mut self, round: Vec<(String, Reading)>) {
        let heard: BTreeSet<&str> = round.iter().map(|(name, _)| name.as_str()).collect();
        self.nodes.retain(|name, _| heard.contains(name.as_str()));
        for (name, reading) in round {
            let two = self.nodes.entry(name).or_default();
            // A kubelet that says the same again has not counted anew.
            if two.last.node.map(|point| point.at) != reading.node.map(|point| point.at) {
                let last = std::mem::replace(&mut two.last, reading);
                two.before = Some(last).filter(|last| last.node.is_some());
            }
        }
        let places =
            self.nodes.iter().flat_map(|(node, two)| two.last.pods.keys().map(move |pod| (pod, node)));
        self.places = places.map(|(pod, node)| (pod.clone(), node.clone())).collect();
    }

    /// Whether some node has been heard once only.
    pub(crate) fn is_young(&self) -> bool {
        self.nodes.values().any(|two| two.before.is_none())
    }

    /// What a node uses.
    pub(crate) fn node(&self, name: &str) -> Option<Usage> {
        let two = self.nodes.get(name)?;
        rate(two.before.as_ref().and_then(|before| before.node), two.last.node?)
    }

    /// What each container of a pod uses; nothing, where that of one is not known.
    pub(crate) fn pod(&self, namespace: &str, name: &str) -> Option<Vec<(&str, Usage)>> {
        let key = (namespace.to_owned(), name.to_owned());
        let two = self.nodes.get(self.places.get(&key)?)?;
        let before = two.before.as_ref().and_then(|before| before.pods.get(&key));
        let containers = two.last.pods.get(&key)?.iter();
        containers
            .map(|(container, point)| {
                let before = before.and_then(|before| before.get(container)).copied();
                Some((container.as_str(), rate(before, *point)?))
            })
            .collect()
    }
}

/// The rate between two points of one count, or since its beginning while that is not long ago.
fn rate(before: Option<Point>, last: Point) -> Option<Usage> {
    let same = |before: &Point| before.since == last.since && before.at < last.at && before.cpu <= last.cpu;
    let (from, cpu) = match before.filter(same) {
        Some(before) => (before.at, last.cpu - before.cpu),
        None => {
            let since = last.since?;
            let age = last.at.duration_since(since);
            if age < FRESH || age > NO_LONGER_FRESH {
                return None;
            }
            (since, last.cpu)
        }
    };
    let window = last.at.duration_since(from);
    let nanoseconds = u128::try_from(window.as_nanos()).ok().filter(|window| *window > 0)?;
    let cpu = u64::try_from(u128::from(cpu) * 1_000_000_000 / nanoseconds).unwrap_or(u64::MAX);
    Some(Usage { at: last.at, window, cpu, memory: last.memory })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn point(second: i64, since: Option<i64>, cpu: u64) -> Point {
        Point { at: at(second), since: since.map(at), cpu, memory: 1 }
    }

    fn reading(second: i64, since: i64, cpu: u64) -> Reading {
        let pod = [("c".to_owned(), point(second, Some(since), cpu))].into();
        let pods = [(("x".to_owned(), "a".to_owned()), pod)].into();
        Reading { node: Some(point(second, None, cpu)), pods }
    }

    fn cpu(store: &Store) -> (Option<u64>, Option<u64>) {
        let of_pod =
            store.pod("x", "a").and_then(|containers| containers.first().map(|(_, usage)| usage.cpu));
        (store.node("n").map(|usage| usage.cpu), of_pod)
    }

    #[test]
    fn a_rate_takes_two_readings_of_the_same_count() {
        let mut store = Store::default();
        let mut take = |reading| {
            store.take(vec![("n".to_owned(), reading)]);
            cpu(&store)
        };
        assert_eq!(take(reading(100, 0, 1_000)), (None, None));
        assert_eq!(take(reading(110, 0, 21_000)), (Some(2_000), Some(2_000)));
        assert_eq!(take(reading(110, 0, 21_000)), (Some(2_000), Some(2_000)), "not counted anew");
        // Started again: the pod's count has begun anew, and the node's goes on from what it was.
        assert_eq!(take(reading(120, 118, 31_000)), (Some(1_000), None));
        assert_eq!(take(reading(130, 129, 100)), (None, None), "the count went back");
        let mut store = Store::default();
        store.take(vec![("n".to_owned(), reading(20, 0, 40_000))]);
        assert_eq!(cpu(&store), (None, Some(2_000)), "since its start");
        assert!(store.is_young());
    }

    #[test]
    fn who_is_silent_is_forgotten() {
        let mut store = Store::default();
        for second in [100, 110] {
            store.take(vec![("n".to_owned(), reading(second, 0, 1)), ("m".to_owned(), Reading::default())]);
        }
        assert!(store.node("n").is_some());
        store.take(vec![("m".to_owned(), Reading::default())]);
        assert_eq!((store.node("n"), store.pod("x", "a")), (None, None));
    }
}
