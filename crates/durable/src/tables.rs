//! Which tables a partition has, and what their keys look like.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | meta | a word | the epoch, the partition's identity |
//! | invocations | component name, 0, id | [`Invocation`](crate::Invocation) |
//! | journal | sequence, index, part | [`Entry`](crate::journal::Entry) |
//! | ready | pinned component, 0, place | the invocation's id |
//! | due | time, sequence | component name, 0, id |
//! | lanes | pinned component | how many of its invocations are unfinished, and the bytes of their requests |
//!
//! An unfinished invocation has exactly one row in either `ready` (it can run, or runs) or `due` (it sleeps); a finished
//! one has one in `due`, for its purge. Nothing else is needed to go on after a crash.

use jiff::Timestamp;

use crate::codec;

/// A table of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Facts about the partition.
    Meta,
    /// One row an invocation.
    Invocations,
    /// What invocations did.
    Journal,
    /// Who can run, in order of arrival.
    Ready,
    /// Who has to be looked at when.
    Due,
    /// Unfinished invocations by pinned component.
    Lanes,
}

impl Table {
    /// All of them.
    pub const ALL: [Table; 6] =
        [Table::Meta, Table::Invocations, Table::Journal, Table::Ready, Table::Due, Table::Lanes];

    /// Its name on disk.
    pub fn name(self) -> &'static str {
        match self {
            Table::Meta => "meta",
            Table::Invocations => "invocations",
            Table::Journal => "journal",
            Table::Ready => "ready",
            Table::Due => "due",
            Table::Lanes => "lanes",
        }
    }
}

/// One change of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Writes a row.
    Put(Table, Vec<u8>, Vec<u8>),
    /// Removes a row.
    Delete(Table, Vec<u8>),
    /// Removes the rows from the first key up to and without the second, as they were before the batch: ranges are
    /// emptied before anything else in it.
    DeleteRange(Table, Vec<u8>, Vec<u8>),
}

impl Mutation {
    /// About how many bytes it takes in a queue.
    pub fn size(&self) -> usize {
        match self {
            Mutation::Put(_, key, value) => key.len() + value.len(),
            Mutation::Delete(_, key) => key.len(),
            Mutation::DeleteRange(_, from, to) => from.len() + to.len(),
        }
    }
}

/// The index of the journal entry that ends an invocation.
pub(crate) const LAST_INDEX: u32 = u32::MAX;

/// The row of an invocation.
pub(crate) fn invocation_key(component: &str, id: &str) -> Vec<u8> {
    [component.as_bytes(), &[0], id.as_bytes()].concat()
}

/// The first and the first-beyond keys of a component's invocations.
pub(crate) fn invocation_range(component: &str) -> (Vec<u8>, Vec<u8>) {
    ([component.as_bytes(), &[0]].concat(), [component.as_bytes(), &[1]].concat())
}

/// Splits an invocation's key into component and id.
pub(crate) fn split_invocation_key(key: &[u8]) -> Option<(&str, &str)> {
    std::str::from_utf8(key).ok()?.split_once('\0')
}

/// Which half of a call a journal row holds. The result is next to its call, whatever was written between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Call = 0,
    Result = 1,
}

pub(crate) fn journal_key(sequence: u64, index: u32, part: Part) -> Vec<u8> {
    let mut key = Vec::with_capacity(13);
    key.extend_from_slice(&sequence.to_be_bytes());
    key.extend_from_slice(&index.to_be_bytes());
    key.push(part as u8);
    key
}

/// Index and part of a journal key.
pub(crate) fn split_journal_key(key: &[u8]) -> Option<(u32, Part)> {
    let (_, rest) = key.split_at_checked(8)?;
    let (index, part) = rest.split_at_checked(4)?;
    let part = match part {
        [0] => Part::Call,
        [1] => Part::Result,
        _ => return None,
    };
    Some((u32::from_be_bytes(index.try_into().ok()?), part))
}

pub(crate) fn ready_key(lane: &str, place: u64) -> Vec<u8> {
    [lane.as_bytes(), &[0], &place.to_be_bytes()].concat()
}

/// The first-beyond key of a lane.
pub(crate) fn ready_end(lane: &str) -> Vec<u8> {
    [lane.as_bytes(), &[1]].concat()
}

pub(crate) fn ready_place(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(*key.last_chunk::<8>()?))
}

pub(crate) fn due_key(time: Timestamp, sequence: u64) -> Vec<u8> {
    [codec::micros(time).to_be_bytes(), sequence.to_be_bytes()].concat()
}

pub(crate) fn due_time(key: &[u8]) -> Option<Timestamp> {
    Some(codec::from_micros(u64::from_be_bytes(*key.first_chunk::<8>()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_their_parts_do() {
        assert!(journal_key(1, 2, Part::Call) < journal_key(1, 2, Part::Result));
        assert!(journal_key(1, 2, Part::Result) < journal_key(1, 3, Part::Call));
        assert!(journal_key(1, LAST_INDEX, Part::Call) < journal_key(2, 0, Part::Call));
        assert!(ready_key("a@1", u64::MAX) < ready_end("a@1"));
        assert!(ready_end("a@1") < ready_key("a@10", 0));
        let (first, end) = invocation_range("ns/a");
        let key = invocation_key("ns/a", "\u{10ffff}");
        assert!(first < key && key < end);
        assert!(end < invocation_key("ns/ab", "x"));
    }

    #[test]
    fn keys_split_into_their_parts() {
        assert_eq!(split_invocation_key(&invocation_key("ns/a", "id")), Some(("ns/a", "id")));
        assert_eq!(split_journal_key(&journal_key(9, 7, Part::Result)), Some((7, Part::Result)));
        assert_eq!(split_journal_key(b"short"), None);
        assert_eq!(ready_place(&ready_key("a@1", 5)), Some(5));
        let time = Timestamp::from_second(1_800_000_000).unwrap();
        assert_eq!(due_time(&due_key(time, 3)), Some(time));
    }
}
