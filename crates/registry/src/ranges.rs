//! What services' addresses and ports are taken from.

use std::net::Ipv4Addr;
use std::sync::Arc;

use apimachinery::status::Status;
use clock::Random;

/// The ranges, and randomness to choose from them with.
#[derive(Clone)]
pub(crate) struct Ranges {
    first: u32,
    /// How many addresses there are, network and broadcast address included.
    size: u32,
    ports: (u16, u16),
    random: Arc<dyn Random>,
}

impl Ranges {
    pub(crate) fn new(cidr: &str, ports: (u16, u16), random: Arc<dyn Random>) -> Result<Self, Status> {
        let invalid =
            || Status::internal_error(format!("{cidr} is not an IPv4 range for services of /8 to /30"));
        let (address, bits) = cidr.split_once('/').ok_or_else(invalid)?;
        let address: Ipv4Addr = address.parse().map_err(|_| invalid())?;
        let bits: u32 = bits.parse().map_err(|_| invalid())?;
        if !(8..=30).contains(&bits) || ports.0 == 0 || ports.0 > ports.1 {
            return Err(invalid());
        }
        let size = 1_u32 << (32 - bits);
        Ok(Self { first: u32::from(address) & !(size - 1), size, ports, random })
    }

    /// The first usable address: what the service `kubernetes` has.
    pub(crate) fn first_address(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.first + 1)
    }

    /// Where the cluster's DNS answers: the tenth address, where that is among those that nobody gets by chance.
    pub(crate) fn dns_address(&self) -> Option<Ipv4Addr> {
        (self.reserved() > 10).then(|| Ipv4Addr::from(self.first + 10))
    }

    fn reserved(&self) -> u32 {
        (self.size / 16).clamp(1, 256)
    }

    /// Some address. The lowest sixteenth (at most 256) is left to those who choose for themselves, as upstream does.
    pub(crate) fn address(&self) -> Ipv4Addr {
        let reserved = self.reserved();
        let choice = self.size - reserved - 1;
        Ipv4Addr::from(self.first + reserved + self.below(choice.max(1)))
    }

    /// Whether a service may have the address.
    pub(crate) fn has_address(&self, address: Ipv4Addr) -> bool {
        let offset = u32::from(address).wrapping_sub(self.first);
        offset > 0 && offset < self.size - 1
    }

    /// All node ports, each once, beginning at some.
    pub(crate) fn every_port(&self) -> impl Iterator<Item = u16> + use<> {
        let (first, last) = self.ports;
        let count = u32::from(last - first) + 1;
        // Below 65536, as the range is of such numbers.
        let start = first + u16::try_from(self.below(count)).unwrap_or_default();
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

    /// The addresses as CIDR.
    pub(crate) fn cidr(&self) -> String {
        format!("{}/{}", Ipv4Addr::from(self.first), 32 - self.size.trailing_zeros())
    }

    fn below(&self, count: u32) -> u32 {
        let scaled = (self.random.u64() >> 32) * u64::from(count);
        u32::try_from(scaled >> 32).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_lie_in_the_ranges() {
        let random = Arc::new(clock::SeededRandom::new(1));
        let ranges = Ranges::new("10.96.7.0/16", (30000, 30001), random.clone()).unwrap();
        assert_eq!(ranges.cidr(), "10.96.0.0/16");
        assert_eq!(ranges.first_address(), Ipv4Addr::new(10, 96, 0, 1));
        for _ in 0..1000 {
            let address = ranges.address();
            assert!(ranges.has_address(address) && address >= Ipv4Addr::new(10, 96, 1, 0), "{address}");
            let mut ports: Vec<u16> = ranges.every_port().collect();
            ports.sort_unstable();
            assert_eq!(ports, [30000, 30001]);
        }
        assert!(!ranges.has_address(Ipv4Addr::new(10, 96, 0, 0)));
        assert!(!ranges.has_address(Ipv4Addr::new(10, 96, 255, 255)));
        assert!(!ranges.has_address(Ipv4Addr::new(10, 97, 0, 1)));
        for bad in ["", "10.0.0.0", "10.0.0.0/31", "x/16", "::/64"] {
            assert!(Ranges::new(bad, (1, 2), random.clone()).is_err(), "{bad}");
        }
        let tiny = Ranges::new("10.0.0.0/30", (1, 1), random).unwrap();
        assert!((0..50).all(|_| tiny.has_address(tiny.address())));
    }
}
