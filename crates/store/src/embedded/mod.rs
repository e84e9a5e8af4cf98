//! The embedded backend: a log of revisions in one file, and an index of keys in memory.
//!
//! A transaction is decided under one lock against the index (which already shows the transactions that are still on
//! their way to the disk), takes the next revision and is queued in that order. Its rows are appended to the log, many
//! transactions to an fsync. Then, in revision order and on the disk's thread, it becomes visible to reads, is told to
//! watchers, and its caller hears of it. Nothing that is not durable is ever shown.
//!
//! Begin with [`commit`]; [`index`] is what is kept in memory, [`row`] what is on the disk.

mod commit;
mod compact;
mod index;
mod read;
mod recent;
mod row;
mod scan;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use clock::Tasks;
use disk::{Batch, Disk, KeyRange, OpenError, Snapshot};

use crate::history::Maintenance;
use crate::{Committed, Entry, Error, History, Page, Range, Revision, Scan, Store, Txn, Watch};
use index::{Index, Version};
use recent::Recent;
use watch::Live;

/// What [`Embedded::look`] shows.
#[derive(Clone, Copy, Debug)]
pub enum Look<'a> {
    /// The store's head.
    Revision(Revision),
    /// A key and its value.
    Entry(&'a Bytes, &'a Bytes),
}

/// A store in a file. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct Embedded {
    inner: Arc<Inner>,
    tasks: Tasks,
}

#[derive(Debug)]
struct Inner {
    disk: Disk,
    state: Mutex<State>,
    /// The newest durable revision, for those who wait for one; an error once there will be no more.
    durable: tokio::sync::watch::Sender<Result<Revision, Error>>,
    maintenance: tokio::sync::Mutex<Maintenance>,
}

#[derive(Debug)]
struct State {
    /// Shows transactions that are not durable yet: whoever reads it says as of which revision.
    index: Index,
    /// The newest revision given out.
    assigned: Revision,
    /// The newest revision on the disk: the head that others see.
    durable: Revision,
    /// The oldest revision that can be read.
    oldest: Revision,
    /// Values written lately, which are the ones that events need as their `previous`.
    recent: Recent,
    watchers: BTreeMap<u64, Live>,
    next_watcher: u64,
    /// Why nothing is written any more.
    failed: tokio::sync::watch::Sender<Option<String>>,
}

impl Embedded {
    /// Opens the file, or makes it, and reads its index. Blocks for as long as that takes: about a second for a million
    /// revisions.
    pub fn open(options: &disk::Options, history: History) -> Result<Self, OpenError> {
        let disk = Disk::open(options, &[row::LOG, row::META])?;
        Self::over(disk, history).map_err(|detail| OpenError::Corrupt { path: options.path.clone(), detail })
    }

    fn over(disk: Disk, history: History) -> Result<Self, String> {
        let snapshot = disk.snapshot().map_err(|error| error.to_string())?;
        let state = State::load(&*snapshot)?;
        let durable = tokio::sync::watch::Sender::new(Ok(state.durable));
        let maintenance = tokio::sync::Mutex::new(Maintenance::new(history));
        let inner = Inner { disk, state: Mutex::new(state), durable, maintenance };
        Ok(Self { inner: Arc::new(inner), tasks: Tasks::default() })
    }

