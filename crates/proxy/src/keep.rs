//! The loop that keeps something as the API says: looks, applies, waits for a change.

use std::sync::Arc;
use std::time::Duration;

use client::{Ambient, Backoff};
use tokio::sync::Notify;

/// How long a pass is away from the one before it: changes that come together are installed together, for a rollout touches a
/// slice many times in a moment. What changes after a quiet moment does not wait.
const GATHER: Duration = Duration::from_millis(10);
/// How long to wait after the kernel refused.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// What wakes a loop.
#[derive(Clone, Default)]
pub(crate) struct Wakes {
    /// Something has changed.
    pub(crate) changed: Arc<Notify>,
    /// The same, and somebody waits for it: only passes for those that waited before keep him waiting.
    pub(crate) awaited: Arc<Notify>,
}

/// Applies what `look` sees whenever something has changed, for ever; after the kernel refused, again after a while. `done`
/// is told of each success, with what `look` gave for it. `what` is for the log.
pub(crate) async fn keep<T, D, A, E>(
    what: &str,
    ambient: &Ambient,
    wakes: &Wakes,
    mut look: impl FnMut() -> (T, D),
    apply: A,
    mut done: impl FnMut(D),
) where
    A: FnMut(&T) -> Result<(), E> + Send + 'static,
    T: Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    let mut apply = Some(apply);
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    let clock = &ambient.clock;
    let mut next_awaited = clock.monotonic();
    loop {
        let (found, about) = look();
        let Some(mut install) = apply.take() else { return };
        // The kernel's answer is waited for on a thread that may wait.
        let installed = tokio::task::spawn_blocking(move || {
            let result = install(&found);
            (install, result)
        });
        let Ok((install, result)) = installed.await else { return };
        apply = Some(install);
        match result {
            Ok(()) => {
                backoff.reset();
                done(about);
                let next = clock.monotonic() + GATHER;
                let gathered = |wake: &Arc<Notify>, until| {
                    let wake = wake.clone();
                    async move {
                        wake.notified().await;
                        clock.sleep_until(until).await;
                    }
                };
                tokio::select! {
                    () = gathered(&wakes.awaited, next_awaited) => next_awaited = clock.monotonic() + GATHER,
                    () = gathered(&wakes.changed, next) => {}
                }
            }
            Err(error) => {
                tracing::warn!(%error, what, "the node's tables are not as the API says");
                clock.sleep(backoff.next(ambient.random.u64())).await;
            }
        }
    }
}
