//! How much of the past is kept.

use std::collections::VecDeque;
use std::time::Duration;

use clock::Instant;

use crate::Revision;

/// How much history a backend keeps.
#[derive(Clone, Copy, Debug)]
pub struct History {
    /// Revisions younger than this stay readable (unless there are too many of them).
    pub age: Duration,
    /// At most so many revisions stay readable.
    pub revisions: u64,
}

impl Default for History {
    /// Five minutes, as upstream's API server keeps in etcd.
    fn default() -> Self {
        Self { age: Duration::from_secs(300), revisions: 200_000 }
    }
}

/// Which revision the store was at, when.
#[derive(Debug)]
pub(crate) struct Maintenance {
    history: History,
    seen: VecDeque<(Instant, Revision)>,
}

impl Maintenance {
    pub(crate) fn new(history: History) -> Self {
        Self { history, seen: VecDeque::new() }
    }

    /// Notes the head, and says up to where history is no longer to be kept.
    pub(crate) fn note(&mut self, now: Instant, head: Revision) -> Revision {
        let mut forget = head.saturating_sub(self.history.revisions);
        while let Some((_, revision)) =
            self.seen.pop_front_if(|(when, _)| now.since(*when) >= self.history.age)
        {
            forget = forget.max(revision);
        }
        if self.seen.back().is_none_or(|(_, revision)| *revision != head) && forget < head {
            self.seen.push_back((now, head));
        }
        forget
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_goes_by_age_and_by_number() {
        let at = |seconds| Instant::default() + Duration::from_secs(seconds);
        let mut kept = Maintenance::new(History { age: Duration::from_secs(300), revisions: 1000 });
        assert_eq!(kept.note(at(0), 10), 0);
        assert_eq!(kept.note(at(60), 20), 0);
        assert_eq!(kept.note(at(299), 20), 0);
        assert_eq!(kept.note(at(300), 30), 10);
        assert_eq!(kept.note(at(360), 30), 20);
        assert_eq!(kept.note(at(400), 5000), 4000);
        // Nothing happens for long: the head itself becomes the oldest, and nothing is noted any more.
        assert_eq!(kept.note(at(2000), 5000), 5000);
        assert!(kept.seen.is_empty());
    }
}
