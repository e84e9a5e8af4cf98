//! Time: it stands still while anything can happen, and jumps to the next deadline when nothing can.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use clock::{Clock, Instant};
use jiff::Timestamp;

use crate::process::Process;

/// The clock of the whole simulation.
#[derive(Debug)]
pub struct SimulatedClock {
    start: Timestamp,
    state: Mutex<State>,
    jumps: AtomicU64,
}

#[derive(Debug)]
struct State {
    elapsed: Duration,
    /// By deadline, and drawn by lot among those of one deadline.
    sleepers: BTreeMap<Place, Waker>,
    lots: fastrand::Rng,
    registered: u64,
}

type Place = (Duration, u32, u64);

impl SimulatedClock {
    /// One that begins at `start`. Who wakes first of those that sleep until the same time is the seed's choice.
    pub fn new(start: Timestamp, seed: u64) -> Self {
        let lots = fastrand::Rng::with_seed(seed);
        let state = State { elapsed: Duration::ZERO, sleepers: BTreeMap::new(), lots, registered: 0 };
        Self { start, state: Mutex::new(state), jumps: AtomicU64::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.state().elapsed
    }

    /// Goes to the next deadline and wakes one of those who wait for it. Called when everything else is asleep.
    pub fn jump(&self) {
        let woken = {
            let mut state = self.state();
            let Some((place, waker)) = state.sleepers.pop_first() else { return };
            state.elapsed = state.elapsed.max(place.0);
            waker
        };
        self.jumps.fetch_add(1, Ordering::Relaxed);
        woken.wake();
    }

    /// How often it went on.
    pub fn jumps(&self) -> u64 {
        self.jumps.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        self.start.saturating_add(self.elapsed()).unwrap_or(Timestamp::MAX)
    }

    fn monotonic(&self) -> Instant {
        Instant::default() + self.elapsed()
    }

    async fn sleep_until(&self, deadline: Instant) {
        Sleep { clock: self, deadline: deadline.since(Instant::default()), place: None }.await;
    }
}

struct Sleep<'a> {
    clock: &'a SimulatedClock,
    deadline: Duration,
    place: Option<Place>,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.clock.state();
        if state.elapsed >= self.deadline {
            return Poll::Ready(());
        }
        // What is never reached is nothing to jump to.
        if self.deadline < Duration::MAX {
            let place = self.place.unwrap_or_else(|| {
                state.registered += 1;
                (self.deadline, state.lots.u32(..), state.registered)
            });
            state.sleepers.insert(place, context.waker().clone());
            drop(state);
            self.place = Some(place);
        }
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.clock.state().sleepers.remove(&place);
        }
    }
}

/// The clock as a process has it: while the process is frozen nobody wakes.
#[derive(Debug)]
pub struct ProcessClock {
    pub(crate) clock: Arc<SimulatedClock>,
    pub(crate) process: Arc<Process>,
}

#[async_trait]
impl Clock for ProcessClock {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn monotonic(&self) -> Instant {
        self.clock.monotonic()
    }

    async fn sleep_until(&self, deadline: Instant) {
        self.clock.sleep_until(deadline).await;
        self.process.thawed().await;
    }
}
