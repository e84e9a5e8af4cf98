//! A partition in a file of its own.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use disk::{Batch, Direction, Disk, KeyRange, Options, Snapshot};
use tokio::sync::oneshot;

use super::{Condition, Durable, Row, Storage, StorageError};
use crate::tables::{Mutation, Table};

/// [`Storage`] in one file of the embedded engine, which refuses a second opener while this one lives.
#[derive(Debug)]
pub struct FileStorage {
    disk: Disk,
    path: PathBuf,
    /// The rows of `meta` that conditions name, as the last batch that was handed in leaves them. The file has one
    /// writer, this: what is compared and queued under this lock is compared and written atomically.
    conditions: Mutex<BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
}

impl FileStorage {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// When another process has it open, or it cannot be read.
    pub fn open(path: &Path) -> Result<Self, disk::OpenError> {
        let disk = Disk::open(&Options::new(path), &Table::ALL.map(on_disk))?;
        Ok(Self { disk, path: path.to_owned(), conditions: Mutex::default() })
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StorageError> {
        self.disk.snapshot().map_err(failed)
    }

    /// Compares, and takes over what the batch makes of the rows that are compared.
    fn check(
        &self,
        conditions: &mut BTreeMap<Vec<u8>, Option<Vec<u8>>>,
        condition: Condition,
        mutations: &[Mutation],
    ) -> Result<(), StorageError> {
        if !conditions.contains_key(&condition.key) {
            let found = self.snapshot()?.get(on_disk(Table::Meta), &condition.key).map_err(failed)?;
            conditions.insert(condition.key.clone(), found.map(|bytes| bytes.to_vec()));
        }
        if conditions.get(&condition.key) != Some(&condition.value) {
            return Err(StorageError::Fenced);
        }
        for mutation in mutations {
            if let Mutation::Put(Table::Meta, key, value) = mutation
                && let Some(row) = conditions.get_mut(key)
            {
                *row = Some(value.clone());
            }
        }
        Ok(())
    }
}

fn batch(mutations: Vec<Mutation>) -> Batch {
    let mut batch = Batch::new();
    for mutation in mutations {
        match mutation {
            Mutation::Put(table, key, value) => batch.put(on_disk(table), key, value),
            Mutation::Delete(table, key) => batch.delete(on_disk(table), key),
            Mutation::DeleteRange(table, from, to) => batch.delete_range(on_disk(table), from, to),
        };
    }
    batch
}

fn on_disk(table: Table) -> disk::Table {
    disk::Table::new(table.name())
}

fn failed(error: disk::Error) -> StorageError {
    StorageError::Disk(error.to_string())
}

#[async_trait]
impl Storage for FileStorage {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.snapshot()?.get(on_disk(table), key).map_err(failed)
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, StorageError> {
        let range = KeyRange {
            from: Bytes::copy_from_slice(from),
            to: to.map(Bytes::copy_from_slice),
            direction: Direction::Forward,
        };
        let mut rows = Vec::new();
        let mut visit = |key: &[u8], value: &[u8]| {
            if rows.len() < limit {
                rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            }
            if rows.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        self.snapshot()?.scan(on_disk(table), &range, &mut visit).map_err(failed)?;
        Ok(rows)
    }

    async fn hand_in(&self, condition: Condition, mutations: Vec<Mutation>) -> Result<Durable, StorageError> {
        let size = mutations.iter().map(Mutation::size).sum();
        let room = self.disk.reserve(size).await.map_err(failed)?;
        let (done, outcome) = oneshot::channel();
        {
            let mut conditions = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
            self.check(&mut conditions, condition, &mutations)?;
            // Whoever handed it in may be gone; the batch stands all the same.
            room.submit(batch(mutations), move |result| drop(done.send(result))).map_err(failed)?;
        }
        Ok(Box::pin(async move { outcome.await.unwrap_or(Err(disk::Error::Closed)).map_err(failed) }))
    }

    fn free_space(&self) -> Option<u64> {
        let found = rustix::fs::statvfs(&self.path).ok()?;
        Some(found.f_bavail.saturating_mul(found.f_frsize))
    }

    async fn close(&self) -> Result<(), StorageError> {
        self.disk.close().await.map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_room_on_its_disk_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let storage = FileStorage::open(&folder.path().join("journal.db")).unwrap();
        assert!(storage.free_space().is_some_and(|free| free > 0));
        storage.close().await.unwrap();
    }
}
