//! What happened, in order: read by people when a seed fails, and hashed, so that two runs can be compared.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use crate::time::SimulatedClock;

/// The steps of one simulation.
#[derive(Debug)]
pub struct Trace {
    clock: Arc<SimulatedClock>,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    hash: Sha256,
    lines: Vec<String>,
}

impl Trace {
    /// None yet.
    pub fn new(clock: Arc<SimulatedClock>) -> Self {
        Self { clock, told: Mutex::default() }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a step.
    pub fn tell(&self, step: fmt::Arguments<'_>) {
        let line = format!("{:12.6} {step}", self.clock.elapsed().as_secs_f64());
        let mut told = self.told();
        told.hash.update(line.as_bytes());
        told.hash.update(b"\n");
        told.lines.push(line);
    }

    /// The hash of all steps so far.
    pub fn hash(&self) -> String {
        self.told().hash.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// All steps so far.
    pub fn lines(&self) -> Vec<String> {
        self.told().lines.clone()
    }
}
