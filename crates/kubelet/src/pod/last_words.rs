//! What a run leaves to say why it ended: its termination message, or the end of its log.

use std::io::Read;
use std::path::Path;

use api::k8s::api::core::v1::Pod;
use runtime::ContainerStatus;

use super::config::Paths;
use super::containers;
use crate::server::Tail;

/// As much of a termination message as is told: upstream's numbers.
const MESSAGE_LIMIT: u64 = 4096;
const LOG_LIMIT: usize = 2048;
const LOG_LINES: u64 = 80;

/// The last words of an ended run. Blocks, for no longer than small files take.
pub(crate) fn of(paths: &Paths, pod: &Pod, uid: &str, run: &ContainerStatus) -> Option<String> {
    let name = &run.metadata.name;
    if let Some(message) = message(&paths.message(uid, name, run.metadata.attempt)) {
        return Some(message);
    }
    let policy = containers::find(pod, name)?.spec.termination_message_policy.clone();
    if policy.as_deref() == Some("FallbackToLogsOnError") && run.exit_code != 0 {
        return end_of(&run.log_path);
    }
    None
}

fn message(path: &Path) -> Option<String> {
    let mut text = Vec::new();
    std::fs::File::open(path).ok()?.take(MESSAGE_LIMIT).read_to_end(&mut text).ok()?;
    (!text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned())
}

fn end_of(log: &Path) -> Option<String> {
    let mut tail = Tail::open(log, Some(LOG_LINES), None, false, None).ok()?;
    let mut text = Vec::new();
    loop {
        let chunk = tail.read().ok()?;
        if chunk.is_empty() {
            break;
        }
        text.extend_from_slice(&chunk);
        text.drain(..text.len().saturating_sub(LOG_LIMIT));
    }
    (!text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned())
}
