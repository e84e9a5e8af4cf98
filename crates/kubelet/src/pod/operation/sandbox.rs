//! Making a pod's sandbox, and before it the pod's volumes.

use tokio_util::sync::CancellationToken;

use super::scope::blocking;
use super::{Outcome, Scope, volumes};
use crate::pod::config;
use crate::pod::fields;
use crate::pod::memory::Waiting;
use crate::pod::user_namespace;

/// Makes volumes and sandbox. Until the runtime is asked it may be given up; then it is not, since a sandbox that comes
/// up unseen would outlive its pod.
pub(super) async fn run(scope: Scope, attempt: u32, token: CancellationToken) -> Outcome {
    if attempt == 0 {
        for ignored in fields::of(&scope.pod).ignored {
            scope.warn("FieldIgnored", ignored);
        }
    }
    let made = match token.run_until_cancelled(volumes::prepare(&scope, true)).await {
        None => return Outcome::Sandbox(Ok(())),
        Some(Ok(prepared)) => volumes::make(&scope, prepared).await,
        Some(Err(message)) => Err(message),
    };
    if let Err(message) = made {
        return failed(&scope, "FailedMount", message);
    }
    let cx = &scope.cx;
    let config = config::sandbox(&scope.pod, attempt, &cx.paths, &cx.dns, &cx.node_name, &cx.cgroup);
    let mut config = match config {
        Ok(config) => config,
        Err(why) => return not_created(&scope, &why),
    };
    config.handler.clone_from(&scope.handler);
    config.static_pod = cx.statics.get(scope.uid()).is_some();
    let logs = config.log_directory.clone();
    let (paths, uid) = (cx.paths.clone(), scope.uid().to_owned());
    let own_users = scope.pod.spec.as_ref().is_some_and(|spec| spec.host_users == Some(false));
    let prepared = blocking(move || {
        std::fs::create_dir_all(logs)?;
        own_users.then(|| user_namespace::claim(&paths, &uid)).transpose()
    });
    let prepared = prepared.await.map(|claimed| config.user_namespace = claimed);
    let outcome = match prepared {
        Ok(()) => scope.runtime.run_sandbox(config).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match outcome {
        Ok(_) => Outcome::Sandbox(Ok(())),
        Err(error) => not_created(&scope, &error),
    }
}

fn not_created(scope: &Scope, why: &str) -> Outcome {
    failed(scope, "FailedCreatePodSandBox", format!("Failed to create pod sandbox: {why}"))
}

fn failed(scope: &Scope, reason: &str, message: String) -> Outcome {
    scope.warn(reason, message.clone());
    Outcome::Sandbox(Err(Waiting::new(reason, message)))
}
