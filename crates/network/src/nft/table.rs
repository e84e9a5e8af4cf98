//! A table as it should be, and the transaction that makes it so.

use std::collections::BTreeMap;

use super::Family;
use super::batch::Batch;
use crate::Result;

/// Everything in a table of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) family: Family,
    pub(crate) name: String,
    pub(crate) chains: BTreeMap<String, Chain>,
    pub(crate) sets: BTreeMap<String, Set>,
}

/// Rules that are tried in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    /// Where packets enter it; `None` for a chain that others send packets to.
    pub(crate) hook: Option<Hook>,
    /// Each the bytes of its expressions.
    pub(crate) rules: Vec<Vec<u8>>,
}

/// Where packets enter a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hook {
    /// `nat` or `filter`.
    pub(crate) kind: &'static str,
    pub(crate) point: Point,
    /// Lower ones come first; address translation to destinations is at -100, of sources at 100.
    pub(crate) priority: i32,
}

/// A packet's stations in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    Prerouting = 0,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// Keys, with or without values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Set {
    /// What the `nft` program calls the key's type; the kernel does not care.
    pub(crate) kind: u32,
    /// Bytes of a key.
    pub(crate) key: u32,
    /// Bytes of a value; 0 where there is none, or a verdict.
    pub(crate) data: u32,
    /// Whether the values are verdicts.
    pub(crate) verdicts: bool,
    /// How many elements packets may add to it, for a time. Such a set has no others.
    pub(crate) dynamic: Option<u32>,
    pub(crate) elements: BTreeMap<Vec<u8>, Value>,
}

/// What a set knows of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// That it is there.
    Member,
    Verdict(Verdict),
    Bytes(Vec<u8>),
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Passes this chain's hook; those after it still see the packet.
    Accept,
    /// Vanishes.
    Drop,
    /// Goes through a chain and comes back.
    Jump(String),
    /// Goes to a chain for good.
    Goto(String),
}

impl Set {
    /// `NFT_SET_*`: map 8, timeout 16, changed by packets 32.
    pub(crate) fn flags(&self) -> u32 {
        let map = if self.verdicts || self.data > 0 { 8 } else { 0 };
        map | if self.dynamic.is_some() { 16 | 32 } else { 0 }
    }

    /// The same without its elements: what cannot be changed once it is made.
    fn shape(&self) -> Self {
        Self { elements: BTreeMap::new(), ..self.clone() }
    }
}

impl Table {
    pub(crate) fn new(family: Family, name: &str) -> Self {
        Self { family, name: name.to_owned(), chains: BTreeMap::new(), sets: BTreeMap::new() }
    }

    /// Puts an element into a set that is there.
    pub(crate) fn insert(&mut self, set: &str, key: Vec<u8>, value: Value) {
        if let Some(set) = self.sets.get_mut(set) {
            set.elements.insert(key, value);
        }
    }

    /// Adds a chain.
    pub(crate) fn chain(&mut self, name: impl Into<String>, hook: Option<Hook>, rules: Vec<Vec<u8>>) {
        self.chains.insert(name.into(), Chain { hook, rules });
    }

    /// Makes the kernel's table this one. `before` is what is there; `None` where nobody knows, which makes it anew.
    pub(crate) fn install(&self, before: Option<&Self>, what: &str) -> Result<()> {
        let alike = before.filter(|before| self.can_grow_from(before));
        let mut batch = Batch::new(self.family, &self.name);
        let nothing = Self::new(self.family, &self.name);
        if alike.is_none() {
            // Making it first, so that deleting it cannot fail.
            batch.add_table();
            batch.delete_table();
            batch.add_table();
        }
        self.differences(alike.unwrap_or(&nothing), &mut batch);
        if batch.is_empty() { Ok(()) } else { batch.commit(what) }
    }

    /// Whether what both have differs only in rules and elements.
    fn can_grow_from(&self, before: &Self) -> bool {
        let sets = self
            .sets
            .iter()
            .all(|(name, set)| before.sets.get(name).is_none_or(|b| b.shape() == set.shape()));
        let chains =
            self.chains.iter().all(|(name, c)| before.chains.get(name).is_none_or(|b| b.hook == c.hook));
        sets && chains
    }

    /// In an order in which nothing is used before it is made, or removed while it is used.
    fn differences(&self, before: &Self, batch: &mut Batch) {
        for (name, set) in self.sets.iter().filter(|(name, _)| !before.sets.contains_key(*name)) {
            batch.add_set(name, set);
        }
        for (name, chain) in self.chains.iter().filter(|(name, _)| !before.chains.contains_key(*name)) {
            batch.add_chain(name, chain);
        }
        for (name, chain) in &self.chains {
            let old = before.chains.get(name);
            if old.is_some_and(|old| old.rules == chain.rules) {
                continue;
            }
            if old.is_some_and(|old| !old.rules.is_empty()) {
                batch.empty_chain(name);
            }
            batch.add_rules(name, &chain.rules);
        }
        for (name, set) in &self.sets {
            let none = BTreeMap::new();
            let old = before.sets.get(name).map_or(&none, |old| &old.elements);
            let gone = old.iter().filter(|(key, value)| set.elements.get(*key) != Some(value));
            batch.delete_elements(name, gone.map(|(key, _)| key));
            batch.add_elements(name, set.elements.iter().filter(|(key, value)| old.get(*key) != Some(value)));
        }
        self.removals(before, batch);
    }

    fn removals(&self, before: &Self, batch: &mut Batch) {
        let chains: Vec<_> =
            before.chains.iter().filter(|(name, _)| !self.chains.contains_key(*name)).collect();
        // They may send packets to one another.
        for (name, _) in chains.iter().filter(|(_, chain)| !chain.rules.is_empty()) {
            batch.empty_chain(name);
        }
        for (name, set) in before.sets.iter().filter(|(name, _)| !self.sets.contains_key(*name)) {
            batch.delete_elements(name, set.elements.keys());
            batch.delete_set(name);
        }
        for (name, _) in chains {
            batch.delete_chain(name);
        }
    }
}
