//! A watch as its reader sees it.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc::Receiver;

use super::hub::{Begun, Signal};
use super::{Change, ChangeKind, Item};
use crate::convert::BATCH;
use crate::{Kind, WatchEvent};

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
    /// What was taken from these and waits for a webhook that converts it.
    held: VecDeque<Taken>,
    failed: bool,
}

/// An event before it is in the reader's version.
enum Taken {
    Change(ChangeKind, Arc<Item>),
    Bookmark(WatchEvent),
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
            held: VecDeque::new(),
            failed: false,
        }
    }

    /// The next event; `None` at the end. May be dropped while it waits without losing any.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        loop {
            if let Some(event) = self.try_next() {
                return Some(event);
            }
            if self.failed {
                return None;
            }
            if self.held.is_empty() {
                let signal = self.queue.recv().await?;
                self.held.extend(self.taken(signal));
                continue;
            }
            // A webhook has to be asked: for whatever is there by now.
            while self.held.len() < BATCH
                && let Some(taken) = self.take()
            {
                self.held.push_back(taken);
            }
            let items = self.held.iter().filter_map(|taken| match taken {
                Taken::Change(_, item) => Some(&**item),
                Taken::Bookmark(_) => None,
            });
            let ready = self.kind.make_ready(items).await;
            if let Err(status) = ready {
                self.failed = true;
                return Some(WatchEvent::Failed(Box::new(status)));
            }
        }
    }

    /// The next event if there is one without waiting: for gathering several into one write.
    pub fn try_next(&mut self) -> Option<WatchEvent> {
        if self.failed {
            return None;
        }
        let next = match self.held.pop_front() {
            Some(held) => held,
            None => self.take()?,
        };
        match self.shown(next) {
            Ok(event) => Some(event),
            Err(taken) => {
                self.held.push_front(taken);
                None
            }
        }
    }

    /// The event, if it can be shown without asking a webhook.
    fn shown(&self, taken: Taken) -> Result<WatchEvent, Taken> {
        match taken {
            Taken::Bookmark(event) => Ok(event),
            Taken::Change(kind, item) => match (kind, self.kind.object_now(&item)) {
                (ChangeKind::Added, Some(object)) => Ok(WatchEvent::Added(object)),
                (ChangeKind::Modified, Some(object)) => Ok(WatchEvent::Modified(object)),
                (ChangeKind::Deleted, Some(object)) => Ok(WatchEvent::Deleted(object)),
                (_, None) => Err(Taken::Change(kind, item)),
            },
        }
    }

    /// What comes next of what is there.
    fn take(&mut self) -> Option<Taken> {
        if let Some(item) = self.initial.next() {
            return Some(Taken::Change(ChangeKind::Added, item));
        }
        if let Some(revision) = self.initial_end.take() {
            return Some(self.bookmark(revision, true));
        }
        if let Some((kind, change)) = self.backlog.next() {
            return Some(change_of(kind, &change));
        }
        while let Ok(signal) = self.queue.try_recv() {
            if let Some(taken) = self.taken(signal) {
                return Some(taken);
            }
        }
        None
    }

    fn taken(&self, signal: Signal) -> Option<Taken> {
        match signal {
            Signal::Change(_, change) if change.revision <= self.after => None,
            Signal::Change(kind, change) => Some(change_of(kind, &change)),
            Signal::Progress(revision) => Some(self.bookmark(revision, false)),
        }
    }

    fn bookmark(&self, revision: u64, initial_events_end: bool) -> Taken {
        let head = self.kind.head.clone();
        Taken::Bookmark(WatchEvent::Bookmark { head, revision, initial_events_end })
    }
}

/// What a change shows. A deletion: the object as it was when it last matched, under the revision at which it ceased to.
fn change_of(kind: ChangeKind, change: &Change) -> Taken {
    let item = match (kind, &change.previous, change.kind) {
        (ChangeKind::Deleted, Some(previous), ChangeKind::Added | ChangeKind::Modified) => {
            Arc::new(previous.gone_at(change.revision))
        }
        _ => change.item.clone(),
    };
    Taken::Change(kind, item)
}

impl std::fmt::Debug for WatchStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchStream").field("kind", &self.kind).finish_non_exhaustive()
    }
}
