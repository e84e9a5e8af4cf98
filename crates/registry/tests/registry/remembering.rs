//! A store that remembers what it was asked.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use store::{Committed, Entry, Error, Page, Range, Revision, Store, Txn, Watch};

/// See the module.
#[derive(Default)]
pub struct Remembering<S> {
    store: S,
    /// How often something was read.
    pub reads: AtomicU64,
    /// How patient each transaction was.
    pub commits: Mutex<Vec<Duration>>,
}

impl<S> Remembering<S> {
    pub fn new(store: S) -> Self {
        Self { store, reads: AtomicU64::default(), commits: Mutex::default() }
    }
}

#[async_trait]
impl<S: Store> Store for Remembering<S> {
    async fn commit(&self, txn: Txn) -> Result<Committed, Error> {
        self.commits.lock().unwrap().push(txn.patience);
        self.store.commit(txn).await
    }

    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Entry>, Error> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.store.get(key, at).await
    }

    async fn range(&self, range: Range) -> Result<Page, Error> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.store.range(range).await
    }

    async fn watch(&self, prefix: Bytes, after: Revision) -> Result<Watch, Error> {
        self.store.watch(prefix, after).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.store.compact(revision).await
    }

    async fn head(&self) -> Result<Revision, Error> {
        self.store.head().await
    }
}
