//! What a pod sends by IPv6 comes from its own address, or goes nowhere. The kernel has a switch for that in IPv4
//! (`rp_filter`), and none in IPv6.

use crate::nft::expression as e;
use crate::nft::table::{Chain, Hook, Point, Verdict};

/// Drops what comes in by an interface of the group whose sender does not lie behind that interface.
pub(crate) fn chain(group: u32) -> Chain {
    let rule = [
        e::in_group(0),
        e::equals(0, &group.to_ne_bytes()),
        e::way_back(0),
        e::equals(0, &0_u32.to_ne_bytes()),
        e::verdict(&Verdict::Drop),
    ];
    // Before connections are looked up.
    let hook = Hook { kind: "filter", point: Point::Prerouting, priority: -300 };
    Chain { hook: Some(hook), rules: vec![rule.concat()] }
}
