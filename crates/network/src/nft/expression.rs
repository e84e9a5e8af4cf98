//! The expressions that rules are made of, each as the bytes of a list element.
//!
//! Names and numbers are those of `linux/netfilter/nf_tables.h`. Registers are the 32-bit ones; longer values take
//! several in a row.

use std::net::IpAddr;
use std::time::Duration;

use super::table::Verdict;
use super::wire::{attribute, nested, number, text};

/// A 32-bit register, 0 to 15.
pub(crate) type Register = u32;

fn register(register: Register) -> u32 {
    8 + register
}

/// The register that holds what becomes of the packet.
const VERDICT: u32 = 0;

fn named(name: &str, data: &[Vec<u8>]) -> Vec<u8> {
    nested(1, &[text(1, name), nested(2, data)])
}

fn value(kind: u16, bytes: &[u8]) -> Vec<u8> {
    nested(kind, &[attribute(1, bytes)])
}

fn payload(into: Register, base: u32, offset: u32, length: u32) -> Vec<u8> {
    named("payload", &[number(1, register(into)), number(2, base), number(3, offset), number(4, length)])
}

fn meta(into: Register, key: u32) -> Vec<u8> {
    named("meta", &[number(2, key), number(1, register(into))])
}

/// Which end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Source,
    Destination,
}

/// Loads an address of the packet: one register of IPv4, four of IPv6.
pub(crate) fn address(into: Register, end: End, v6: bool) -> Vec<u8> {
    match (v6, end) {
        (false, End::Source) => payload(into, 1, 12, 4),
        (false, End::Destination) => payload(into, 1, 16, 4),
        (true, End::Source) => payload(into, 1, 8, 16),
        (true, End::Destination) => payload(into, 1, 24, 16),
    }
}

/// Loads the destination port.
pub(crate) fn destination_port(into: Register) -> Vec<u8> {
    payload(into, 2, 2, 2)
}

/// Loads the transport protocol's number.
pub(crate) fn protocol(into: Register) -> Vec<u8> {
    meta(into, 16)
}

/// Loads the number of the group of the interface that the packet came by.
pub(crate) fn in_group(into: Register) -> Vec<u8> {
    meta(into, 21)
}

/// Goes on unless the packet leaves by the interface of this name. Takes four registers.
pub(crate) fn leaves_by_another(at: Register, name: &str) -> Vec<u8> {
    // Of names the kernel compares all the room that they have.
    let mut padded = name.as_bytes().to_vec();
    padded.resize(16, 0);
    [meta(at, 7), differs(at, &padded)].concat()
}

/// Loads the number of the interface that answers to the packet's source leave by, if it is the one that the packet came
/// by; else 0.
pub(crate) fn way_back(into: Register) -> Vec<u8> {
    const SOURCE_BY_INTERFACE: u32 = 1 | 8;
    named("fib", &[number(3, SOURCE_BY_INTERFACE), number(2, 1), number(1, register(into))])
}

/// Loads the packet's mark.
pub(crate) fn mark(into: Register) -> Vec<u8> {
    meta(into, 3)
}

/// Marks the packet with what a register holds.
pub(crate) fn set_mark(from: Register) -> Vec<u8> {
    named("meta", &[number(2, 3), number(3, register(from))])
}

/// Loads the state bits of the packet's connection.
fn connection_state(into: Register) -> Vec<u8> {
    named("ct", &[number(2, 0), number(1, register(into))])
}

/// The state bits of a packet that belongs to a connection which has been answered, or tells of one.
pub(crate) const STATE_KNOWN: u32 = 2 | 4;

/// Goes on if the packet's connection is in one of these states. Takes one register.
pub(crate) fn state_is(at: Register, states: u32) -> Vec<u8> {
    [connection_state(at), bits(at, &states.to_ne_bytes(), &[0; 4]), differs(at, &[0; 4])].concat()
}

/// Loads what kind of address the packet comes from or goes to.
pub(crate) fn address_kind(into: Register, end: End) -> Vec<u8> {
    let which = if end == End::Source { 1 } else { 2 };
    named("fib", &[number(3, which), number(2, 3), number(1, register(into))])
}

/// The kind of the machine's own addresses.
pub(crate) const KIND_LOCAL: u32 = 2;

/// Keeps the bits of a mask and flips those of another.
pub(crate) fn bits(at: Register, mask: &[u8], flip: &[u8]) -> Vec<u8> {
    let length = u32::try_from(mask.len()).unwrap_or(u32::MAX);
    let parts = [number(1, register(at)), number(2, register(at)), number(3, length)];
    named("bitwise", &[parts.concat(), value(4, mask), value(5, flip)])
}

/// Goes on if the register holds this.
pub(crate) fn equals(at: Register, bytes: &[u8]) -> Vec<u8> {
    named("cmp", &[number(1, register(at)), number(2, 0), value(3, bytes)])
}

/// Goes on if the register holds a number, of the network's byte order, from `low` to `high`.
pub(crate) fn is_within(at: Register, low: &[u8], high: &[u8]) -> Vec<u8> {
    let compare = |operation, bytes: &[u8]| {
        named("cmp", &[number(1, register(at)), number(2, operation), value(3, bytes)])
    };
    [compare(5, low), compare(3, high)].concat()
}

