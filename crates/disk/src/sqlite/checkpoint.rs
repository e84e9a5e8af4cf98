//! Moving the write-ahead log into the file, beside the writer.
//!
//! SQLite's own checkpoints run in the commit that fills the log, and that commit waits for all of it (80 ms were
//! measured). Here a thread of its own copies most of the log while the writer goes on appending; what came in meanwhile
//! is little, and the writer copies that between two groups, after which the log starts from its beginning again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, ErrorCode};

use super::SharedFile;

#[derive(Debug)]
pub(super) struct Checkpointer {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    /// So little of the log is left that the writer may copy it.
    little_left: Arc<AtomicBool>,
    /// Pages in the log at which the thread is woken.
    threshold: usize,
    /// The same, moved up while something (a long snapshot) keeps the log from starting again.
    next: usize,
}

impl Checkpointer {
    pub(super) fn start(shared: &SharedFile) -> Result<Self, String> {
        let connection = super::open::connect(&shared.options, false).map_err(|error| error.to_string())?;
        let threshold = (shared.options.log_bytes / shared.options.page_bytes).max(16);
        let (wake, woken) = sync_channel(1);
        let little_left = Arc::new(AtomicBool::new(false));
        let flag = little_left.clone();
        let thread = std::thread::Builder::new()
            .name("disk-checkpoint".into())
            .spawn(move || copy(&connection, &woken, &flag, threshold))
            .map_err(|error| error.to_string())?;
        Ok(Self { wake: Some(wake), thread: Some(thread), little_left, threshold, next: threshold })
    }

    /// Called by the writer after each commit with the log's length.
    pub(super) fn written(&mut self, pages: usize) {
        if pages < self.threshold {
            self.next = self.threshold;
        } else if pages >= self.next {
            self.next = pages + self.threshold / 2;
            if let Some(wake) = &self.wake {
                // Full: it has been woken already.
                let _ = wake.try_send(());
            }
        }
        if pages >= self.threshold * BEHIND {
            // The thread does not keep up: the writer waits for the disk itself, so that the log stays bounded.
            self.little_left.store(true, Ordering::Relaxed);
        }
    }

    /// Called by the writer between two groups: copies the little that is left, if that is so.
    pub(super) fn finish(&self, connection: &Connection) {
        if self.little_left.swap(false, Ordering::Relaxed) {
            checkpoint(connection);
        }
    }

    /// Pages in the log at which it is moved into the file.
    pub(super) fn threshold(&self) -> usize {
        self.threshold
    }

    /// Called by the writer between two groups until it says that all of the log is in the file. The thread copies most of it,
    /// and the writer the little that is left.
    pub(super) fn settle(&self, connection: &Connection, mode: CheckpointMode) -> bool {
        if self.little_left.swap(false, Ordering::Relaxed) {
            return finish(connection, mode);
        }
        if let Some(wake) = &self.wake {
            // Full: it has been woken already.
            let _ = wake.try_send(());
        }
        false
    }

    /// Ends the thread and waits for it.
    pub(super) fn stop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How many times too long the log may be before the writer helps.
pub(super) const BEHIND: usize = 4;
/// Passes over the log in one go, each shorter than the one before as long as copying outruns the writer.
const PASSES: usize = 4;

fn copy(connection: &Connection, woken: &Receiver<()>, little_left: &AtomicBool, threshold: usize) {
    while woken.recv().is_ok() {
        for _ in 0..PASSES {
            let Some(left) = checkpoint(connection) else { break };
            if left <= threshold / 8 {
                break;
            }
        }
        little_left.store(true, Ordering::Relaxed);
    }
}

/// Copies as much of the log as no snapshot forbids; how many pages are left. A failure loses nothing: the log stays.
fn checkpoint(connection: &Connection) -> Option<usize> {
    match connection.wal_checkpoint_v2(Some(rusqlite::MAIN_DB), CheckpointMode::PASSIVE) {
        Ok((log, copied)) => Some(log.saturating_sub(copied).try_into().unwrap_or(0)),
        Err(error) => {
            tracing::warn!(%error, "moving the write-ahead log into the file failed; it will be tried again");
            None
        }
    }
}

/// Copies the rest of the log, waiting for no snapshot; whether there is none left.
fn finish(connection: &Connection, mode: CheckpointMode) -> bool {
    let copy = || {
        connection.busy_timeout(Duration::ZERO)?;
        let copied = connection.wal_checkpoint_v2(Some(rusqlite::MAIN_DB), mode);
        connection.busy_timeout(super::open::BUSY_TIMEOUT)?;
        copied
    };
    match copy() {
        Ok((log, copied)) => log == copied,
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => false,
        Err(error) => {
            tracing::warn!(%error, "moving the write-ahead log into the file failed; it will be tried again");
            false
        }
    }
}
