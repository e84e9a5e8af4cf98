//! What an engine has to do; [`crate::Disk`] does the rest.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use crate::{Batch, Error, Table};

/// The writing half of an engine. Owned by one thread.
pub trait Engine: Send + 'static {
    /// Applies the batches in order, all of them or none. They are durable when this returns `Ok`, and visible to
    /// snapshots taken from then on. After an `Err` it is not called again, unless that is [`Error::NoRoom`].
    fn apply(&mut self, group: &[Batch]) -> Result<(), Error>;
    /// Whether it holds this table. Batches that name another are not passed to it.
    fn knows(&self, table: Table) -> bool;
    /// Gives a little of the space that is free in the file back to the file system: so little that writers do not notice.
    /// Called between groups, again and again for as long as there is more. Errors are as those of [`Engine::apply`].
    fn shrink(&mut self) -> Result<Shrunk, Error> {
        Ok(Shrunk::Enough)
    }
    /// The reading half.
    fn reader(&self) -> Arc<dyn Reader>;
    /// Leaves the file tidy. Not being called loses nothing that was applied.
    fn close(self: Box<Self>) -> Result<(), Error>;
}

/// How far an engine has got with giving space back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shrunk {
    /// There is more to give back.
    More,
    /// What was given back has yet to be moved from the log into the file.
    Settling,
    /// What is free may stay: it is little, or will soon be needed.
    Enough,
}

/// The reading half of an engine. Shared by all threads; never waits for the writer.
pub trait Reader: Send + Sync + 'static {
    /// Everything applied so far and nothing that is applied later.
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error>;
}

/// A fixed view of the file. Space that later writes free is not reused while it lives, so let it go soon.
///
/// Calls read from the page cache or the disk on the calling thread.
pub trait Snapshot: Send {
    /// A key's value.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Error>;
    /// Shows each key and value of the range to `visit`, in order, until it breaks.
    fn scan(&self, table: Table, range: &KeyRange, visit: &mut Visit<'_>) -> Result<(), Error>;
}

/// Called with each key and value of a scan.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// In which order a scan goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Smallest key first.
    #[default]
    Forward,
    /// Greatest key first.
    Backward,
}

/// A range of keys in byte order. The default is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRange {
    /// The smallest key in it.
    pub from: Bytes,
    /// The smallest key beyond it; `None`: there is none.
    pub to: Option<Bytes>,
    /// In which order to go.
    pub direction: Direction,
}

impl KeyRange {
    /// All keys that start with the prefix.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let from = prefix.into();
        let to = successor(&from);
        Self { from, to, direction: Direction::Forward }
    }

    /// The same range in the other order.
    pub fn backward(self) -> Self {
        Self { direction: Direction::Backward, ..self }
    }
}

/// The smallest key greater than all keys that start with the prefix.
fn successor(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_its_successor() {
        let check = |prefix: &[u8], to: Option<&[u8]>| {
            assert_eq!(KeyRange::prefix(prefix.to_vec()).to.as_deref(), to, "{prefix:?}");
        };
        check(b"", None);
        check(b"a", Some(b"b"));
        check(b"a/", Some(b"a0"));
        check(b"a\xff", Some(b"b"));
        check(b"\xff\xff", None);
    }
}
