//! Background tasks that have an owner.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// Something panicked that has nobody to tell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{task} panicked: {message}")]
pub struct Panicked {
    /// What.
    pub task: &'static str,
    /// What the panic said.
    pub message: String,
}

/// Runs the future; a panic in it becomes an error. What it shares with others must bear being left half done.
///
/// # Errors
/// When it panics.
pub async fn caught<F: Future>(task: &'static str, future: F) -> Result<F::Output, Panicked> {
    let mut future = pin!(future);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(payload) => Poll::Ready(Err(Panicked { task, message: words(&*payload) })),
    })
    .await
}

fn words(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a word").to_owned()
}

/// The background tasks of one role or part: started through it, cancelled with it, awaited by it.
///
/// A task that was spawned here ends when its own future ends or when the owner is stopped, whichever is first; a future
/// that has to tidy up takes [`Tasks::token`] and is spawned with [`Tasks::spawn_graceful`]. Clones own the same tasks.
///
/// A task that panics takes nobody with it, but its work is not done any more: whoever runs the role awaits
/// [`Tasks::failed`] and ends the role, to be started again whole.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    token: CancellationToken,
    tracker: TaskTracker,
    failed: watch::Sender<Option<Panicked>>,
}

impl Tasks {
    /// An owner with no tasks yet, stopped when `parent` is cancelled.
    pub fn under(parent: &CancellationToken) -> Self {
        Self { token: parent.child_token(), ..Self::default() }
    }

    /// Cancelled when the tasks are to end.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// An owner that stops with this one, or alone. This one's [`Tasks::stop`] cancels its tasks but does not wait for them;
    /// when one of them panics, both have failed.
    pub fn child(&self) -> Tasks {
        Tasks { failed: self.failed.clone(), ..Tasks::under(&self.token) }
    }

    /// Returns once a task of this owner, or of those that are its children or its parent, has panicked.
    pub async fn failed(&self) -> Panicked {
        let mut failed = self.failed.subscribe();
        match failed.wait_for(Option::is_some).await.map(|panicked| panicked.clone()) {
            Ok(Some(panicked)) => panicked,
            // The sender is held here, and so never gone.
            _ => std::future::pending().await,
        }
    }

    /// Passes on what the tasks of another owner have come to.
    pub fn fail(&self, panicked: Panicked) {
        self.failed.send_if_modified(|failed| {
            let first = failed.is_none();
            failed.get_or_insert(panicked);
            first
        });
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
        let owner = self.clone();
        let watched = async move {
            if let Err(panicked) = caught(name, future).await {
                tracing::error!(%panicked, "this part has to start again");
                owner.fail(panicked);
            }
        };
        self.tracker.spawn(watched.instrument(tracing::info_span!("task", name)));
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
    async fn a_panic_is_told_to_who_runs_the_role() {
        let tasks = Tasks::default();
        let child = tasks.child();
        child.spawn("quiet", async {});
        child.spawn("loud", async { panic!("no {}", "good") });
        let panicked = tasks.failed().await;
        assert_eq!(panicked.to_string(), "loud panicked: no good");
        tasks.fail(Panicked { task: "later", message: String::new() });
        assert_eq!(child.failed().await, panicked, "the first is the cause");
        child.stop().await;
        tasks.stop().await;
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
