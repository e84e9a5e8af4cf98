//! A bound on how many run, with a bounded queue before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long one waits for a place before it is turned away.
const PATIENCE: Duration = Duration::from_secs(1);

/// Admits a number at a time; a number wait for a second, and whoever comes on top of that is turned away.
pub(crate) struct Gate {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    queue: usize,
}

/// A place, given back when dropped.
pub(crate) type Place = OwnedSemaphorePermit;

/// Lowers the number of those who wait, also when the one who waits gives up.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gate {
    pub(crate) fn new(places: u32, queue: u32) -> Self {
        let places = Arc::new(Semaphore::new(places.max(1) as usize));
        Self { places, waiting: AtomicUsize::new(0), queue: queue.max(1) as usize }
    }

    /// A place, or `None` when there is none.
    pub(crate) async fn enter(&self) -> Option<Place> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Some(place);
        }
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.queue {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let _waiting = Waiting(&self.waiting);
        tokio::time::timeout(PATIENCE, self.places.clone().acquire_owned()).await.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn admits_queues_and_turns_away() {
        let gate = Arc::new(Gate::new(1, 1));
        let place = gate.enter().await.unwrap();
        let queued = tokio::spawn({
            let gate = gate.clone();
            async move { gate.enter().await.is_some() }
        });
        tokio::task::yield_now().await;
        assert!(gate.enter().await.is_none(), "the queue is full");
        drop(place);
        assert!(queued.await.unwrap());
        let _place = gate.enter().await.unwrap();
        assert!(gate.enter().await.is_none(), "patience ends");
        assert_eq!(gate.waiting.load(Ordering::Relaxed), 0);
    }
}
