//! The work queue: which keys need looking at, and when.

use crate::Ambient;
use crate::backoff::delay;
use clock::Instant;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

struct State<K> {
    ready: VecDeque<K>,
    /// Waiting in `ready`, or to be put there once the worker that has the key is done.
    dirty: HashSet<K>,
    processing: HashSet<K>,
    /// When each delayed key is due; the heap may also hold superseded entries, which are skipped.
    due: HashMap<K, Instant>,
    delayed: BinaryHeap<Reverse<(Instant, u64, K)>>,
    sequence: u64,
    failures: HashMap<K, u32>,
    closed: bool,
}

/// Keys that need work. A key is held once however often it is added, is given to one worker at a time, and is given
/// again when it was added while a worker had it. Keys may be added for later, or again after a failure, each failure of
/// the same key waiting twice as long. Holds nothing but keys: its size is bounded by how many things there are.
pub struct WorkQueue<K> {
    state: Mutex<State<K>>,
    wake: Notify,
    ambient: Ambient,
    base: Duration,
    limit: Duration,
}

/// A key in work. Dropping it tells the queue that the work is over.
pub struct Working<K: Clone + Eq + Hash + Ord> {
    queue: Arc<WorkQueue<K>>,
    key: K,
}

impl<K: Clone + Eq + Hash + Ord> Working<K> {
    /// What to work on.
    pub fn key(&self) -> &K {
        &self.key
    }
}

impl<K: Clone + Eq + Hash + Ord> Drop for Working<K> {
    fn drop(&mut self) {
        self.queue.done(&self.key);
    }
}

impl<K: Clone + Eq + Hash + Ord> WorkQueue<K> {
    /// An empty queue with upstream's back-off for failing keys, from 5 ms, but to a minute at most: a plane of one
    /// machine recovers in seconds, and a quarter of an hour's silence would be taken for its end.
    pub fn new(ambient: Ambient) -> Arc<Self> {
        Self::with_backoff(ambient, Duration::from_millis(5), Duration::from_secs(60))
    }

    /// An empty queue with a back-off of its own for failing keys.
    pub fn with_backoff(ambient: Ambient, base: Duration, limit: Duration) -> Arc<Self> {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            processing: HashSet::new(),
            due: HashMap::new(),
            delayed: BinaryHeap::new(),
            sequence: 0,
            failures: HashMap::new(),
            closed: false,
        };
        Arc::new(Self { state: Mutex::new(state), wake: Notify::new(), ambient, base, limit })
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Work on this key.
    pub fn add(&self, key: K) {
        let mut state = self.state();
        if state.add(key) {
            self.wake.notify_one();
        }
    }

    /// Work on this key after a while. Of several such wishes for one key the earliest counts.
    pub fn add_after(&self, key: K, wait: Duration) {
        if wait.is_zero() {
            return self.add(key);
        }
        let at = self.ambient.clock.monotonic() + wait;
        let mut state = self.state();
        if state.closed || state.due.get(&key).is_some_and(|due| *due <= at) {
            return;
        }
        state.due.insert(key.clone(), at);
        let sequence = state.sequence;
        state.sequence += 1;
        let earliest = state.delayed.peek().is_none_or(|Reverse((first, ..))| at < *first);
        state.delayed.push(Reverse((at, sequence, key)));
        if earliest {
            self.wake.notify_one();
        }
    }

    /// Work on this key again after a wait that doubles with each failure in a row.
    pub fn add_failed(&self, key: K) {
        let failures = {
            let mut state = self.state();
            let failures = state.failures.entry(key.clone()).or_insert(0);
            *failures = failures.saturating_add(1);
            *failures - 1
        };
        self.add_after(key, delay(self.base, self.limit, failures));
    }

    /// The key's work succeeded: its next failure is the first again.
    pub fn forget(&self, key: &K) {
        self.state().failures.remove(key);
    }

    /// How often in a row the key failed.
    pub fn failures(&self, key: &K) -> u32 {
        self.state().failures.get(key).copied().unwrap_or(0)
    }

    /// How many keys could be worked on now.
    pub fn len(&self) -> usize {
        self.state().ready.len()
    }

    /// Whether no key could be worked on now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives out no more keys; workers that wait get `None`.
    pub fn close(&self) {
        self.state().closed = true;
        self.wake.notify_waiters();
        self.wake.notify_one();
    }

    /// The next key, once there is one; `None` after [`WorkQueue::close`]. May be dropped at any time.
    pub async fn next(self: &Arc<Self>) -> Option<Working<K>> {
        loop {
            let notified = self.wake.notified();
            let until = {
                let mut state = self.state();
                if state.closed {
                    self.wake.notify_one();
                    return None;
                }
                state.promote(self.ambient.clock.monotonic());
                if let Some(key) = state.take() {
                    // One wake-up may stand for several keys: pass it on.
                    if !state.ready.is_empty() || !state.delayed.is_empty() {
                        self.wake.notify_one();
                    }
                    return Some(Working { queue: self.clone(), key });
                }
                state.delayed.peek().map(|Reverse((at, ..))| *at)
            };
            match until {
                None => notified.await,
                Some(at) => tokio::select! {
                    biased;
                    () = notified => {}
                    () = self.ambient.clock.sleep_until(at) => {}
                },
            }
        }
    }

