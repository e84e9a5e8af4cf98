//! The engine: SQLite, one connection that writes, some that read, one that checkpoints.
//!
//! Each table is a clustered map (`WITHOUT ROWID`) from blob to blob, so that a key and its value share a leaf. Commits
//! append to the write-ahead log and sync it; moving the log into the file goes on beside them (see [`checkpoint`]).

mod checkpoint;
mod open;
mod read;
mod shrink;
mod write;

use std::path::PathBuf;
use std::sync::Arc;

pub use open::look;
pub use write::Sqlite;

use crate::{Error, Table};

/// How to open a file.
#[derive(Clone, Debug)]
pub struct Options {
    /// The file. Its directory must exist; files beside it whose names begin with its name belong to it.
    pub path: PathBuf,
    /// Bytes of pages that each connection keeps in memory.
    pub cache_bytes: usize,
    /// Bytes of a page, a power of two from 512 to 65536; only for a file that does not exist yet.
    pub page_bytes: usize,
    /// Bytes of write-ahead log after which it is moved into the file.
    pub log_bytes: usize,
    /// Bytes that stay free in the file, at least, when space is given back ([`crate::Disk::shrink`]).
    pub spare_bytes: usize,
}

impl Options {
    /// The measured defaults.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let (cache_bytes, page_bytes) = (1 << 20, 8 << 10);
        Self { path: path.into(), cache_bytes, page_bytes, log_bytes: 16 << 20, spare_bytes: 8 << 20 }
    }
}

/// The tables' statements, written once.
#[derive(Debug)]
struct Statements(Vec<TableStatements>);

#[derive(Debug)]
struct TableStatements {
    table: Table,
    create: String,
    put: String,
    delete: String,
    empty: String,
    get: String,
    /// Forward and backward, each without and with an upper bound.
    scan: [[String; 2]; 2],
}

impl Statements {
    fn new(tables: &[Table]) -> Result<Self, String> {
        tables.iter().map(|table| TableStatements::new(*table)).collect::<Result<_, _>>().map(Self)
    }

    fn of(&self, table: Table) -> Result<&TableStatements, Error> {
        self.0.iter().find(|known| known.table == table).ok_or(Error::NoTable(table.name()))
    }
}

impl TableStatements {
    fn new(table: Table) -> Result<Self, String> {
        let name = table.name();
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(format!("table name {name:?} must be of lower-case letters, digits and underscores"));
        }
        // The prefix keeps names clear of SQL's and SQLite's own words.
        let t = format!("map_{name}");
        let scan = |bound: &str, order: &str| {
            format!("SELECT k, v FROM {t} WHERE k >= ?1{bound} ORDER BY k {order}")
        };
        let both = |order: &str| [scan("", order), scan(" AND k < ?2", order)];
        Ok(Self {
            table,
            create: format!(
                "CREATE TABLE IF NOT EXISTS {t} (k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID"
            ),
            put: format!("REPLACE INTO {t} (k, v) VALUES (?1, ?2)"),
            delete: format!("DELETE FROM {t} WHERE k = ?1"),
            empty: format!("DELETE FROM {t} WHERE k >= ?1 AND k < ?2"),
            get: format!("SELECT v FROM {t} WHERE k = ?1"),
            scan: [both("ASC"), both("DESC")],
        })
    }
}

/// What the connections of one file share.
#[derive(Debug)]
struct Shared {
    options: Options,
    statements: Statements,
}

type SharedFile = Arc<Shared>;
