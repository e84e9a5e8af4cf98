//! How far the cache has followed the store.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

/// The revision up to which every event is in the cache, and those who wait for a later one.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    revision: AtomicU64,
    following: AtomicBool,
    waiting: Mutex<BTreeMap<u64, Vec<oneshot::Sender<()>>>>,
}

impl Applied {
    /// The revision.
    pub(crate) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Whether the feed follows the store now.
    pub(crate) fn is_following(&self) -> bool {
        self.following.load(Ordering::Acquire)
    }

    /// Called by the feed, when its watch of the store begins and ends.
    pub(crate) fn set_following(&self, following: bool) {
        self.following.store(following, Ordering::Release);
    }

    /// Called by the feed, after the resources show everything up to `revision`.
    pub(crate) fn advance(&self, revision: u64) {
        self.revision.fetch_max(revision, Ordering::AcqRel);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(entry) = waiting.first_entry().filter(|entry| *entry.key() <= revision) {
            for waiter in entry.remove() {
                // Whoever stopped waiting needs no answer.
                let _ = waiter.send(());
            }
        }
    }

    /// Returns once the cache shows `revision`; false when the feed has ended.
    pub(crate) async fn reached(&self, revision: u64) -> bool {
        if self.revision() >= revision {
            return true;
        }
        let receiver = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            // Looked at again under the lock: the feed advances first and looks for waiters second.
            if self.revision() >= revision {
                return true;
            }
            let (sender, receiver) = oneshot::channel();
            waiting.entry(revision).or_default().push(sender);
            receiver
        };
        receiver.await.is_ok()
    }

    /// Lets everybody go: the feed has ended.
    pub(crate) fn close(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiters_go_when_their_revision_has_come() {
        let applied = std::sync::Arc::new(Applied::default());
        applied.advance(3);
        assert!(applied.reached(3).await);
        let wait = |revision| {
            let applied = applied.clone();
            tokio::spawn(async move { applied.reached(revision).await })
        };
        let (five, six) = (wait(5), wait(6));
        tokio::task::yield_now().await;
        applied.advance(5);
        assert!(five.await.unwrap());
        assert!(!six.is_finished());
        applied.close();
        assert!(!six.await.unwrap());
    }
}
