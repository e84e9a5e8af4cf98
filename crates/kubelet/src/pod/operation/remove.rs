//! Ending sandboxes, and forgetting what has ended.

use super::{Outcome, Scope};

pub(super) async fn stop_sandbox(scope: Scope, id: String) -> Outcome {
    let done = scope.tried("stop", &id, scope.runtime.stop_sandbox(&id).await);
    Outcome::Removed { run: None, done }
}

pub(super) async fn sandbox(scope: Scope, id: String) -> Outcome {
    let done = scope.tried("remove", &id, scope.runtime.remove_sandbox(&id).await);
    Outcome::Removed { run: None, done }
}

pub(super) async fn container(scope: Scope, id: String) -> Outcome {
    let done = scope.tried("remove", &id, scope.runtime.remove_container(&id).await);
    Outcome::Removed { run: Some(id), done }
}
