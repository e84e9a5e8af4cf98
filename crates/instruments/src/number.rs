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
