//! Where connections may go.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// Where clouds tell a machine its secrets, beside the link-local addresses that most use for it.
const METADATA: [IpAddr; 5] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

/// The rule: addresses that lead back into the machine, its link or the plane are refused unless an administrator has
/// listed them. Private addresses are not: they are where an organisation's own services are.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// What an administrator has listed.
    pub allow: Vec<Allowance>,
    /// Addresses of other nodes and of the plane, refused like loopback. Those of this machine need not be named.
    pub refuse: Vec<IpNet>,
    /// Whether this machine's own addresses may be used, those of loopback and of its link aside.
    pub own: bool,
}

/// Why an address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It leads to this machine.
    Loopback,
    /// It leads to this machine's link, where metadata services live.
    LinkLocal,
    /// It is no address of anything.
    Unspecified,
    /// It is many addresses.
    Multicast,
    /// A cloud tells its machines their secrets there.
    Metadata,
    /// It belongs to a node or to the plane.
    Plane,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "a loopback address",
            Self::LinkLocal => "a link-local address",
            Self::Unspecified => "an unspecified address",
            Self::Multicast => "a multicast or broadcast address",
            Self::Metadata => "the address of a metadata service",
            Self::Plane => "an address of a node or of the plane",
        })
    }
}

/// An administrator's exception, written `HOST[:PORT]` or `CIDR[:PORT]`; IPv6 with a port goes into brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    target: Target,
    /// `None`: every port.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Host(String),
    Network(IpNet),
}

/// Why a string is not an [`Allowance`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not of the form HOST[:PORT] or CIDR[:PORT]")]
pub struct InvalidAllowance(String);

impl FromStr for Allowance {
    type Err = InvalidAllowance;

    fn from_str(text: &str) -> Result<Self, InvalidAllowance> {
        let invalid = || InvalidAllowance(text.to_owned());
        let (target, port) = split_port(text).ok_or_else(invalid)?;
        let target = match network(target) {
            Some(network) => Target::Network(network),
            None if is_host_name(target) => Target::Host(target.to_ascii_lowercase()),
            None => return Err(invalid()),
        };
        Ok(Self { target, port })
    }
}

/// Splits what stands before the port from the port.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, after) = rest.split_once(']')?;
        return match after.strip_prefix(':') {
            Some(port) => Some((inside, Some(port.parse().ok()?))),
            None => after.is_empty().then_some((inside, None)),
        };
    }
    match text.matches(':').count() {
        0 => Some((text, None)),
        1 => {
            let (target, port) = text.split_once(':')?;
            Some((target, Some(port.parse().ok()?)))
        }
        // An IPv6 address or network without brackets has no port.
        _ => Some((text, None)),
    }
}

fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn is_host_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    // What ends in a number is meant as an address, and a wrong one.
    let numeric = text.rsplit('.').next().is_none_or(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    !numeric
        && text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        })
}

impl Allowance {
    fn covers(&self, host: &str, address: IpAddr, port: u16) -> bool {
        self.port.is_none_or(|allowed| allowed == port)
            && match &self.target {
                Target::Host(allowed) => host.strip_suffix('.').unwrap_or(host).eq_ignore_ascii_case(allowed),
                Target::Network(network) => network.contains(&address),
            }
    }
}

impl Policy {
    /// Judges one address that `host` resolved to; `is_own` says whether it is one of this machine.
    pub fn judge(
        &self,
        host: &str,
        address: IpAddr,
        port: u16,
        is_own: impl FnOnce(IpAddr) -> bool,
    ) -> Result<(), Refusal> {
        // The same machine can be written as an IPv4 address within an IPv6 one; both spellings are judged.
        let address = plain(address);
        if self.allow.iter().any(|allowance| allowance.covers(host, address, port)) {
            return Ok(());
        }
        if self.refuse.iter().any(|network| network.contains(&address)) {
            return Err(Refusal::Plane);
        }
        match address {
            IpAddr::V4(address) => judge_v4(address),
            IpAddr::V6(address) => judge_v6(address),
        }?;
        if METADATA.contains(&address) {
            Err(Refusal::Metadata)
        } else if !self.own && is_own(address) {
            Err(Refusal::Plane)
        } else {
            Ok(())
        }
    }
}

/// The IPv4 address that an IPv6 address stands for (mapped, compatible, NAT64 or 6to4), or the address itself.
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let [s0, s1, s2, s3, s4, s5, s6, s7] = v6.segments();
    let v4 = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match (s0, s1, s2, s3, s4, s5) {
        (0, 0, 0, 0, 0, 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => v4(s6, s7),
        (0x2002, ..) => v4(s1, s2),
        // `::` and `::1` are their own addresses, not IPv4-compatible ones.
        (0, 0, 0, 0, 0, 0) if (s6, s7) != (0, 0) && (s6, s7) != (0, 1) => v4(s6, s7),
        _ => address,
    }
}

fn judge_v4(address: Ipv4Addr) -> Result<(), Refusal> {
    match address.octets() {
        [127, ..] => Err(Refusal::Loopback),
        // All of 0.0.0.0/8: Linux connects 0.0.0.0 to itself.
        [0, ..] => Err(Refusal::Unspecified),
        [169, 254, ..] => Err(Refusal::LinkLocal),
        [224..=239, ..] | [255, 255, 255, 255] => Err(Refusal::Multicast),
        _ => Ok(()),
    }
}

