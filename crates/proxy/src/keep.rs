//! The loop that keeps something as the API says: looks, applies, waits for a change.

use std::sync::Arc;
use std::time::Duration;

use client::{Ambient, Backoff};
use tokio::sync::Notify;

/// Changes that come together are installed together: a rollout touches a slice many times in a moment.
const GATHER: Duration = Duration::from_millis(10);
/// How long to wait after the kernel refused.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// Applies what `look` sees whenever something has changed, for ever; after the kernel refused, again after a while. `done`
/// is told of each success, with what `look` gave for it. `what` is for the log.
pub(crate) async fn keep<T, D, A, E>(
    what: &str,
    ambient: &Ambient,
    changed: &Arc<Notify>,
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
                changed.notified().await;
                ambient.clock.sleep(GATHER).await;
            }
            Err(error) => {
                tracing::warn!(%error, what, "the node's tables are not as the API says");
                ambient.clock.sleep(backoff.next(ambient.random.u64())).await;
            }
        }
    }
}
