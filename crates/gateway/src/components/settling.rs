//! Waiting until everything that was kept has been looked at once.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use super::Item;

/// Keys that nobody has looked at yet.
#[derive(Debug)]
pub(super) struct Settling {
    waiting: Mutex<BTreeSet<Item>>,
    left: watch::Sender<usize>,
}

impl Settling {
    pub(super) fn new(items: impl IntoIterator<Item = Item>) -> Self {
        let waiting: BTreeSet<_> = items.into_iter().collect();
        let left = watch::Sender::new(waiting.len());
        Self { waiting: Mutex::new(waiting), left }
    }

    pub(super) fn looked_at(&self, item: &Item) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.remove(item) {
            self.left.send_replace(waiting.len());
        }
    }

    /// Returns once none is left.
    pub(super) async fn settled(&self) {
        // An error would mean that the sender is gone, and it is borrowed here.
        let _ = self.left.subscribe().wait_for(|left| *left == 0).await;
    }
}

#[cfg(test)]
mod tests {
    use client::ObjectKey;

    use super::*;

    #[tokio::test]
    async fn it_settles_when_the_last_was_looked_at() {
        let item = |name: &str| Item::Store(ObjectKey::new("ns", name));
        let settling = Settling::new([item("a"), item("b")]);
        settling.looked_at(&item("a"));
        settling.looked_at(&item("a"));
        settling.looked_at(&item("other"));
        let mut settled = Box::pin(settling.settled());
        let first =
            std::future::poll_fn(|context| std::task::Poll::Ready(settled.as_mut().poll(context).is_ready()));
        assert!(!first.await);
        settling.looked_at(&item("b"));
        settled.await;
        Settling::new([]).settled().await;
    }
}
