//! What is on the disk.
//!
//! `log`: revision and position within the transaction, both big-endian, so that rows are appended in order and read back
//! in order; to the revision that created the key (0: this row deletes it), the key's length, the key and the value.
//! `meta`: `oldest`, the revision up to which history has been forgotten.

use bytes::{BufMut, Bytes};
use disk::Table;

use super::Version;
use crate::Revision;

pub(super) const LOG: Table = Table::new("log");
pub(super) const META: Table = Table::new("meta");
pub(super) const OLDEST: &[u8] = b"oldest";

const HEADER: usize = 12;

/// A row of the log.
pub(super) struct Row<'a> {
    pub(super) version: Version,
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
}

/// Where a version is in the log.
pub(super) fn address(revision: Revision, position: u32) -> Bytes {
    Bytes::copy_from_slice(&address_of(Version { revision, position, created: 0 }))
}

/// The same without a place on the heap.
pub(super) fn address_of(version: Version) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    let (revision, position) = bytes.split_at_mut(8);
    revision.copy_from_slice(&version.revision.to_be_bytes());
    position.copy_from_slice(&version.position.to_be_bytes());
    bytes
}

/// A row's value; `None` deletes the key.
pub(super) fn encode(created: Revision, key: &[u8], value: Option<&[u8]>) -> Bytes {
    let value = value.unwrap_or_default();
    let mut bytes = Vec::with_capacity(HEADER + key.len() + value.len());
    bytes.put_u64(created);
    // A transaction's size is bounded far below this.
    bytes.put_u32(u32::try_from(key.len()).unwrap_or(u32::MAX));
    bytes.put_slice(key);
    bytes.put_slice(value);
    bytes.into()
}

/// A row, if it is one.
pub(super) fn decode<'a>(at: &[u8], row: &'a [u8]) -> Option<Row<'a>> {
    let (revision, position) = at.split_first_chunk::<8>()?;
    let (created, rest) = row.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (key, value) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    let version = Version {
        revision: Revision::from_be_bytes(*revision),
        position: u32::from_be_bytes(position.try_into().ok()?),
        created: Revision::from_be_bytes(*created),
    };
    Some(Row { version, key, value })
}

/// A revision on its own.
pub(super) fn revision(bytes: &[u8]) -> Option<Revision> {
    Some(Revision::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were_and_damage_is_seen() {
        let (at, row) = (address(7, 3), encode(5, b"key", Some(b"value")));
        let back = decode(&at, &row).unwrap();
        assert_eq!((back.version.revision, back.version.position, back.version.created), (7, 3, 5));
        assert_eq!((back.key, back.value), (&b"key"[..], &b"value"[..]));
        assert!(decode(&at[1..], &row).is_none());
        assert!(decode(&at, &row[..14]).is_none());
        assert!(decode(&at, b"").is_none());
    }

    #[test]
    fn addresses_sort_as_history_does() {
        assert!(address(1, u32::MAX) < address(2, 0));
        assert!(address(255, 0) < address(256, 0));
    }
}
