//! Committing.

use std::sync::Arc;

use bytes::Bytes;
use disk::{Batch, Reservation, Snapshot};
use tokio::sync::oneshot;

use super::{Inner, State, Version, row, unavailable};
use crate::{Committed, Error, Event, Expect, Revision, Txn, Write};

/// A transaction on its way to the disk.
struct InFlight {
    revision: Revision,
    changes: Vec<Change>,
    caller: oneshot::Sender<Result<Committed, Error>>,
}

/// One key that it changes.
pub(super) struct Change {
    pub(super) key: Bytes,
    pub(super) version: Version,
    /// `None`: a deletion.
    pub(super) value: Option<Bytes>,
    pub(super) previous: Option<Version>,
    /// The previous value, if it is at hand.
    pub(super) previous_value: Option<Bytes>,
}

impl Change {
    fn lacks_previous(&self) -> bool {
        self.previous.is_some() && self.previous_value.is_none()
    }

    pub(super) fn read_previous(&mut self, snapshot: &dyn Snapshot) -> Result<(), Error> {
        if let (Some(previous), None) = (self.previous, &self.previous_value) {
            self.previous_value = Some(super::read::value(snapshot, previous)?);
        }
        Ok(())
    }
}

/// What became of a transaction under the lock.
enum Decision {
    Queued(oneshot::Receiver<Result<Committed, Error>>),
    /// It changes nothing, and is done as soon as this revision is durable.
    Unchanged(Revision),
    /// The key's last change, at this revision, is in its way.
    Conflict(Bytes, Revision),
}

impl Inner {
    pub(super) async fn commit(inner: &Arc<Self>, txn: Txn) -> Result<Committed, Error> {
        txn.check()?;
        inner.has_room()?;
        let reservation = inner.disk.reserve(txn.bytes()).await.map_err(unavailable)?;
        let decision = Self::decide(inner, txn, reservation)?;
        match decision {
            Decision::Queued(outcome) => inner.unless_full(outcome).await?.map_err(unavailable)?,
            Decision::Unchanged(revision) => {
                inner.unless_full(inner.until_durable(revision)).await??;
                Ok(Committed { revision })
            }
            Decision::Conflict(key, revision) => {
                // What it lost against may still be on its way to the disk, and must not be shown before it is there.
                inner.unless_full(inner.until_durable(revision)).await??;
                let (inner, sought) = (inner.clone(), key.clone());
                let current = super::blocking(move || inner.get(&sought, None)).await?;
                Err(Error::Conflict { key, current: current.map(Box::new) })
            }
        }
    }

    /// Waits for the disk, but not for its owner to make room.
    async fn unless_full<T>(&self, wait: impl Future<Output = T>) -> Result<T, Error> {
        tokio::select! {
            biased;
            done = wait => Ok(done),
            () = self.disk.filled() => Err(Error::Waiting),
        }
    }

    /// Everything that has to happen in one order for all: checking, taking a revision, queueing.
    fn decide(inner: &Arc<Self>, txn: Txn, reservation: Reservation) -> Result<Decision, Error> {
        let mut state = inner.state();
        state.writable()?;
        if let Some((key, _)) = txn.expect.iter().find(|(key, expect)| !state.holds(key, *expect)) {
            let revision = state.index.last_change(key).map_or(0, |version| version.revision);
            return Ok(Decision::Conflict(key.clone(), revision));
        }
        let changes = state.changes(txn.writes);
        if changes.is_empty() {
            return Ok(Decision::Unchanged(state.assigned));
        }
        let revision = state.assigned + 1;
        let (caller, outcome) = oneshot::channel();
        let mut batch = state.record(revision, &changes);
        batch.wait(txn.patience);
        let in_flight = InFlight { revision, changes, caller };
        let finisher = inner.clone();
        let queued = reservation.submit(batch, move |result| finisher.finish(in_flight, result));
        if let Err(error) = queued {
            state.fail(&error.to_string());
            return Err(unavailable(error));
        }
        Ok(Decision::Queued(outcome))
    }

