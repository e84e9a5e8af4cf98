//! The IPv6 half of a network. Its addresses follow from the IPv4 ones: one lease gives both.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use crate::{Error, Subnet};

/// An IPv6 subnet, `fd00:10:42::/64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet6 {
    network: u128,
    prefix: u8,
}

impl Subnet6 {
    /// The subnet's own address.
    pub fn network(&self) -> Ipv6Addr {
        self.network.into()
    }

    /// The length of the part that all its addresses share.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The first host: the machine's own address among the pods.
    pub fn gateway(&self) -> Ipv6Addr {
        (self.network + 1).into()
    }

    /// The address of the pod with a number of an IPv4 subnet that [fits](Self::fits).
    pub fn pod(&self, number: u32) -> Ipv6Addr {
        (self.network + 2 + u128::from(number)).into()
    }

    /// Whether every pod of an IPv4 subnet can have an address here.
    pub fn fits(&self, subnet: &Subnet) -> bool {
        self.host_mask() > u128::from(subnet.pods()) + 1
    }

    fn host_mask(&self) -> u128 {
        u128::MAX >> self.prefix
    }
}

impl fmt::Display for Subnet6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network(), self.prefix)
    }
}

impl FromStr for Subnet6 {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |why: &str| Error::Invalid(format!("subnet {text:?}: {why}"));
        let (address, prefix) = text.split_once('/').ok_or_else(|| refuse("want ADDRESS/PREFIX"))?;
        let address: Ipv6Addr = address.parse().map_err(|_| refuse("want an IPv6 address"))?;
        let prefix: u8 = prefix.parse().map_err(|_| refuse("want a prefix length"))?;
        if !(16..=126).contains(&prefix) {
            return Err(refuse("want a prefix length from 16 to 126"));
        }
        if address.is_multicast() || address.is_unicast_link_local() || address.is_loopback() {
            return Err(refuse("want addresses that are routed, such as fd00:10:42::/64"));
        }
        let subnet = Self { network: address.to_bits(), prefix };
        match subnet.network & subnet.host_mask() == 0 {
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
        let subnet: Subnet6 = "fd00:10:42::/64".parse().unwrap();
        assert_eq!(
            (subnet.to_string().as_str(), subnet.gateway().to_string().as_str()),
            ("fd00:10:42::/64", "fd00:10:42::1")
        );
        for bad in [
            "",
            "fd00::",
            "fd00::/127",
            "fd00::/8",
            "fd00::1/64",
            "10.0.0.0/24",
            "fe80::/64",
            "ff02::/64",
            "fd00::/x",
        ] {
            assert!(bad.parse::<Subnet6>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_pod_has_an_address_of_its_own_where_the_subnet_fits(v4 in 8u8..=30, v6 in 100u8..=126, pick: u32) {
            let subnet: Subnet = format!("10.0.0.0/{v4}").parse().unwrap();
            let six: Subnet6 = format!("fd00::/{v6}").parse().unwrap();
            // Network, gateway and the pods.
            prop_assert_eq!(six.fits(&subnet), 1_u128 << (128 - v6) >= u128::from(subnet.pods()) + 2);
            let last = six.pod(subnet.pods() - 1).to_bits();
            prop_assert_eq!(six.fits(&subnet), last >> (128 - v6) == six.network().to_bits() >> (128 - v6));
            let number = pick % subnet.pods();
            prop_assert!(six.pod(number) > six.gateway());
            prop_assert_eq!(six.pod(number).to_bits() - six.pod(0).to_bits(), u128::from(number));
        }
    }
}
