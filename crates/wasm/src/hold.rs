//! Keeps a durable guest's lines out of the log while it only repeats what it did in an earlier life.
//!
//! Lines written before a recorded call are held until it is known whether that call is performed now or was performed
//! before: then they were logged before, too. A process that was killed may have lost lines, or repeat the last few;
//! they are a log, not a journal.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use effects::{Decision, Halt, Operation, Recorder, Ticket};

use crate::logs::{LogSink, LogStream};

/// Lines held at most; with more they are logged, whatever they may turn out to be.
const LINES: usize = 256;
/// A sleep that returns sooner was over before.
const PASSED: Duration = Duration::from_millis(1);

/// A recorder, and the log of the guest that it records.
pub(crate) struct Hold {
    recorder: Arc<dyn Recorder>,
    sink: Arc<dyn LogSink>,
    state: Mutex<State>,
    slept: Mutex<Slept>,
}

/// What the guest slept with its recorder's knowledge, which its limit by the clock does not count.
#[derive(Default)]
struct Slept {
    total: Duration,
    asleep: bool,
}

#[derive(Default)]
struct State {
    /// The guest does what it never did: its lines go straight to the log.
    live: bool,
    lines: Vec<(String, LogStream, String)>,
}

impl Hold {
    pub(crate) fn new(recorder: Arc<dyn Recorder>, sink: Arc<dyn LogSink>) -> Self {
        Self { recorder, sink, state: Mutex::default(), slept: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the guest has slept; `None` while it sleeps.
    pub(crate) fn slept(&self) -> Option<Duration> {
        let slept = self.sleeping();
        (!slept.asleep).then_some(slept.total)
    }

    fn sleeping(&self) -> MutexGuard<'_, Slept> {
        self.slept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn repeated(&self) {
        self.state().lines.clear();
    }

    fn now_live(&self) {
        self.state().live = true;
        self.release();
    }

    fn release(&self) {
        let lines = std::mem::take(&mut self.state().lines);
        for (component, stream, line) in lines {
            self.sink.line(&component, stream, &line);
        }
    }
}

impl LogSink for Hold {
    fn line(&self, component: &str, stream: LogStream, line: &str) {
        let mut state = self.state();
        if !state.live {
            state.lines.push((component.to_owned(), stream, line.to_owned()));
            if state.lines.len() < LINES {
                return;
            }
            drop(state);
            self.release();
            return;
        }
        drop(state);
        self.sink.line(component, stream, line);
    }
}

#[async_trait]
impl Recorder for Hold {
    async fn start(&self, operation: Operation) -> Result<Decision, Halt> {
        let decision = self.recorder.start(operation).await;
        match &decision {
            Ok(Decision::Replay(_)) => self.repeated(),
            Ok(Decision::Perform(_)) => self.now_live(),
            // How it ended is worth knowing, with what led to it.
            Err(_) => self.release(),
        }
        decision
    }

    async fn finish(&self, ticket: Ticket, result: Bytes) -> Result<(), Halt> {
        self.recorder.finish(ticket, result).await
    }

    async fn sleep(&self, nanoseconds: u64) -> Result<(), Halt> {
        let started = Instant::now();
        self.sleeping().asleep = true;
        let slept = self.recorder.sleep(nanoseconds).await;
        let elapsed = started.elapsed();
        {
            let mut sleeping = self.sleeping();
            sleeping.asleep = false;
            sleeping.total += elapsed;
        }
        if slept.is_err() || elapsed > PASSED {
            self.release();
        } else {
            self.repeated();
        }
        slept
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.release();
    }
}