    fn done(&self, key: &K) {
        let mut state = self.state();
        state.processing.remove(key);
        if state.dirty.contains(key) {
            state.ready.push_back(key.clone());
            self.wake.notify_one();
        }
    }
}

impl<K: Clone + Eq + Hash + Ord> State<K> {
    /// Whether a worker should wake up.
    fn add(&mut self, key: K) -> bool {
        if self.closed || !self.dirty.insert(key.clone()) || self.processing.contains(&key) {
            return false;
        }
        self.ready.push_back(key);
        true
    }

    fn take(&mut self) -> Option<K> {
        let key = self.ready.pop_front()?;
        self.dirty.remove(&key);
        self.processing.insert(key.clone());
        Some(key)
    }

    /// Moves what is due from the delayed to the ready keys.
    fn promote(&mut self, now: Instant) {
        while let Some(Reverse((at, ..))) = self.delayed.peek() {
            let at = *at;
            let superseded =
                matches!(self.delayed.peek(), Some(Reverse((at, _, key))) if self.due.get(key) != Some(at));
            if at > now && !superseded {
                return;
            }
            let Some(Reverse((_, _, key))) = self.delayed.pop() else { return };
            if !superseded {
                self.due.remove(&key);
                self.add(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clock::{Clock, ManualClock, SeededRandom};
    use futures::FutureExt;

    fn queue() -> (Arc<ManualClock>, Arc<WorkQueue<&'static str>>) {
        let clock = Arc::new(ManualClock::new("2026-01-02T03:04:05Z".parse().unwrap()));
        let ambient = Ambient { clock: clock.clone(), random: Arc::new(SeededRandom::new(1)) };
        (clock, WorkQueue::new(ambient))
    }

    fn now(queue: &Arc<WorkQueue<&'static str>>) -> Option<Working<&'static str>> {
        queue.next().now_or_never().flatten()
    }

    #[tokio::test]
    async fn a_key_is_held_once_and_by_one_worker() {
        let (_, queue) = queue();
        queue.add("a");
        queue.add("a");
        let first = now(&queue).unwrap();
        assert!(now(&queue).is_none());
        queue.add("a");
        assert!(now(&queue).is_none(), "another worker must not have it yet");
        drop(first);
        assert_eq!(*now(&queue).unwrap().key(), "a");
        assert!(now(&queue).is_none());
    }

    #[tokio::test]
    async fn delayed_keys_come_when_due_and_the_earliest_wish_counts() {
        let (clock, queue) = queue();
        queue.add_after("a", Duration::from_secs(10));
        queue.add_after("a", Duration::from_secs(5));
        queue.add_after("a", Duration::from_secs(7));
        queue.add_after("b", Duration::from_secs(6));
        clock.advance(Duration::from_secs(5));
        assert_eq!(now(&queue).map(|working| *working.key()), Some("a"));
        clock.advance(Duration::from_secs(1));
        assert_eq!(now(&queue).map(|working| *working.key()), Some("b"));
        clock.advance(Duration::from_secs(60));
        assert!(now(&queue).is_none(), "later wishes were covered by the earliest");
        assert_eq!(clock.next_deadline(), None);
    }

    #[tokio::test]
    async fn failures_wait_longer_until_forgotten() {
        let (clock, queue) = queue();
        let mut waits = Vec::new();
        for _ in 0..3 {
            queue.add_failed("a");
            let before = clock.monotonic();
            while now(&queue).is_none() {
                clock.advance(Duration::from_millis(1));
            }
            waits.push(clock.monotonic().since(before).as_millis());
        }
        assert_eq!(waits, [5, 10, 20]);
        queue.forget(&"a");
        assert_eq!(queue.failures(&"a"), 0);
    }

    #[tokio::test]
    async fn every_waiting_worker_is_woken() {
        let (clock, queue) = queue();
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move { queue.next().await.map(|working| *working.key()) })
            })
            .collect();
        tokio::task::yield_now().await;
        queue.add_after("a", Duration::from_secs(1));
        queue.add_after("b", Duration::from_secs(1));
        queue.add("c");
        clock.until_sleepers(1).await;
        clock.advance(Duration::from_secs(1));
        let mut got = Vec::new();
        for worker in workers {
            got.push(worker.await.unwrap().unwrap());
        }
        got.sort_unstable();
        assert_eq!(got, ["a", "b", "c"]);
        let late = queue.clone();
        let waiting = tokio::spawn(async move { late.next().await.is_none() });
        tokio::task::yield_now().await;
        queue.close();
        assert!(waiting.await.unwrap());
    }
}
