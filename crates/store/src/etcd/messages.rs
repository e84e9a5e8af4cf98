//! etcd's messages, version 3, as far as they are needed: the names and numbers of their fields are etcd's.

use bytes::Bytes;

use super::wire::{Fields, Malformed, Value, Writer};
use crate::{Expect, Revision, Txn, Write};

/// Methods, as they are called.
pub(super) const RANGE: &str = "/etcdserverpb.KV/Range";
pub(super) const TXN: &str = "/etcdserverpb.KV/Txn";
pub(super) const COMPACT: &str = "/etcdserverpb.KV/Compact";
pub(super) const STATUS: &str = "/etcdserverpb.Maintenance/Status";
pub(super) const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// Results that a comparison asks for.
const EQUAL: u64 = 0;
const LESS: u64 = 2;
/// What it compares.
const VERSION: u64 = 0;
const MOD_REVISION: u64 = 2;

/// What a range request asks for.
#[derive(Clone, Debug, Default)]
pub(super) struct RangeOf {
    pub(super) key: Bytes,
    /// Behind the last key; empty: `key` alone.
    pub(super) end: Bytes,
    /// 0: all.
    pub(super) limit: u64,
    /// 0: the head.
    pub(super) revision: Revision,
    pub(super) count_only: bool,
}

impl RangeOf {
    pub(super) fn encode(&self) -> Writer {
        let (key, end) = (&self.key, &self.end);
        let request = Writer::default().bytes(1, key).bytes(2, end).number(3, self.limit);
        request.number(4, self.revision).flag(9, self.count_only)
    }
}

/// The first key that does not start with the prefix and comes behind all that do; a zero byte says that there is none.
pub(super) fn end_of(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end.into();
        }
    }
    vec![0].into()
}

/// The transaction as etcd's: its writes if all expectations hold, else what the expected keys hold instead. `revision` says
/// what etcd calls a revision of ours, 0 if it knows none such.
pub(super) fn txn(prefix: &[u8], txn: &Txn, revision: impl Fn(Revision) -> Revision) -> Vec<u8> {
    let whole = |key: &[u8]| [prefix, key].concat();
    let mut request = Writer::default();
    for (key, expect) in &txn.expect {
        let compare = match expect {
            // A key that is not there has the revision 0.
            Expect::Absent => Writer::default().number(1, EQUAL).number(2, MOD_REVISION),
            Expect::ModRevision(wanted) => match revision(*wanted) {
                // No key has that revision, and no version is less than 0.
                0 => Writer::default().number(1, LESS).number(2, VERSION),
                wanted => Writer::default().number(1, EQUAL).number(2, MOD_REVISION).number(6, wanted),
            },
        };
        request = request.message(1, compare.bytes(3, &whole(key)));
    }
    for write in &txn.writes {
        let operation = match write {
            Write::Put(key, value) => {
                Writer::default().message(2, Writer::default().bytes(1, &whole(key)).bytes(2, value))
            }
            Write::Delete(key) => Writer::default().message(3, Writer::default().bytes(1, &whole(key))),
        };
        request = request.message(2, operation);
    }
    for (key, _) in &txn.expect {
        let range = RangeOf { key: whole(key).into(), ..RangeOf::default() };
        request = request.message(3, Writer::default().message(1, range.encode()));
    }
    request.finish()
}

/// Asks for what changes from a revision on, with what was there before.
pub(super) fn watch(key: &[u8], end: &[u8], from: Revision) -> Vec<u8> {
    let create = Writer::default().bytes(1, key).bytes(2, end).number(3, from);
    // Told of progress now and then, with previous values, and in pieces of bounded size.
    let create = create.flag(4, true).flag(6, true).flag(8, true);
    Writer::default().message(1, create).finish()
}

/// Asks on a watch's stream how far it is.
pub(super) fn progress() -> Vec<u8> {
    Writer::default().message(3, Writer::default()).finish()
}

/// Asks to forget what was before.
pub(super) fn compact(revision: Revision) -> Vec<u8> {
    Writer::default().number(1, revision).finish()
}

