//! The ranges of addresses that `--pod-cidr` and `--service-cidr` take: one of IPv4, and behind a comma one of IPv6.

use std::fmt;
use std::str::FromStr;

use network::{Subnet, Subnet6};

/// A range of each family that there is one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranges {
    /// Of IPv4.
    pub four: Subnet,
    /// Of IPv6, where it is asked for.
    pub six: Option<Subnet6>,
}

impl Ranges {
    /// Each as CIDR, that of IPv4 first.
    pub fn cidrs(&self) -> Vec<String> {
        std::iter::once(self.four.to_string()).chain(self.six.map(|six| six.to_string())).collect()
    }
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cidrs().join(","))
    }
}

impl FromStr for Ranges {
    type Err = network::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (four, six) = match text.split_once(',') {
            Some((four, six)) => (four, Some(six.parse()?)),
            None => (text, None),
        };
        Ok(Self { four: four.parse()?, six })
    }
}

/// Those of pods.
///
/// # Errors
/// When they are none, or that of IPv6 has less room than that of IPv4.
pub fn of_pods(text: &str) -> Result<Ranges, String> {
    let ranges: Ranges = text.parse().map_err(|error: network::Error| error.to_string())?;
    match ranges.six {
        Some(six) if !six.fits(&ranges.four) => {
            Err(format!("{six} has fewer addresses than {}", ranges.four))
        }
        _ => Ok(ranges),
    }
}

/// Those of Services.
///
/// # Errors
/// When they are none, or that of IPv6 is larger than /64, which is what upstream takes.
pub fn of_services(text: &str) -> Result<Ranges, String> {
    let ranges: Ranges = text.parse().map_err(|error: network::Error| error.to_string())?;
    match ranges.six {
        Some(six) if six.prefix() < 64 => Err(format!("{six}: want a prefix length from 64 to 126")),
        _ => Ok(ranges),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_or_two_ranges_are_taken() {
        let both = "10.42.0.0/24,fd00:42::/64";
        assert_eq!(of_pods(both).unwrap().to_string(), both);
        assert_eq!(of_pods("10.42.0.0/24").unwrap().cidrs(), ["10.42.0.0/24"]);
        for bad in [
            "",
            "fd00:42::/64",
            "fd00:42::/64,10.42.0.0/24",
            "10.42.0.0/24,",
            "10.42.0.0/24,fd00::/64,fd01::/64",
        ] {
            assert!(of_pods(bad).is_err() && of_services(bad).is_err(), "{bad}");
        }
        assert!(of_pods("10.42.0.0/24,fd00::/125").unwrap_err().contains("fewer addresses"));
        assert!(
            of_pods("10.42.0.0/24,fd00:42::/48").is_ok() && of_services("10.42.0.0/24,fd00:42::/48").is_err()
        );
    }
}
