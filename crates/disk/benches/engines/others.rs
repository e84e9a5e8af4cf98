//! The engines that SQLite is measured against, each behind the same queue.

use std::fs::File;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use disk::{Batch, Engine, Error, KeyRange, Reader, Snapshot, Table, Visit};
use fjall::Readable;
use redb::ReadableDatabase;

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Failed(error.to_string())
}

/// A file that is appended to and fdatasync'd: what no engine can beat. It can only be written.
pub struct Plain(File);

impl Plain {
    pub fn open(path: &Path) -> Box<dyn Engine> {
        Box::new(Self(File::options().create(true).append(true).open(path).unwrap()))
    }
}

impl Engine for Plain {
    fn apply(&mut self, group: &[Batch]) -> Result<(), Error> {
        let mut buffer = Vec::new();
        for op in group.iter().flat_map(Batch::ops) {
            buffer.extend_from_slice(&(op.key.len() as u32).to_le_bytes());
            buffer.extend_from_slice(&op.key);
            buffer.extend_from_slice(op.value.as_deref().unwrap_or_default());
        }
        self.0.write_all(&buffer).and_then(|()| self.0.sync_data()).map_err(failed)
    }

    fn knows(&self, _: Table) -> bool {
        true
    }

    fn reader(&self) -> Arc<dyn Reader> {
        struct None;
        impl Reader for None {
            fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error> {
                Err(Error::Read("a plain file cannot be searched".into()))
            }
        }
        Arc::new(None)
    }

    fn close(self: Box<Self>) -> Result<(), Error> {
        Ok(())
    }
}

/// fjall: a log-structured tree.
pub struct Fjall {
    database: fjall::Database,
    keyspaces: Keyspaces,
}

type Keyspaces = Arc<Vec<(Table, fjall::Keyspace)>>;

fn keyspace(keyspaces: &Keyspaces, table: Table) -> Result<&fjall::Keyspace, Error> {
    keyspaces.iter().find(|(t, _)| *t == table).map(|(_, k)| k).ok_or(Error::NoTable(table.name()))
}

impl Fjall {
    pub fn open(path: &Path, tables: &[Table]) -> Box<dyn Engine> {
        let database =
            fjall::Database::builder(path).cache_size(1 << 20).manual_journal_persist(true).open().unwrap();
        let open = |table: &Table| {
            (*table, database.keyspace(table.name(), fjall::KeyspaceCreateOptions::default).unwrap())
        };
        let keyspaces = Arc::new(tables.iter().map(open).collect());
        Box::new(Self { database, keyspaces })
    }
}

impl Engine for Fjall {
    fn apply(&mut self, group: &[Batch]) -> Result<(), Error> {
        let mut batch = self.database.batch().durability(Some(fjall::PersistMode::SyncData));
        for op in group.iter().flat_map(Batch::ops) {
            let keyspace = keyspace(&self.keyspaces, op.table)?;
            match &op.value {
                Some(value) => batch.insert(keyspace, op.key.as_ref(), value.as_ref()),
                None => batch.remove(keyspace, op.key.as_ref()),
            }
        }
        batch.commit().map_err(failed)
    }

    fn knows(&self, table: Table) -> bool {
        keyspace(&self.keyspaces, table).is_ok()
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(FjallReader(self.database.clone(), self.keyspaces.clone()))
    }

    fn close(self: Box<Self>) -> Result<(), Error> {
        Ok(())
    }
}

struct FjallReader(fjall::Database, Keyspaces);

impl Reader for FjallReader {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error> {
        Ok(Box::new(FjallSnapshot(self.0.snapshot(), self.1.clone())))
    }
}

struct FjallSnapshot(fjall::Snapshot, Keyspaces);

impl Snapshot for FjallSnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let value = self.0.get(keyspace(&self.1, table)?, key).map_err(failed)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, table: Table, range: &KeyRange, visit: &mut Visit<'_>) -> Result<(), Error> {
        for guard in self.0.range(keyspace(&self.1, table)?, range.from.to_vec()..) {
            let (key, value) = guard.into_inner().map_err(failed)?;
            if let ControlFlow::Break(()) = visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }
}

/// redb: a copy-on-write B-tree.
pub struct Redb {
    database: Arc<redb::Database>,
    tables: Vec<Table>,
}

fn definition(table: Table) -> redb::TableDefinition<'static, &'static [u8], &'static [u8]> {
    redb::TableDefinition::new(table.name())
}

impl Redb {
    pub fn open(path: &Path, tables: &[Table]) -> Box<dyn Engine> {
        let database = redb::Database::builder().set_cache_size(4 << 20).create(path).unwrap();
        let transaction = database.begin_write().unwrap();
        for table in tables {
            transaction.open_table(definition(*table)).unwrap();
        }
        transaction.commit().unwrap();
        Box::new(Self { database: Arc::new(database), tables: tables.to_vec() })
    }
}

impl Engine for Redb {
    fn apply(&mut self, group: &[Batch]) -> Result<(), Error> {
        let transaction = self.database.begin_write().map_err(failed)?;
        for table in &self.tables {
            let mut open = transaction.open_table(definition(*table)).map_err(failed)?;
            for op in group.iter().flat_map(Batch::ops).filter(|op| op.table == *table) {
                match &op.value {
                    Some(value) => open.insert(op.key.as_ref(), value.as_ref()).map_err(failed)?,
                    None => open.remove(op.key.as_ref()).map_err(failed)?,
                };
            }
        }
        transaction.commit().map_err(failed)
    }

    fn knows(&self, table: Table) -> bool {
        self.tables.contains(&table)
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(RedbReader(self.database.clone()))
    }

    fn close(self: Box<Self>) -> Result<(), Error> {
        Ok(())
    }
}

struct RedbReader(Arc<redb::Database>);

impl Reader for RedbReader {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error> {
        Ok(Box::new(RedbSnapshot(self.0.begin_read().map_err(failed)?)))
    }
}

struct RedbSnapshot(redb::ReadTransaction);

impl Snapshot for RedbSnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let table = self.0.open_table(definition(table)).map_err(failed)?;
        let value = table.get(key).map_err(failed)?;
        Ok(value.map(|value| Bytes::copy_from_slice(value.value())))
    }

    fn scan(&self, table: Table, range: &KeyRange, visit: &mut Visit<'_>) -> Result<(), Error> {
        let table = self.0.open_table(definition(table)).map_err(failed)?;
        for entry in table.range(range.from.as_ref()..).map_err(failed)? {
            let (key, value) = entry.map_err(failed)?;
            if let ControlFlow::Break(()) = visit(key.value(), value.value()) {
                break;
            }
        }
        Ok(())
    }
}
