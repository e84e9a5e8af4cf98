//! What the controllers count of their work, under upstream's names of its work queues.

use client::Ambient;
use clock::Instant;
use instruments::{Counter, Gauge, Histogram, Kind, Page};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Nanoseconds: upstream's bounds of work.
const BOUNDS: &[u64] =
    &[10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000, 10_000_000_000];

/// One controller's.
#[derive(Debug)]
pub(crate) struct Work {
    /// Keys that wait, when one was taken last.
    waiting: Gauge,
    /// Keys that were given to be worked on.
    added: Counter,
    /// Keys that are to be worked on again because they failed.
    retries: Counter,
    /// How long the work on each took.
    took: Histogram,
}

impl Work {
    fn new() -> Self {
        let took = Histogram::new(BOUNDS);
        Self { waiting: Gauge::default(), added: Counter::default(), retries: Counter::default(), took }
    }

    /// Notes a key that was taken from a queue which now has so many; its end is noted when what is returned goes.
    pub(crate) fn begin<'a>(&'a self, waiting: usize, ambient: &'a Ambient) -> UnderWay<'a> {
        self.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.added.add_one();
        UnderWay { work: self, ambient, began: ambient.clock.monotonic() }
    }

    /// Notes that a key failed.
    pub(crate) fn failed(&self) {
        self.retries.add_one();
    }
}

/// A key that is being worked on.
pub(crate) struct UnderWay<'a> {
    work: &'a Work,
    ambient: &'a Ambient,
    began: Instant,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.work.took.observe(self.ambient.clock.monotonic().since(self.began));
    }
}

/// All controllers', for whoever shows them. They go on counting when the lease comes back.
#[derive(Debug, Default)]
pub struct Instruments(Mutex<BTreeMap<&'static str, Arc<Work>>>);

impl Instruments {
    pub(crate) fn of(&self, controller: &'static str) -> Arc<Work> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(controller).or_insert_with(|| Arc::new(Work::new())).clone()
    }

    /// Writes them on a page.
    pub fn write(&self, page: &mut Page) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        page.family("workqueue_depth", Kind::Gauge, "Keys that waited when one was taken last.");
        for (name, work) in &all {
            page.sample(&[("name", name)], work.waiting.get());
        }
        page.family("workqueue_adds_total", Kind::Counter, "Keys that were worked on.");
        for (name, work) in &all {
            page.sample(&[("name", name)], work.added.get());
        }
        page.family(
            "workqueue_retries_total",
            Kind::Counter,
            "Keys that failed, and were to be worked on again.",
        );
        for (name, work) in &all {
            page.sample(&[("name", name)], work.retries.get());
        }
        page.family("workqueue_work_duration_seconds", Kind::Histogram, "How long the work on a key took.");
        for (name, work) in &all {
            page.histogram(&[("name", name)], &work.took);
        }
    }
}
