//! One resource in the cache: the current view, the recent changes and who watches.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use clock::Instant;
use futures::FutureExt;
use futures::future::BoxFuture;
use imbl::OrdMap;
use tokio::sync::mpsc;

use super::Item;
use crate::Limits;
use crate::selection::Selection;

/// The resource at one revision. Cloning one is cheap: maps share what they have in common.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// Revision of the last change of this resource (or at which it was loaded).
    pub(crate) revision: u64,
    /// By `namespace/name` or `name`.
    pub(crate) items: OrdMap<Arc<str>, Arc<Item>>,
    /// How many objects each namespace has.
    counts: OrdMap<Arc<str>, u64>,
}

impl View {
    /// The view with those items.
    pub(crate) fn of(items: impl IntoIterator<Item = Item>, revision: u64) -> Self {
        let mut view = Self { revision, ..Self::default() };
        for item in items {
            view.insert(Arc::new(item));
        }
        view
    }

    fn insert(&mut self, item: Arc<Item>) -> Option<Arc<Item>> {
        let previous = self.items.insert(item.key.clone(), item.clone());
        let (namespace, _) = item.names();
        if previous.is_none() && !namespace.is_empty() {
            match self.counts.get_mut(namespace) {
                Some(count) => *count += 1,
                None => {
                    self.counts.insert(namespace.into(), 1);
                }
            }
        }
        previous
    }

    fn remove(&mut self, key: &str) -> Option<Arc<Item>> {
        let previous = self.items.remove(key)?;
        let (namespace, _) = previous.names();
        if let Some(count) = self.counts.get_mut(namespace) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(namespace);
            }
        }
        Some(previous)
    }

    /// How many objects have keys that start with `prefix`: a namespace's, or all.
    pub(crate) fn count(&self, prefix: &str) -> u64 {
        match prefix.strip_suffix('/') {
            Some(namespace) => self.counts.get(namespace).copied().unwrap_or_default(),
            None => self.items.len() as u64,
        }
    }

    /// The items that a selection means and that come after the key `after`, in order.
    pub(crate) fn select<'a>(
        &'a self,
        selection: &'a Selection,
        after: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Arc<Item>> + 'a {
        let prefix = selection.prefix();
        let single = selection.single_name().filter(|_| !prefix.is_empty() || self.counts.is_empty());
        let (found, rest) = match single {
            Some(name) => (self.items.get(&*format!("{prefix}{name}")), None),
            None => (None, Some(self.range(prefix, after))),
        };
        let found = found.filter(move |item| after.is_none_or(|after| *item.key > *after));
        found.into_iter().chain(rest.into_iter().flatten()).filter(|item| selection.matches(item))
    }

    /// The items whose keys start with `prefix` and come after `after`, in order.
    fn range<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Arc<Item>> + 'a {
        let start = match after {
            Some(after) if after > prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let in_prefix = move |(key, _): &(&'a Arc<str>, &'a Arc<Item>)| key.starts_with(prefix);
        self.items.range::<_, str>((start, Bound::Unbounded)).take_while(in_prefix).map(|(_, item)| item)
    }
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    Added,
    Modified,
    Deleted,
}

/// One change of one object.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) kind: ChangeKind,
    /// What it is now; when deleted, its last state under the revision of the deletion.
    pub(crate) item: Arc<Item>,
    /// What it was.
    pub(crate) previous: Option<Arc<Item>>,
}

/// What a watcher is sent.
#[derive(Clone, Debug)]
pub(crate) enum Signal {
    Change(ChangeKind, Arc<Change>),
    Progress(u64),
}

struct Watcher {
    selection: Arc<Selection>,
    bookmarks: bool,
    queue: mpsc::Sender<Signal>,
}

impl Watcher {
    /// What this watcher sees of a change: whether the object matched before and matches now decides the kind.
    fn sees(selection: &Selection, change: &Change) -> Option<ChangeKind> {
        let now = change.kind != ChangeKind::Deleted && selection.matches(&change.item);
        let before = change.previous.as_ref().is_some_and(|previous| selection.matches(previous));
        match (before, now) {
            (false, true) => Some(ChangeKind::Added),
            (true, true) => Some(ChangeKind::Modified),
            (true, false) => Some(ChangeKind::Deleted),
            (false, false) => None,
        }
    }
}

