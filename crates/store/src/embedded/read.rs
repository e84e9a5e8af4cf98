//! Reading.

use bytes::Bytes;
use disk::Snapshot;

use super::{Inner, State, Version, row, unavailable};
use crate::{Entry, Error, Page, Range, Revision};

impl Inner {
    pub(super) fn get(&self, key: &Bytes, at: Option<Revision>) -> Result<Option<Entry>, Error> {
        let (version, snapshot) = self.look(at, |state, revision| state.index.at(key, revision))?;
        version.map(|version| entry(&*snapshot, key.clone(), version)).transpose()
    }

    pub(super) fn range(&self, range: &Range) -> Result<Page, Error> {
        let ((found, remaining, revision), snapshot) = self.look(range.at, |state, revision| {
            let limit = if range.limit == 0 { usize::MAX } else { range.limit };
            let mut keys = state.index.range(&range.prefix, range.after.as_deref(), revision);
            let found: Vec<_> =
                keys.by_ref().take(limit).map(|(key, version)| (key.clone(), version)).collect();
            (found, keys.count() as u64, revision)
        })?;
        let entries = found
            .into_iter()
            .map(|(key, version)| entry(&*snapshot, key, version))
            .collect::<Result<_, _>>()?;
        Ok(Page { entries, revision, remaining })
    }

    /// Looks into the index as of a revision, with a snapshot that holds whatever the index then names.
    ///
    /// The snapshot may wait for the disk, and so is taken without the lock: after the revision was chosen, so that it has all
    /// that the index has up to there, and before the index is looked into, which forgets before the disk does.
    pub(super) fn look<T>(
        &self,
        at: Option<Revision>,
        look: impl Fn(&State, Revision) -> T,
    ) -> Result<(T, Box<dyn Snapshot>), Error> {
        loop {
            let revision = self.state().readable(at)?;
            let snapshot = self.disk.snapshot().map_err(unavailable)?;
            let state = self.state();
            match state.readable(Some(revision)) {
                // The head that was chosen has been compacted away: there is a later one.
                Err(Error::Compacted { .. }) if at.is_none() => {}
                readable => return Ok((look(&state, readable?), snapshot)),
            }
        }
    }
}

fn entry(snapshot: &dyn Snapshot, key: Bytes, version: Version) -> Result<Entry, Error> {
    let value = value(snapshot, version)?;
    Ok(Entry { key, value, create_revision: version.created, mod_revision: version.revision })
}

/// The file is damaged.
pub(super) fn lacks(version: Version) -> Error {
    unavailable(format_args!("the log lacks revision {}, which its index names", version.revision))
}

/// The value of a version that the index knows.
pub(super) fn value(snapshot: &dyn Snapshot, version: Version) -> Result<Bytes, Error> {
    let at = row::address(version.revision, version.position);
    let bytes = snapshot.get(row::LOG, &at).map_err(unavailable)?;
    let bytes = bytes.ok_or_else(|| lacks(version))?;
    let length = row::decode(&at, &bytes).ok_or_else(|| lacks(version))?.value.len();
    Ok(bytes.slice(bytes.len() - length..))
}
