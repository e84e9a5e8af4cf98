//! Ending sandboxes, and forgetting what has ended.

use std::io;
use std::path::Path;

use runtime::ContainerStatus;

use super::scope::blocking;
use super::{Outcome, Scope};

pub(super) async fn stop_sandbox(scope: Scope, id: String) -> Outcome {
    let done = scope.tried("stop", &id, scope.runtime.stop_sandbox(&id).await);
    Outcome::Removed { id, done }
}

/// Forgets a sandbox with its runs, and first their logs.
pub(super) async fn sandbox(scope: Scope, id: String) -> Outcome {
    let runs = scope.runtime.list_containers().await.unwrap_or_default();
    for run in runs.into_iter().filter(|run| run.sandbox_id == id) {
        forget_log(run).await;
    }
    let done = scope.tried("remove", &id, scope.runtime.remove_sandbox(&id).await);
    Outcome::Removed { id, done }
}

/// Forgets a run, and first its log: by then nobody would know where that is.
pub(super) async fn container(scope: Scope, id: String) -> Outcome {
    if let Ok(run) = scope.runtime.container_status(&id).await {
        forget_log(run).await;
    }
    let done = scope.tried("remove", &id, scope.runtime.remove_container(&id).await);
    Outcome::Removed { id, done }
}

async fn forget_log(run: ContainerStatus) {
    let ContainerStatus { id, log_path, .. } = run;
    if let Err(error) = blocking(move || remove_log(&log_path)).await {
        tracing::warn!(id, %error, "the log of a container could not be removed");
    }
}

/// Removes a log, with what was put aside of it (`0.log`, `0.log.1` and so on).
fn remove_log(log: &Path) -> io::Result<()> {
    let (Some(directory), Some(name)) = (log.parent(), log.file_name().and_then(|name| name.to_str())) else {
        return Ok(());
    };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let found = entry.file_name();
        let rest = found.to_str().and_then(|found| found.strip_prefix(name));
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.')) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_goes_with_what_was_put_aside_of_it() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["1.log", "1.log.1", "1.log.4", "11.log", "0.log", "1.logs"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        remove_log(&directory.path().join("1.log")).unwrap();
        let entries = std::fs::read_dir(directory.path()).unwrap();
        let mut left: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["0.log", "1.logs", "11.log"]);
        remove_log(Path::new("")).unwrap();
        remove_log(&directory.path().join("none/0.log")).unwrap();
    }
}
