//! Ending a run: its hook, its signal, and KILL at the deadline.

use std::time::Duration;

use client::EventType;
use jiff::Timestamp;
use tokio::sync::watch;

use super::{Outcome, Scope};
use crate::pod::containers;

/// What a run whose hook took all the time has left, as upstream.
const LEAST: Duration = Duration::from_secs(2);

pub(super) struct Stop {
    pub(super) id: String,
    pub(super) container: String,
    pub(super) message: String,
    /// Its hook has been run.
    pub(super) hooked: bool,
}

/// Stops a run by a deadline that may come nearer meanwhile.
pub(super) async fn run(scope: Scope, stop: Stop, mut deadline: watch::Receiver<Timestamp>) -> Outcome {
    let left = |deadline: Timestamp| -> Duration {
        let left = deadline.duration_since(scope.cx.ambient.clock.now());
        left.try_into().unwrap_or(Duration::ZERO)
    };
    let Stop { id, container, message, hooked } = stop;
    let grace = left(*deadline.borrow());
    if !hooked {
        scope.about(&container, EventType::Normal, "Killing", message);
        if !grace.is_zero() {
            pre_stop(&scope, &id, &container, &left, &mut deadline).await;
        }
    }
    let least = grace.min(LEAST);
    loop {
        let ends = *deadline.borrow_and_update();
        let patience = left(ends).max(least);
        tokio::select! {
            outcome = scope.runtime.stop_container(&id, patience) => {
                let done = scope.tried("stop", &id, outcome);
                return Outcome::Stopped { run: id, done };
            }
            // Stopping what is being stopped only makes its end come sooner.
            Ok(()) = deadline.changed() => {}
        }
    }
}

/// Runs the hook once, for as long as there is time.
async fn pre_stop(
    scope: &Scope,
    id: &str,
    container: &str,
    left: &impl Fn(Timestamp) -> Duration,
    deadline: &mut watch::Receiver<Timestamp>,
) {
    let Some(found) = containers::find(&scope.pod, container) else { return };
    let Some(hook) = found.spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.clone()) else {
        return;
    };
    let target = scope.target(&found.spec, id);
    let whole = left(*deadline.borrow_and_update());
    let hook = target.run(&hook, whole);
    tokio::pin!(hook);
    let done = loop {
        let ends = *deadline.borrow_and_update();
        tokio::select! {
            done = &mut hook => break done,
            () = scope.cx.ambient.clock.sleep(left(ends)) => break Err("it took too long".to_owned()),
            Ok(()) = deadline.changed() => {}
        }
    };
    if let Err(error) = done {
        let message = format!("PreStopHook failed: {error}");
        scope.about(container, EventType::Warning, "FailedPreStopHook", message);
    }
}
