//! What services' addresses and ports are taken from.

use std::net::IpAddr;
use std::sync::Arc;

use apimachinery::status::Status;
use clock::Random;

use crate::address_range::{AddressRange, IPV4, below};

/// The ranges, and randomness to choose from them with.
#[derive(Clone)]
pub(crate) struct Ranges {
    first: AddressRange,
    /// Of the other family.
    second: Option<AddressRange>,
    ports: (u16, u16),
    random: Arc<dyn Random>,
}

impl Ranges {
    /// From CIDRs: one of IPv4, or that and one of IPv6 behind a comma.
    pub(crate) fn new(cidrs: &str, ports: (u16, u16), random: Arc<dyn Random>) -> Result<Self, Status> {
        let invalid = || {
            Status::internal_error(format!(
                "{cidrs} is not a range for services of IPv4 (/8 to /30), or one and one of IPv6 (/64 to /126)"
            ))
        };
        let (first, second) = match cidrs.split_once(',') {
            Some((first, second)) => (first, Some(AddressRange::parse(second).ok_or_else(invalid)?)),
            None => (cidrs, None),
        };
        let first = AddressRange::parse(first).filter(|range| range.family() == IPV4).ok_or_else(invalid)?;
        let same = second.is_some_and(|second| second.family() == first.family());
        if same || ports.0 == 0 || ports.0 > ports.1 {
            return Err(invalid());
        }
        Ok(Self { first, second, ports, random })
    }

    /// The range that the plane's own services are in.
    pub(crate) fn first(&self) -> &AddressRange {
        &self.first
    }

    /// The families that services may have addresses of, the default one first.
    pub(crate) fn families(&self) -> Vec<&'static str> {
        [Some(self.first), self.second].into_iter().flatten().map(|range| range.family()).collect()
    }

    /// Some address of a family, if services may have any.
    pub(crate) fn address(&self, family: &str) -> Option<IpAddr> {
        self.of(family).map(|range| range.some_address(self.random.as_ref()))
    }

    /// The range of a family.
    pub(crate) fn of(&self, family: &str) -> Option<&AddressRange> {
        [Some(&self.first), self.second.as_ref()].into_iter().flatten().find(|range| range.family() == family)
    }

    /// All node ports, each once, beginning at some.
    pub(crate) fn every_port(&self) -> impl Iterator<Item = u16> + use<> {
        let (first, last) = self.ports;
        let count = u128::from(last - first) + 1;
        // Below 65536, as the range is of such numbers.
        let start = first + u16::try_from(below(self.random.as_ref(), count)).unwrap_or_default();
        (start..=last).chain(first..start)
    }

    /// Whether a service may have the node port.
    pub(crate) fn has_port(&self, port: i64) -> bool {
        (i64::from(self.ports.0)..=i64::from(self.ports.1)).contains(&port)
    }

    /// The node ports as people write them.
    pub(crate) fn ports(&self) -> String {
        format!("{}-{}", self.ports.0, self.ports.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_lie_in_the_ranges() {
        let random = Arc::new(clock::SeededRandom::new(1));
        let ranges = Ranges::new("10.96.7.0/16,fd00::/112", (30000, 30001), random.clone()).unwrap();
        assert_eq!(ranges.families(), ["IPv4", "IPv6"]);
        for family in ranges.families() {
            let address = ranges.address(family).unwrap();
            assert!(ranges.of(family).unwrap().has(address), "{address}");
        }
        let mut ports: Vec<u16> = ranges.every_port().collect();
        ports.sort_unstable();
        assert_eq!(ports, [30000, 30001]);
        let single = Ranges::new("10.96.0.0/16", (1, 1), random.clone()).unwrap();
        assert_eq!((single.families(), single.address("IPv6")), (vec!["IPv4"], None));
        for bad in [
            "",
            "10.0.0.0/31",
            "fd00::/112",
            "fd00::/112,10.0.0.0/16",
            "10.0.0.0/16,10.1.0.0/16",
            "10.0.0.0/16,",
        ] {
            assert!(Ranges::new(bad, (1, 2), random.clone()).is_err(), "{bad}");
        }
        assert!(Ranges::new("10.0.0.0/16", (2, 1), random).is_err());
    }
}
