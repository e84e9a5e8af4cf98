//! Flags of what machines of one plane divide among them, and of how they join.

use std::net::IpAddr;
use std::path::PathBuf;

use apimachinery::cidr::Cidr;
use clap::{Args, ValueEnum};
use controllers::nodeipam::PodRange;
use network::overlay::Tunnels;

/// Where nodes' pods get their addresses.
#[derive(Clone, Debug, Default, Args)]
pub struct PodRanges {
    /// Addresses of pods, of which every node that has none gets a part; with a range of IPv6 behind a comma of both
    #[arg(long, default_value = "10.42.0.0/16", value_name = "CIDR[,CIDR]", value_parser = super::cluster_cidr)]
    pub cluster_cidr: String,
    /// Prefix length of a node's part
    #[arg(long, default_value_t = 24, value_name = "BITS")]
    pub node_cidr_mask_size: u8,
    /// The same of IPv6
    #[arg(long, default_value_t = 64, value_name = "BITS")]
    pub node_cidr_mask_size_ipv6: u8,
}

impl PodRanges {
    /// What is divided.
    ///
    /// # Errors
    /// When a range has no such parts, or too many.
    pub fn ranges(&self) -> Result<Vec<PodRange>, String> {
        let read = |text: &str| {
            let cidr =
                Cidr::parse_leniently(text).ok_or_else(|| format!("--cluster-cidr {text}: no CIDR"))?;
            let (flag, bits) = match cidr.address {
                IpAddr::V4(_) => ("--node-cidr-mask-size", self.node_cidr_mask_size),
                IpAddr::V6(_) => ("--node-cidr-mask-size-ipv6", self.node_cidr_mask_size_ipv6),
            };
            PodRange::new(cidr, bits).map_err(|why| format!("{flag} {bits}: {why}"))
        };
        self.cluster_cidr.split(',').map(read).collect()
    }

    /// The first part of each: that of the machine which everything begins on.
    ///
    /// # Errors
    /// As of [`Self::ranges`].
    pub fn first(&self) -> Result<String, String> {
        let parts: Vec<String> = self.ranges()?.iter().map(|range| range.part(0).to_string()).collect();
        Ok(parts.join(","))
    }

    /// The same as words.
    pub fn words(&self) -> [(&'static str, String); 3] {
        [
            ("--cluster-cidr", self.cluster_cidr.clone()),
            ("--node-cidr-mask-size", self.node_cidr_mask_size.to_string()),
            ("--node-cidr-mask-size-ipv6", self.node_cidr_mask_size_ipv6.to_string()),
        ]
    }
}

/// How pods reach those of other machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Overlay {
    /// Through WireGuard to machines whose kernels have it, where this one's does, and through VXLAN to others
    Auto,
    /// Through WireGuard (UDP 8473), encrypted and authenticated, or not at all: a machine without it does not start
    Wireguard,
    /// Through VXLAN (UDP 8472), neither encrypted nor authenticated: for a network that is trusted
    Vxlan,
    /// Not at all
    None,
}

impl Overlay {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Wireguard => "wireguard",
            Self::Vxlan => "vxlan",
            Self::None => "none",
        }
    }

    /// The tunnels that it allows, if any.
    pub fn tunnels(self) -> Option<Tunnels> {
        match self {
            Self::Auto => Some(Tunnels::Any),
            Self::Wireguard => Some(Tunnels::WireGuard),
            Self::Vxlan => Some(Tunnels::Vxlan),
            Self::None => None,
        }
    }
}

/// How a machine joins a plane: `monoplane token create` on the server prints all of it.
#[derive(Clone, Debug, Default, Args)]
pub struct Join {
    /// The API server of the plane to join. Once the machine has joined it needs this no more, unless the server has moved
    #[arg(long, value_name = "https://HOST:PORT", value_parser = server)]
    pub join: Option<String>,
    /// What proves that this machine may: needed once, and again if it was away for so long that its certificate expired
    #[arg(long, value_name = "ID.SECRET", env = "MONOPLANE_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// A file with the token, which other users of the machine cannot read off the command line
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub token_file: Option<PathBuf>,
    /// What proves that the server is the one meant: the digest of its authority's public key
    #[arg(long, value_name = "sha256:HEX", value_parser = pin)]
    pub ca_hash: Option<String>,
}

fn server(text: &str) -> Result<String, String> {
    let refuse = || "want https://HOST:PORT".to_owned();
    let uri: http::Uri = text.parse().map_err(|_| refuse())?;
    let plain = matches!(uri.path(), "" | "/") && uri.query().is_none();
    match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(host)) if plain && !host.is_empty() => {
            Ok(format!("https://{host}:{}", uri.port_u16().unwrap_or(6443)))
        }
        _ => Err(refuse()),
    }
}

fn pin(text: &str) -> Result<String, String> {
    let hex = text.strip_prefix("sha256:").unwrap_or_default();
    match hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(text.to_lowercase()),
        false => Err("want sha256: and 64 hexadecimal digits".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_pins_are_read() {
        for (text, read) in [
            ("https://10.0.0.1:6443", "https://10.0.0.1:6443"),
            ("https://host/", "https://host:6443"),
            ("https://[2001:db8::1]:443", "https://[2001:db8::1]:443"),
        ] {
            assert_eq!(server(text).as_deref(), Ok(read));
        }
        for bad in ["", "host:6443", "http://host", "https://", "https://host/path", "https://host?x"] {
            assert!(server(bad).is_err(), "{bad}");
        }
        let hex = "0A".repeat(32);
        assert_eq!(pin(&format!("sha256:{hex}")), Ok(format!("sha256:{}", hex.to_lowercase())));
        for bad in [
            hex.clone(),
            format!("sha256:{hex}0"),
            format!("sha512:{hex}"),
            format!("sha256:{}", "x".repeat(64)),
        ] {
            assert!(pin(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_first_machine_has_the_first_part() {
        let ranges = |cidr: &str, bits| PodRanges {
            cluster_cidr: cidr.to_owned(),
            node_cidr_mask_size: bits,
            node_cidr_mask_size_ipv6: 64,
        };
        assert_eq!(ranges("10.42.0.0/16", 24).first().as_deref(), Ok("10.42.0.0/24"));
        assert_eq!(ranges("10.42.0.0/16,fd00::/56", 20).first().as_deref(), Ok("10.42.0.0/20,fd00::/64"));
        assert!(ranges("10.42.0.0/16", 8).first().unwrap_err().contains("--node-cidr-mask-size 8"));
    }
}
