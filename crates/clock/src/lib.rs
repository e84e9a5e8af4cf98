//! Time, randomness and task spawning as arguments, so that whoever composes the plane decides what they are: the
//! machine's, or a simulation's that one seed replays.
//!
//! Owns: the [`Clock`] and [`Random`] seams with a real and a simulated implementation of each, and [`Tasks`], the owner
//! of a role's background tasks. Never does: hold a global. Pure code takes a [`jiff::Timestamp`] and needs none of this.
//!
//! Begin with [`Clock`]; `Arc<dyn Clock>` and `Arc<dyn Random>` are what other crates' constructors take.

mod random;
mod tasks;
mod time;

pub use random::{Hashes, Random, SUFFIX_ALPHABET, SeededRandom, SystemRandom};
pub use tasks::{Panicked, Tasks, caught};
pub use time::{Clock, Instant, ManualClock, SystemClock};
