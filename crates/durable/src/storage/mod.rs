//! What a partition asks of its disk, and the partition over it: appends that only the holder of the epoch can make.

mod file;

use std::future::Future;
use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;

pub use file::FileStorage;

use crate::codec::Corrupt;
use crate::tables::{Mutation, Table};

/// Why the disk did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// Somebody else has opened the partition since, and owns it now.
    #[error("the partition was taken over by another owner")]
    Fenced,
    /// The disk failed.
    #[error("disk: {0}")]
    Disk(String),
    /// A record does not decode.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
}

/// A row.
pub type Row = (Bytes, Bytes);

/// A batch that was handed in. The future ends when it is durable; dropping it does not take the batch back.
pub type Durable = Pin<Box<dyn Future<Output = Result<(), StorageError>> + Send>>;

/// A row of [`Table::Meta`] that must be so for a batch to be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The row's key.
    pub key: Vec<u8>,
    /// Its value; `None` if it must not exist.
    pub value: Option<Vec<u8>>,
}

/// Ordered tables with atomic, durable batches.
#[async_trait]
pub trait Storage: Send + Sync + 'static {
    /// The value of a row, as of the last commit that is durable.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StorageError>;

    /// At most `limit` rows from `from` up to and without `to`, in order of their keys; `None` is the table's end.
    fn range(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, StorageError>;

    /// Hands in a batch, after waiting for room where there is none: when this returns, its place among all batches is
    /// fixed. A batch whose condition does not hold changes nothing and ends with [`StorageError::Fenced`].
    async fn hand_in(&self, condition: Condition, mutations: Vec<Mutation>) -> Result<Durable, StorageError>;

    /// How many bytes there is room for, if that is known.
    fn free_space(&self) -> Option<u64> {
        None
    }

    /// Writes out what was handed in and lets the storage go.
    async fn close(&self) -> Result<(), StorageError>;
}

const EPOCH: &[u8] = b"epoch";
const IDENTITY: &[u8] = b"identity";

/// A partition that this process owns, until somebody else opens it.
pub(crate) struct Partition {
    storage: Box<dyn Storage>,
    epoch: u64,
    identity: String,
}

impl Partition {
    /// Takes the partition over: its epoch is one higher than any before, and whoever had it can write no more.
    /// `identity` is what a new partition is called.
    pub(crate) async fn open(storage: Box<dyn Storage>, identity: &str) -> Result<Self, StorageError> {
        let found = storage.get(Table::Meta, EPOCH)?;
        let epoch = match &found {
            Some(bytes) => number(bytes)? + 1,
            None => 1,
        };
        let condition = Condition { key: EPOCH.to_vec(), value: found.map(|bytes| bytes.to_vec()) };
        let mut mutations = vec![put(EPOCH, epoch.to_be_bytes().to_vec())];
        let identity = match storage.get(Table::Meta, IDENTITY)? {
            Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            None => {
                mutations.push(put(IDENTITY, identity.as_bytes().to_vec()));
                identity.to_owned()
            }
        };
        storage.hand_in(condition, mutations).await?.await?;
        Ok(Self { storage, epoch, identity })
    }

    /// Its name among all partitions there are.
    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.storage.get(table, key)
    }

    pub(crate) fn range(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, StorageError> {
        self.storage.range(table, from, to, limit)
    }

    /// Hands in a batch under this owner's epoch. See [`Storage::hand_in`].
    pub(crate) async fn hand_in(&self, mutations: Vec<Mutation>) -> Result<Durable, StorageError> {
        let value = Some(self.epoch.to_be_bytes().to_vec());
        self.storage.hand_in(Condition { key: EPOCH.to_vec(), value }, mutations).await
    }

    /// See [`Storage::free_space`].
    pub(crate) fn free_space(&self) -> Option<u64> {
        self.storage.free_space()
    }

    /// Lets the storage go, so that another can open it.
    pub(crate) async fn close(&self) -> Result<(), StorageError> {
        self.storage.close().await
    }

    /// Hands in a batch and waits until it is durable.
    pub(crate) async fn commit(&self, mutations: Vec<Mutation>) -> Result<(), StorageError> {
        self.hand_in(mutations).await?.await
    }
}

fn put(key: &[u8], value: Vec<u8>) -> Mutation {
    Mutation::Put(Table::Meta, key.to_vec(), value)
}

/// A number of a meta row.
pub(crate) fn number(bytes: &[u8]) -> Result<u64, StorageError> {
    let bytes =
        bytes.try_into().map_err(|_| StorageError::Disk("a number is not eight bytes long".into()))?;
    Ok(u64::from_be_bytes(bytes))
}
