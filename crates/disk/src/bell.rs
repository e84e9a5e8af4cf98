//! Wakes the writer while it waits for company, by those alone whom it must not keep waiting: of hundreds of patient batches a
//! second each would cost a switch to its thread and back.

use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    writer: OnceLock<Thread>,
    /// Until when the writer sleeps, while it does.
    until: Mutex<Option<Instant>>,
}

impl Bell {
    /// Says who is woken.
    pub(crate) fn hang(&self, writer: &Thread) {
        // Once, by who starts the writer.
        let _ = self.writer.set(writer.clone());
    }

    fn until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the writer if it would sleep for longer than this. Called after what it is to find was sent.
    pub(crate) fn ring_within(&self, patience: Duration) {
        let until = *self.until();
        if until.is_some_and(|until| Instant::now() + patience < until) {
            self.ring();
        }
    }

    /// Wakes the writer.
    pub(crate) fn ring(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    /// Sleeps until then, or until somebody rings who has sent something; for the writer.
    pub(crate) fn sleep<T>(&self, until: Instant, requests: &Receiver<T>) -> Result<T, RecvTimeoutError> {
        // Who sends after this rings; what was sent before is found below.
        *self.until() = Some(until);
        let next = loop {
            match requests.try_recv() {
                Ok(request) => break Ok(request),
                Err(TryRecvError::Disconnected) => break Err(RecvTimeoutError::Disconnected),
                Err(TryRecvError::Empty) => {}
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break Err(RecvTimeoutError::Timeout);
            }
            thread::park_timeout(left);
        };
        *self.until() = None;
        next
    }
}