/// A key and what it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KeyValue {
    pub(super) key: Bytes,
    pub(super) create_revision: Revision,
    pub(super) mod_revision: Revision,
    /// How many values it has had, this one included.
    pub(super) version: u64,
    pub(super) value: Bytes,
}

impl KeyValue {
    fn decode(message: Bytes) -> Result<Self, Malformed> {
        let (mut fields, mut read) = (Fields::of(message), Self::default());
        while let Some((field, value)) = fields.next()? {
            match field {
                1 => read.key = value.bytes()?,
                2 => read.create_revision = value.number()?,
                3 => read.mod_revision = value.number()?,
                4 => read.version = value.number()?,
                5 => read.value = value.bytes()?,
                _ => {}
            }
        }
        Ok(read)
    }
}

/// The revision in a response's header.
fn header(value: Value) -> Result<Revision, Malformed> {
    let (mut fields, mut revision) = (Fields::of(value.bytes()?), 0);
    while let Some((field, value)) = fields.next()? {
        if field == 3 {
            revision = value.number()?;
        }
    }
    Ok(revision)
}

/// What a range request found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The store's head.
    pub(super) revision: Revision,
    pub(super) entries: Vec<KeyValue>,
    /// How many keys the whole range has.
    pub(super) count: u64,
}

impl Found {
    pub(super) fn decode(message: Bytes) -> Result<Self, Malformed> {
        let (mut fields, mut read) = (Fields::of(message), Self::default());
        while let Some((field, value)) = fields.next()? {
            match field {
                1 => read.revision = header(value)?,
                2 => read.entries.push(KeyValue::decode(value.bytes()?)?),
                4 => read.count = value.number()?,
                _ => {}
            }
        }
        Ok(read)
    }
}

/// What became of a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// The store's head after it: its own revision if it changed something.
    pub(super) revision: Revision,
    pub(super) succeeded: bool,
    pub(super) changed: bool,
    /// Where it did not succeed: what the expected keys hold, in order.
    pub(super) found: Vec<Option<KeyValue>>,
}

impl Done {
    pub(super) fn decode(message: Bytes) -> Result<Self, Malformed> {
        let (mut fields, mut read) = (Fields::of(message), Self::default());
        while let Some((field, value)) = fields.next()? {
            match field {
                1 => read.revision = header(value)?,
                2 => read.succeeded = value.number()? != 0,
                3 => read.operation(value.bytes()?)?,
                _ => {}
            }
        }
        Ok(read)
    }

    fn operation(&mut self, message: Bytes) -> Result<(), Malformed> {
        let mut fields = Fields::of(message);
        while let Some((field, value)) = fields.next()? {
            match field {
                1 => self.found.push(Found::decode(value.bytes()?)?.entries.pop()),
                2 => self.changed = true,
                3 => self.changed |= deleted(value.bytes()?)? > 0,
                _ => {}
            }
        }
        Ok(())
    }
}

fn deleted(message: Bytes) -> Result<u64, Malformed> {
    let (mut fields, mut deleted) = (Fields::of(message), 0);
    while let Some((field, value)) = fields.next()? {
        if field == 2 {
            deleted = value.number()?;
        }
    }
    Ok(deleted)
}

/// What a member says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) version: String,
    /// 0: it knows of no leader.
    pub(super) leader: u64,
    /// Alarms, in words.
    pub(super) errors: Vec<String>,
}

impl Member {
    pub(super) fn decode(message: Bytes) -> Result<Self, Malformed> {
        let (mut fields, mut read) = (Fields::of(message), Self::default());
        while let Some((field, value)) = fields.next()? {
            match field {
                2 => read.version = value.text()?,
                4 => read.leader = value.number()?,
                8 => read.errors.push(value.text()?),
                _ => {}
            }
        }
        Ok(read)
    }

