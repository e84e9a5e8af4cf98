//! The recorded part of a journal, read a page at a time.

use std::collections::VecDeque;

use crate::codec::Corrupt;
use crate::journal::Entry;
use crate::storage::{Partition, StorageError};
use crate::tables::{self, LAST_INDEX, Part, Table};

/// Rows that are read at once: few, since a result may be large.
const PAGE: usize = 32;

/// What earlier lives of an invocation recorded, in order of the calls.
#[derive(Debug)]
pub(super) struct Replay {
    sequence: u64,
    rows: VecDeque<(u32, Part, Entry)>,
    /// The first key that has not been read; `None` at the journal's end.
    from: Option<Vec<u8>>,
}

/// What the journal holds at a place.
#[derive(Debug)]
pub(super) enum Recorded {
    /// A call or a sleep, and its result.
    Entry(Entry, Option<Entry>),
    /// Nothing here, though there is more behind: a read that was not on disk yet.
    Gap,
    /// Nothing from here on.
    End,
}

impl Replay {
    /// A journal that is on disk.
    pub(super) fn of(sequence: u64) -> Self {
        Self { sequence, rows: VecDeque::new(), from: Some(tables::journal_key(sequence, 0, Part::Call)) }
    }

    /// A journal with nothing but its beginning.
    pub(super) fn empty(sequence: u64) -> Self {
        Self { sequence, rows: VecDeque::new(), from: None }
    }

    /// What is recorded at `index`. Asked for each index once, in order.
    pub(super) fn take(&mut self, partition: &Partition, index: u32) -> Result<Recorded, StorageError> {
        self.read_ahead(partition)?;
        match self.rows.front() {
            None => Ok(Recorded::End),
            Some((found, _, _)) if *found > index => Ok(Recorded::Gap),
            Some(_) => {
                let Some((_, _, entry)) = self.rows.pop_front() else { return Ok(Recorded::End) };
                let result =
                    self.rows.pop_front_if(|(found, part, _)| *found == index && *part == Part::Result);
                Ok(Recorded::Entry(entry, result.map(|(_, _, entry)| entry)))
            }
        }
    }

    /// The next recorded entry, which nobody asked for.
    pub(super) fn left_over(&mut self, partition: &Partition) -> Result<Option<(u32, Entry)>, StorageError> {
        self.read_ahead(partition)?;
        Ok(self.rows.front().map(|(index, _, entry)| (*index, entry.clone())))
    }

    /// Sees to it that a call and its result are in memory, if there are any.
    fn read_ahead(&mut self, partition: &Partition) -> Result<(), StorageError> {
        while self.rows.len() < 2
            && let Some(from) = self.from.take()
        {
            let end = tables::journal_key(self.sequence, LAST_INDEX, Part::Call);
            let page = partition.range(Table::Journal, &from, Some(&end), PAGE)?;
            if page.len() == PAGE
                && let Some((last, _)) = page.last()
            {
                self.from = Some([last, &[0][..]].concat());
            }
            for (key, value) in page {
                let (index, part) =
                    tables::split_journal_key(&key).ok_or(Corrupt::new("journal", "its key is unknown"))?;
                self.rows.push_back((index, part, Entry::decode(&value)?));
            }
        }
        Ok(())
    }
}
