//! Giving space back to the file system.
//!
//! SQLite keeps the pages that deletions free, and writes to them before the file grows. In a file made with
//! `auto_vacuum=INCREMENTAL` it can also move pages from the file's end to free ones, as many as one asks it to, in a
//! transaction like any other: killed at any moment, the file is as after the last commit. The file itself becomes shorter
//! when the log is moved into it.
//!
//! What is free for a while is needed again by the next writes, so a part of it stays; and nothing happens before there is
//! twice that, so that a file does not shrink and grow with its load.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::checkpoint::Checkpointer;
use super::{Options, write};
use crate::{Error, Shrunk};

/// How long pages are moved in one step, beside its sync.
const STEP: Duration = Duration::from_millis(2);
/// Pages that one step gives back at most.
const PAGES: usize = 1024;
/// Of what is in use, as much as one in so many is left free.
const SPARE: usize = 8;

/// What is under way from one step to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Shrinker {
    #[default]
    Resting,
    /// Pages are moved to the front, and given back.
    Moving,
    /// The file is made shorter, and the log.
    Settling,
}

/// Pages of a file.
struct Pages {
    all: usize,
    free: usize,
    /// To be left free.
    spare: usize,
    /// As long is the file.
    file: usize,
}

impl Pages {
    fn count(connection: &Connection, options: &Options) -> Result<Self, Error> {
        let number = |pragma: &str| {
            let count = connection.prepare_cached(pragma)?.query_row([], |row| row.get::<_, i64>(0))?;
            Ok(usize::try_from(count).unwrap_or(0))
        };
        let bytes = number("PRAGMA page_size").map_err(write::failed)?.max(1);
        let all = number("PRAGMA page_count").map_err(write::failed)?;
        let free = number("PRAGMA freelist_count").map_err(write::failed)?;
        let spare = (options.spare_bytes / bytes).max(all.saturating_sub(free) / SPARE);
        let length = std::fs::metadata(&options.path).map_or(0, |file| file.len());
        Ok(Self { all, free, spare, file: usize::try_from(length).unwrap_or(usize::MAX) / bytes })
    }
}

impl Shrinker {
    /// Makes one step.
    pub(super) fn step(
        &mut self,
        connection: &mut Connection,
        checkpointer: &mut Checkpointer,
        log_pages: &AtomicUsize,
        options: &Options,
    ) -> Result<Shrunk, Error> {
        let pages = Pages::count(connection, options)?;
        *self = self.next(&pages);
        match self {
            Self::Resting => return Ok(Shrunk::Enough),
            Self::Moving if log_pages.load(Ordering::Relaxed) < checkpointer.threshold() * 2 => {
                checkpointer.finish(connection);
            }
            // Whoever writes should not have to help with the log because of this.
            Self::Moving => {
                if !checkpointer.settle(connection, CheckpointMode::PASSIVE) {
                    return Ok(Shrunk::Settling);
                }
                log_pages.store(0, Ordering::Relaxed);
            }
            Self::Settling => {
                if !checkpointer.settle(connection, CheckpointMode::TRUNCATE) {
                    return Ok(Shrunk::Settling);
                }
                log_pages.store(0, Ordering::Relaxed);
                *self = Self::Resting;
                tracing::debug!(pages = pages.all, free = pages.free, "gave space back to the file system");
                return Ok(Shrunk::Enough);
            }
        }
        give_back(connection, (pages.free - pages.spare).min(PAGES)).map_err(write::failed)?;
        checkpointer.written(log_pages.load(Ordering::Relaxed));
        Ok(Shrunk::More)
    }

    fn next(self, pages: &Pages) -> Self {
        match self {
            _ if pages.free > pages.spare * 2 => Self::Moving,
            Self::Moving if pages.free > pages.spare => Self::Moving,
            Self::Moving | Self::Settling => Self::Settling,
            // A kill came between giving pages back and making the file shorter.
            Self::Resting if pages.file > pages.all + pages.spare => Self::Settling,
            Self::Resting => Self::Resting,
        }
    }
}

/// Gives up to so many pages back, for as long as a step may take.
fn give_back(connection: &mut Connection, pages: usize) -> rusqlite::Result<()> {
    let transaction = Transaction::new(connection, TransactionBehavior::Immediate)?;
    {
        let mut vacuum = transaction.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
        let mut moved = vacuum.query([])?;
        let begun = Instant::now();
        // A row a page.
        while moved.next()?.is_some() && begun.elapsed() < STEP {}
    }
    transaction.commit()
}
