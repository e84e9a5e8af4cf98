//! Clocks.

use std::collections::BTreeMap;
use std::ops::{Add, Sub};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::{Notify, watch};

/// A point on a clock's monotonic scale; it never goes back, whatever is done to the wall clock. Meaningful for one
/// clock only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(Duration);

impl Instant {
    /// Time passed from `earlier` to this; zero if `earlier` is later.
    pub fn since(self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    /// A deadline further off than can be written is never reached; neither is the furthest that can.
    fn add(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_add(duration))
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;

    fn sub(self, earlier: Instant) -> Duration {
        self.since(earlier)
    }
}

/// What time it is, and waiting for a later one.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// The wall clock: what is written into objects. May jump.
    fn now(&self) -> Timestamp;
    /// The monotonic clock: what durations and deadlines are measured by.
    fn monotonic(&self) -> Instant;
    /// Returns once [`Clock::monotonic`] has reached the deadline; at once if it has. May be dropped at any time.
    async fn sleep_until(&self, deadline: Instant);

    /// Returns after so long.
    async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.monotonic() + duration).await;
    }
}

/// The machine's clocks. Sleeping needs a tokio runtime with its timer on.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: std::time::Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { origin: std::time::Instant::now() }
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Instant {
        Instant(self.origin.elapsed())
    }

    async fn sleep_until(&self, deadline: Instant) {
        match self.origin.checked_add(deadline.0) {
            Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
            None => std::future::pending().await,
        }
    }
}

/// A clock that stands still until it is moved. For simulations and tests.
#[derive(Debug)]
pub struct ManualClock {
    start: Timestamp,
    elapsed: watch::Sender<Duration>,
    sleepers: Mutex<Sleepers>,
    went_to_sleep: Notify,
}

#[derive(Debug, Default)]
struct Sleepers {
    /// How many sleep until each deadline.
    deadlines: BTreeMap<Instant, usize>,
}

impl ManualClock {
    /// A clock whose wall time is `start`.
    pub fn new(start: Timestamp) -> Self {
        Self {
            start,
            elapsed: watch::Sender::new(Duration::ZERO),
            sleepers: Mutex::default(),
            went_to_sleep: Notify::new(),
        }
    }

    /// Moves wall and monotonic time forward and wakes whoever waited for it.
    pub fn advance(&self, by: Duration) {
        self.elapsed.send_modify(|elapsed| *elapsed = elapsed.saturating_add(by));
    }

    /// The earliest deadline that anybody sleeps until: where a simulator jumps to when nothing else can happen.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.sleepers().deadlines.keys().next().copied()
    }

    /// Waits until at least `count` tasks sleep on this clock. A test calls it before it moves the clock, instead of
    /// guessing how long the task under test needs to get there.
    pub async fn until_sleepers(&self, count: usize) {
        loop {
            let notified = self.went_to_sleep.notified();
            if self.sleepers().deadlines.values().sum::<usize>() >= count {
                return;
            }
            notified.await;
        }
    }

    fn sleepers(&self) -> MutexGuard<'_, Sleepers> {
        self.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Registers a sleeper for as long as it lives, so that a dropped sleep is forgotten.
struct Asleep<'a>(&'a ManualClock, Instant);

impl<'a> Asleep<'a> {
    fn new(clock: &'a ManualClock, deadline: Instant) -> Self {
        *clock.sleepers().deadlines.entry(deadline).or_default() += 1;
        clock.went_to_sleep.notify_waiters();
        Self(clock, deadline)
    }
}

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        let mut sleepers = self.0.sleepers();
        if let Some(count) = sleepers.deadlines.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                sleepers.deadlines.remove(&self.1);
            }
        }
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.start.saturating_add(*self.elapsed.borrow()).unwrap_or(Timestamp::MAX)
    }

    fn monotonic(&self) -> Instant {
        Instant(*self.elapsed.borrow())
    }

    async fn sleep_until(&self, deadline: Instant) {
        let mut elapsed = self.elapsed.subscribe();
        let _asleep = Asleep::new(self, deadline);
        // An error would mean that the clock is gone, and it is borrowed here.
        let _ = elapsed.wait_for(|elapsed| Instant(*elapsed) >= deadline).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn start() -> Timestamp {
        "2026-01-02T03:04:05Z".parse().unwrap()
    }

    #[tokio::test]
    async fn manual_sleepers_wake_in_time_and_not_before() {
        let clock = Arc::new(ManualClock::new(start()));
        let sleep = |seconds| {
            let clock = clock.clone();
            tokio::spawn(async move { clock.sleep(Duration::from_secs(seconds)).await })
        };
        let (early, late) = (sleep(10), sleep(20));
        clock.until_sleepers(2).await;
        assert_eq!(clock.next_deadline().unwrap() - clock.monotonic(), Duration::from_secs(10));
        clock.advance(Duration::from_secs(10));
        early.await.unwrap();
        assert!(!late.is_finished());
        assert_eq!(clock.now().to_string(), "2026-01-02T03:04:15Z");
        clock.advance(Duration::from_secs(10));
        late.await.unwrap();
        assert_eq!(clock.next_deadline(), None);
    }

    #[tokio::test]
    async fn a_dropped_sleep_is_forgotten_and_a_past_deadline_returns() {
        let clock = ManualClock::new(start());
        {
            let sleep = clock.sleep(Duration::from_secs(1));
            tokio::pin!(sleep);
            assert!(futures_poll(sleep.as_mut()).await.is_none());
            assert!(clock.next_deadline().is_some());
        }
        assert_eq!(clock.next_deadline(), None);
        clock.advance(Duration::from_secs(5));
        clock.sleep_until(Instant::default()).await;
    }

    async fn futures_poll<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = &mut future => Some(output),
            () = std::future::ready(()) => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_system_clock_sleeps_by_its_own_monotonic_time() {
        let clock = SystemClock::default();
        let before = clock.monotonic();
        clock.sleep_until(before).await;
        assert!(clock.monotonic() >= before);
        assert!(futures_poll(clock.sleep_until(before + Duration::MAX)).await.is_none());
    }
}
