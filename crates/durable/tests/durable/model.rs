//! A disk in memory that can lose power at any batch.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use durable::tables::{Mutation, Table};
use durable::{Condition, Durable, Row, Storage, StorageError};

type Rows = BTreeMap<(Table, Vec<u8>), Bytes>;

/// What survives a loss of power.
#[derive(Clone, Default)]
pub struct Platter(Arc<Mutex<Rows>>);

/// When the power goes.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// This many batches are written before.
    pub after: usize,
    /// The one that it hits is on the platter nevertheless, though nobody is told.
    pub torn_off: bool,
}

/// A disk from one start to the next.
pub struct Disk {
    platter: Platter,
    failure: Option<Failure>,
    written: Mutex<usize>,
}

impl Platter {
    pub fn disk(&self, failure: Option<Failure>) -> Box<dyn Storage> {
        Box::new(Disk { platter: self.clone(), failure, written: Mutex::default() })
    }

    pub fn rows(&self, table: Table) -> Vec<(Vec<u8>, Bytes)> {
        let rows = self.0.lock().unwrap();
        rows.iter()
            .filter(|((found, _), _)| *found == table)
            .map(|((_, key), row)| (key.clone(), row.clone()))
            .collect()
    }

    /// Puts other bytes into the first row whose key begins with a number.
    pub fn spoil(&self, table: Table, number: u64, bytes: &'static [u8]) {
        let mut rows = self.0.lock().unwrap();
        let from = (table, number.to_be_bytes().to_vec());
        *rows.range_mut(from..).next().unwrap().1 = Bytes::from_static(bytes);
    }

    fn apply(&self, condition: &Condition, mutations: Vec<Mutation>) -> Result<(), StorageError> {
        let mut rows = self.0.lock().unwrap();
        let found = rows.get(&(Table::Meta, condition.key.clone())).map(|row| row.to_vec());
        if found != condition.value {
            return Err(StorageError::Fenced);
        }
        for mutation in &mutations {
            if let Mutation::DeleteRange(table, from, to) = mutation {
                rows.retain(|(found, key), _| found != table || key < from || key >= to);
            }
        }
        for mutation in mutations {
            match mutation {
                Mutation::Put(table, key, value) => {
                    rows.insert((table, key), value.into());
                }
                Mutation::Delete(table, key) => {
                    rows.remove(&(table, key));
                }
                Mutation::DeleteRange(..) => {}
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Storage for Disk {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        Ok(self.platter.0.lock().unwrap().get(&(table, key.to_vec())).cloned())
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, StorageError> {
        let rows = self.platter.0.lock().unwrap();
        let range = rows
            .range((table, from.to_vec())..)
            .take_while(|((found, key), _)| *found == table && to.is_none_or(|to| key.as_slice() < to));
        Ok(range.take(limit).map(|((_, key), row)| (Bytes::copy_from_slice(key), row.clone())).collect())
    }

    async fn hand_in(&self, condition: Condition, mutations: Vec<Mutation>) -> Result<Durable, StorageError> {
        let outcome = {
            let mut written = self.written.lock().unwrap();
            *written += 1;
            match self.failure {
                Some(failure) if *written > failure.after => {
                    if failure.torn_off && *written == failure.after + 1 {
                        self.platter.apply(&condition, mutations)?;
                    }
                    Err(StorageError::Disk("no power".into()))
                }
                _ => self.platter.apply(&condition, mutations),
            }
        };
        Ok(Box::pin(async move {
            // What waits for the disk waits at least a little.
            tokio::task::yield_now().await;
            outcome
        }))
    }

    async fn close(&self) -> Result<(), StorageError> {
        Ok(())
    }
}
