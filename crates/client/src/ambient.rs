//! What surrounds a role: time and chance.

use clock::{Clock, Random, SystemClock, SystemRandom};
use std::fmt;
use std::sync::Arc;

/// The clock and the generator that a role lives by; real in a process, simulated in a test. Cheap to clone.
#[derive(Clone)]
pub struct Ambient {
    /// What time it is, and waiting.
    pub clock: Arc<dyn Clock>,
    /// Jitter and generated names.
    pub random: Arc<dyn Random>,
}

impl Ambient {
    /// The machine's clock and generator.
    pub fn system() -> Self {
        Self { clock: Arc::new(SystemClock::default()), random: Arc::new(SystemRandom::default()) }
    }
}

impl fmt::Debug for Ambient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ambient")
    }
}
