//! Writes that lose a race and try again.

use crate::{Ambient, Backoff};
use kube::Error;
use std::future::Future;
use std::time::Duration;

const ATTEMPTS: u32 = 5;

/// Whether the server refused because the object was changed in between.
pub fn is_conflict(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 409 && status.reason == "Conflict")
}

/// Whether the server refused because there is one of that name already.
pub fn is_already_exists(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 409 && status.reason == "AlreadyExists")
}

/// Whether there is no such object (or no such kind).
pub fn is_not_found(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 404)
}

/// Whether the namespace is going away and takes in nothing new.
pub fn is_namespace_terminating(error: &Error) -> bool {
    let Error::Api(status) = error else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 403 && causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

/// Whether trying the same again later may work: the server was not reached, or is overloaded, or starting.
pub fn is_transient(error: &Error) -> bool {
    match error {
        Error::Api(status) => status.code == 429 || status.code >= 500,
        Error::HyperError(_) | Error::Service(_) | Error::ReadEvents(_) => true,
        _ => false,
    }
}

/// Runs a read-modify-write until it meets no conflict, a few times at most; `attempt` must read anew each time.
///
/// # Errors
/// The first error that is no conflict, or the last conflict.
pub async fn retry_on_conflict<T, F>(ambient: &Ambient, mut attempt: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(500));
    loop {
        match attempt().await {
            Err(error) if is_conflict(&error) && backoff.failures() + 1 < ATTEMPTS => {
                ambient.clock.sleep(backoff.next(ambient.random.u64())).await;
            }
            outcome => return outcome,
        }
    }
}
