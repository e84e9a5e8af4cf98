//! Small numbers that stand for names in the kernel's tables.

use std::collections::BTreeMap;

/// Numbers by name. A name keeps its number while it is there.
#[derive(Debug)]
pub(crate) struct Ids<K> {
    of: BTreeMap<K, u32>,
    next: u32,
}

impl<K> Default for Ids<K> {
    fn default() -> Self {
        Self { of: BTreeMap::new(), next: 0 }
    }
}

impl<K: Ord + Clone> Ids<K> {
    /// Numbers these, and forgets all others.
    pub(crate) fn keep<'a>(&mut self, names: impl Iterator<Item = &'a K>)
    where
        K: 'a,
    {
        let mut before = std::mem::take(&mut self.of);
        for name in names {
            let id = before.remove(name).unwrap_or_else(|| {
                self.next = self.next.wrapping_add(1);
                self.next
            });
            self.of.insert(name.clone(), id);
        }
    }

    /// The number of a name.
    pub(crate) fn get(&self, name: &K) -> Option<u32> {
        self.of.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_numbers_and_share_none() {
        let mut ids = Ids::default();
        ids.keep([1, 2, 2].iter());
        let (one, two) = (ids.get(&1).unwrap(), ids.get(&2).unwrap());
        assert_ne!(one, two);
        ids.keep([2, 3].iter());
        assert_eq!((ids.get(&1), ids.get(&2)), (None, Some(two)));
        assert!(![one, two].contains(&ids.get(&3).unwrap()));
    }
}
