//! Tables that the kernel was told, one a family, so that the next change costs what has changed.

use std::collections::BTreeMap;

use super::Family;
use super::table::Table;
use crate::Result;

/// What was installed under one name.
#[derive(Debug)]
pub(crate) struct Installed {
    name: String,
    what: &'static str,
    /// By whether it is the table of IPv6.
    before: BTreeMap<bool, Table>,
}

impl Installed {
    /// Nothing is known of what is there: the first change makes it anew. `what` is for errors.
    pub(crate) fn new(name: String, what: &'static str) -> Self {
        Self { name, what, before: BTreeMap::new() }
    }

    /// Makes each family's table what `fill` makes of an empty one; it is told whether the family is IPv6.
    ///
    /// # Errors
    /// When the kernel refuses; the next call then starts from nothing.
    pub(crate) fn apply(&mut self, mut fill: impl FnMut(&mut Table, bool)) -> Result<()> {
        for v6 in [false, true] {
            let before = self.before.remove(&v6);
            if before.is_none() && v6 && !has_v6() {
                continue;
            }
            let mut table = Table::new(if v6 { Family::Ipv6 } else { Family::Ipv4 }, &self.name);
            fill(&mut table, v6);
            table.install(before.as_ref(), self.what)?;
            self.before.insert(v6, table);
        }
        Ok(())
    }

    /// Removes the tables of a name, if they are there.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn remove(name: &str) -> Result<()> {
        super::remove(Family::Ipv4, name)?;
        super::remove(Family::Ipv6, name)
    }
}

/// Whether this machine speaks IPv6.
pub(crate) fn has_v6() -> bool {
    std::path::Path::new("/proc/net/if_inet6").exists()
}
