//! A store that fails where a test wants it to.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, watch};

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
    /// Counts how often the running watches were severed.
    severed: watch::Sender<u64>,
}

impl<S> Faulty<S> {
    /// A store that does not fail until it is told to.
    pub fn new(inner: S) -> Self {
        Self { inner, script: Mutex::default(), severed: watch::Sender::new(0) }
    }

    /// Adds to the faults of the calls to come, reads and writes alike.
    pub fn inject(&self, faults: impl IntoIterator<Item = Fault>) {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).extend(faults);
    }

    /// Ends every running watch with an error, as when the connection to a backend breaks.
    pub fn sever(&self) {
        self.severed.send_modify(|count| *count += 1);
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
        let mut severed = self.severed.subscribe();
        let mut inner = self.pass(self.inner.watch(prefix, after)).await?;
        let (sender, events) = mpsc::channel(1);
        // It ends with the store's watch, with whoever listens, or with this store.
        tokio::spawn(async move {
            loop {
                let told = tokio::select! {
                    biased;
                    _ = severed.changed() => Some(Err(Error::Unavailable("severed".into()))),
                    told = inner.events.recv() => told,
                    () = sender.closed() => return,
                };
                let Some(told) = told else { return };
                let ends = told.is_err();
                if sender.send(told).await.is_err() || ends {
                    return;
                }
            }
        });
        Ok(Watch { events })
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
