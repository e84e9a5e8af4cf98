//! Watching.
//!
//! A watcher is either live, told each transaction as it becomes durable, or behind, reading the log from the disk. It
//! begins behind, becomes live when it has caught up (decided under the lock that new revisions take, so that nothing
//! falls between), and is behind again when its queue overflows. Its queue never grows, and nobody waits for it.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use clock::Tasks;
use disk::KeyRange;
use tokio::sync::{Notify, mpsc};

use super::commit::Change;
use super::{Inner, State, row, unavailable};
use crate::{Changes, Entry, Error, Event, Revision, Watch};

/// Transactions that may wait for a watcher.
const QUEUE: usize = 1024;
/// Rows and bytes that are read from the log in one go.
const CHUNK_ROWS: usize = 512;
const CHUNK_BYTES: usize = 1 << 20;

type Batch = Result<Changes, Error>;

/// A watcher that has caught up.
#[derive(Debug)]
pub(super) struct Live {
    prefix: Bytes,
    queue: mpsc::Sender<Batch>,
    /// Tells its task how it ended.
    end: Arc<End>,
}

#[derive(Debug, Default)]
struct End {
    reason: std::sync::Mutex<Option<Ended>>,
    happened: Notify,
}

#[derive(Debug)]
enum Ended {
    /// Its queue was full: it has been told everything up to this revision.
    Behind(Revision),
    Failed(Error),
}

impl End {
    fn now(&self, reason: Ended) {
        *self.reason.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(reason);
        self.happened.notify_one();
    }

    async fn wait(&self) -> Ended {
        loop {
            self.happened.notified().await;
            let reason = self.reason.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            if let Some(reason) = reason {
                return reason;
            }
        }
    }
}

impl Live {
    pub(super) fn fail(self, error: Error) {
        self.end.now(Ended::Failed(error));
    }
}

impl State {
    pub(super) fn is_watched(&self, key: &[u8]) -> bool {
        self.watchers.values().any(|watcher| key.starts_with(&watcher.prefix))
    }

    /// Tells live watchers of a transaction. Those whom none of it concerns learn that they are past it.
    pub(super) fn tell(&mut self, revision: Revision, events: &[Event]) {
        self.watchers.retain(|_, watcher| {
            let theirs: Vec<Event> =
                events.iter().filter(|event| event.key.starts_with(&watcher.prefix)).cloned().collect();
            match watcher.queue.try_send(Ok(Changes { events: theirs, revision })) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Closed(_)) => false,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    watcher.end.now(Ended::Behind(revision - 1));
                    false
                }
            }
        });
    }

    /// Whether a watcher that was told everything up to a revision can be told what came after.
    fn watchable(&self, after: Revision) -> Result<(), Error> {
        if after < self.oldest {
            return Err(Error::Compacted { requested: after, oldest: self.oldest });
        }
        if after > self.durable {
            return Err(Error::Future { requested: after, current: self.durable });
        }
        self.writable()
    }
}

impl Change {
    pub(super) fn into_event(self) -> Event {
        let Change { key, version, value, previous, previous_value } = self;
        let entry = |version: super::Version, value| Entry {
            key: key.clone(),
            value,
            create_revision: version.created,
            mod_revision: version.revision,
        };
        Event {
            revision: version.revision,
            entry: value.map(|value| entry(version, value)),
            previous: previous.zip(previous_value).map(|(version, value)| entry(version, value)),
            key,
        }
    }
}

pub(super) fn start(
    inner: &Arc<Inner>,
    tasks: &Tasks,
    prefix: Bytes,
    after: Revision,
) -> Result<Watch, Error> {
    inner.state().watchable(after)?;
    let (queue, events) = mpsc::channel(QUEUE);
    let inner = inner.clone();
    tasks.spawn("store watch", async move {
        if let Err(error) = follow(&inner, prefix, after, &queue).await {
            // If the watcher is gone there is nobody to tell.
            let _ = queue.send(Err(error)).await;
        }
    });
    Ok(Watch { events })
}

/// Keeps one watcher going until it leaves.
async fn follow(
    inner: &Arc<Inner>,
    prefix: Bytes,
    mut after: Revision,
    queue: &mpsc::Sender<Batch>,
) -> Result<(), Error> {
    loop {
        let Some(live) = catch_up(inner, &prefix, after, queue).await? else { return Ok(()) };
        let ended = tokio::select! {
            () = queue.closed() => None,
            ended = live.end.wait() => Some(ended),
        };
        match ended {
            None => return Ok(()),
            Some(Ended::Failed(error)) => return Err(error),
            Some(Ended::Behind(revision)) => after = revision,
        }
    }
}