/// Goes on if it holds anything else.
pub(crate) fn differs(at: Register, bytes: &[u8]) -> Vec<u8> {
    named("cmp", &[number(1, register(at)), number(2, 1), value(3, bytes)])
}

/// Goes on if an address is in a network.
pub(crate) fn in_network(at: Register, network: IpAddr, prefix: u8, inside: bool) -> Vec<u8> {
    let (network, length) = match network {
        IpAddr::V4(address) => (address.octets().to_vec(), 4),
        IpAddr::V6(address) => (address.octets().to_vec(), 16),
    };
    let mask: Vec<u8> = (0..length)
        .map(|byte: u8| match prefix.saturating_sub(byte.saturating_mul(8)).min(8) {
            0 => 0,
            ones => u8::MAX << (8 - ones),
        })
        .collect();
    let network: Vec<u8> = network.iter().zip(&mask).map(|(byte, mask)| byte & mask).collect();
    let compare = if inside { equals(at, &network) } else { differs(at, &network) };
    [bits(at, &mask, &vec![0; usize::from(length)]), compare].concat()
}

/// Puts a value into registers.
pub(crate) fn load(into: Register, bytes: &[u8]) -> Vec<u8> {
    named("immediate", &[number(1, register(into)), value(2, bytes)])
}

/// Decides what becomes of the packet.
pub(crate) fn verdict(verdict: &Verdict) -> Vec<u8> {
    named("immediate", &[number(1, VERDICT), nested(2, &[verdict_data(verdict)])])
}

/// A verdict as data: `NFTA_DATA_VERDICT`.
pub(crate) fn verdict_data(verdict: &Verdict) -> Vec<u8> {
    let (code, chain) = match verdict {
        Verdict::Drop => (0, None),
        Verdict::Accept => (1, None),
        Verdict::Jump(chain) => (-3_i32, Some(chain)),
        Verdict::Goto(chain) => (-4, Some(chain)),
    };
    let chain = chain.map(|chain| text(2, chain)).unwrap_or_default();
    nested(2, &[number(1, code.cast_unsigned()), chain])
}

/// Goes on if the key that begins in a register is in a set.
pub(crate) fn is_in(set: &str, key: Register) -> Vec<u8> {
    named("lookup", &[text(1, set), number(2, register(key))])
}

/// Goes on, with the map's value in registers, if the key is in the map.
pub(crate) fn look_up(map: &str, key: Register, into: Register) -> Vec<u8> {
    named("lookup", &[text(1, map), number(2, register(key)), number(3, register(into))])
}

/// Does what a map says of a key; goes on if it says nothing.
pub(crate) fn verdict_of(map: &str, key: Register) -> Vec<u8> {
    named("lookup", &[text(1, map), number(2, register(key)), number(3, VERDICT)])
}

/// Loads a number below `modulus`, by chance.
pub(crate) fn random(into: Register, modulus: u32) -> Vec<u8> {
    named("numgen", &[number(1, register(into)), number(2, modulus), number(3, 1), number(4, 0)])
}

/// Writes a key and its value into a dynamic map, or lengthens its stay there; the value of a key that is there stays.
pub(crate) fn remember(map: &str, key: Register, data: Register, stay: Duration) -> Vec<u8> {
    let milliseconds = u64::try_from(stay.as_millis()).unwrap_or(u64::MAX);
    dynamic(map, 1, key, data, &[attribute(6, &milliseconds.to_be_bytes())])
}

/// Removes a key from a dynamic map. The kernel wants a register for a value all the same.
pub(crate) fn forget(map: &str, key: Register, data: Register) -> Vec<u8> {
    dynamic(map, 2, key, data, &[])
}

fn dynamic(map: &str, operation: u32, key: Register, data: Register, more: &[Vec<u8>]) -> Vec<u8> {
    let (key, data) = (number(4, register(key)), number(5, register(data)));
    named("dynset", &[text(1, map), number(3, operation), key, data, more.concat()])
}

/// Sends the connection to the address and port in two places.
pub(crate) fn redirect(address: Register, port: Register, v6: bool) -> Vec<u8> {
    let family = if v6 { 10 } else { 2 };
    let (address, port) = (register(address), register(port));
    named("nat", &[number(1, 1), number(2, family), number(3, address), number(5, port)])
}

/// Gives the connection the outgoing interface's address and a port by chance.
pub(crate) fn masquerade() -> Vec<u8> {
    named("masq", &[number(1, 1 << 4)])
}

/// Why a packet is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Nobody listens there.
    Unreachable,
    /// It is not allowed to.
    Prohibited,
}

/// The rules that turn a packet away, so that its sender need not wait: a reset for TCP, whose number the kernel does not
/// limit, and ICMP for all else.
pub(crate) fn refuse(v6: bool, why: Refusal) -> Vec<Vec<u8>> {
    let code = match (why, v6) {
        (Refusal::Unreachable, false) => 3,
        (Refusal::Unreachable, true) => 4,
        (Refusal::Prohibited, false) => 13,
        (Refusal::Prohibited, true) => 1,
    };
    let tcp = [protocol(0), equals(0, &[6]), named("reject", &[number(1, 1), attribute(2, &[0])])];
    vec![tcp.concat(), named("reject", &[number(1, 0), attribute(2, &[code])])]
}
