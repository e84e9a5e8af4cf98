//! A store that fails where a test wants it to.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Committed, Entry, Error, Page, Range, Revision, Scan, Store, Txn, Watch};

/// What happens to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing out of the ordinary.
    None,
    /// It fails, and has done nothing.
    Before,
    /// It does what was asked, and fails: the caller cannot know.
    After,
    /// It takes so much longer.
    Delay(Duration),
}

/// Wraps a store. Each call takes the next fault of its script; after the last there are none.
#[derive(Debug)]
pub struct Faulty<S> {
    inner: S,
    script: Mutex<VecDeque<Fault>>,
}

impl<S> Faulty<S> {
    /// A store that does not fail until it is told to.
    pub fn new(inner: S) -> Self {
        Self { inner, script: Mutex::default() }
    }

    /// Adds to the faults of the calls to come, reads and writes alike.
    pub fn inject(&self, faults: impl IntoIterator<Item = Fault>) {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).extend(faults);
    }

    /// The store behind.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    async fn pass<T>(&self, call: impl Future<Output = Result<T, Error>> + Send) -> Result<T, Error> {
        let fault = self.script.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        match fault.unwrap_or(Fault::None) {
            Fault::None => call.await,
            Fault::Before => Err(Error::Unavailable("injected before".into())),
            Fault::After => {
                call.await?;
                Err(Error::Unavailable("injected after".into()))
            }
            Fault::Delay(duration) => {
                tokio::time::sleep(duration).await;
                call.await
            }
        }
    }
}

#[async_trait]
impl<S: Store> Store for Faulty<S> {
    async fn commit(&self, txn: Txn) -> Result<Committed, Error> {
        self.pass(self.inner.commit(txn)).await
    }

    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Entry>, Error> {
        self.pass(self.inner.get(key, at)).await
    }

    async fn range(&self, range: Range) -> Result<Page, Error> {
        self.pass(self.inner.range(range)).await
    }

    async fn scan(&self, prefix: Bytes) -> Result<Scan, Error> {
        self.pass(self.inner.scan(prefix)).await
    }

    async fn watch(&self, prefix: Bytes, after: Revision) -> Result<Watch, Error> {
        self.pass(self.inner.watch(prefix, after)).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.pass(self.inner.compact(revision)).await
    }

    async fn head(&self) -> Result<Revision, Error> {
        self.pass(self.inner.head()).await
    }

    async fn health(&self) -> Result<(), Error> {
        self.inner.health().await
    }
}
