//! Work that may take minutes, done beside the workers: they would else stand still with whoever is slow.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use client::WorkQueue;
use clock::Tasks;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Item;

/// What an object's work is for: its identity and its generation.
pub(super) type Version = (Option<String>, Option<i64>);

/// One piece of work for each item, a few at a time. When one is done its item is looked at again, and finds the outcome.
pub(super) struct Slow<T, V = Version> {
    queue: Arc<WorkQueue<Item>>,
    tasks: Tasks,
    room: Arc<Semaphore>,
    works: Arc<Mutex<BTreeMap<Item, Work<T, V>>>>,
}

struct Work<T, V> {
    /// What the work is for.
    version: V,
    outcome: Option<T>,
    /// Ends the task when somebody wants something else, or nothing.
    _task: DropGuard,
}

impl<T: Clone + Send + 'static, V: Clone + PartialEq + Send + 'static> Slow<T, V> {
    pub(super) fn new(queue: Arc<WorkQueue<Item>>, tasks: &Tasks, at_once: usize) -> Self {
        let room = Arc::new(Semaphore::new(at_once));
        Self { queue, tasks: tasks.clone(), room, works: Arc::default() }
    }

    /// What came of the work for this version; `None` while there is nothing or it is under way.
    pub(super) fn outcome(&self, item: &Item, version: &V) -> Option<T> {
        let works = lock(&self.works);
        works.get(item).filter(|work| work.version == *version)?.outcome.clone()
    }

    /// Starts the work, unless it is under way.
    pub(super) fn start<F>(&self, item: &Item, version: &V, work: F)
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut works = lock(&self.works);
        if works.get(item).is_some_and(|work| work.version == *version && work.outcome.is_none()) {
            return;
        }
        let ended = CancellationToken::new();
        let started = Work { version: version.clone(), outcome: None, _task: ended.clone().drop_guard() };
        // Another version's is cancelled by this, and cannot hand in its outcome any more.
        works.insert(item.clone(), started);
        let (room, all, queue) = (self.room.clone(), self.works.clone(), self.queue.clone());
        let item = item.clone();
        self.tasks.spawn("slow work", async move {
            let done = async {
                let _place = room.acquire().await;
                work.await
            };
            let Some(outcome) = ended.run_until_cancelled(done).await else { return };
            let mut works = lock(&all);
            if !ended.is_cancelled()
                && let Some(work) = works.get_mut(&item)
            {
                work.outcome = Some(outcome);
                drop(works);
                queue.add(item);
            }
        });
    }

    /// Forgets an outcome, and ends what is under way. Whether something was: a part of it that runs on a thread of its own
    /// ends when it ends.
    pub(super) fn forget(&self, item: &Item) -> bool {
        lock(&self.works).remove(item).is_some_and(|work| work.outcome.is_none())
    }
}

fn lock<T>(works: &Mutex<T>) -> MutexGuard<'_, T> {
    works.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use client::{Ambient, ObjectKey};

    use super::*;

    #[tokio::test]
    async fn what_is_slow_holds_up_nobody_and_is_looked_at_when_it_is_done() {
        let (tasks, queue) = (Tasks::default(), WorkQueue::new(Ambient::system()));
        let slow = Slow::new(queue.clone(), &tasks, 2);
        let item = |name: &str| Item::Component(ObjectKey::new("ns", name));
        let version = |generation| -> Version { (None, Some(generation)) };
        slow.start(&item("stuck"), &version(1), std::future::pending());
        slow.start(&item("quick"), &version(1), async { 1 });
        assert_eq!(queue.next().await.unwrap().key(), &item("quick"));
        assert_eq!(slow.outcome(&item("quick"), &version(1)), Some(1));
        assert_eq!(slow.outcome(&item("quick"), &version(2)), None);
        // A new version ends the work for the old one.
        slow.start(&item("stuck"), &version(2), async { 2 });
        assert_eq!(queue.next().await.unwrap().key(), &item("stuck"));
        assert_eq!(slow.outcome(&item("stuck"), &version(2)), Some(2));
        assert!(!slow.forget(&item("stuck")));
        slow.start(&item("stuck"), &version(3), std::future::pending());
        assert!(slow.forget(&item("stuck")));
        assert_eq!(slow.outcome(&item("stuck"), &version(2)), None);
        tasks.stop().await;
    }
}
