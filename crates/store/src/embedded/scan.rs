//! Reading all below a prefix without holding it all: from the log in its own order where that has to be read for the most
//! part anyway, which is several times faster than looking each key up.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use disk::{KeyRange, Snapshot};
use tokio::sync::mpsc;

use super::{Inner, Version, read, row, unavailable};
use crate::seam::Batch;
use crate::{Entry, Error, Scan};

/// Entries told at a time, and how many such batches wait for whoever reads.
const BATCH: usize = 256;
const AHEAD: usize = 4;
/// The log is read through where at least one in so many of its rows is wanted.
const SPARSE: usize = 8;

/// What is wanted, in the log's order.
type Wanted = Vec<(Bytes, Version)>;

pub(super) async fn start(inner: &Arc<Inner>, prefix: Bytes) -> Result<Scan, Error> {
    let inner = inner.clone();
    super::blocking(move || {
        let ((mut wanted, rows, revision), snapshot) = inner.look(None, |state, revision| {
            let found = state.index.range(&prefix, None, revision);
            let wanted: Wanted = found.map(|(key, version)| (key.clone(), version)).collect();
            (wanted, state.index.versions(), revision)
        })?;
        let (sender, scan) = Scan::channel(revision, AHEAD);
        let is_dense = wanted.len() * SPARSE >= rows;
        // It ends with its work or with whoever reads.
        tokio::task::spawn_blocking(move || {
            wanted.sort_unstable_by_key(|(_, version)| (version.revision, version.position));
            let mut out = Out { sender, batch: Vec::with_capacity(BATCH) };
            let read = match is_dense {
                true => through(&*snapshot, wanted, &mut out),
                false => one_by_one(&*snapshot, wanted, &mut out),
            };
            out.end(read);
        });
        Ok(scan)
    })
    .await
}

/// Collects batches and sends them on.
struct Out {
    sender: mpsc::Sender<Batch>,
    batch: Vec<Entry>,
}

impl Out {
    fn push(&mut self, key: Bytes, value: Bytes, version: Version) -> ControlFlow<()> {
        let (create_revision, mod_revision) = (version.created, version.revision);
        self.batch.push(Entry { key, value, create_revision, mod_revision });
        if self.batch.len() < BATCH {
            return ControlFlow::Continue(());
        }
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        match self.sender.blocking_send(Ok(Some(batch))) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    /// Whoever has let go of the scan does not want to know.
    fn end(self, read: Result<(), Error>) {
        if !self.batch.is_empty() {
            let _ = self.sender.blocking_send(Ok(Some(self.batch)));
        }
        let _ = self.sender.blocking_send(read.map(|()| None));
    }
}

fn one_by_one(snapshot: &dyn Snapshot, wanted: Wanted, out: &mut Out) -> Result<(), Error> {
    for (key, version) in wanted {
        if out.push(key, read::value(snapshot, version)?, version).is_break() {
            break;
        }
    }
    Ok(())
}

fn through(snapshot: &dyn Snapshot, wanted: Wanted, out: &mut Out) -> Result<(), Error> {
    let Some((_, first)) = wanted.first() else { return Ok(()) };
    let range = KeyRange { from: row::address(first.revision, first.position), ..KeyRange::default() };
    let mut wanted = wanted.into_iter().peekable();
    let mut is_done = false;
    let mut visit = |at: &[u8], bytes: &[u8]| {
        let Some((_, version)) = wanted.peek() else {
            is_done = true;
            return ControlFlow::Break(());
        };
        if at != row::address_of(*version) {
            return ControlFlow::Continue(());
        }
        // A row that cannot be read is one that is still wanted at the end.
        let Some(found) = row::decode(at, bytes) else { return ControlFlow::Break(()) };
        let Some((key, version)) = wanted.next() else { return ControlFlow::Break(()) };
        let flow = out.push(key, Bytes::copy_from_slice(found.value), version);
        is_done |= flow.is_break();
        flow
    };
    snapshot.scan(row::LOG, &range, &mut visit).map_err(unavailable)?;
    match wanted.peek() {
        Some((_, version)) if !is_done => Err(read::lacks(*version)),
        _ => Ok(()),
    }
}
