//! Writing.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rusqlite::hooks::Wal;
use rusqlite::{Connection, TransactionBehavior, ffi};

use super::checkpoint::Checkpointer;
use super::open::Opened;
use super::read::{ReaderHandle, Readers};
use super::shrink::Shrinker;
use super::{Options, SharedFile};
use crate::{Batch, Emptied, Engine, Error, OpenError, Reader, Shrunk, Table};

/// A file and the connection that writes it.
#[derive(Debug)]
pub struct Sqlite {
    connection: Connection,
    shared: SharedFile,
    readers: Arc<Readers>,
    checkpointer: Checkpointer,
    log_pages: Arc<AtomicUsize>,
    shrinker: Shrinker,
    lock: File,
}

impl Sqlite {
    /// Opens the file, or makes it.
    pub fn open(options: &Options, tables: &[Table]) -> Result<Self, OpenError> {
        let Opened { shared, mut connection, lock } = super::open::open(options, tables)?;
        let io = |detail: String| OpenError::Io { path: options.path.clone(), detail };
        let log_pages = Arc::new(AtomicUsize::new(0));
        let pages = log_pages.clone();
        let hook = move |_: &mut Wal, log: i32| {
            pages.store(usize::try_from(log).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        };
        connection.wal_hook(Some(hook)).map_err(|error| io(error.to_string()))?;
        let shared = Arc::new(shared);
        let checkpointer = Checkpointer::start(&shared).map_err(io)?;
        let readers = Arc::new(Readers::new(shared.clone()));
        let shrinker = Shrinker::default();
        Ok(Self { connection, shared, readers, checkpointer, log_pages, shrinker, lock })
    }

    fn transact(&mut self, group: &[Batch]) -> Result<(), Error> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        for batch in group {
            for Emptied { table, from, to } in batch.emptied() {
                let mut empty =
                    transaction.prepare_cached(&self.shared.statements.of(*table)?.empty).map_err(failed)?;
                empty.execute((from.as_ref(), to.as_ref())).map_err(failed)?;
            }
            for op in batch.ops() {
                let statements = self.shared.statements.of(op.table)?;
                let changed = match &op.value {
                    Some(value) => transaction
                        .prepare_cached(&statements.put)
                        .and_then(|mut put| put.execute((op.key.as_ref(), value.as_ref()))),
                    None => transaction
                        .prepare_cached(&statements.delete)
                        .and_then(|mut delete| delete.execute((op.key.as_ref(),))),
                };
                changed.map_err(failed)?;
            }
        }
        transaction.commit().map_err(failed)
    }
}

/// What a failed write is. Only where SQLite says that it found no room, which it does before anything is synced, has the
/// file stayed as it was.
pub(super) fn failed(error: rusqlite::Error) -> Error {
    let code = error.sqlite_error().map(|error| error.extended_code);
    match code {
        Some(ffi::SQLITE_FULL | ffi::SQLITE_IOERR_SHMSIZE) => Error::NoRoom(error.to_string()),
        _ => Error::Failed(error.to_string()),
    }
}

impl Engine for Sqlite {
    fn apply(&mut self, group: &[Batch]) -> Result<(), Error> {
        self.checkpointer.finish(&self.connection);
        self.transact(group)?;
        self.checkpointer.written(self.log_pages.load(Ordering::Relaxed));
        Ok(())
    }

    fn shrink(&mut self) -> Result<Shrunk, Error> {
        let options = &self.shared.options;
        self.shrinker.step(&mut self.connection, &mut self.checkpointer, &self.log_pages, options)
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(ReaderHandle(self.readers.clone()))
    }

    fn knows(&self, table: Table) -> bool {
        self.shared.statements.of(table).is_ok()
    }

    fn close(mut self: Box<Self>) -> Result<(), Error> {
        self.checkpointer.stop();
        self.readers.close();
        // The last connection to close moves the log into the file and removes it.
        let closed = self.connection.close().map_err(|(_, error)| Error::Failed(error.to_string()));
        drop(self.lock);
        closed
    }
}
