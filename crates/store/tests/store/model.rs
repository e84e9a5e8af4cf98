//! The executable specification: a store as simple as it can be written, with nothing concurrent, durable or fast in it.

use std::collections::BTreeMap;

use bytes::Bytes;
use store::{Entry, Error, Event, Page, Range, Revision, Txn, Write};

/// All that ever happened: the whole state at each revision. The first is revision 0.
#[derive(Debug)]
pub struct Model {
    states: Vec<BTreeMap<Bytes, Entry>>,
    oldest: Revision,
}

impl Default for Model {
    fn default() -> Self {
        Self { states: vec![BTreeMap::new()], oldest: 0 }
    }
}

impl Model {
    pub fn head(&self) -> Revision {
        self.states.len() as Revision - 1
    }

    fn now(&self) -> &BTreeMap<Bytes, Entry> {
        self.states.last().unwrap()
    }

    pub fn commit(&mut self, txn: &Txn) -> Result<Revision, Error> {
        txn.check()?;
        for (key, expect) in &txn.expect {
            let current = self.now().get(key);
            if !expect.holds(current.map(|entry| entry.mod_revision)) {
                return Err(Error::Conflict { key: key.clone(), current: current.cloned().map(Box::new) });
            }
        }
        let (mut next, revision, mut changed) = (self.now().clone(), self.head() + 1, false);
        for write in &txn.writes {
            match write {
                Write::Put(key, value) => {
                    let created = next.get(key).map_or(revision, |entry| entry.create_revision);
                    let (key, value) = (key.clone(), value.clone());
                    let entry =
                        Entry { key: key.clone(), value, create_revision: created, mod_revision: revision };
                    next.insert(key, entry);
                    changed = true;
                }
                Write::Delete(key) => changed |= next.remove(key).is_some(),
            }
        }
        if changed {
            self.states.push(next);
        }
        Ok(self.head())
    }

    fn at(&self, at: Option<Revision>) -> Result<&BTreeMap<Bytes, Entry>, Error> {
        let requested = at.unwrap_or(self.head());
        if requested > self.head() {
            return Err(Error::Future { requested, current: self.head() });
        }
        if requested < self.oldest {
            return Err(Error::Compacted { requested, oldest: self.oldest });
        }
        Ok(&self.states[requested as usize])
    }

    pub fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Entry>, Error> {
        Ok(self.at(at)?.get(key).cloned())
    }

    pub fn range(&self, range: &Range) -> Result<Page, Error> {
        let state = self.at(range.at)?;
        let mut entries: Vec<Entry> = state
            .values()
            .filter(|entry| entry.key.starts_with(&range.prefix))
            .filter(|entry| range.after.as_ref().is_none_or(|after| entry.key > after))
            .cloned()
            .collect();
        let rest =
            if range.limit == 0 { Vec::new() } else { entries.split_off(range.limit.min(entries.len())) };
        Ok(Page { entries, revision: range.at.unwrap_or(self.head()), remaining: rest.len() as u64 })
    }

    /// What a watch begun now would be told at once. Events of one revision are in no particular order.
    pub fn history(&self, prefix: &[u8], after: Revision) -> Result<Vec<Event>, Error> {
        self.at(Some(after))?;
        let mut events = Vec::new();
        for revision in after + 1..=self.head() {
            let (before, now) = (&self.states[revision as usize - 1], &self.states[revision as usize]);
            let keys: std::collections::BTreeSet<_> = before.keys().chain(now.keys()).collect();
            for key in keys.into_iter().filter(|key| key.starts_with(prefix)) {
                let (previous, entry) = (before.get(key).cloned(), now.get(key).cloned());
                if previous != entry {
                    events.push(Event { key: key.clone(), revision, entry, previous });
                }
            }
        }
        Ok(events)
    }

    pub fn compact(&mut self, revision: Revision) -> Result<(), Error> {
        if revision > self.head() {
            return Err(Error::Future { requested: revision, current: self.head() });
        }
        self.oldest = self.oldest.max(revision);
        Ok(())
    }
}
