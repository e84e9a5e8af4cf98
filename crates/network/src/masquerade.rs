//! The rule that gives what pods send to the outside the machine's address.

use crate::nftables::{self, Batch, expression};
use crate::{Result, Subnet};

/// What the names of our tables begin with.
pub(crate) const TABLE_PREFIX: &str = "monoplane-";

/// Makes the table of one bridge anew, in one transaction: what leaves the subnet by any other interface than the
/// bridge is masqueraded.
pub(crate) fn install(table: &str, bridge: &str, subnet: Subnet) -> Result<()> {
    let mut batch = Batch::new();
    // Making it first, so that deleting it cannot fail.
    batch.add_table(table);
    batch.delete_table(table);
    batch.add_table(table);
    batch.add_nat_postrouting(table, "postrouting");
    let rule = [
        expression::source_address(),
        expression::mask(subnet.mask()),
        expression::equals(&subnet.network().octets()),
        expression::output_interface(),
        expression::differs(&nftables::interface(bridge)),
        expression::masquerade(),
    ];
    batch.add_rule(table, "postrouting", &rule);
    batch.commit("nftables: masquerading of pods")
}

/// Removes the table, if it is there.
pub(crate) fn remove(table: &str) -> Result<()> {
    if nftables::tables()?.iter().any(|name| name == table) {
        let mut batch = Batch::new();
        batch.delete_table(table);
        batch.commit("nftables: removal")?;
    }
    Ok(())
}

/// Whether any network of ours has a table.
pub(crate) fn any() -> Result<bool> {
    Ok(nftables::tables()?.iter().any(|name| name.starts_with(TABLE_PREFIX)))
}
