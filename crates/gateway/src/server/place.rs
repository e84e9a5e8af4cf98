//! Which processor each thread runs on.
//!
//! A thread that serves connections wakes clients and endpoints of its own machine with each write, and the scheduler then
//! often lets busy threads share a processor for some milliseconds while another idles. So where there is a thread for
//! each processor that this process may use, each keeps to its own, which halves the 99th percentile on two processors
//! (`cargo xtask bench gateway`). Where there are fewer threads, as under a quota, nothing is decided here: two such
//! processes would take the same processors.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The processors of this process.
#[derive(Clone, Copy)]
pub(super) struct Places {
    all: CpuSet,
}

impl Places {
    /// Those for that many threads, if each can have its own.
    pub(super) fn of(threads: usize) -> Option<Self> {
        let all = sched_getaffinity(None).ok()?;
        (threads > 1 && all.count() as usize == threads).then_some(Self { all })
    }

    /// Keeps this thread to the place of that number.
    pub(super) fn take(&self, number: usize) {
        let mut own = CpuSet::new();
        let mine = (0..CpuSet::MAX_CPU).filter(|processor| self.all.is_set(*processor)).nth(number);
        mine.into_iter().for_each(|processor| own.set(processor));
        self.keep_to(&own);
    }

    /// Lets this thread run anywhere: it was started by one that has a place.
    pub(super) fn leave(&self) {
        self.keep_to(&self.all);
    }

    fn keep_to(&self, processors: &CpuSet) {
        // The processors may have changed meanwhile; it runs well without.
        if let Err(error) = sched_setaffinity(None, processors) {
            tracing::debug!(%error, "a thread cannot be kept to a processor");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processors() -> Vec<usize> {
        let set = sched_getaffinity(None).unwrap();
        (0..CpuSet::MAX_CPU).filter(|processor| set.is_set(*processor)).collect()
    }

    #[test]
    fn each_thread_has_its_own_and_those_that_it_starts_have_all() {
        let all = processors();
        assert!(Places::of(all.len() + 1).is_none());
        let Some(places) = Places::of(all.len()) else {
            assert_eq!(all.len(), 1, "one thread needs no place");
            return;
        };
        let placed = |number| {
            let thread = move || {
                places.take(number);
                let started = move || {
                    let inherited = processors();
                    places.leave();
                    (inherited, processors())
                };
                (processors(), std::thread::spawn(started).join().unwrap())
            };
            std::thread::spawn(thread).join().unwrap()
        };
        for (number, processor) in all.iter().enumerate() {
            assert_eq!(placed(number), (vec![*processor], (vec![*processor], all.clone())));
        }
    }
}
