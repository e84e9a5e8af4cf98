//! Reading.

use bytes::Bytes;
use disk::Snapshot;

use super::{Inner, Version, row, unavailable};
use crate::{Entry, Error, Page, Range, Revision};

impl Inner {
    pub(super) fn get(&self, key: &Bytes, at: Option<Revision>) -> Result<Option<Entry>, Error> {
        let (version, snapshot) = {
            let state = self.state();
            let at = state.readable(at)?;
            let Some(version) = state.index.at(key, at) else { return Ok(None) };
            // Taken under the lock: what the index knows, the snapshot holds, whatever is compacted meanwhile.
            (version, self.disk.snapshot().map_err(unavailable)?)
        };
        entry(&*snapshot, key.clone(), version).map(Some)
    }

    pub(super) fn range(&self, range: &Range) -> Result<Page, Error> {
        let (found, remaining, revision, snapshot) = {
            let state = self.state();
            let revision = state.readable(range.at)?;
            let limit = if range.limit == 0 { usize::MAX } else { range.limit };
            let mut keys = state.index.range(&range.prefix, range.after.as_deref(), revision);
            let found: Vec<_> =
                keys.by_ref().take(limit).map(|(key, version)| (key.clone(), version)).collect();
            let remaining = keys.count() as u64;
            (found, remaining, revision, self.disk.snapshot().map_err(unavailable)?)
        };
        let entries = found
            .into_iter()
            .map(|(key, version)| entry(&*snapshot, key, version))
            .collect::<Result<_, _>>()?;
        Ok(Page { entries, revision, remaining })
    }
}

fn entry(snapshot: &dyn Snapshot, key: Bytes, version: Version) -> Result<Entry, Error> {
    let value = value(snapshot, version)?;
    Ok(Entry { key, value, create_revision: version.created, mod_revision: version.revision })
}

/// The value of a version that the index knows.
pub(super) fn value(snapshot: &dyn Snapshot, version: Version) -> Result<Bytes, Error> {
    let at = row::address(version.revision, version.position);
    let bytes = snapshot.get(row::LOG, &at).map_err(unavailable)?;
    let damaged =
        || unavailable(format_args!("the log lacks revision {}, which its index names", version.revision));
    let bytes = bytes.ok_or_else(damaged)?;
    let length = row::decode(&at, &bytes).ok_or_else(damaged)?.value.len();
    Ok(bytes.slice(bytes.len() - length..))
}
