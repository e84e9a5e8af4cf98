//! Numbers that many threads change at once.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// How many by now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Grows and shrinks.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// So many more, or fewer.
    pub fn add(&self, more: i64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// So many.
    pub fn set(&self, number: i64) {
        self.0.store(number, Relaxed);
    }

    /// How many now.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// Upstream's bounds of requests, to the API and to etcd.
pub const OF_REQUESTS: &[u64] = &[
    5_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    400_000_000,
    600_000_000,
    800_000_000,
    1_000_000_000,
    1_250_000_000,
    1_500_000_000,
    2_000_000_000,
    3_000_000_000,
    4_000_000_000,
    5_000_000_000,
    6_000_000_000,
    8_000_000_000,
    10_000_000_000,
    15_000_000_000,
    20_000_000_000,
    30_000_000_000,
    45_000_000_000,
    60_000_000_000,
];

/// How long things took: how many took no longer than each bound, and all together.
#[derive(Debug)]
pub struct Histogram {
    /// In nanoseconds, from the smallest.
    bounds: &'static [u64],
    /// Each with what no bound before it holds; the last without a bound.
    counts: Box<[AtomicU64]>,
    /// In nanoseconds.
    sum: AtomicU64,
}

impl Histogram {
    /// With these bounds, in nanoseconds, from the smallest.
    pub fn new(bounds: &'static [u64]) -> Self {
        let counts = std::iter::repeat_with(AtomicU64::default).take(bounds.len() + 1).collect();
        Self { bounds, counts, sum: AtomicU64::default() }
    }

    /// Something took so long.
    pub fn observe(&self, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let place = self.bounds.partition_point(|bound| *bound < nanoseconds);
        self.counts[place].fetch_add(1, Relaxed);
        self.sum.fetch_add(nanoseconds, Relaxed);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |all, count| all.saturating_add(count.load(Relaxed)))
    }

    /// Each bound in seconds, the last infinite, with how many took no longer; and all together in seconds.
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn read(&self) -> (Vec<(f64, u64)>, f64) {
        let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
        let bounds = self.bounds.iter().map(|bound| seconds(*bound)).chain([f64::INFINITY]);
        let mut so_far = 0_u64;
        let counts = self.counts.iter().map(|count| {
            so_far = so_far.saturating_add(count.load(Relaxed));
            so_far
        });
        (bounds.zip(counts).collect(), seconds(self.sum.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_as_long_as_a_bound_is_within_it() {
        let histogram = Histogram::new(&[1_000_000, 1_000_000_000]);
        for milliseconds in [0, 1, 2, 1000, 5000] {
            histogram.observe(Duration::from_millis(milliseconds));
        }
        let (buckets, sum) = histogram.read();
        assert_eq!(buckets, [(0.001, 2), (1.0, 4), (f64::INFINITY, 5)]);
        assert!((sum - 6.003).abs() < 1e-9);
    }
}
