//! When nodes were last heard, noted at every sign of life: 5,000 nodes give 500 in a second, and none of them changes what
//! there is to do.

use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// By our own clock: a node's may be wrong, and a restart of ours is not its silence.
#[derive(Debug, Default)]
pub(super) struct Heard(Mutex<HashMap<String, Timestamp>>);

impl Heard {
    /// Notes a sign of life of a node. Whether somebody must look at it: it had been silent for as long as that is borne, or
    /// was never heard, so that nobody has to look at it later anyway.
    pub(super) fn note(&self, name: &str, borne: Duration, now: impl FnOnce() -> Timestamp) -> bool {
        let mut heard = self.lock();
        // Not earlier: whoever has asked since, and taken the node for silent, had an earlier time in mind.
        let now = now();
        match heard.get_mut(name) {
            Some(before) => now >= silent_from(std::mem::replace(before, now), borne),
            None => heard.insert(name.to_owned(), now).is_none(),
        }
    }

    /// Notes that a node is there, which counts as a sign of life if it is news.
    pub(super) fn meet(&self, name: &str, now: impl FnOnce() -> Timestamp) {
        let mut heard = self.lock();
        if !heard.contains_key(name) {
            heard.insert(name.to_owned(), now());
        }
    }

    /// When the node was last heard.
    pub(super) fn last(&self, name: &str) -> Option<Timestamp> {
        self.lock().get(name).copied()
    }

    /// The node is gone.
    pub(super) fn forget(&self, name: &str) {
        self.lock().remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From when on somebody who was last heard then counts as silent.
pub(super) fn silent_from(heard: Timestamp, borne: Duration) -> Timestamp {
    heard
        .checked_add(SignedDuration::try_from(borne).unwrap_or(SignedDuration::MAX))
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_a_silence_is_news() {
        let (heard, borne) = (Heard::default(), Duration::from_secs(50));
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let note = |seconds| heard.note("n", borne, || at(seconds));
        assert!(note(0), "nobody knew it");
        assert!(!note(10) && !note(59));
        assert!(note(109), "as long as is borne");
        assert_eq!(heard.last("n"), Some(at(109)));
        heard.meet("n", || at(120));
        assert_eq!(heard.last("n"), Some(at(109)));
        heard.forget("n");
        assert_eq!(heard.last("n"), None);
        heard.meet("n", || at(130));
        assert_eq!(heard.last("n"), Some(at(130)));
        assert!(!note(140));
    }
}