    /// Called on the disk's thread, in revision order.
    fn finish(&self, in_flight: InFlight, result: Result<(), disk::Error>) {
        let InFlight { revision, changes, caller } = in_flight;
        let outcome = match result {
            Ok(()) => {
                self.publish(revision, changes);
                let _ = self.durable.send_replace(Ok(revision));
                Ok(Committed { revision })
            }
            Err(error) => {
                self.state().fail(&error.to_string());
                let _ = self.durable.send_replace(Err(unavailable(&error)));
                Err(unavailable(error))
            }
        };
        // Nobody listens any more if the caller was dropped, and the transaction stands all the same.
        let _ = caller.send(outcome);
    }

    /// Makes a durable transaction visible to reads, and tells watchers.
    fn publish(&self, revision: Revision, mut changes: Vec<Change>) {
        let mut state = self.state();
        let watched = changes.iter().any(|change| state.is_watched(&change.key));
        if watched && changes.iter().any(Change::lacks_previous) {
            drop(state);
            // Still on the disk: compaction forgets only what a durable transaction has replaced.
            self.read_previous(&mut changes);
            state = self.state();
        }
        state.durable = revision;
        let told = if watched { changes } else { Vec::new() };
        let events: Vec<Event> = told.into_iter().map(Change::into_event).collect();
        state.tell(revision, &events);
    }

    fn read_previous(&self, changes: &mut [Change]) {
        let read = |changes: &mut [Change]| -> Result<(), Error> {
            let snapshot = self.disk.snapshot().map_err(unavailable)?;
            for change in changes {
                change.read_previous(&*snapshot)?;
            }
            Ok(())
        };
        if let Err(error) = read(changes) {
            // A watcher that was told of a creation instead of a change would be misled for good: end all watches.
            tracing::error!(%error, "a previous value could not be read");
            self.state().fail(&error.to_string());
        }
    }

    pub(super) async fn until_durable(&self, revision: Revision) -> Result<(), Error> {
        let mut durable = self.durable.subscribe();
        let reached =
            |durable: &Result<Revision, Error>| durable.as_ref().map_or(true, |head| *head >= revision);
        let outcome = durable.wait_for(reached).await.map_err(unavailable)?;
        outcome.clone().map(|_| ())
    }
}

impl State {
    fn holds(&self, key: &[u8], expect: Expect) -> bool {
        expect.holds(self.index.newest(key).map(|version| version.revision))
    }

    /// The changes that the writes come to, at the next revision. Deleting what is not there is none.
    fn changes(&self, writes: Vec<Write>) -> Vec<Change> {
        let mut changes = Vec::with_capacity(writes.len());
        let revision = self.assigned + 1;
        for write in writes {
            let previous = self.index.newest(write.key());
            let (key, value) = match write {
                Write::Put(key, value) => (key, Some(value)),
                Write::Delete(_) if previous.is_none() => continue,
                Write::Delete(key) => (key, None),
            };
            let created = match (&value, previous) {
                (None, _) => 0,
                (Some(_), Some(previous)) => previous.created,
                (Some(_), None) => revision,
            };
            let position = u32::try_from(changes.len()).unwrap_or(u32::MAX);
            let version = Version { revision, position, created };
            let previous_value = previous.and_then(|version| self.recent.get(version));
            changes.push(Change { key, version, value, previous, previous_value });
        }
        changes
    }

    /// Takes the revision: in memory at once, for the disk as a batch.
    fn record(&mut self, revision: Revision, changes: &[Change]) -> Batch {
        let mut batch = Batch::new();
        self.assigned = revision;
        for Change { key, version, value, .. } in changes {
            let row = row::encode(version.created, key, value.as_deref());
            batch.put(row::LOG, row::address(revision, version.position), row);
            self.index.push(key.clone(), *version);
            if let Some(value) = value {
                self.recent.insert(*version, value.clone());
            }
        }
        batch
    }

    /// From now on nothing is written. What is durable can still be read.
    pub(super) fn fail(&mut self, reason: &str) {
        self.failed.send_if_modified(|failed| {
            let first = failed.is_none();
            failed.get_or_insert_with(|| reason.to_owned());
            first
        });
        for (_, watcher) in std::mem::take(&mut self.watchers) {
            watcher.fail(unavailable(reason));
        }
    }
}
