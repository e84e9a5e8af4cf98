//! One range of addresses that services get: of either family.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use apimachinery::cidr::Cidr;
use clock::Random;

/// What the API calls the families of addresses.
pub(crate) const IPV4: &str = "IPv4";
/// See [`IPV4`].
pub(crate) const IPV6: &str = "IPv6";

/// What the API calls the family of an address.
pub(crate) fn family_of(address: IpAddr) -> &'static str {
    if address.is_ipv6() { IPV6 } else { IPV4 }
}

/// How many taken addresses in a row make a range count as full.
const PROBES: u128 = 1 << 16;

/// A range of addresses; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AddressRange {
    /// Its first address, as a number.
    first: u128,
    /// How long the part is in which its addresses differ.
    bits: u32,
    v6: bool,
}

impl AddressRange {
    /// From CIDR, of IPv4 from /8 to /30 or of IPv6 from /64 to /126; bits beyond the prefix mean nothing.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let cidr = Cidr::parse_leniently(text)?;
        let (first, v6, allowed) = match cidr.network() {
            IpAddr::V4(address) => (u128::from(address.to_bits()), false, 8..=30),
            IpAddr::V6(address) => (address.to_bits(), true, 64..=126),
        };
        let longest: u32 = if v6 { 128 } else { 32 };
        allowed.contains(&cidr.prefix).then(|| Self { first, bits: longest - u32::from(cidr.prefix), v6 })
    }

    /// What the API calls its family.
    pub(crate) fn family(&self) -> &'static str {
        if self.v6 { IPV6 } else { IPV4 }
    }

    /// The first usable address: what the service `kubernetes` has.
    pub(crate) fn first_address(&self) -> IpAddr {
        self.at(1)
    }

    /// Where the cluster's DNS answers: the tenth address, where that is among those that nobody gets by chance.
    pub(crate) fn dns_address(&self) -> Option<IpAddr> {
        (self.reserved() > 10).then(|| self.at(10))
    }

    /// A free address, from some on; `None` if there is none. The lowest ones are left, for as long as there are others, to
    /// those who choose for themselves, as upstream does.
    pub(crate) fn free_address(
        &self,
        random: &dyn Random,
        is_taken: impl Fn(IpAddr) -> bool,
    ) -> Option<IpAddr> {
        // The last one is IPv4's broadcast address.
        let end = self.size() - u128::from(!self.v6);
        [(self.reserved(), end), (1, self.reserved())].into_iter().find_map(|(from, to)| {
            let count = to.saturating_sub(from);
            let start = if count == 0 { 0 } else { below(random, count) };
            let mut tried = (0..count.min(PROBES)).map(|step| self.at(from + (start + step) % count));
            tried.find(|address| !is_taken(*address))
        })
    }

    /// Whether a service may have the address.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        let number = match address {
            IpAddr::V4(address) if !self.v6 => u128::from(address.to_bits()),
            IpAddr::V6(address) if self.v6 => address.to_bits(),
            _ => return false,
        };
        let offset = number.wrapping_sub(self.first);
        offset > 0 && offset < self.size() - u128::from(!self.v6)
    }

    /// How many addresses there are, those included that nobody can have.
    fn size(&self) -> u128 {
        1 << self.bits
    }

    /// How many addresses, the range's own included, come before those that are given by chance: upstream's numbers.
    fn reserved(&self) -> u128 {
        if self.size() <= 16 { 1 } else { (self.size() / 16).clamp(16, 256) + 1 }
    }

    fn at(&self, offset: u128) -> IpAddr {
        let number = self.first + offset;
        match self.v6 {
            true => Ipv6Addr::from_bits(number).into(),
            // The number of an IPv4 address fits.
            false => Ipv4Addr::from_bits(u32::try_from(number).unwrap_or_default()).into(),
        }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longest = if self.v6 { 128 } else { 32 };
        write!(f, "{}/{}", self.at(0), longest - self.bits)
    }
}

/// A number below `count`, which is at most 2^64.
pub(crate) fn below(random: &dyn Random, count: u128) -> u128 {
    (u128::from(random.u64()) * count) >> 64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(text: &str) -> AddressRange {
        AddressRange::parse(text).unwrap()
    }

    #[test]
    fn ranges_are_read_and_shown() {
        for (text, shown, first, dns) in [
            ("10.96.7.0/16", "10.96.0.0/16", "10.96.0.1", Some("10.96.0.10")),
            ("10.0.0.0/30", "10.0.0.0/30", "10.0.0.1", None),
            ("fd00:96::7/112", "fd00:96::/112", "fd00:96::1", Some("fd00:96::a")),
            ("fd00::/64", "fd00::/64", "fd00::1", Some("fd00::a")),
        ] {
            let range = range(text);
            assert_eq!(range.to_string(), shown);
            assert_eq!(range.first_address().to_string(), first);
            assert_eq!(range.dns_address().map(|address| address.to_string()).as_deref(), dns);
        }
        for bad in ["", "10.0.0.0", "10.0.0.0/31", "10.0.0.0/7", "x/16", "::/63", "::/127"] {
            assert_eq!(AddressRange::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_range_is_full_when_all_its_addresses_are_taken() {
        for (text, count) in [("10.0.0.0/27", 30), ("10.0.0.0/30", 2), ("fd00::/126", 3)] {
            let (range, random) = (range(text), clock::SeededRandom::new(3));
            let mut taken = std::collections::BTreeSet::new();
            while let Some(address) = range.free_address(&random, |address| taken.contains(&address)) {
                let is_low = address < range.at(range.reserved());
                let upper = taken.iter().filter(|taken| **taken >= range.at(range.reserved())).count();
                assert!(!is_low || upper as u128 >= range.size() - range.reserved() - u128::from(!range.v6));
                assert!(range.has(address) && taken.insert(address));
            }
            assert_eq!(taken.len(), count, "{text}");
        }
    }

    proptest! {
        #[test]
        fn choices_lie_in_the_range_and_above_what_is_reserved(seed: u64, v6: bool, prefix in 0u8..=62) {
            let text = if v6 {
                format!("fd00::/{}", 64 + prefix)
            } else {
                format!("10.0.0.0/{}", 8 + prefix % 23)
            };
            let (range, random) = (range(&text), clock::SeededRandom::new(seed));
            let address = range.free_address(&random, |_| false).unwrap();
            prop_assert!(range.has(address), "{address} in {range}");
            prop_assert!(range.dns_address().is_none_or(|dns| dns < address));
            prop_assert!(!range.has(range.at(0)) && !range.has(range.at(range.size())));
            prop_assert_eq!(range.has(range.at(range.size() - 1)), v6);
        }
    }
}
