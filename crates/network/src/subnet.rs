//! A range of addresses.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use crate::Error;

/// An IPv4 subnet, `10.42.0.0/24`, with room for a gateway and at least one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    network: u32,
    prefix: u8,
}

impl Subnet {
    /// The subnet's own address.
    pub fn network(&self) -> Ipv4Addr {
        self.network.into()
    }

    /// The length of the part that all its addresses share.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The mask of that part.
    pub fn mask(&self) -> Ipv4Addr {
        (!self.host_mask()).into()
    }

    /// The first host.
    pub fn gateway(&self) -> Ipv4Addr {
        (self.network + 1).into()
    }

    /// Whether an address lies in it.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        u32::from(address) & !self.host_mask() == self.network
    }

    /// How many addresses pods can have: all but the network's, the gateway's and the broadcast address.
    pub fn pods(&self) -> u32 {
        self.host_mask() - 2
    }

    /// The address of a pod by number, counted from 0.
    pub fn pod(&self, number: u32) -> Option<Ipv4Addr> {
        (number < self.pods()).then(|| (self.network + 2 + number).into())
    }

    /// The number of a pod's address.
    pub fn number(&self, address: Ipv4Addr) -> Option<u32> {
        let number = u32::from(address).checked_sub(self.network + 2)?;
        (self.contains(address) && number < self.pods()).then_some(number)
    }

    fn host_mask(&self) -> u32 {
        // The prefix is at most 30.
        u32::MAX >> self.prefix
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network(), self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |why: &str| Error::Invalid(format!("subnet {text:?}: {why}"));
        let (address, prefix) = text.split_once('/').ok_or_else(|| refuse("want ADDRESS/PREFIX"))?;
        let address: Ipv4Addr = address.parse().map_err(|_| refuse("want an IPv4 address"))?;
        let prefix: u8 = prefix.parse().map_err(|_| refuse("want a prefix length"))?;
        if !(8..=30).contains(&prefix) {
            return Err(refuse("want a prefix length from 8 to 30"));
        }
        let subnet = Self { network: u32::from(address), prefix };
        match subnet.contains(address) && u32::from(address) & (u32::MAX >> prefix) == 0 {
            true => Ok(subnet),
            false => Err(refuse("has bits beyond its prefix")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_round_trips_and_nonsense_is_refused() {
        let subnet: Subnet = "10.42.0.0/24".parse().unwrap();
        assert_eq!(subnet.to_string(), "10.42.0.0/24");
        assert_eq!(subnet.mask(), Ipv4Addr::new(255, 255, 255, 0));
        assert_eq!((subnet.gateway(), subnet.pods()), (Ipv4Addr::new(10, 42, 0, 1), 253));
        for bad in ["", "10.42.0.0", "10.42.0.0/31", "10.42.0.0/7", "10.42.0.1/24", "::/64", "10.0.0.0/x"] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn pods_are_numbered_one_to_one(bits: u32, prefix in 8u8..=30, pick: u32) {
            let network = Ipv4Addr::from(bits & !(u32::MAX >> prefix));
            let subnet: Subnet = format!("{network}/{prefix}").parse().unwrap();
            let number = pick % subnet.pods();
            let address = subnet.pod(number).unwrap();
            prop_assert!(subnet.contains(address) && address != subnet.gateway() && address != network);
            prop_assert_eq!(subnet.number(address), Some(number));
            prop_assert_eq!(subnet.pod(subnet.pods()), None);
            prop_assert_eq!(subnet.number(subnet.gateway()), None);
        }
    }
}