/// Reads the log until nothing is left of it and the watcher has been made live. `None`: the watcher has left.
async fn catch_up(
    inner: &Arc<Inner>,
    prefix: &Bytes,
    mut after: Revision,
    queue: &mpsc::Sender<Batch>,
) -> Result<Option<Registered>, Error> {
    loop {
        if let Some(live) = register(inner, prefix, after, queue)? {
            return Ok(Some(live));
        }
        let (reader, theirs) = (inner.clone(), prefix.clone());
        let chunk = super::blocking(move || reader.chunk(&theirs, after)).await?;
        for events in chunk.transactions {
            after = events.last().map_or(after, |event| event.revision);
            if queue.send(Ok(Changes { events, revision: after })).await.is_err() {
                return Ok(None);
            }
        }
        if after < chunk.until {
            after = chunk.until;
            if queue.send(Ok(Changes { events: Vec::new(), revision: after })).await.is_err() {
                return Ok(None);
            }
        }
    }
}

/// A live watcher's place among the others, given up when dropped.
struct Registered {
    inner: Arc<Inner>,
    id: u64,
    end: Arc<End>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.inner.state().watchers.remove(&self.id);
    }
}

/// Makes the watcher live if nothing is left to catch up with.
fn register(
    inner: &Arc<Inner>,
    prefix: &Bytes,
    after: Revision,
    queue: &mpsc::Sender<Batch>,
) -> Result<Option<Registered>, Error> {
    let mut state = inner.state();
    state.watchable(after)?;
    if after < state.durable {
        return Ok(None);
    }
    let (id, end) = (state.next_watcher, Arc::new(End::default()));
    state.next_watcher += 1;
    state.watchers.insert(id, Live { prefix: prefix.clone(), queue: queue.clone(), end: end.clone() });
    Ok(Some(Registered { inner: inner.clone(), id, end }))
}

/// A piece of history.
struct Chunk {
    /// Events by transaction.
    transactions: Vec<Vec<Event>>,
    /// It holds everything up to this revision.
    until: Revision,
}

impl Inner {
    fn chunk(&self, prefix: &Bytes, after: Revision) -> Result<Chunk, Error> {
        let mut until = {
            let state = self.state();
            state.watchable(after)?;
            state.durable
        };
        // Taken without the lock, for it may wait for the disk. If compaction comes past, `find_previous` says so.
        let snapshot = self.disk.snapshot().map_err(unavailable)?;
        let range = KeyRange {
            from: row::address(after + 1, 0),
            to: Some(row::address(until + 1, 0)),
            ..KeyRange::default()
        };
        let (mut changes, mut rows, mut bytes, mut last) = (Vec::new(), 0, 0, after);
        let mut damage = None;
        let mut visit = |at: &[u8], row: &[u8]| {
            let Some(row) = row::decode(at, row) else {
                damage = Some(format!("the log's row {at:02x?} is malformed"));
                return ControlFlow::Break(());
            };
            if row.version.revision > last && (rows >= CHUNK_ROWS || bytes >= CHUNK_BYTES) {
                // Transactions are not split: the next chunk begins with this one.
                until = last;
                return ControlFlow::Break(());
            }
            last = row.version.revision;
            rows += 1;
            if row.key.starts_with(prefix) {
                bytes += row.value.len();
                changes.push(Change {
                    key: Bytes::copy_from_slice(row.key),
                    version: row.version,
                    value: (!row.version.is_deletion()).then(|| Bytes::copy_from_slice(row.value)),
                    previous: None,
                    previous_value: None,
                });
            }
            ControlFlow::Continue(())
        };
        snapshot.scan(row::LOG, &range, &mut visit).map_err(unavailable)?;
        if let Some(damage) = damage {
            return Err(unavailable(damage));
        }
        self.find_previous(&mut changes, after)?;
        for change in &mut changes {
            change.read_previous(&*snapshot)?;
        }
        Ok(Chunk { transactions: by_transaction(changes), until })
    }

    fn find_previous(&self, changes: &mut [Change], after: Revision) -> Result<(), Error> {
        let state = self.state();
        // Compaction may have come past in the meantime, and taken with it what these followed on.
        state.watchable(after)?;
        for change in changes {
            change.previous = state.index.before(&change.key, change.version.revision);
            change.previous_value = change.previous.and_then(|version| state.recent.get(version));
        }
        Ok(())
    }
}

fn by_transaction(changes: Vec<Change>) -> Vec<Vec<Event>> {
    let mut transactions: Vec<Vec<Event>> = Vec::new();
    for event in changes.into_iter().map(Change::into_event) {
        match transactions.last_mut() {
            Some(last) if last.last().is_some_and(|e| e.revision == event.revision) => last.push(event),
            _ => transactions.push(vec![event]),
        }
    }
    transactions
}
