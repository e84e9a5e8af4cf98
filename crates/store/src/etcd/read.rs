//! Reading.

use std::sync::Arc;

use bytes::Bytes;
use clock::Tasks;
use tokio::time::Instant;

use super::channel::Repeat;
use super::messages::{Found, RANGE, RangeOf, end_of};
use super::requests::Operation;
use super::stream::Failure;
use super::{Inner, is_compacted, is_future, read_failed, unavailable};
use crate::{Entry, Error, Page, Range, Revision, Scan};

/// What tells the [`offset`](Inner::offset).
pub(super) const OFFSET: &[u8] = b".offset";
/// Entries that are asked for at first, and at most. Between them the number follows the entries' size.
const FIRST: u64 = 100;
const MOST: u64 = 5000;
/// Bytes that a piece of a range is meant to have.
const PIECE: u64 = 4 << 20;

/// Entries of a scan that are asked for at a time, and how many such batches wait for whoever reads.
const BATCH: usize = 250;
const AHEAD: usize = 2;

/// Reads a range in pieces, all of the revision of the first.
pub(super) async fn scan(inner: &Arc<Inner>, tasks: &Tasks, prefix: Bytes) -> Result<Scan, Error> {
    let mut range = Range { prefix, limit: BATCH, ..Range::default() };
    let mut page = inner.range(range.clone()).await?;
    range.at = Some(page.revision);
    let (sender, scan) = Scan::channel(page.revision, AHEAD);
    let inner = inner.clone();
    tasks.spawn("scan", async move {
        loop {
            range.after = page.entries.last().map(|last| last.key.clone());
            let is_last = page.remaining == 0 || page.entries.is_empty();
            if sender.send(Ok(Some(page.entries))).await.is_err() {
                return;
            }
            if is_last {
                // Whoever has let go of it does not want to know.
                let _ = sender.send(Ok(None)).await;
                return;
            }
            page = match inner.range(range.clone()).await {
                Ok(page) => page,
                Err(error) => {
                    let _ = sender.send(Err(error)).await;
                    return;
                }
            };
        }
    });
    Ok(scan)
}

impl Inner {
    pub(super) async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Entry>, Error> {
        let range = RangeOf { key: self.key(key), ..RangeOf::default() };
        let mut found = self.read(range, at).await?;
        Ok(found.entries.pop().and_then(|stored| self.entry(stored)))
    }

    pub(super) async fn range(&self, range: Range) -> Result<Page, Error> {
        let end = end_of(&self.key(&range.prefix));
        let mut key = self.key(&range.prefix);
        if let Some(after) = &range.after {
            key = key.max(behind(&self.key(after)));
        }
        let (mut at, mut entries, mut step) = (range.at, Vec::new(), FIRST);
        loop {
            let wanted = (range.limit as u64).saturating_sub(entries.len() as u64);
            let limit = if range.limit == 0 { step } else { step.min(wanted) };
            let piece = RangeOf { key: key.clone(), end: end.clone(), limit, ..RangeOf::default() };
            let found = match self.try_read(&piece, at).await? {
                Ok(found) => found,
                // Far larger entries than the ones before.
                Err(Failure::TooLong(_)) if limit > 1 => {
                    step = limit / 2;
                    continue;
                }
                Err(failure) => return Err(read_failed(failure)),
            };
            // Later pieces show what the first did.
            let revision = at.unwrap_or_else(|| self.ours(found.revision));
            at = Some(revision);
            let (count, pieces) = (found.entries.len() as u64, found.count);
            let bytes: u64 = found.entries.iter().map(|stored| stored.value.len() as u64).sum();
            if let Some(last) = found.entries.last() {
                key = behind(&last.key);
            }
            entries.extend(found.entries.into_iter().filter_map(|stored| self.entry(stored)));
            let (remaining, full) = (pieces.saturating_sub(count), entries.len() == range.limit);
            if remaining == 0 || count == 0 || full {
                return Ok(Page { entries, revision, remaining });
            }
            step = (PIECE * count / bytes.max(1)).clamp(1, (step * 4).min(MOST));
        }
    }

    async fn read(&self, range: RangeOf, at: Option<Revision>) -> Result<Found, Error> {
        self.try_read(&range, at).await?.map_err(read_failed)
    }

    /// A range as of a revision. What is wrong with the revision is told in the seam's words.
    async fn try_read(&self, range: &RangeOf, at: Option<Revision>) -> Result<Result<Found, Failure>, Error> {
        let revision = match at {
            None => 0,
            Some(at) => match self.theirs(at) {
                Some(theirs) => theirs,
                None => return Err(self.compacted(at).await),
            },
        };
        match (self.ask(RangeOf { revision, ..range.clone() }).await, at) {
            (Err(failure), Some(at)) if is_compacted(&failure) => Err(self.compacted(at).await),
            (Err(failure), Some(at)) if is_future(&failure) => Err(self.future(at).await),
            (answered, _) => Ok(answered),
        }
    }

    async fn ask(&self, range: RangeOf) -> Result<Found, Failure> {
        let began = Instant::now();
        let answer = self.channel.call(RANGE, &range.encode().finish(), Repeat::Always).await;
        if let Some(requests) = &self.requests {
            let operation = if range.end.is_empty() { Operation::Get } else { Operation::List };
            requests.note(operation, range.key.get(self.prefix.len()..).unwrap_or_default(), began);
        }
        Ok(Found::decode(answer?)?)
    }

    /// Asks for nothing: what matters is what the answer says beside it.
    fn nothing(&self) -> RangeOf {
        RangeOf { key: self.offset_key(), count_only: true, ..RangeOf::default() }
    }

    pub(super) async fn read_head(&self) -> Result<Revision, Error> {
        self.ask(self.nothing()).await.map(|found| self.ours(found.revision)).map_err(read_failed)
    }

    /// Whether the store can be read, and so watched, as of the revision.
    pub(super) async fn readable(&self, at: Revision) -> Result<(), Error> {
        self.read(self.nothing(), Some(at)).await.map(|_| ())
    }

    pub(super) async fn future(&self, requested: Revision) -> Error {
        match self.read_head().await {
            Ok(current) => Error::Future { requested, current },
            Err(error) => error,
        }
    }

    /// Etcd tells where history begins only to who asks for a watch from before.
    pub(super) async fn compacted(&self, requested: Revision) -> Error {
        if self.theirs(requested).is_none() {
            return Error::Compacted { requested, oldest: self.offset + 1 };
        }
        match self.oldest().await {
            Ok(oldest) => Error::Compacted { requested, oldest: self.ours(oldest) },
            Err(failure) => read_failed(failure),
        }
    }

    /// Where the key lies that tells the [`offset`](Inner::offset): beside ours, which begin with a slash.
    pub(super) fn offset_key(&self) -> Bytes {
        self.key(OFFSET)
    }

    pub(super) async fn read_offset(&self) -> Result<Revision, Error> {
        let range = RangeOf { key: self.offset_key(), ..RangeOf::default() };
        let Some(stored) = self.read(range, None).await?.entries.pop() else { return Ok(0) };
        let text = String::from_utf8_lossy(&stored.value).into_owned();
        text.parse().map_err(|_| {
            unavailable(format_args!("etcd's key {} is not a number", String::from_utf8_lossy(&stored.key)))
        })
    }
}

/// The next key there could be.
fn behind(key: &[u8]) -> Bytes {
    [key, b"\0"].concat().into()
}
