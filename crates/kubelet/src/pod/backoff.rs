//! How long to wait before a container that ended is started again: upstream's numbers.

use jiff::{SignedDuration, Timestamp};

const FIRST: SignedDuration = SignedDuration::from_secs(10);
const LIMIT: SignedDuration = SignedDuration::from_mins(5);
/// Having run for so long, a container starts from the beginning.
const FORGIVEN: SignedDuration = SignedDuration::from_mins(10);

/// A wait that doubles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    /// How long the wait is.
    pub(crate) delay: SignedDuration,
    since: Timestamp,
}

impl Backoff {
    /// The wait before the attempt after next, given that the next one is made now for something that ended at `ended`.
    pub(crate) fn next(before: Option<Backoff>, ended: Timestamp, now: Timestamp) -> Backoff {
        let delay = match before.filter(|before| !before.forgiven(ended)) {
            None => FIRST,
            Some(before) => (before.delay + before.delay).min(LIMIT),
        };
        Backoff { delay, since: now }
    }

    /// Until when to wait, for something that ended at `ended`; `None`: no longer.
    pub(crate) fn wait(before: Option<Backoff>, ended: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let before = before.filter(|before| !before.forgiven(ended))?;
        let until = ended.checked_add(before.delay).unwrap_or(Timestamp::MAX);
        (until > now).then_some(until)
    }

    fn forgiven(&self, ended: Timestamp) -> bool {
        ended.duration_since(self.since) > FORGIVEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    #[test]
    fn it_doubles_to_five_minutes_and_begins_anew_after_ten() {
        let (mut now, mut backoff, mut waits) = (0, None, Vec::new());
        for _ in 0..8 {
            // It ends as soon as it has started.
            let wait = Backoff::wait(backoff, at(now), at(now))
                .map_or(0, |until| until.as_second() - at(now).as_second());
            waits.push(wait);
            let ended = now;
            now += wait;
            backoff = Some(Backoff::next(backoff, at(ended), at(now)));
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(Backoff::wait(backoff, at(now + 601), at(now + 601)), None);
        assert_eq!(Backoff::next(backoff, at(now + 601), at(now + 601)).delay, FIRST);
        assert!(Backoff::wait(backoff, at(now + 600), at(now + 600)).is_some());
    }
}
