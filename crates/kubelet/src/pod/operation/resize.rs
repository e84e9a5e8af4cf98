//! Giving runs other limits while they run.

use runtime::Resources;

use super::{Outcome, Scope};

/// Sets the limits of runs, by their id, and of the pod that holds them.
pub(super) async fn run(scope: Scope, runs: Vec<(String, Resources)>, pod: Resources) -> Outcome {
    let Some(sandbox) = scope.sandbox.clone() else { return Outcome::Resized(Ok(())) };
    // What grows has to grow around the runs first, and what shrinks after them: each is tried at its turn, and it is the
    // last that counts.
    let _ = scope.runtime.update_sandbox(&sandbox, pod.clone()).await;
    let mut result = Ok(());
    for (id, resources) in runs {
        let updated = scope.runtime.update_container(&id, resources).await;
        result = result.and(updated.map_err(|error| error.to_string()));
    }
    let whole = scope.runtime.update_sandbox(&sandbox, pod).await;
    Outcome::Resized(result.and(whole.map_err(|error| error.to_string())))
}
