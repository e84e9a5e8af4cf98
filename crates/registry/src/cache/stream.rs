//! A watch as its reader sees it.

use std::sync::Arc;

use tokio::sync::mpsc::Receiver;

use super::hub::{Begun, Signal};
use super::{Change, ChangeKind, Item};
use crate::{Kind, Object, WatchEvent};

/// The events of one watch. Ends when the resource is no longer served, when the registry shuts down, or when its reader
/// was too slow; the client starts again from the last resourceVersion it saw.
pub struct WatchStream {
    kind: Arc<Kind>,
    initial: std::vec::IntoIter<Arc<Item>>,
    /// Send a bookmark behind the initial objects.
    initial_end: Option<u64>,
    backlog: std::vec::IntoIter<(ChangeKind, Arc<Change>)>,
    queue: Receiver<Signal>,
    /// Changes up to this revision were seen by the client already, or are among the initial ones and the backlog.
    after: u64,
}

impl WatchStream {
    pub(crate) fn new(kind: Arc<Kind>, begun: Begun, send_initial_end: bool, after: u64) -> Self {
        let after = after.max(begun.revision);
        Self {
            kind,
            initial_end: send_initial_end.then_some(begun.revision),
            initial: begun.initial.into_iter(),
            backlog: begun.backlog.into_iter(),
            queue: begun.queue,
            after,
        }
    }

    /// The next event; `None` at the end. May be dropped while it waits without losing any.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        loop {
            if let Some(event) = self.ready() {
                return Some(event);
            }
            let signal = self.queue.recv().await?;
            if let Some(event) = self.event(signal) {
                return Some(event);
            }
        }
    }

    /// The next event if there is one without waiting: for gathering several into one write.
    pub fn try_next(&mut self) -> Option<WatchEvent> {
        if let Some(event) = self.ready() {
            return Some(event);
        }
        while let Ok(signal) = self.queue.try_recv() {
            if let Some(event) = self.event(signal) {
                return Some(event);
            }
        }
        None
    }

    fn ready(&mut self) -> Option<WatchEvent> {
        if let Some(item) = self.initial.next() {
            return Some(WatchEvent::Added(self.kind.object(&item)));
        }
        if let Some(revision) = self.initial_end.take() {
            return Some(self.bookmark(revision, true));
        }
        self.backlog.next().map(|(kind, change)| self.change(kind, &change))
    }

    fn event(&self, signal: Signal) -> Option<WatchEvent> {
        match signal {
            Signal::Change(_, change) if change.revision <= self.after => None,
            Signal::Change(kind, change) => Some(self.change(kind, &change)),
            Signal::Progress(revision) => Some(self.bookmark(revision, false)),
        }
    }

    fn bookmark(&self, revision: u64, initial_events_end: bool) -> WatchEvent {
        WatchEvent::Bookmark { head: self.kind.head.clone(), revision, initial_events_end }
    }

    fn change(&self, kind: ChangeKind, change: &Change) -> WatchEvent {
        match kind {
            ChangeKind::Added => WatchEvent::Added(self.kind.object(&change.item)),
            ChangeKind::Modified => WatchEvent::Modified(self.kind.object(&change.item)),
            ChangeKind::Deleted => WatchEvent::Deleted(self.gone(change)),
        }
    }

    /// What a deletion shows: the object as it was when it last matched, under the revision at which it ceased to.
    fn gone(&self, change: &Change) -> Object {
        match (&change.previous, change.kind) {
            (Some(previous), ChangeKind::Added | ChangeKind::Modified) => {
                self.kind.object(&previous.gone_at(change.revision))
            }
            _ => self.kind.object(&change.item),
        }
    }
}

impl std::fmt::Debug for WatchStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchStream").field("kind", &self.kind).finish_non_exhaustive()
    }
}