/// Where a watch begins.
pub(crate) enum Start {
    /// With the current objects, as additions.
    Initial,
    /// After this revision.
    After(u64),
}

/// A begun watch.
pub(crate) struct Begun {
    /// Current objects to be shown first.
    pub(crate) initial: Vec<Arc<Item>>,
    /// Changes of the window to be shown next.
    pub(crate) backlog: Vec<(ChangeKind, Arc<Change>)>,
    /// What comes later.
    pub(crate) queue: mpsc::Receiver<Signal>,
    /// Revision of the state that `initial` and `backlog` lead to.
    pub(crate) revision: u64,
}

struct Inner {
    view: View,
    window: VecDeque<Arc<Change>>,
    window_bytes: usize,
    /// What the store held at this revision was read whole: its events up to here are known.
    loaded: u64,
    /// Changes with a greater revision are all in the window.
    complete_after: u64,
    watchers: Vec<Watcher>,
    snapshots: VecDeque<(Instant, Arc<View>)>,
}

/// A resource's cache. The feed writes, everybody reads.
pub(crate) struct Hub {
    limits: Limits,
    published: ArcSwap<View>,
    inner: Mutex<Inner>,
    /// The resource is no longer served.
    closed: Arc<AtomicBool>,
}

impl Hub {
    pub(crate) fn new(limits: Limits) -> Self {
        let inner = Inner {
            view: View::default(),
            window: VecDeque::new(),
            window_bytes: 0,
            loaded: 0,
            complete_after: 0,
            watchers: Vec::new(),
            snapshots: VecDeque::new(),
        };
        Self { limits, published: ArcSwap::default(), inner: Mutex::new(inner), closed: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current view.
    pub(crate) fn view(&self) -> Arc<View> {
        self.published.load_full()
    }

    /// The object of that key, now.
    pub(crate) fn get(&self, key: &str) -> Option<Arc<Item>> {
        self.published.load().items.get(key).cloned()
    }

    /// Fills the hub with what the store held at `revision`. Nothing before is known any more: watches end, and their clients
    /// list again, because what happened in between can be told to nobody.
    pub(crate) fn load(&self, items: impl IntoIterator<Item = Item>, revision: u64) {
        let view = View::of(items, revision);
        let mut inner = self.lock();
        inner.view = view;
        inner.window.clear();
        inner.window_bytes = 0;
        inner.watchers.clear();
        inner.loaded = revision;
        inner.complete_after = revision;
        self.published.store(Arc::new(inner.view.clone()));
    }

    /// Applies changes in revision order, for readers to see: each is a key and what it holds now, `None` for a deletion.
    /// What comes back is to be dispatched after this: whoever is told of a change finds it when they look.
    pub(crate) fn apply(
        &self,
        changes: impl IntoIterator<Item = (u64, Arc<str>, Option<Item>)>,
    ) -> Vec<Arc<Change>> {
        let mut inner = self.lock();
        let loaded = inner.loaded;
        let news = changes.into_iter().filter(|(revision, ..)| *revision > loaded);
        let applied = news
            .filter_map(|(revision, key, item)| inner.apply(revision, &key, item, &self.limits))
            .collect();
        self.published.store(Arc::new(inner.view.clone()));
        applied
    }

    /// Tells watchers. One that is so far behind that its queue is full is cut off: its stream ends, and it starts again
    /// from what it saw last.
    pub(crate) fn dispatch(&self, changes: &[Arc<Change>]) {
        let mut inner = self.lock();
        for change in changes {
            inner.watchers.retain(|watcher| match Watcher::sees(&watcher.selection, change) {
                Some(kind) => watcher.queue.try_send(Signal::Change(kind, change.clone())).is_ok(),
                None => true,
            });
        }
    }

    /// Tells watchers that asked for it that everything up to `revision` has been sent, and lets go of what lists left
    /// behind.
    pub(crate) fn progress(&self, revision: u64, now: Instant) {
        let mut inner = self.lock();
        inner.forget_snapshots(&self.limits, now);
        // A full queue is no reason to cut off here: the next change will find out.
        inner.watchers.retain(|watcher| {
            let closed = watcher.queue.is_closed();
            if watcher.bookmarks && !closed {
                let _ = watcher.queue.try_send(Signal::Progress(revision));
            }
            !closed
        });
    }

    /// Ends all watches, now and later: the resource is no longer served.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        self.closed.store(true, Ordering::Release);
        inner.watchers.clear();
    }

    /// Begins a watch. `Err` holds the oldest revision that one could begin after.
    pub(crate) fn watch(
        &self,
        selection: Arc<Selection>,
        start: Start,
        bookmarks: bool,
        applied: u64,
    ) -> Result<Begun, u64> {
        let mut inner = self.lock();
        let mut initial = Vec::new();
        let mut backlog = Vec::new();
        match start {
            Start::Initial => {
                initial.extend(inner.view.select(&selection, None).cloned());
            }
            Start::After(revision) if revision < inner.complete_after => return Err(inner.complete_after),
            Start::After(revision) => {
                let first = inner.window.partition_point(|change| change.revision <= revision);
                let missed = inner.window.range(first..);
                backlog.extend(missed.filter_map(|change| {
                    Watcher::sees(&selection, change).map(|kind| (kind, change.clone()))
                }));
            }
        }
        let (sender, queue) = mpsc::channel(self.limits.watcher_queue);
        if !self.closed.load(Ordering::Acquire) {
            inner.watchers.push(Watcher { selection, bookmarks, queue: sender });
        }
        Ok(Begun { initial, backlog, queue, revision: applied.max(inner.view.revision) })
    }

    /// Ends when something has changed after `revision`.
    pub(crate) fn changed(&self, revision: u64) -> BoxFuture<'static, ()> {
        let begun = self.watch(Arc::default(), Start::After(revision), false, 0);
        let closed = self.closed.clone();
        async move {
            if let Ok(mut begun) = begun
                && begun.backlog.is_empty()
                && begun.queue.recv().await.is_none()
                && closed.load(Ordering::Acquire)
            {
                // The resource is no longer served: nothing changes any more.
                std::future::pending().await
            }
        }
        .boxed()
    }

