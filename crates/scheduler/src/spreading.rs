//! How many pods of a group are where, so that they do not all end up in one place.

use std::collections::HashMap;

#[derive(Default)]
struct Counts {
    nodes: HashMap<usize, u32>,
    zones: HashMap<String, u32>,
}

/// Pods by group, node and zone.
#[derive(Default)]
pub(crate) struct Groups(HashMap<String, Counts>);

fn change<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, u32>, key: K, up: u32, down: u32) {
    let count = counts.get(&key).copied().unwrap_or(0).saturating_add(up).saturating_sub(down);
    if count == 0 {
        counts.remove(&key);
    } else {
        counts.insert(key, count);
    }
}

impl Groups {
    pub(crate) fn add(&mut self, group: &str, node: usize, zone: Option<&str>) {
        let counts = self.0.entry(group.to_owned()).or_default();
        change(&mut counts.nodes, node, 1, 0);
        if let Some(zone) = zone {
            change(&mut counts.zones, zone.to_owned(), 1, 0);
        }
    }

    pub(crate) fn remove(&mut self, group: &str, node: usize, zone: Option<&str>) {
        let Some(counts) = self.0.get_mut(group) else { return };
        change(&mut counts.nodes, node, 0, 1);
        if let Some(zone) = zone {
            change(&mut counts.zones, zone.to_owned(), 0, 1);
        }
        if counts.nodes.is_empty() {
            self.0.remove(group);
        }
    }

    /// A node went from one zone to another.
    pub(crate) fn rezone(&mut self, node: usize, from: Option<&str>, to: Option<&str>) {
        for counts in self.0.values_mut() {
            let Some(here) = counts.nodes.get(&node).copied() else { continue };
            if let Some(from) = from {
                change(&mut counts.zones, from.to_owned(), 0, here);
            }
            if let Some(to) = to {
                change(&mut counts.zones, to.to_owned(), here, 0);
            }
        }
    }

    /// A node has another number.
    pub(crate) fn renumber(&mut self, from: usize, to: usize) {
        for counts in self.0.values_mut() {
            if let Some(count) = counts.nodes.remove(&from) {
                counts.nodes.insert(to, count);
            }
        }
    }

    pub(crate) fn on_node(&self, group: &str, node: usize) -> u32 {
        self.0.get(group).and_then(|counts| counts.nodes.get(&node)).copied().unwrap_or(0)
    }

    pub(crate) fn in_zone(&self, group: &str, zone: &str) -> u32 {
        self.0.get(group).and_then(|counts| counts.zones.get(zone)).copied().unwrap_or(0)
    }
}
