//! What services' addresses and ports are taken from: the ServiceCIDRs that are ready, and a range of ports.

use std::net::IpAddr;
use std::sync::Arc;

use apimachinery::meta;
use apimachinery::status::Status;
use clock::Random;
use serde_json::Value;

use crate::address_range::{AddressRange, IPV4, below, family_of};
use crate::resource::Resource;
use crate::tree::{items, text};

/// The ServiceCIDR that the server makes of its own configuration.
pub(crate) const DEFAULT: &str = "kubernetes";

/// The ranges, and randomness to choose from them with.
#[derive(Clone)]
pub(crate) struct Ranges {
    first: AddressRange,
    /// Of the other family.
    second: Option<AddressRange>,
    objects: Option<Objects>,
    ports: (u16, u16),
    random: Arc<dyn Random>,
}

/// Where it says which ranges there are and who has which address.
#[derive(Clone)]
pub(crate) struct Objects {
    /// ServiceCIDRs.
    pub(crate) cidrs: Arc<Resource>,
    /// IPAddresses.
    pub(crate) addresses: Arc<Resource>,
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
        Ok(Self { first, second, objects: None, ports, random })
    }

    /// The ranges that these objects name rather than the configured ones.
    pub(crate) fn named_by(self, objects: Objects) -> Self {
        Self { objects: Some(objects), ..self }
    }

    /// The range that the plane's own services are in.
    pub(crate) fn first(&self) -> &AddressRange {
        &self.first
    }

    /// The configured ranges, the default one first.
    pub(crate) fn configured(&self) -> impl Iterator<Item = AddressRange> + use<> {
        [Some(self.first), self.second].into_iter().flatten()
    }

    /// The families that services may have addresses of, the default one first.
    pub(crate) fn families(&self) -> Vec<&'static str> {
        self.configured().map(|range| range.family()).collect()
    }

    /// Whether services may have addresses of a family.
    pub(crate) fn serves(&self, family: &str) -> bool {
        self.configured().any(|range| range.family() == family)
    }

    /// A free address of a family; `None` if there is none left. Ranges are tried in turn, from some on.
    pub(crate) fn address(&self, family: &str) -> Option<IpAddr> {
        let all = self.current();
        let ranges: Vec<AddressRange> = all.into_iter().filter(|range| range.family() == family).collect();
        let count = ranges.len();
        let start = usize::try_from(below(self.random.as_ref(), (count as u128).max(1))).unwrap_or_default();
        let is_taken = |address: IpAddr| {
            let addresses = self.objects.as_ref().map(|objects| &objects.addresses);
            addresses.is_some_and(|addresses| addresses.hub.get(&address.to_string()).is_some())
        };
        let mut turn = (0..count).filter_map(|step| ranges.get((start + step) % count));
        turn.find_map(|range| range.free_address(self.random.as_ref(), is_taken))
    }

    /// Whether a service may have the address, if nobody else has it.
    pub(crate) fn holds(&self, address: IpAddr) -> bool {
        let family = family_of(address);
        self.current().iter().any(|range| range.family() == family && range.has(address))
    }

    /// The ranges that addresses are given of now: those of the ServiceCIDRs that are ready. Before the server has made its
    /// own, the configured ones count.
    fn current(&self) -> Vec<AddressRange> {
        let Some(objects) = &self.objects else { return self.configured().collect() };
        let view = objects.cidrs.hub.view();
        let mut found: Vec<AddressRange> = Vec::new();
        if !view.items.contains_key(DEFAULT) {
            found.extend(self.configured());
        }
        let trees = view.items.values().filter_map(|item| item.tree().ok());
        for tree in trees.filter(is_ready) {
            let cidrs = items(&tree, &["spec", "cidrs"]).iter().filter_map(Value::as_str);
            for range in cidrs.filter_map(AddressRange::parse) {
                if !found.contains(&range) {
                    found.push(range);
                }
            }
        }
        found
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

/// One that nobody has judged yet is ready, as upstream has it: its controller may not run.
fn is_ready(cidr: &Value) -> bool {
    let conditions = items(cidr, &["status", "conditions"]);
    let ready = conditions.iter().find(|condition| text(condition, &["type"]) == "Ready");
    !meta::is_deleting(cidr) && ready.is_none_or(|ready| text(ready, &["status"]) == "True")
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
            assert!(ranges.holds(address), "{address}");
        }
        let mut ports: Vec<u16> = ranges.every_port().collect();
        ports.sort_unstable();
        assert_eq!(ports, [30000, 30001]);
        let single = Ranges::new("10.96.0.0/16", (1, 1), random.clone()).unwrap();
        assert_eq!((single.families(), single.address("IPv6")), (vec!["IPv4"], None));
        assert!(single.serves("IPv4") && !single.serves("IPv6"));
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