    /// Whether its answer on a watch's stream to how far it is comes behind all events up to there. Older ones may overtake
    /// them (etcd's issue 15220).
    pub(super) fn tells_progress(&self) -> bool {
        match self.release() {
            (3, 4, patch) => patch >= 25,
            (3, 5, patch) => patch >= 8,
            (major, minor, _) => (major, minor) >= (3, 6),
        }
    }

    /// Whether it may forget what it acknowledged when it is killed under load, as 3.5.0 to 3.5.2 do (etcd's issue 13766).
    pub(super) fn forgets(&self) -> bool {
        matches!(self.release(), (3, 5, 0..=2))
    }

    /// Its version in numbers; 0 for what is none.
    fn release(&self) -> (u32, u32, u32) {
        let mut numbers = self.version.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        (next(), next(), next())
    }
}

/// A change that a watch tells of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) deleted: bool,
    pub(super) now: KeyValue,
    pub(super) before: Option<KeyValue>,
}

impl Changed {
    fn decode(message: Bytes) -> Result<Self, Malformed> {
        let (mut fields, mut read) = (Fields::of(message), Self::default());
        while let Some((field, value)) = fields.next()? {
            match field {
                1 => read.deleted = value.number()? == 1,
                2 => read.now = KeyValue::decode(value.bytes()?)?,
                3 => read.before = Some(KeyValue::decode(value.bytes()?)?),
                _ => {}
            }
        }
        Ok(read)
    }
}

/// One message of a watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// How far the watch is, where it tells of no events.
    pub(super) revision: Revision,
    pub(super) created: bool,
    pub(super) canceled: bool,
    /// It was cancelled because history from before this revision is gone.
    pub(super) compacted: Revision,
    pub(super) reason: String,
    /// More of the same revision may follow.
    pub(super) fragment: bool,
    pub(super) events: Vec<Changed>,
}

impl Told {
    pub(super) fn decode(message: Bytes) -> Result<Self, Malformed> {
        let (mut fields, mut read) = (Fields::of(message), Self::default());
        while let Some((field, value)) = fields.next()? {
            match field {
                1 => read.revision = header(value)?,
                3 => read.created = value.number()? != 0,
                4 => read.canceled = value.number()? != 0,
                5 => read.compacted = value.number()?,
                6 => read.reason = value.text()?,
                7 => read.fragment = value.number()? != 0,
                11 => read.events.push(Changed::decode(value.bytes()?)?),
                _ => {}
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_the_next_one_begins() {
        for (prefix, end) in
            [(&b"/a/"[..], &b"/a0"[..]), (b"a\xff", b"b"), (b"\xff\xff", b"\0"), (b"", b"\0")]
        {
            assert_eq!(end_of(prefix), end, "{prefix:?}");
        }
    }

    #[test]
    fn members_are_believed_from_the_release_on_that_mended_it() {
        let tells = |version: &str| Member { version: version.into(), ..Member::default() }.tells_progress();
        assert!(["3.4.25", "3.5.8", "3.5.21", "3.6.0", "3.6.0-rc.1", "4.0.0"].iter().all(|v| tells(v)));
        assert!(!["3.3.27", "3.4.24", "3.5.1", "3.5.7", "", "x"].iter().any(|v| tells(v)));
    }

    #[test]
    fn releases_that_forget_are_known() {
        let forgets = |version: &str| Member { version: version.into(), ..Member::default() }.forgets();
        assert!(["3.5.0", "3.5.1", "3.5.2", "3.5.0-rc.1"].iter().all(|v| forgets(v)));
        assert!(!["3.4.23", "3.5.3", "3.5.21", "3.6.0", "", "x"].iter().any(|v| forgets(v)));
    }

    #[test]
    fn damage_is_seen() {
        for noise in
            [&b"\x0a"[..], b"\x0a\x05\x08", b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x0b"]
        {
            let noise = Bytes::from_static(noise);
            assert!(Found::decode(noise.clone()).is_err());
            assert!(Done::decode(noise.clone()).is_err());
            assert!(Told::decode(noise.clone()).is_err());
            assert!(Member::decode(noise).is_err());
        }
    }
}
