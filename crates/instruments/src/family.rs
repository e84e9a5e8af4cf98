//! Instruments of one kind, by what they count.

use std::hash::{Hash, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use hashbrown::{Equivalent, HashMap};

type Table<K, I> = HashMap<K, Arc<I>, RandomState>;

/// One instrument a key. Finding one that is there takes no lock and no allocation; the first use of a key makes a new table.
#[derive(Debug)]
pub struct Family<K, I> {
    known: ArcSwap<Table<K, I>>,
    adding: Mutex<()>,
    make: fn() -> I,
    most: usize,
}

impl<K: Hash + Eq + Clone, I> Family<K, I> {
    /// Makes instruments so, at most so many.
    pub fn new(make: fn() -> I, most: usize) -> Self {
        Self { known: ArcSwap::default(), adding: Mutex::default(), make, most }
    }

    /// Uses the instrument of a key, if there is one.
    pub fn find<Q>(&self, key: &Q, use_it: impl FnOnce(&I)) -> bool
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        match self.known.load().get(key) {
            Some(instrument) => {
                use_it(instrument);
                true
            }
            None => false,
        }
    }

    /// Uses the instrument of a key. Nothing is counted under a key too many.
    pub fn with<Q>(&self, key: &Q, use_it: impl FnOnce(&I))
    where
        Q: Hash + Equivalent<K> + ?Sized,
        for<'a> K: From<&'a Q>,
    {
        if let Some(instrument) = self.known.load().get(key) {
            return use_it(instrument);
        }
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.known.load_full();
        if let Some(instrument) = known.get(key) {
            return use_it(instrument);
        }
        if known.len() >= self.most {
            return;
        }
        let instrument = Arc::new((self.make)());
        use_it(&instrument);
        let mut more = Table::clone(&known);
        more.insert(K::from(key), instrument);
        self.known.store(Arc::new(more));
    }

    /// Every instrument there is, in the order of their keys.
    pub fn all(&self) -> Vec<(K, Arc<I>)>
    where
        K: Ord,
    {
        let known = self.known.load();
        let mut all: Vec<_> = known.iter().map(|(key, one)| (key.clone(), one.clone())).collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Counter;

    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    struct Key(String);

    impl From<&Key> for Key {
        fn from(key: &Key) -> Self {
            key.clone()
        }
    }

    #[test]
    fn counts_of_many_threads_are_all_there() {
        let family: Family<Key, Counter> = Family::new(Counter::default, 10);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for number in 0..1000 {
                        family.with(&Key((number % 20).to_string()), Counter::add_one);
                    }
                });
            }
        });
        let all = family.all();
        assert_eq!(all.len(), 10, "no more than may be");
        assert!(all.iter().all(|(_, counter)| counter.get() == 200), "{all:?}");
    }
}