    /// Keeps the view so that later pages of a list can be taken from it.
    pub(crate) fn keep(&self, view: Arc<View>, now: Instant) {
        let mut inner = self.lock();
        inner.forget_snapshots(&self.limits, now);
        let wanted = self.limits.snapshots > 0;
        if !wanted
            || inner
                .snapshots
                .iter()
                .any(|(_, kept)| Arc::ptr_eq(kept, &view) || kept.revision == view.revision)
        {
            return;
        }
        if inner.snapshots.len() >= self.limits.snapshots {
            inner.snapshots.pop_front();
        }
        inner.snapshots.push_back((now, view));
    }

    /// The view as of `revision`, if it is still known. `applied` is how far the cache has followed the store.
    pub(crate) fn at(&self, revision: u64, applied: u64, now: Instant) -> Option<Arc<View>> {
        let mut inner = self.lock();
        let current = self.published.load_full();
        if current.revision <= revision && revision <= applied.max(current.revision) {
            return Some(current);
        }
        inner.forget_snapshots(&self.limits, now);
        // A kept view stands for all revisions up to the next change, which only the window can date.
        let kept = inner.snapshots.iter().map(|(_, view)| view).filter(|view| view.revision <= revision);
        let kept = kept.max_by_key(|view| view.revision)?;
        let first = inner.window.partition_point(|change| change.revision <= kept.revision);
        let known = kept.revision >= inner.complete_after;
        let next = inner.window.get(first).map(|change| change.revision);
        let exact = kept.revision == revision || (known && next.is_some_and(|next| next > revision));
        exact.then(|| kept.clone())
    }
}

impl Inner {
    fn apply(
        &mut self,
        revision: u64,
        key: &Arc<str>,
        item: Option<Item>,
        limits: &Limits,
    ) -> Option<Arc<Change>> {
        let change = Arc::new(self.change(revision, key, item)?);
        self.view.revision = revision;
        self.remember(change.clone(), limits);
        Some(change)
    }

