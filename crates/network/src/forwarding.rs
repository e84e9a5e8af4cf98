//! The machine's switches for passing packets on between interfaces, one a family.
//!
//! That one was off before is remembered by an empty table of its family: like the switch itself the machine has it once,
//! whichever of several networks ends last, and until it is started anew.

use std::fs;
use std::path::Path;

use crate::nft::table::Table;
use crate::nft::{self, Family};
use crate::{Error, Result, masquerade};

/// The table. No bridge has so long a name that a network's could be called so.
pub(crate) const WAS_OFF: &str = "monoplane-forwarding-was-off";
/// Where earlier releases remembered it: a file in the state directory, for IPv4.
const NOTE: &str = "forwarding-was-off";

/// Turns them on, and remembers to turn them off again; that of IPv6 where it is asked for. That keeps the machine from
/// taking addresses and routes from routers' advertisements.
pub(crate) fn enable(v6: bool) -> Result<()> {
    for family in [Some(Family::Ipv4), v6.then_some(Family::Ipv6)].into_iter().flatten() {
        let error = |source| Error::File { path: switch(family).into(), source };
        if fs::read_to_string(switch(family)).map_err(error)?.trim() == "0" {
            Table::new(family, WAS_OFF).install(None, "nftables: that forwarding was off")?;
            fs::write(switch(family), "1").map_err(error)?;
        }
    }
    Ok(())
}

/// Puts them back, unless another network of ours needs them.
pub(crate) fn restore(state: &Path) -> Result<()> {
    for family in [Family::Ipv4, Family::Ipv6] {
        let noted = family == Family::Ipv4 && state.join(NOTE).exists();
        let was_off = noted || nft::tables(family)?.iter().any(|name| name == WAS_OFF);
        if was_off && !masquerade::any(family)? {
            let path = switch(family);
            fs::write(path, "0").map_err(|source| Error::File { path: path.into(), source })?;
            nft::remove(family, WAS_OFF)?;
        }
    }
    Ok(())
}

fn switch(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "/proc/sys/net/ipv4/ip_forward",
        Family::Ipv6 => "/proc/sys/net/ipv6/conf/all/forwarding",
    }
}