    /// Shows `visit` every key that the file holds now, with its value, while another process may own the file; first the
    /// revision. Blocks.
    ///
    /// # Errors
    /// When the file cannot be read, and what `visit` returns.
    pub fn look<E: From<Error>>(
        options: &disk::Options,
        mut visit: impl FnMut(Look<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let reader = disk::look(options, &[row::LOG, row::META]).map_err(unavailable)?;
        let snapshot = reader.snapshot().map_err(unavailable)?;
        let state = State::load(&*snapshot).map_err(unavailable)?;
        visit(Look::Revision(state.durable))?;
        for (key, version) in state.index.range(&[], None, state.durable) {
            visit(Look::Entry(key, &read::value(&*snapshot, version)?))?;
        }
        Ok(())
    }

    /// Makes a file whose revisions begin behind this one.
    ///
    /// # Errors
    /// When it cannot be made; when there is something in it.
    pub async fn begin_after(options: &disk::Options, revision: Revision) -> Result<(), Error> {
        let disk = Disk::open(options, &[row::LOG, row::META]).map_err(unavailable)?;
        let snapshot = disk.snapshot().map_err(unavailable)?;
        if State::load(&*snapshot).map_err(unavailable)?.durable > 0 {
            return Err(unavailable("the file is not empty"));
        }
        drop(snapshot);
        let mut batch = Batch::new();
        batch.put(row::META, row::OLDEST, revision.to_be_bytes().to_vec());
        disk.commit(batch).await.map_err(unavailable)?;
        disk.close().await.map_err(unavailable)
    }

    /// Returns once nothing is written any more, with the reason. Only opening the file anew can help then: what is running
    /// on the store should end, and be started again.
    pub async fn failed(&self) -> Error {
        let mut failed = self.inner.state().failed.subscribe();
        match failed.wait_for(Option::is_some).await.map(|reason| reason.clone()) {
            Ok(Some(reason)) => unavailable(reason),
            // The sender is held here, and so never gone.
            _ => std::future::pending().await,
        }
    }

    /// Ends watches, writes out what was accepted and closes the file.
    pub async fn close(&self) -> Result<(), Error> {
        self.tasks.stop().await;
        self.inner.disk.close().await.map_err(unavailable)
    }

    /// Compacts what the [`History`] given at opening no longer keeps. The owner calls it every minute or so, with the
    /// time of its clock.
    pub async fn maintain(&self, now: clock::Instant) -> Result<(), Error> {
        self.inner.maintain(now).await
    }
}

impl State {
    fn load(snapshot: &dyn Snapshot) -> Result<Self, String> {
        let text = |error: disk::Error| error.to_string();
        let oldest = match snapshot.get(row::META, row::OLDEST).map_err(text)? {
            None => 0,
            Some(bytes) => row::revision(&bytes).ok_or("the oldest revision is not a number")?,
        };
        let (mut index, mut head, mut damage) = (Index::default(), oldest, None);
        let mut visit = |at: &[u8], row: &[u8]| match row::decode(at, row) {
            Some(row) => {
                head = head.max(row.version.revision);
                index.push(Bytes::copy_from_slice(row.key), row.version);
                ControlFlow::Continue(())
            }
            None => {
                damage = Some(format!("the log's row {at:02x?} is malformed"));
                ControlFlow::Break(())
            }
        };
        snapshot.scan(row::LOG, &KeyRange::default(), &mut visit).map_err(text)?;
        match damage {
            Some(damage) => Err(damage),
            None => Ok(Self::new(index, head, oldest)),
        }
    }

    fn new(index: Index, head: Revision, oldest: Revision) -> Self {
        Self {
            index,
            assigned: head,
            durable: head,
            oldest,
            recent: Recent::default(),
            watchers: BTreeMap::new(),
            next_watcher: 0,
            failed: tokio::sync::watch::Sender::new(None),
        }
    }

    /// An error if nothing is written any more.
    fn writable(&self) -> Result<(), Error> {
        self.failed.borrow().as_ref().map_or(Ok(()), |failed| Err(unavailable(failed)))
    }

    /// As of which revision a read sees the store, if it may.
    fn readable(&self, at: Option<Revision>) -> Result<Revision, Error> {
        match at {
            None => Ok(self.durable),
            Some(requested) if requested > self.durable => {
                Err(Error::Future { requested, current: self.durable })
            }
            Some(requested) if requested < self.oldest => {
                Err(Error::Compacted { requested, oldest: self.oldest })
            }
            Some(requested) => Ok(requested),
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An error while the disk is full: what is decided already waits for it, and nobody else has to.
    fn has_room(&self) -> Result<(), Error> {
        if self.disk.is_full() { Err(Error::Full) } else { Ok(()) }
    }
}

fn unavailable(error: impl std::fmt::Display) -> Error {
    Error::Unavailable(error.to_string())
}

/// Runs what may wait for the disk where waiting harms nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(unavailable(error)))
}

#[async_trait]
impl Store for Embedded {
    async fn commit(&self, txn: Txn) -> Result<Committed, Error> {
        Inner::commit(&self.inner, txn).await
    }

    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Entry>, Error> {
        let (inner, key) = (self.inner.clone(), Bytes::copy_from_slice(key));
        blocking(move || inner.get(&key, at)).await
    }

    async fn range(&self, range: Range) -> Result<Page, Error> {
        let inner = self.inner.clone();
        blocking(move || inner.range(&range)).await
    }

    async fn scan(&self, prefix: Bytes) -> Result<Scan, Error> {
        scan::start(&self.inner, prefix).await
    }

    async fn watch(&self, prefix: Bytes, after: Revision) -> Result<Watch, Error> {
        watch::start(&self.inner, &self.tasks, prefix, after)
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.inner.compact(revision).await
    }

    async fn head(&self) -> Result<Revision, Error> {
        Ok(self.inner.state().durable)
    }

    async fn health(&self) -> Result<(), Error> {
        self.inner.state().writable()?;
        self.inner.has_room()
    }
}
