//! Ranges of addresses, as the fields of long ago take them: leniently.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use crate::field::{FieldError, Path, quote};

/// A range of addresses, `10.9.8.0/24` or `2001:db8::/64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    /// As written: bits beyond the prefix may be set.
    pub address: IpAddr,
    /// Bits that all its addresses share; no more than an address has.
    pub prefix: u8,
}

impl Cidr {
    /// From text. Leading zeros are taken for decimal, and bits beyond the prefix for nothing, as upstream does in the
    /// fields that always did (`ipBlock.cidr`, `loadBalancerSourceRanges`).
    pub fn parse_leniently(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(prefix) {
            return None;
        }
        let prefix: u8 = prefix.parse().ok()?;
        let address: IpAddr = match address.parse() {
            Ok(address) => address,
            Err(_) => {
                let octets = address.split('.').map(|octet| octet.parse().ok().filter(|_| digits(octet)));
                let octets: Option<Vec<u8>> = octets.collect();
                Ipv4Addr::from(<[u8; 4]>::try_from(octets?).ok()?).into()
            }
        };
        let longest = if address.is_ipv4() { 32 } else { 128 };
        (prefix <= longest).then_some(Self { address, prefix })
    }

    /// Its first address, with no bit set beyond the prefix.
    pub fn network(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => {
                let rest = u32::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V4((address.to_bits() & !rest).into())
            }
            IpAddr::V6(address) => {
                let rest = u128::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V6((address.to_bits() & !rest).into())
            }
        }
    }

    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4()
            && Self { address, prefix: self.prefix }.network() == self.network()
    }

    /// Whether it is smaller than another one that all of it is in.
    pub fn is_strictly_within(&self, other: &Self) -> bool {
        self.prefix > other.prefix && other.contains(self.network())
    }

    /// What is wrong with a text in such a field.
    pub fn check(text: &str, path: &Path<'_>) -> Option<FieldError> {
        let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        Self::parse_leniently(text).is_none().then(|| FieldError::invalid(path, text, why))
    }

    /// What a client should know about a text in such a field.
    pub fn warnings(text: &str, path: &Path<'_>) -> Vec<String> {
        let Some(cidr) = Self::parse_leniently(text) else { return Vec::new() };
        let (network, shown) = (cidr.to_string(), quote(text));
        let mut found = Vec::new();
        if cidr.address != cidr.network() {
            let longest = if cidr.address.is_ipv4() { 32 } else { 128 };
            found.push(format!(
                "{path}: CIDR value {shown} is ambiguous in this context (should be {} or {}?)",
                quote(&network),
                quote(&format!("{}/{longest}", cidr.address))
            ));
        }
        let written = format!("{}/{}", cidr.address, cidr.prefix);
        if written != text && cidr.address.is_ipv4() {
            found.push(format!(
                "{path}: non-standard CIDR value {shown} will be considered invalid in a future Kubernetes release: use {}",
                quote(&network)
            ));
        } else if written != text {
            found.push(format!(
                "{path}: IPv6 CIDR value {shown} should be in RFC 5952 canonical format ({})",
                quote(&network)
            ));
        }
        found
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network(), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_are_read_as_upstream_does() {
        for (text, canonical) in [
            ("10.9.8.0/24", "10.9.8.0/24"),
            ("10.9.8.7/24", "10.9.8.0/24"),
            ("010.009.8.0/024", "10.9.8.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:DB8::1/64", "2001:db8::/64"),
            ("::/0", "::/0"),
            ("::1/128", "::1/128"),
        ] {
            assert_eq!(Cidr::parse_leniently(text).unwrap().to_string(), canonical, "{text}");
        }
        for bad in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "a/8",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "+1.2.3.4/8",
        ] {
            assert_eq!(Cidr::parse_leniently(bad), None, "{bad}");
        }
        let spec = Path::new("spec");
        assert_eq!(
            Cidr::warnings("10.1.2.3/8", &spec),
            [
                "spec: CIDR value \"10.1.2.3/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \"10.1.2.3/32\"?)"
            ]
        );
        assert_eq!(Cidr::warnings("10.0.0.0/8", &spec), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn a_range_has_its_own_addresses(bits: u32, prefix in 0u8..=32, other: u32) {
            let cidr = Cidr { address: IpAddr::V4(bits.into()), prefix };
            let same = (bits ^ other).leading_zeros() >= u32::from(prefix);
            prop_assert_eq!(cidr.contains(IpAddr::V4(other.into())), same);
            prop_assert!(!cidr.is_strictly_within(&cidr));
            prop_assert_eq!(Cidr::parse_leniently(&cidr.to_string()).unwrap().network(), cidr.network());
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9a-f.:/+-]{0,24}") {
            let _ = (Cidr::parse_leniently(&text), Cidr::warnings(&text, &Path::new("x")));
        }
    }
}
