//! The addresses that the machine has.

use std::net::IpAddr;

/// An address, and the name of its interface.
type At = (String, IpAddr);

/// All of them. None where they cannot be told.
pub(crate) fn all() -> Vec<At> {
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let address = |of: nix::ifaddrs::InterfaceAddress| {
        let address = of.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        let either = v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())));
        Some((of.interface_name, either?))
    };
    all.filter_map(address).collect()
}

/// An address of the other family that the interface of an address of this machine has, if it has one by which it is
/// reached from other links.
pub fn of_other_family(address: IpAddr) -> Option<IpAddr> {
    beside(&all(), address)
}

fn beside(all: &[At], address: IpAddr) -> Option<IpAddr> {
    let (interface, _) = all.iter().find(|(_, own)| *own == address)?;
    let mut others = all.iter().filter(|(on, other)| on == interface && other.is_ipv4() != address.is_ipv4());
    let routed = |address: &IpAddr| match address {
        IpAddr::V4(address) => !address.is_link_local(),
        IpAddr::V6(address) => !address.is_unicast_link_local(),
    };
    others.find(|(_, other)| routed(other)).map(|(_, other)| *other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_address_is_of_the_same_interface_and_routed() {
        let all: Vec<At> = [
            ("lo", "127.0.0.1"),
            ("lo", "::1"),
            ("eth0", "192.0.2.1"),
            ("eth0", "fe80::1"),
            ("eth0", "2001:db8::1"),
            ("eth1", "192.0.2.2"),
            ("eth1", "fe80::2"),
        ]
        .map(|(name, address)| (name.to_owned(), address.parse().unwrap()))
        .to_vec();
        for (address, expected) in [
            ("127.0.0.1", Some("::1")),
            ("192.0.2.1", Some("2001:db8::1")),
            ("2001:db8::1", Some("192.0.2.1")),
            ("192.0.2.2", None),
            ("0.0.0.0", None),
        ] {
            let found = beside(&all, address.parse().unwrap()).map(|address| address.to_string());
            assert_eq!(found.as_deref(), expected, "{address}");
        }
    }
}
