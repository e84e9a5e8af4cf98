//! Background tasks that have an owner.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// The background tasks of one role or part: started through it, cancelled with it, awaited by it.
///
/// A task that was spawned here ends when its own future ends or when the owner is stopped, whichever is first; a future
/// that has to tidy up takes [`Tasks::token`] and is spawned with [`Tasks::spawn_graceful`]. Clones own the same tasks.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    token: CancellationToken,
    tracker: TaskTracker,
}

impl Tasks {
    /// An owner with no tasks yet, stopped when `parent` is cancelled.
    pub fn under(parent: &CancellationToken) -> Self {
        Self { token: parent.child_token(), tracker: TaskTracker::new() }
    }

    /// Cancelled when the tasks are to end.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// An owner that stops with this one, or alone. This one's [`Tasks::stop`] cancels its tasks but does not wait for them.
    pub fn child(&self) -> Tasks {
        Tasks::under(&self.token)
    }

    /// Runs the future until it ends or the owner stops; then it is dropped where it waits.
    pub fn spawn<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let token = self.token.clone();
        self.spawn_graceful(name, async move {
            token.run_until_cancelled(future).await;
        });
    }

    /// Runs the future to its end: it is not dropped when the owner stops, and must itself end soon after the token is
    /// cancelled.
    pub fn spawn_graceful<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tracker.spawn(future.instrument(tracing::info_span!("task", name)));
    }

    /// How many tasks run.
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    /// Cancels the tasks and waits until each has ended.
    pub async fn stop(&self) {
        self.token.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test]
    async fn stop_drops_plain_tasks_and_waits_for_graceful_ones() {
        let tasks = Tasks::default();
        tasks.spawn("forever", std::future::pending());
        let tidied = Arc::new(AtomicBool::new(false));
        let (token, flag) = (tasks.token().clone(), tidied.clone());
        tasks.spawn_graceful("tidy", async move {
            token.cancelled().await;
            tokio::task::yield_now().await;
            flag.store(true, Ordering::Relaxed);
        });
        assert_eq!(tasks.running(), 2);
        tasks.stop().await;
        assert!(tidied.load(Ordering::Relaxed));
        assert_eq!(tasks.running(), 0);
    }

    #[tokio::test]
    async fn a_child_stops_with_its_parent_and_not_the_other_way() {
        let parent = Tasks::default();
        let child = parent.child();
        child.stop().await;
        assert!(!parent.token().is_cancelled());
        let child = parent.child();
        child.spawn("forever", std::future::pending());
        parent.stop().await;
        child.stop().await;
        assert_eq!(child.running(), 0);
    }
}
