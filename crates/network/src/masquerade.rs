//! The rule that gives what pods send to the outside the machine's address.

use std::net::IpAddr;

use crate::nft::table::{Chain, Hook, Point, Table};
use crate::nft::{self, Family, expression};
use crate::{Result, Subnet};

/// What the names of our tables begin with.
pub(crate) const TABLE_PREFIX: &str = "monoplane-";

/// Makes the table of one bridge anew: what pods send to anybody who is no pod is masqueraded.
pub(crate) fn install(name: &str, subnet: Subnet) -> Result<()> {
    let is_pod = |end, is| {
        let network = IpAddr::V4(subnet.network());
        [expression::address(0, end, false), expression::in_network(0, network, subnet.prefix(), is)].concat()
    };
    let rule = [
        is_pod(expression::End::Source, true),
        is_pod(expression::End::Destination, false),
        expression::masquerade(),
    ];
    let hook = Hook { kind: "nat", point: Point::Postrouting, priority: 100 };
    let mut table = Table::new(Family::Ipv4, name);
    table.chains.insert("postrouting".to_owned(), Chain { hook: Some(hook), rules: vec![rule.concat()] });
    table.install(None, "nftables: masquerading of pods")
}

/// Removes the table, if it is there.
pub(crate) fn remove(name: &str) -> Result<()> {
    nft::remove(Family::Ipv4, name)
}

/// Whether any network of ours has a table.
pub(crate) fn any() -> Result<bool> {
    Ok(nft::tables(Family::Ipv4)?.iter().any(|name| name.starts_with(TABLE_PREFIX)))
}
