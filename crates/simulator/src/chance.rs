//! Chance: every choice of a simulation is drawn from generators that its seed begins.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clock::SeededRandom;

/// The generator of one part of the simulation, so that what one part draws does not shift what the others do.
#[derive(Debug)]
pub struct Chance(Mutex<fastrand::Rng>);

/// The seed of a part: of its name too (FNV-1a, which the name's bytes follow).
fn mixed(seed: u64, part: &str) -> u64 {
    let bytes = seed.to_le_bytes().into_iter().chain(part.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

impl Chance {
    /// That of a part, in the simulation of a seed.
    pub fn of(seed: u64, part: &str) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(mixed(seed, part))))
    }

    fn generator(&self) -> MutexGuard<'_, fastrand::Rng> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&self, bound: usize) -> usize {
        self.generator().usize(..bound)
    }

    /// True so many times in a thousand.
    pub fn in_a_thousand(&self, times: usize) -> bool {
        self.below(1000) < times
    }

    /// A duration from `least` up to `most`, to the nanosecond: two of them are never the same, and so no two things happen at
    /// the same time.
    pub fn between(&self, least: Duration, most: Duration) -> Duration {
        let nanoseconds = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.generator().u64(nanoseconds(least)..=nanoseconds(most)))
    }

    /// As [`Chance::between`], in milliseconds.
    pub fn milliseconds(&self, least: u64, most: u64) -> Duration {
        self.between(Duration::from_millis(least), Duration::from_millis(most))
    }

    /// One of these, of which there is at least one.
    pub fn pick<'a, T>(&self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// What the code under test takes as [`clock::Random`].
    pub fn random(seed: u64, part: &str) -> Arc<SeededRandom> {
        Arc::new(SeededRandom::new(mixed(seed, part)))
    }
}