    fn change(&mut self, revision: u64, key: &Arc<str>, item: Option<Item>) -> Option<Change> {
        match item {
            Some(item) => {
                let item = Arc::new(item);
                let previous = self.view.insert(item.clone());
                let kind = if previous.is_some() { ChangeKind::Modified } else { ChangeKind::Added };
                Some(Change { revision, kind, item, previous })
            }
            None => {
                let previous = self.view.remove(key)?;
                let item = Arc::new(previous.gone_at(revision));
                Some(Change { revision, kind: ChangeKind::Deleted, item, previous: Some(previous) })
            }
        }
    }

    fn remember(&mut self, change: Arc<Change>, limits: &Limits) {
        self.window_bytes += change.item.body.len();
        self.window.push_back(change);
        while self.window.len() > limits.window_events
            || (self.window_bytes > limits.window_bytes && self.window.len() > 1)
        {
            let Some(oldest) = self.window.pop_front() else { break };
            self.window_bytes -= oldest.item.body.len();
            self.complete_after = oldest.revision;
        }
    }

    fn forget_snapshots(&mut self, limits: &Limits, now: Instant) {
        while self.snapshots.front().is_some_and(|(kept, _)| now.since(*kept) > limits.snapshot_age) {
            self.snapshots.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cache::Extract;
    use crate::encode::encode;

    fn item(name: &str, revision: u64) -> (u64, Arc<str>, Option<Item>) {
        let encoded = encode(&json!({"metadata": {"name": name}})).unwrap();
        (revision, name.into(), Some(Item::new(name.into(), &encoded, revision, Extract::default())))
    }

    #[test]
    fn whoever_is_told_of_a_change_finds_it() {
        let hub = Hub::new(Limits::default());
        let mut early = hub.watch(Arc::default(), Start::Initial, false, 0).unwrap();
        let changes = hub.apply([item("a", 1)]);
        // Between the two steps readers see the change and watchers do not yet.
        assert!(hub.get("a").is_some());
        assert!(early.queue.try_recv().is_err());
        let mut late = hub.watch(Arc::default(), Start::Initial, false, 1).unwrap();
        hub.dispatch(&changes);
        assert!(early.queue.try_recv().is_ok());
        // Who came in between has it among the initial objects, and its stream drops what is not after them.
        assert_eq!((late.initial.len(), late.revision), (1, 1));
        assert!(
            matches!(late.queue.try_recv(), Ok(Signal::Change(_, change)) if change.revision <= late.revision)
        );
    }

    #[test]
    fn views_that_are_kept_for_lists_are_let_go_of_without_another_list() {
        let hub = Hub::new(Limits::default());
        hub.apply([item("a", 1)]);
        let start = clock::Clock::monotonic(&clock::ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
        let view = hub.view();
        let kept = Arc::downgrade(&view);
        hub.keep(view, start);
        hub.apply([item("a", 2)]);
        hub.progress(2, start + Limits::default().snapshot_age);
        assert!(kept.upgrade().is_some());
        hub.progress(2, start + Limits::default().snapshot_age * 2);
        assert!(kept.upgrade().is_none());
    }

    #[test]
    fn what_lies_in_a_gap_is_told_to_nobody() {
        let hub = Hub::new(Limits::default());
        hub.apply([item("kept", 1), item("changed", 2), item("gone", 3)]);
        let mut watch = hub.watch(Arc::default(), Start::After(2), false, 3).unwrap();
        let now = [item("kept", 1), item("changed", 5), item("new", 6)];
        hub.load(now.into_iter().filter_map(|(_, _, item)| item), 8);
        assert_eq!(watch.queue.try_recv().err(), Some(mpsc::error::TryRecvError::Disconnected));
        assert_eq!(hub.watch(Arc::default(), Start::After(7), false, 8).err(), Some(8));
        assert!(hub.watch(Arc::default(), Start::After(8), false, 8).is_ok());
        assert!(hub.get("gone").is_none() && hub.get("new").is_some());
        // What the store's events still bring of the time before is known.
        assert!(hub.apply([item("changed", 5)]).is_empty());
    }
}