fn judge_v6(address: Ipv6Addr) -> Result<(), Refusal> {
    if address.is_loopback() {
        Err(Refusal::Loopback)
    } else if address.is_unspecified() {
        Err(Refusal::Unspecified)
    } else if address.is_multicast() {
        Err(Refusal::Multicast)
    } else if address.segments()[0] & 0xffc0 == 0xfe80 {
        Err(Refusal::LinkLocal)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn judged(policy: &Policy, address: &str) -> Result<(), Refusal> {
        policy.judge("example.com", address.parse().unwrap(), 80, |_| false)
    }

    #[test]
    fn the_machines_own_addresses_are_refused_unless_listed() {
        let own: IpAddr = "192.168.1.5".parse().unwrap();
        let is_own = |address| address == own;
        let policy = Policy::default();
        assert_eq!(policy.judge("h", own, 80, is_own), Err(Refusal::Plane));
        let mapped = "::ffff:192.168.1.5".parse().unwrap();
        assert_eq!(policy.judge("h", mapped, 80, is_own), Err(Refusal::Plane));
        assert_eq!(policy.judge("h", "192.168.1.6".parse().unwrap(), 80, is_own), Ok(()));
        let listed = Policy { allow: vec!["192.168.1.5:80".parse().unwrap()], ..Policy::default() };
        assert_eq!(listed.judge("h", own, 80, is_own), Ok(()));
        assert_eq!(listed.judge("h", own, 81, is_own), Err(Refusal::Plane));
        let reaching = Policy { own: true, ..Policy::default() };
        assert_eq!(reaching.judge("h", own, 80, is_own), Ok(()));
        assert_eq!(reaching.judge("h", "127.0.0.1".parse().unwrap(), 80, |_| true), Err(Refusal::Loopback));
    }

    #[test]
    fn addresses_that_lead_back_are_refused_in_every_spelling() {
        let policy = Policy { refuse: vec!["10.1.0.0/16".parse().unwrap()], ..Policy::default() };
        for (address, refusal) in [
            ("127.0.0.1", Refusal::Loopback),
            ("127.255.0.9", Refusal::Loopback),
            ("::1", Refusal::Loopback),
            ("::ffff:127.0.0.1", Refusal::Loopback),
            ("::127.0.0.1", Refusal::Loopback),
            ("64:ff9b::7f00:1", Refusal::Loopback),
            ("2002:7f00:1::", Refusal::Loopback),
            ("0.0.0.0", Refusal::Unspecified),
            ("0.1.2.3", Refusal::Unspecified),
            ("::", Refusal::Unspecified),
            ("169.254.169.254", Refusal::LinkLocal),
            ("::ffff:169.254.169.254", Refusal::LinkLocal),
            ("fe80::1", Refusal::LinkLocal),
            ("febf::1", Refusal::LinkLocal),
            ("224.0.0.1", Refusal::Multicast),
            ("255.255.255.255", Refusal::Multicast),
            ("ff02::1", Refusal::Multicast),
            ("fd00:ec2::254", Refusal::Metadata),
            ("fd20:ce::254", Refusal::Metadata),
            ("168.63.129.16", Refusal::Metadata),
            ("::ffff:168.63.129.16", Refusal::Metadata),
            ("100.100.100.200", Refusal::Metadata),
            ("192.0.0.192", Refusal::Metadata),
            ("10.1.2.3", Refusal::Plane),
            ("::ffff:10.1.2.3", Refusal::Plane),
        ] {
            assert_eq!(judged(&policy, address), Err(refusal), "{address}");
        }
        for address in ["10.2.0.1", "192.168.1.1", "172.16.0.1", "1.1.1.1", "2606:4700::1111", "fd00::1"] {
            assert_eq!(judged(&policy, address), Ok(()), "{address}");
        }
    }

    #[test]
    fn what_an_administrator_lists_is_allowed_and_no_more() {
        let policy = |text: &str| Policy { allow: vec![text.parse().unwrap()], ..Policy::default() };
        let ok = |text: &str, host: &str, address: &str, port| {
            policy(text).judge(host, address.parse().unwrap(), port, |_| false).is_ok()
        };
        assert!(ok("127.0.0.1:6379", "localhost", "127.0.0.1", 6379));
        assert!(ok("127.0.0.1:6379", "x", "::ffff:127.0.0.1", 6379));
        assert!(!ok("127.0.0.1:6379", "localhost", "127.0.0.1", 6380));
        assert!(!ok("127.0.0.1:6379", "localhost", "127.0.0.2", 6379));
        assert!(ok("127.0.0.0/8", "a", "127.9.9.9", 1));
        assert!(ok("[::1]:80", "a", "::1", 80));
        assert!(ok("::1", "a", "::1", 81));
        assert!(ok("fe80::/10", "a", "fe80::2", 81));
        assert!(ok("LocalHost:80", "localhost.", "127.0.0.1", 80));
        assert!(!ok("localhost:80", "localhost.evil.com", "127.0.0.1", 80));
    }

    #[test]
    fn what_is_no_allowance_is_refused() {
        for text in
            ["", ":80", "a:", "a:65536", "300.0.0.1", "1.2.3", "a b", "[::1", "[::1]x", "10.0.0.0/33", "a/8"]
        {
            assert!(text.parse::<Allowance>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_mapped_address_is_judged_as_the_plain_one(bits: u32) {
            let policy = Policy { refuse: vec!["10.0.0.0/8".parse().unwrap()], ..Policy::default() };
            let v4 = Ipv4Addr::from(bits);
            let plain = policy.judge("h", v4.into(), 1, |_| false);
            prop_assert_eq!(policy.judge("h", v4.to_ipv6_mapped().into(), 1, |_| false), plain);
        }

        #[test]
        fn parsing_never_panics(text in ".{0,40}") {
            let _ = text.parse::<Allowance>();
        }
    }
}
