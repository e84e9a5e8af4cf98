//! Reading.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Rows};

use super::SharedFile;
use crate::engine::Visit;
use crate::{Direction, Error, KeyRange, Reader, Snapshot, Table};

/// Connections kept for the next reader; more are opened when more read at once, and closed again.
const IDLE_CONNECTIONS: usize = 4;

/// The reading connections of a file.
#[derive(Debug)]
pub(super) struct Readers {
    shared: SharedFile,
    pool: Mutex<Pool>,
}

#[derive(Debug, Default)]
struct Pool {
    idle: Vec<Connection>,
    closed: bool,
}

impl Readers {
    pub(super) fn new(shared: SharedFile) -> Self {
        Self { shared, pool: Mutex::default() }
    }

    /// Closes the idle connections, and others as their snapshots end.
    pub(super) fn close(&self) {
        let mut pool = self.pool();
        pool.closed = true;
        pool.idle.clear();
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Result<Connection, Error> {
        let mut pool = self.pool();
        if pool.closed {
            return Err(Error::Closed);
        }
        match pool.idle.pop() {
            Some(connection) => Ok(connection),
            None => {
                drop(pool);
                super::open::connect(&self.shared.options, false).map_err(failed)
            }
        }
    }
}

/// Lets snapshots hold on to what they came from.
pub(super) struct ReaderHandle(pub(super) Arc<Readers>);

impl Reader for ReaderHandle {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error> {
        let connection = self.0.take()?;
        // A deferred transaction sees nothing until its first read: that read fixes what the snapshot shows.
        let begin = || -> rusqlite::Result<()> {
            connection.prepare_cached("BEGIN")?.execute([])?;
            connection.prepare_cached("SELECT 1 FROM sqlite_schema LIMIT 1")?.query_row([], |_| Ok(()))
        };
        begin().map_err(failed)?;
        Ok(Box::new(SqliteSnapshot { connection: Some(connection), readers: self.0.clone() }))
    }
}

struct SqliteSnapshot {
    /// `None` only while it is dropped.
    connection: Option<Connection>,
    readers: Arc<Readers>,
}

impl SqliteSnapshot {
    fn prepare(&self, statement: &str) -> Result<CachedStatement<'_>, Error> {
        let connection = self.connection.as_ref().ok_or(Error::Closed)?;
        connection.prepare_cached(statement).map_err(failed)
    }
}

impl Snapshot for SqliteSnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let mut get = self.prepare(&self.readers.shared.statements.of(table)?.get)?;
        get.query_row((key,), |row| Ok(Bytes::copy_from_slice(row.get_ref(0)?.as_blob()?)))
            .optional()
            .map_err(failed)
    }

    fn scan(&self, table: Table, range: &KeyRange, visit: &mut Visit<'_>) -> Result<(), Error> {
        let statements = self.readers.shared.statements.of(table)?;
        let order = match range.direction {
            Direction::Forward => &statements.scan[0],
            Direction::Backward => &statements.scan[1],
        };
        let from = range.from.as_ref();
        match &range.to {
            None => show(self.prepare(&order[0])?.query((from,)), visit),
            Some(to) => show(self.prepare(&order[1])?.query((from, to.as_ref())), visit),
        }
    }
}

fn show(rows: rusqlite::Result<Rows<'_>>, visit: &mut Visit<'_>) -> Result<(), Error> {
    let walk = || -> rusqlite::Result<()> {
        let mut rows = rows?;
        while let Some(row) = rows.next()? {
            if let ControlFlow::Break(()) = visit(row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?) {
                break;
            }
        }
        Ok(())
    };
    walk().map_err(failed)
}

impl Drop for SqliteSnapshot {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let ended = connection.prepare_cached("ROLLBACK").and_then(|mut end| end.execute([]));
        let mut pool = self.readers.pool();
        if ended.is_ok() && !pool.closed && pool.idle.len() < IDLE_CONNECTIONS {
            pool.idle.push(connection);
        }
    }
}

fn failed(error: rusqlite::Error) -> Error {
    Error::Read(error.to_string())
}
