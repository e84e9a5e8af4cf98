//! A process that takes part: it can be frozen, cut off, and killed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use client::Ambient;
use clock::{Clock, Instant};
use tokio_util::sync::CancellationToken;

use crate::chance::Chance;
use crate::time::{ProcessClock, SimulatedClock};

/// What surrounds a process, and who it is.
#[derive(Debug)]
pub struct Process {
    /// Its name in the trace; also what it calls itself before the API.
    pub name: String,
    /// The identity with which it stands for leases, if it does.
    pub candidate: Option<String>,
    /// Cancelled when it is killed: from then on nothing comes out of it.
    pub killed: CancellationToken,
    clock: Arc<SimulatedClock>,
    condition: Mutex<Condition>,
}

#[derive(Debug, Default)]
struct Condition {
    frozen_until: Instant,
    /// While it is cut off: cancelled when that began.
    cut: CancellationToken,
    cut_until: Instant,
}

impl Process {
    /// One that runs.
    pub fn new(name: String, candidate: Option<String>, clock: Arc<SimulatedClock>) -> Arc<Self> {
        let killed = CancellationToken::new();
        Arc::new(Self { name, candidate, killed, clock, condition: Mutex::default() })
    }

    fn condition(&self) -> MutexGuard<'_, Condition> {
        self.condition.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time and the chance that it lives by.
    pub fn ambient(self: &Arc<Self>, seed: u64) -> Ambient {
        let clock = Arc::new(ProcessClock { clock: self.clock.clone(), process: self.clone() });
        Ambient { clock, random: Chance::random(seed, &self.name) }
    }

    /// Stops it where it is, as a machine without a processor; what it has sent goes on.
    pub fn freeze(&self, lasts: Duration) {
        let until = self.clock.monotonic() + lasts;
        let mut condition = self.condition();
        condition.frozen_until = condition.frozen_until.max(until);
    }

    /// Whether it is frozen.
    pub fn is_frozen(&self) -> bool {
        self.condition().frozen_until > self.clock.monotonic()
    }

    /// Returns once it is not frozen.
    pub async fn thawed(&self) {
        loop {
            let until = self.condition().frozen_until;
            if until <= self.clock.monotonic() {
                return;
            }
            self.clock.sleep_until(until).await;
        }
    }

    /// Cuts it off from the server: connections break, and no request or answer gets through.
    pub fn cut_off(&self, lasts: Duration) {
        let until = self.clock.monotonic() + lasts;
        let mut condition = self.condition();
        condition.cut_until = condition.cut_until.max(until);
        std::mem::take(&mut condition.cut).cancel();
    }

    /// Whether nothing gets through.
    pub fn is_cut_off(&self) -> bool {
        self.killed.is_cancelled() || self.condition().cut_until > self.clock.monotonic()
    }

    /// Cancelled when its connections of today break.
    pub fn connection(&self) -> CancellationToken {
        self.condition().cut.clone()
    }
}
