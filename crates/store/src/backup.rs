//! Backups: everything that a store holds at one revision, as a file that either backend can be filled from.
//!
//! The file: the eight bytes `monoplan`, the format's number, the revision, and the keys in their order, each with its value;
//! behind the last one their number and SHA-256 of all before. Numbers are little-endian; lengths have four bytes, the others
//! eight. What is cut short or changed anywhere is not taken.

use std::io::{self, Read, Write};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::{Entry, Expect, MAX_TXN_BYTES, MAX_TXN_OPS, Range, Revision, Store, Txn};

const MAGIC: &[u8; 8] = b"monoplan";
/// Grows when older programs could no longer read the file.
const FORMAT: u64 = 1;
/// Stands where a key's length would: the keys are over. No key is so long.
const END: u32 = u32::MAX;
/// Entries that are read at a time.
const PAGE: usize = 500;

/// Why a backup was not made, or not taken.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file could not be written or read.
    #[error("the backup's file: {0}")]
    File(#[from] io::Error),
    /// It is none, or not whole.
    #[error("this is no whole backup: {0}")]
    Damaged(&'static str),
    /// A later release has made it.
    #[error("the backup has format {0}, and this program knows formats up to {FORMAT}")]
    TooNew(u64),
    /// It would mix with what is there.
    #[error("the store is not empty")]
    NotEmpty,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] crate::Error),
}

/// Writes a backup, key by key.
pub struct BackupWriter<W> {
    out: W,
    digest: Sha256,
    count: u64,
}

impl<W: Write> BackupWriter<W> {
    /// Begins one of what a store holds at a revision.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(out: W, revision: Revision) -> Result<Self, BackupError> {
        let mut begun = Self { out, digest: Sha256::new(), count: 0 };
        begun.put(MAGIC)?;
        begun.put(&FORMAT.to_le_bytes())?;
        begun.put(&revision.to_le_bytes())?;
        Ok(begun)
    }

    /// Adds a key.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), BackupError> {
        for part in [key, value] {
            let length =
                u32::try_from(part.len()).map_err(|_| BackupError::Damaged("an entry is too long"))?;
            self.put(&length.to_le_bytes())?;
        }
        self.put(key)?;
        self.put(value)?;
        self.count += 1;
        Ok(())
    }

    /// Ends it: only now is it whole. Gives how many keys it has.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> Result<(W, u64), BackupError> {
        let count = self.count;
        self.put(&END.to_le_bytes())?;
        self.put(&count.to_le_bytes())?;
        let digest = self.digest.finalize();
        self.out.write_all(&digest)?;
        self.out.flush()?;
        Ok((self.out, count))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        self.digest.update(bytes);
        Ok(self.out.write_all(bytes)?)
    }
}

/// Reads a backup, key by key.
pub struct BackupReader<R> {
    from: R,
    digest: Sha256,
    count: u64,
    revision: Revision,
}

impl<R: Read> BackupReader<R> {
    /// Begins.
    ///
    /// # Errors
    /// When it is no backup, or of a later release.
    pub fn new(from: R) -> Result<Self, BackupError> {
        let mut begun = Self { from, digest: Sha256::new(), count: 0, revision: 0 };
        if begun.take(MAGIC.len())? != MAGIC[..] {
            return Err(BackupError::Damaged("it begins with something else"));
        }
        let format = begun.number()?;
        if format != FORMAT {
            return Err(BackupError::TooNew(format));
        }
        begun.revision = begun.number()?;
        Ok(begun)
    }

    /// The revision at which the store held it.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The next key and its value; `None` behind the last, once everything has been found whole.
    ///
    /// # Errors
    /// When it is not whole.
    pub fn entry(&mut self) -> Result<Option<(Bytes, Bytes)>, BackupError> {
        let key = self.length()?;
        if key == END {
            return self.end().map(|()| None);
        }
        let value = self.length()?;
        if u64::from(key) + u64::from(value) > MAX_TXN_BYTES as u64 {
            return Err(BackupError::Damaged("an entry is too long"));
        }
        let key = self.take(key as usize)?;
        let value = self.take(value as usize)?;
        self.count += 1;
        Ok(Some((key, value)))
    }

    fn end(&mut self) -> Result<(), BackupError> {
        if self.number()? != self.count {
            return Err(BackupError::Damaged("it has lost entries"));
        }
        let digest = self.digest.clone().finalize();
        let mut stored = [0; 32];
        self.from.read_exact(&mut stored).map_err(cut)?;
        match stored[..] == digest[..] {
            true => Ok(()),
            false => Err(BackupError::Damaged("its checksum is another")),
        }
    }

    fn length(&mut self) -> Result<u32, BackupError> {
        let bytes = self.take(4)?;
        Ok(bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)))
    }

    fn number(&mut self) -> Result<u64, BackupError> {
        let bytes = self.take(8)?;
        Ok(bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)))
    }

    fn take(&mut self, length: usize) -> Result<Bytes, BackupError> {
        let mut bytes = vec![0; length];
        self.from.read_exact(&mut bytes).map_err(cut)?;
        self.digest.update(&bytes);
        Ok(bytes.into())
    }
}

fn cut(error: io::Error) -> BackupError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => BackupError::Damaged("it ends too soon"),
        _ => BackupError::File(error),
    }
}

/// Writes what a store holds now under a prefix. Gives the revision and how many keys there are.
///
/// # Errors
/// When the store cannot be read, or the file not written.
pub async fn backup<W: Write>(
    store: &dyn Store,
    prefix: &'static [u8],
    out: W,
) -> Result<(W, Revision, u64), BackupError> {
    let mut range = Range { prefix: Bytes::from_static(prefix), limit: PAGE, ..Range::default() };
    let mut page = store.range(range.clone()).await?;
    let mut writer = BackupWriter::new(out, page.revision)?;
    loop {
        for Entry { key, value, .. } in &page.entries {
            writer.add(key, value)?;
        }
        let last = page.entries.last().map(|entry| entry.key.clone());
        if page.remaining == 0 || last.is_none() {
            let (out, count) = writer.finish()?;
            return Ok((out, page.revision, count));
        }
        range = Range { after: last, at: Some(page.revision), ..range };
        page = store.range(range.clone()).await?;
    }
}

/// Fills a store with what a backup has, all of it above the backup's revision. The store must be as far as that, and
/// [`Embedded::begin_after`](crate::Embedded::begin_after) and [`Etcd::begin_after`](crate::Etcd::begin_after) make it so. The
/// caller has read the backup once before, to its end: a damaged one is not begun with.
///
/// # Errors
/// When a key is there already, the store fails or the backup is damaged.
pub async fn restore<R: Read>(store: &dyn Store, reader: &mut BackupReader<R>) -> Result<u64, BackupError> {
    let mut txn = Txn::default();
    let mut count = 0;
    loop {
        let next = reader.entry()?;
        let size = next.as_ref().map_or(0, |(key, value)| key.len() + value.len());
        // Keys are written, and expected: half of what a request may have is for the values.
        let full = txn.writes.len() == MAX_TXN_OPS || txn.bytes() + size > MAX_TXN_BYTES / 2;
        if !txn.writes.is_empty() && (full || next.is_none()) {
            match store.commit(std::mem::take(&mut txn)).await {
                Ok(_) => {}
                Err(crate::Error::Conflict { .. }) => return Err(BackupError::NotEmpty),
                Err(error) => return Err(error.into()),
            }
        }
        let Some((key, value)) = next else { return Ok(count) };
        txn.expect.push((key.clone(), Expect::Absent));
        txn.writes.push(crate::Write::Put(key, value));
        count += 1;
    }
}
