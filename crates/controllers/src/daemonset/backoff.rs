//! Patience with nodes on which a DaemonSet's pods fail: a kubelet that refuses them must not be fought with.

use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

const FIRST: SignedDuration = SignedDuration::from_secs(1);
const LONGEST: SignedDuration = SignedDuration::from_mins(15);

/// How long to wait, by node, for one generation of a set.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Backoff {
    generation: i64,
    nodes: BTreeMap<String, Wait>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Wait {
    since: Timestamp,
    length: SignedDuration,
}

impl Backoff {
    /// Whether it is time for another try on a node: if so it is taken to be made, and the next has to wait longer; if not,
    /// until when.
    pub(super) fn try_again(&mut self, node: &str, generation: i64, now: Timestamp) -> Option<Timestamp> {
        if self.generation != generation {
            // Another template deserves another chance.
            *self = Self { generation, nodes: BTreeMap::new() };
        }
        self.nodes.retain(|_, wait| now.duration_since(wait.since) < LONGEST.saturating_mul(2));
        let length = match self.nodes.get(node) {
            Some(wait) => {
                let until = wait.since.saturating_add(wait.length).unwrap_or(Timestamp::MAX);
                if now < until {
                    return Some(until);
                }
                wait.length.saturating_mul(2).min(LONGEST)
            }
            None => FIRST,
        };
        self.nodes.insert(node.to_owned(), Wait { since: now, length });
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_waits_twice_as_long_and_a_new_generation_does_not() {
        let start: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let at = |seconds: i64| start + SignedDuration::from_secs(seconds);
        let mut backoff = Backoff::default();
        assert_eq!(backoff.try_again("n", 1, at(0)), None);
        assert_eq!(backoff.try_again("n", 1, at(0)), Some(at(1)));
        assert_eq!(backoff.try_again("m", 1, at(0)), None, "another node");
        assert_eq!(backoff.try_again("n", 1, at(1)), None);
        assert_eq!(backoff.try_again("n", 1, at(2)), Some(at(3)));
        assert_eq!(backoff.try_again("n", 2, at(2)), None);
        assert_eq!(backoff.try_again("n", 2, at(2 + 1800)), None, "long forgotten");
        assert_eq!(backoff.try_again("n", 2, at(2 + 1800)), Some(at(3 + 1800)));
    }
}
