//! Opening: one owner, the right file, the right format.

use std::fs::{File, TryLockError};
use std::path::Path;

use std::sync::Arc;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::read::{ReaderHandle, Readers};
use super::{Options, Shared, Statements};
use crate::{OpenError, Reader, Table};

/// Marks the file as ours: "Mono" in the header's application id.
const APPLICATION_ID: i32 = 0x4d6f_6e6f;
/// Grows when older programs could no longer read the file.
const FORMAT: i32 = 1;
/// Reading and writing never wait for one another in this mode; opening and closing may, for a moment.
pub(super) const BUSY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// An open file: what its connections share, the one that will write, and the lock that keeps others out until it is
/// dropped or the process ends.
pub(super) struct Opened {
    pub(super) shared: Shared,
    pub(super) connection: Connection,
    pub(super) lock: File,
}

/// Reads a file that is there, whoever owns it: writers and readers of other processes do not wait for one another.
///
/// # Errors
/// When there is no such file, or it is not one that this program can read.
pub fn look(options: &Options, tables: &[Table]) -> Result<Arc<dyn Reader>, OpenError> {
    let path = &options.path;
    let statements =
        Statements::new(tables).map_err(|detail| OpenError::Io { path: path.clone(), detail })?;
    let connection = connect(options, false).map_err(|error| explain(path, &error))?;
    check(path, &connection, false)?;
    let shared = Arc::new(Shared { options: options.clone(), statements });
    Ok(Arc::new(ReaderHandle(Arc::new(Readers::new(shared)))))
}

/// Locks the file, and checks or makes it.
pub(super) fn open(options: &Options, tables: &[Table]) -> Result<Opened, OpenError> {
    let path = &options.path;
    let statements =
        Statements::new(tables).map_err(|detail| OpenError::Io { path: path.clone(), detail })?;
    let lock = lock(path)?;
    let connection = connect(options, true).map_err(|error| explain(path, &error))?;
    prepare(options, &connection, &statements)?;
    Ok(Opened { shared: Shared { options: options.clone(), statements }, connection, lock })
}

/// A separate file is locked, because closing any handle to the database file would drop SQLite's own locks on it.
fn lock(path: &Path) -> Result<File, OpenError> {
    let io = |error: std::io::Error| OpenError::Io { path: path.to_owned(), detail: error.to_string() };
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = File::options().create(true).truncate(false).write(true).open(name).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(io(error)),
    }
}

/// A connection with the settings that all of them share.
pub(super) fn connect(options: &Options, create: bool) -> rusqlite::Result<Connection> {
    // Each connection belongs to one thread at a time, so SQLite's own mutexes would only cost.
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, create);
    let connection = Connection::open_with_flags(&options.path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(64);
    if create {
        connection.pragma_update(None, "page_size", i64::try_from(options.page_bytes).unwrap_or(4096))?;
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    connection.pragma_update(
        None,
        "cache_size",
        -i64::try_from(options.cache_bytes / 1024).unwrap_or(1024),
    )?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    // Finds damage when a page is read instead of when it is misread.
    connection.pragma_update(None, "cell_size_check", true)?;
    Ok(connection)
}

/// Whether the file is ours, or nobody's yet where that is allowed.
fn check(path: &Path, connection: &Connection, may_be_new: bool) -> Result<(), OpenError> {
    let sql = |error: rusqlite::Error| explain(path, &error);
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0)).map_err(sql);
    let objects: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(sql)?;
    match (number("application_id")?, number("user_version")?) {
        (0, 0) if objects == 0 && may_be_new => Ok(()),
        (APPLICATION_ID, 1..=FORMAT) => Ok(()),
        (APPLICATION_ID, found) => Err(OpenError::TooNew { path: path.to_owned(), found, supported: FORMAT }),
        (id, _) => {
            let detail = format!("application id {id:#x}");
            Err(OpenError::Foreign { path: path.to_owned(), detail })
        }
    }
}

fn prepare(options: &Options, connection: &Connection, statements: &Statements) -> Result<(), OpenError> {
    let path = &options.path;
    let sql = |error: rusqlite::Error| explain(path, &error);
    check(path, connection, true)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(sql)?;
    // Room that the log once needed is kept up to here: overwriting it syncs faster than growing a file does.
    let keep = i64::try_from(options.log_bytes.saturating_mul(super::checkpoint::BEHIND)).unwrap_or(i64::MAX);
    connection.pragma_update(None, "journal_size_limit", keep).map_err(sql)?;
    let create = || -> rusqlite::Result<()> {
        let transaction = connection.unchecked_transaction()?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", FORMAT)?;
        for table in &statements.0 {
            transaction.execute(&table.create, [])?;
        }
        transaction.commit()
    };
    create().map_err(sql)?;
    make_shrinkable(path, connection);
    Ok(())
}

/// A file of a program that did not know how to make files smaller is written anew, once. That takes time and room; if it
/// fails the file is as it was, and only stays as large as it is.
fn make_shrinkable(path: &Path, connection: &Connection) {
    let auto_vacuum = connection.pragma_query_value(None, "auto_vacuum", |row| row.get::<_, i32>(0));
    if !matches!(auto_vacuum, Ok(0)) {
        return;
    }
    tracing::info!(file = %path.display(), "writing the file anew, so that it can shrink from now on");
    if let Err(error) = connection.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)") {
        tracing::warn!(%error, file = %path.display(), "the file cannot be written anew; it will be tried at the next start");
    }
}

fn explain(path: &Path, error: &rusqlite::Error) -> OpenError {
    let (path, detail) = (path.to_owned(), error.to_string());
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::Foreign { path, detail },
        Some(ErrorCode::DatabaseCorrupt) => OpenError::Corrupt { path, detail },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::InUse { path },
        _ => OpenError::Io { path, detail },
    }
}
