//! A write by one manager, and what it makes of who owns what.

use serde_json::Value;

use super::compare::{Comparison, compare};
use super::entry::{self, Entry, Operation};
use super::fields::reconcile;
use super::place::Place;
use super::set::Set;

/// What a write cannot change, whatever it says: nobody comes to own it by that.
#[derive(Clone, Copy, Debug, Default)]
pub enum Reset {
    /// It can change everything.
    #[default]
    Nothing,
    /// It cannot change these top-level fields.
    Fields(&'static [&'static str]),
    /// It can only change what is below these paths of field names; `*` stands for any item.
    AllBut(&'static [&'static [&'static str]]),
}

/// Who writes, what kind of object, when.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The kind's schema.
    pub place: Place<'a>,
    /// The manager's name.
    pub manager: &'a str,
    /// The version of the object as it is written.
    pub api_version: &'a str,
    /// The subresource that is written through, or empty.
    pub subresource: &'a str,
    /// What the write cannot change.
    pub reset: Reset,
    /// When.
    pub now: &'a str,
}

/// A change as it looks in another version of the object: what managers who wrote it in that version know of it.
#[derive(Clone, Copy, Debug)]
pub struct Elsewhere<'a> {
    /// The version.
    pub api_version: &'a str,
    /// The kind's schema there.
    pub place: Place<'a>,
    /// The object before (none: it is new).
    pub old: Option<&'a Value>,
    /// The object after.
    pub new: &'a Value,
}

/// What was taken and what was removed, as managers of each version see it.
pub(super) struct Seen<'a> {
    own: (Set, Set),
    others: Vec<(&'a str, (Set, Set))>,
}

impl Seen<'_> {
    pub(super) fn by(&self, entry: &Entry) -> &(Set, Set) {
        let other = self.others.iter().find(|(version, _)| *version == entry.api_version);
        other.map_or(&self.own, |(_, seen)| seen)
    }

    /// Takes it all away from this entry.
    pub(super) fn subtract_from(&self, entry: &mut Entry) {
        let (taken, removed) = self.by(entry);
        entry.fields.subtract(taken);
        entry.fields.subtract(removed);
    }
}

impl Reset {
    pub(super) fn filter(self, set: &mut Set) {
        match self {
            Self::Nothing => {}
            Self::Fields(names) => names.iter().for_each(|name| set.drop_field(name)),
            Self::AllBut(paths) => set.keep(paths),
        }
    }
}

impl Writer<'_> {
    pub(super) fn compare(&self, old: Option<&Value>, new: &Value) -> Comparison {
        let mut found = compare(self.place, old, new);
        for set in [&mut found.added, &mut found.modified, &mut found.removed] {
            self.reset.filter(set);
        }
        found
    }

    /// The same change in every version.
    pub(super) fn seen<'e>(&self, found: Comparison, others: &[Elsewhere<'e>]) -> Seen<'e> {
        let others = others.iter().map(|other| {
            let found = Writer { place: other.place, ..*self }.compare(other.old, other.new);
            (other.api_version, found.into_taken_and_removed())
        });
        Seen { own: found.into_taken_and_removed(), others: others.collect() }
    }

    /// The entry of this manager, owning nothing yet.
    pub(super) fn entry(&self, operation: Operation) -> Entry {
        Entry {
            manager: if self.manager.is_empty() { "unknown" } else { self.manager }.to_owned(),
            operation,
            api_version: self.api_version.to_owned(),
            subresource: self.subresource.to_owned(),
            time: None,
            fields: Set::default(),
        }
    }

    /// Brings entries in line with a custom kind's schema, which may have changed since they were written.
    pub(super) fn reconcile(&self, entries: &mut [Entry]) {
        if self.place.is_custom() {
            let own = entries.iter_mut().filter(|entry| entry.api_version == self.api_version);
            own.for_each(|entry| reconcile(self.place, &mut entry.fields));
        }
    }

    /// Who owns what after the object changed from `old` (none: it is new) to `new` by other means than an apply. `None` if
    /// nothing changed in that.
    pub fn update(
        &self,
        old: Option<&Value>,
        new: &Value,
        entries: impl FnOnce() -> Vec<Entry>,
    ) -> Option<Vec<Entry>> {
        self.update_among(old, new, entries, &[])
    }

    /// The same where some managers wrote the object in another version, and so own fields of that.
    pub fn update_among(
        &self,
        old: Option<&Value>,
        new: &Value,
        entries: impl FnOnce() -> Vec<Entry>,
        others: &[Elsewhere<'_>],
    ) -> Option<Vec<Entry>> {
        let found = self.compare(old, new);
        if found.is_empty() {
            return None;
        }
        let mut entries = entries();
        self.reconcile(&mut entries);
        let seen = self.seen(found, others);
        entries.iter_mut().for_each(|entry| seen.subtract_from(entry));
        let (taken, _) = seen.own;
        if !taken.is_empty() {
            let own = self.entry(Operation::Update);
            let at = entries.iter().position(|entry| entry.is_same_manager(&own));
            let at = at.unwrap_or_else(|| {
                entries.push(own);
                entries.len() - 1
            });
            if let Some(own) = entries.get_mut(at) {
                own.fields.join(taken);
                own.time = Some(self.now.to_owned());
            }
        }
        entries.retain(|entry| !entry.fields.is_empty());
        Some(entry::cap(entries))
    }
}
