//! The index: which versions each key has, and where they are in the log. Values stay on the disk.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::Revision;

/// One version of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) revision: Revision,
    /// Its row within the revision.
    pub(super) position: u32,
    /// The revision that made the key; 0: this version is its deletion.
    pub(super) created: Revision,
}

impl Version {
    pub(super) fn is_deletion(&self) -> bool {
        self.created == 0
    }
}

/// Keys in byte order, each with its versions, oldest first.
#[derive(Debug, Default)]
pub(super) struct Index {
    keys: BTreeMap<Bytes, Vec<Version>>,
    /// Of all keys together: rows of the log.
    versions: usize,
}

impl Index {
    /// Adds a key's newest version.
    pub(super) fn push(&mut self, key: Bytes, version: Version) {
        self.keys.entry(key).or_insert_with(|| Vec::with_capacity(1)).push(version);
        self.versions += 1;
    }

    /// How many versions there are, of all keys together.
    pub(super) fn versions(&self) -> usize {
        self.versions
    }

    /// What the key holds when every transaction that was given a revision has happened.
    pub(super) fn newest(&self, key: &[u8]) -> Option<Version> {
        self.before(key, Revision::MAX)
    }

    /// The newest version of the key, deletions included.
    pub(super) fn last_change(&self, key: &[u8]) -> Option<Version> {
        self.keys.get(key)?.last().copied()
    }

    /// What the key held just before a revision.
    pub(super) fn before(&self, key: &[u8], revision: Revision) -> Option<Version> {
        live(self.keys.get(key)?, revision.checked_sub(1)?)
    }

    /// What the key holds as of a revision.
    pub(super) fn at(&self, key: &[u8], revision: Revision) -> Option<Version> {
        live(self.keys.get(key)?, revision)
    }

    /// Keys that start with the prefix and lie beyond `after`, with what they hold as of a revision.
    pub(super) fn range<'a>(
        &'a self,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        revision: Revision,
    ) -> impl Iterator<Item = (&'a Bytes, Version)> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.keys
            .range::<[u8], _>((from, Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .filter_map(move |(key, versions)| Some((key, live(versions, revision)?)))
    }

    /// Looks at up to `count` keys beyond `after` and forgets their versions that no revision from `oldest` on can see.
    /// Returns the forgotten ones, and the last key looked at if there may be more.
    pub(super) fn compact(
        &mut self,
        after: Option<&[u8]>,
        oldest: Revision,
        count: usize,
    ) -> (Vec<Version>, Option<Bytes>) {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let (mut forgotten, mut empty, mut seen, mut last) = (Vec::new(), Vec::new(), 0, None);
        for (key, versions) in self.keys.range_mut::<[u8], _>((from, Bound::Unbounded)).take(count) {
            seen += 1;
            last = Some(key.clone());
            let visible = versions.partition_point(|version| version.revision <= oldest);
            // The newest of those stays, as what the key holds at `oldest`, unless it is a deletion.
            let keep =
                visible.saturating_sub(usize::from(visible > 0 && !versions[visible - 1].is_deletion()));
            forgotten.extend(versions.drain(..keep));
            if versions.is_empty() {
                empty.push(key.clone());
            } else if keep > 0 {
                versions.shrink_to_fit();
            }
        }
        for key in empty {
            self.keys.remove(&key);
        }
        self.versions -= forgotten.len();
        (forgotten, last.filter(|_| seen == count))
    }
}

/// The version that is seen at a revision. The newest are looked at first: they are what is asked for.
fn live(versions: &[Version], revision: Revision) -> Option<Version> {
    let version = versions.iter().rev().find(|version| version.revision <= revision)?;
    (!version.is_deletion()).then_some(*version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(changes: &[(&str, Revision, Revision)]) -> Index {
        let mut index = Index::default();
        for (key, revision, created) in changes {
            index.push(
                Bytes::from(key.to_string()),
                Version { revision: *revision, position: 0, created: *created },
            );
        }
        index
    }

    fn revisions(index: &Index, key: &str) -> Vec<Revision> {
        index.keys.get(key.as_bytes()).map(|v| v.iter().map(|v| v.revision).collect()).unwrap_or_default()
    }

    #[test]
    fn compaction_keeps_what_can_still_be_seen() {
        let check = |changes: &[(Revision, Revision)], oldest, kept: &[Revision]| {
            let changes: Vec<_> =
                changes.iter().map(|(revision, created)| ("k", *revision, *created)).collect();
            let mut index = index(&changes);
            let (forgotten, _) = index.compact(None, oldest, 10);
            assert_eq!(revisions(&index, "k"), kept, "{changes:?} at {oldest}");
            assert_eq!(forgotten.len(), changes.len() - kept.len());
            assert_eq!(index.keys.contains_key(&b"k"[..]), !kept.is_empty());
        };
        check(&[(1, 1), (3, 1), (5, 1)], 0, &[1, 3, 5]);
        check(&[(1, 1), (3, 1), (5, 1)], 3, &[3, 5]);
        check(&[(1, 1), (3, 1), (5, 1)], 4, &[3, 5]);
        check(&[(1, 1), (3, 1), (5, 1)], 9, &[5]);
        check(&[(1, 1), (3, 0), (5, 5)], 3, &[5]);
        check(&[(1, 1), (3, 0)], 2, &[1, 3]);
        check(&[(1, 1), (3, 0)], 3, &[]);
    }

    #[test]
    fn compaction_goes_on_where_it_stopped() {
        let mut index = index(&[("a", 1, 1), ("a", 2, 1), ("b", 3, 3), ("c", 4, 4), ("c", 5, 0)]);
        let (forgotten, next) = index.compact(None, 9, 2);
        assert_eq!((forgotten.len(), next.as_deref()), (1, Some(&b"b"[..])));
        let (forgotten, next) = index.compact(next.as_deref(), 9, 2);
        assert_eq!((forgotten.len(), next), (2, None));
    }

    #[test]
    fn a_range_begins_at_its_prefix_or_after_the_key() {
        let index = index(&[("a/1", 1, 1), ("b/1", 2, 2), ("b/2", 3, 3), ("c/1", 4, 4)]);
        let check = |prefix: &str, after: Option<&str>, expected: &[&str]| {
            let found: Vec<_> = index
                .range(prefix.as_bytes(), after.map(str::as_bytes), 9)
                .map(|(key, _)| key.clone())
                .collect();
            assert_eq!(found, expected, "{prefix} after {after:?}");
        };
        check("b/", None, &["b/1", "b/2"]);
        check("b/", Some("b/1"), &["b/2"]);
        check("b/", Some("a"), &["b/1", "b/2"]);
        check("b/", Some("c"), &[]);
        check("", Some("b/2"), &["c/1"]);
    }
}
