//! How addresses, protocols and ports lie in keys and values: as in registers, four bytes each and addresses whole.

use std::net::{IpAddr, SocketAddr};

/// What the `nft` program calls types, six bits each.
const TYPES: [(u32, &str); 4] = [(7, "ipv4"), (8, "ipv6"), (12, "protocol"), (13, "port")];

/// The number of a key's type, which is there for the `nft` program to show.
pub(crate) fn kind_of(fields: &[&str]) -> u32 {
    let number = |field: &&str| TYPES.iter().find(|(_, name)| name == field).map_or(0, |(number, _)| *number);
    fields.iter().map(number).fold(0, |kind, field| kind << 6 | field)
}

/// An address.
pub(crate) fn address(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Protocol and port.
pub(crate) fn port(protocol: u8, port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    vec![protocol, 0, 0, 0, high, low, 0, 0]
}

/// Address and port.
pub(crate) fn place(place: &SocketAddr) -> Vec<u8> {
    let mut bytes = address(place.ip());
    bytes.extend(place.port().to_be_bytes());
    bytes.extend([0, 0]);
    bytes
}
