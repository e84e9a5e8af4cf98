//! A bridge's own table of each family: what pods send to the outside gets the machine's address. What goes to pods of other
//! machines, by a tunnel, keeps its own.

use crate::nft::table::{Chain, Hook, Point, Table};
use crate::nft::{self, Family, expression as e};
use crate::routes::Block;
use crate::{Config, Result, forwarding, links, overlay, spoofing};

/// What the names of our tables begin with.
pub(crate) const TABLE_PREFIX: &str = "monoplane-";
/// What the names of tables end with that machines without IPv6 addresses for pods have, too.
const OF_BOTH_FAMILIES: [&str; 2] = ["-services", "-policies"];

/// Makes the tables of one bridge anew: what pods send to anybody who is no pod is masqueraded.
pub(crate) fn install(name: &str, config: &Config) -> Result<()> {
    let four = (config.subnet.network().into(), config.subnet.prefix());
    if config.masquerade {
        let mut table = Table::new(Family::Ipv4, name);
        table.chains.insert("postrouting".to_owned(), masquerade(four, &config.bridge));
        table.install(None, "nftables: masquerading of pods")?;
    }
    let Some(subnet) = config.subnet6 else { return nft::remove(Family::Ipv6, name) };
    let mut table = Table::new(Family::Ipv6, name);
    table.chains.insert("prerouting".to_owned(), spoofing::chain(links::group(&config.bridge)));
    if config.masquerade {
        let six = (subnet.network().into(), subnet.prefix());
        table.chains.insert("postrouting".to_owned(), masquerade(six, &config.bridge));
    }
    table.install(None, "nftables: pods' own IPv6 addresses, and masquerading of them")
}

fn masquerade((network, prefix): Block, bridge: &str) -> Chain {
    let v6 = network.is_ipv6();
    let is_pod = |end, is| [e::address(0, end, v6), e::in_network(0, network, prefix, is)].concat();
    let outside = overlay::names(bridge).iter().flat_map(|name| e::leaves_by_another(0, name)).collect();
    let rule = [is_pod(e::End::Source, true), is_pod(e::End::Destination, false), outside, e::masquerade()];
    let hook = Hook { kind: "nat", point: Point::Postrouting, priority: 100 };
    Chain { hook: Some(hook), rules: vec![rule.concat()] }
}

/// Removes the tables, if they are there.
pub(crate) fn remove(name: &str) -> Result<()> {
    nft::remove(Family::Ipv4, name)?;
    nft::remove(Family::Ipv6, name)
}

/// Whether any network of ours has a table of a family, and so needs packets of it passed on.
pub(crate) fn any(family: Family) -> Result<bool> {
    let own = |name: &String| {
        name.starts_with(TABLE_PREFIX)
            && name != forwarding::WAS_OFF
            && !OF_BOTH_FAMILIES.iter().any(|end| name.ends_with(end))
    };
    Ok(nft::tables(family)?.iter().any(own))
}
