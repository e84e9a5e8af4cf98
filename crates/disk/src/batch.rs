//! What a writer hands over.

use std::time::Duration;

use bytes::Bytes;

/// The name of an ordered map in the file: lower-case letters, digits and underscores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Table(&'static str);

impl Table {
    /// Names a table. Checked when the file is opened.
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// In which map.
    pub table: Table,
    /// Of which key.
    pub key: Bytes,
    /// To what; `None` removes the key.
    pub value: Option<Bytes>,
}

/// Keys that a batch removes whatever they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emptied {
    /// In which map.
    pub table: Table,
    /// The smallest key.
    pub from: Bytes,
    /// The smallest key beyond.
    pub to: Bytes,
}

/// Changes that reach the disk together or not at all: first its ranges are emptied, then the others are applied in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    emptied: Vec<Emptied>,
    ops: Vec<Op>,
    size: usize,
    patience: Duration,
}

impl Batch {
    /// No changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key.
    pub fn put(&mut self, table: Table, key: impl Into<Bytes>, value: impl Into<Bytes>) -> &mut Self {
        self.push(Op { table, key: key.into(), value: Some(value.into()) })
    }

    /// Removes a key, if it is there.
    pub fn delete(&mut self, table: Table, key: impl Into<Bytes>) -> &mut Self {
        self.push(Op { table, key: key.into(), value: None })
    }

    /// Removes every key from `from` up to but not including `to` that was there before this batch.
    pub fn delete_range(&mut self, table: Table, from: impl Into<Bytes>, to: impl Into<Bytes>) -> &mut Self {
        let emptied = Emptied { table, from: from.into(), to: to.into() };
        self.size += emptied.from.len() + emptied.to.len();
        self.emptied.push(emptied);
        self
    }

    /// How long it may wait for others to share their sync with; it does not wait unless this is said. One that does not wait
    /// takes along all that do.
    pub fn wait(&mut self, patience: Duration) -> &mut Self {
        self.patience = patience;
        self
    }

    fn push(&mut self, op: Op) -> &mut Self {
        self.size += op.key.len() + op.value.as_ref().map_or(0, Bytes::len);
        self.ops.push(op);
        self
    }

    /// The changes, in order.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The ranges that it empties before them.
    pub fn emptied(&self) -> &[Emptied] {
        &self.emptied
    }

    /// Every table that it names.
    pub(crate) fn tables(&self) -> impl Iterator<Item = Table> {
        self.emptied.iter().map(|emptied| emptied.table).chain(self.ops.iter().map(|op| op.table))
    }

    /// How long it may wait for others.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Bytes of its keys and values.
    pub fn size(&self) -> usize {
        self.size
    }
}
