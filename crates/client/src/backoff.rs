//! Growing waits.

use std::time::Duration;

/// Exponential back-off with jitter: each wait is drawn from between half and the whole of a bound that doubles up to a
/// limit. Pure: the caller brings the random number and does the waiting.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    limit: Duration,
    failures: u32,
}

impl Backoff {
    /// Starts at `base`, never waits longer than `limit`.
    pub fn new(base: Duration, limit: Duration) -> Self {
        Self { base, limit, failures: 0 }
    }

    /// The next wait.
    pub fn next(&mut self, random: u64) -> Duration {
        let bound = delay(self.base, self.limit, self.failures);
        self.failures = self.failures.saturating_add(1);
        jittered(bound, random)
    }

    /// Begin again at the base: something worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// How often in a row [`Backoff::next`] was asked since the last reset.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

/// `base` doubled `failures` times, at most `limit`.
pub fn delay(base: Duration, limit: Duration, failures: u32) -> Duration {
    1u32.checked_shl(failures)
        .and_then(|factor| base.checked_mul(factor))
        .map_or(limit, |delay| delay.min(limit))
}

/// A duration between half of `bound` and all of it.
pub fn jittered(bound: Duration, random: u64) -> Duration {
    let half = bound / 2;
    let steps = 1 << 20;
    half + half.mul_f64((random % steps) as f64 / steps as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_its_limit() {
        let of = |failures| delay(Duration::from_millis(5), Duration::from_secs(1), failures).as_millis();
        assert_eq!(
            [of(0), of(1), of(2), of(7), of(8), of(31), of(32), of(u32::MAX)],
            [5, 10, 20, 640, 1000, 1000, 1000, 1000]
        );
    }

    #[test]
    fn jitter_stays_between_half_and_all() {
        let bound = Duration::from_secs(8);
        for random in [0, 1, 1 << 19, (1 << 20) - 1, u64::MAX] {
            let wait = jittered(bound, random);
            assert!(wait >= bound / 2 && wait <= bound, "{wait:?}");
        }
        assert_ne!(jittered(bound, 0), jittered(bound, 1 << 19));
    }
}
