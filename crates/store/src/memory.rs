//! The backend for simulations and tests: nothing on disk, no thread and no clock, so that the same calls in the same order
//! always have the same outcome.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use crate::{Changes, Committed, Entry, Error, Event, Page, Range, Revision, Store, Txn, Watch, Write};

/// Transactions that a watcher is told of at a time, and times that may wait for it.
const BATCH: usize = 64;
const AHEAD: usize = 16;

/// A store in memory. Clones share what it holds; it lives as long as the last of them, or of its watches.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

/// What a key held from a revision on.
#[derive(Clone, Debug)]
struct Version {
    revision: Revision,
    entry: Option<Entry>,
}

#[derive(Clone, Debug, Default)]
struct State {
    /// Oldest first, back to what was there at the oldest readable revision.
    keys: BTreeMap<Bytes, Vec<Version>>,
    /// The transactions after the oldest readable revision, without a gap.
    log: VecDeque<Changes>,
    oldest: Revision,
}

impl Memory {
    /// Another store that holds the same, and goes its own way from here.
    pub fn fork(&self) -> Self {
        let state = Mutex::new(self.inner.state().clone());
        Self { inner: Arc::new(Inner { state, changed: Notify::new() }) }
    }

    /// What happened after a revision, some transactions at a time; `None` when nothing has.
    ///
    /// # Errors
    /// When that has been compacted, or is in the future.
    pub fn changes(&self, prefix: &[u8], after: Revision) -> Result<Option<Changes>, Error> {
        self.inner.state().changes(prefix, after)
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the versions of one key say about a revision.
fn as_of(versions: &[Version], revision: Revision) -> Option<&Entry> {
    let until = versions.partition_point(|version| version.revision <= revision);
    versions.get(..until)?.last()?.entry.as_ref()
}

impl State {
    fn head(&self) -> Revision {
        self.oldest + self.log.len() as Revision
    }

    fn now(&self, key: &[u8]) -> Option<&Entry> {
        as_of(self.keys.get(key)?, self.head())
    }

    fn readable(&self, at: Option<Revision>) -> Result<Revision, Error> {
        let current = self.head();
        let requested = at.unwrap_or(current);
        if requested > current {
            return Err(Error::Future { requested, current });
        }
        if requested < self.oldest {
            return Err(Error::Compacted { requested, oldest: self.oldest });
        }
        Ok(requested)
    }

    fn commit(&mut self, txn: Txn) -> Result<Revision, Error> {
        txn.check()?;
        for (key, expect) in txn.expect {
            let current = self.now(&key);
            if !expect.holds(current.map(|entry| entry.mod_revision)) {
                let current = current.cloned().map(Box::new);
                return Err(Error::Conflict { key, current });
            }
        }
        let revision = self.head() + 1;
        let mut events = Vec::new();
        for write in txn.writes {
            let previous = self.now(write.key()).cloned();
            let created = previous.as_ref().map_or(revision, |entry| entry.create_revision);
            let (key, entry) = match write {
                Write::Put(key, value) => {
                    let entry =
                        Entry { key: key.clone(), value, create_revision: created, mod_revision: revision };
                    (key, Some(entry))
                }
                Write::Delete(_) if previous.is_none() => continue,
                Write::Delete(key) => (key, None),
            };
            let version = Version { revision, entry: entry.clone() };
            self.keys.entry(key.clone()).or_default().push(version);
            events.push(Event { key, revision, entry, previous });
        }
        if !events.is_empty() {
            self.log.push_back(Changes { events, revision });
        }
        Ok(self.head())
    }

    fn range(&self, range: &Range) -> Result<Page, Error> {
        let revision = self.readable(range.at)?;
        let from = match &range.after {
            Some(after) if *after >= range.prefix => Bound::Excluded(after.clone()),
            _ => Bound::Included(range.prefix.clone()),
        };
        let mut entries: Vec<Entry> = self
            .keys
            .range((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(&range.prefix))
            .filter_map(|(_, versions)| as_of(versions, revision).cloned())
            .collect();
        let shown = if range.limit == 0 { entries.len() } else { range.limit.min(entries.len()) };
        let remaining = (entries.len() - shown) as u64;
        entries.truncate(shown);
        Ok(Page { entries, revision, remaining })
    }

    fn changes(&self, prefix: &[u8], after: Revision) -> Result<Option<Changes>, Error> {
        let from = self.readable(Some(after))? - self.oldest;
        let mut told = None;
        for changes in self.log.iter().skip(usize::try_from(from).unwrap_or(usize::MAX)).take(BATCH) {
            let told = told.get_or_insert_with(|| Changes { events: Vec::new(), revision: after });
            let theirs = changes.events.iter().filter(|event| event.key.starts_with(prefix));
            told.events.extend(theirs.cloned());
            told.revision = changes.revision;
        }
        Ok(told)
    }

    fn compact(&mut self, revision: Revision) -> Result<(), Error> {
        let current = self.head();
        if revision > current {
            return Err(Error::Future { requested: revision, current });
        }
        while self.oldest < revision && self.log.pop_front().is_some() {
            self.oldest += 1;
        }
        let oldest = self.oldest;
        self.keys.retain(|_, versions| {
            let until = versions.partition_point(|version| version.revision <= oldest);
            versions.drain(..until.saturating_sub(1));
            versions.len() > 1 || versions.iter().any(|version| version.entry.is_some())
        });
        Ok(())
    }
}

/// Tells what happens, for as long as somebody listens.
async fn follow(
    inner: Arc<Inner>,
    prefix: Bytes,
    mut after: Revision,
    queue: mpsc::Sender<Result<Changes, Error>>,
) {
    loop {
        let mut changed = pin!(inner.changed.notified());
        // Before it is looked, so that nothing falls in between.
        changed.as_mut().enable();
        let found = inner.state().changes(&prefix, after);
        match found {
            Ok(Some(changes)) => {
                after = changes.revision;
                if queue.send(Ok(changes)).await.is_err() {
                    return;
                }
            }
            Ok(None) => tokio::select! {
                biased;
                () = queue.closed() => return,
                () = changed => {}
            },
            Err(error) => {
                // If the watcher is gone there is nobody to tell.
                let _ = queue.send(Err(error)).await;
                return;
            }
        }
    }
}

#[async_trait]
impl Store for Memory {
    async fn commit(&self, txn: Txn) -> Result<Committed, Error> {
        let revision = self.inner.state().commit(txn)?;
        self.inner.changed.notify_waiters();
        Ok(Committed { revision })
    }

    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Entry>, Error> {
        let state = self.inner.state();
        let revision = state.readable(at)?;
        Ok(state.keys.get(key).and_then(|versions| as_of(versions, revision)).cloned())
    }

    async fn range(&self, range: Range) -> Result<Page, Error> {
        self.inner.state().range(&range)
    }

    async fn watch(&self, prefix: Bytes, after: Revision) -> Result<Watch, Error> {
        self.inner.state().readable(Some(after))?;
        let (queue, events) = mpsc::channel(AHEAD);
        // It ends with whoever listens.
        tokio::spawn(follow(self.inner.clone(), prefix, after, queue));
        Ok(Watch { events })
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.inner.state().compact(revision)
    }

    async fn head(&self) -> Result<Revision, Error> {
        Ok(self.inner.state().head())
    }
}
