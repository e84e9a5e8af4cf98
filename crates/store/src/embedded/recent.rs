//! Values written lately. Most updates follow soon on another of the same key (a status, a lease), and their events carry
//! what the key held before: these need not be read back from the disk.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::Version;
use crate::Revision;

/// Bytes of values that are kept.
const CAPACITY: usize = 4 << 20;

type Address = (Revision, u32);

#[derive(Debug, Default)]
pub(super) struct Recent {
    values: HashMap<Address, Bytes>,
    /// The same addresses, oldest first; some may be gone from `values`.
    order: VecDeque<(Address, usize)>,
    bytes: usize,
}

impl Recent {
    pub(super) fn insert(&mut self, version: Version, value: Bytes) {
        let address = (version.revision, version.position);
        self.bytes += value.len();
        self.order.push_back((address, value.len()));
        self.values.insert(address, value);
        while self.bytes > CAPACITY {
            let Some((oldest, length)) = self.order.pop_front() else { break };
            self.bytes -= length;
            self.values.remove(&oldest);
        }
    }

    pub(super) fn get(&self, version: Version) -> Option<Bytes> {
        self.values.get(&(version.revision, version.position)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_make_room() {
        let version = |revision| Version { revision, position: 0, created: 1 };
        let mut recent = Recent::default();
        for revision in 1..=5 {
            recent.insert(version(revision), vec![0; 1 << 20].into());
        }
        assert_eq!(recent.get(version(1)), None);
        assert!((2..=5).all(|revision| recent.get(version(revision)).is_some()));
        assert_eq!(recent.order.len(), 4);
    }
}
