//! What goes wrong with networks.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value that cannot be used; the message names it.
    #[error("{0}")]
    Invalid(String),
    /// Every address of the subnet is in use.
    #[error("no address is free in {0}")]
    Exhausted(crate::Subnet),
    /// The bridge's name belongs to something else.
    #[error("interface {name} exists and is not ours: it lacks the address {address}")]
    Taken {
        /// The interface.
        name: String,
        /// The address it would have.
        address: IpAddr,
    },
    /// The bridge is another owner's.
    #[error(
        "bridge {name} belongs to another plane of this machine: this one needs a bridge and addresses of its own"
    )]
    Anothers {
        /// The bridge.
        name: String,
    },
    /// Only WireGuard may be used, and the kernel has none.
    #[error("this machine's kernel has no WireGuard (`modprobe wireguard`), and nothing else may be used")]
    NoWireGuard,
    /// Something else has the port of WireGuard's tunnel.
    #[error("UDP port {0} is in use, and WireGuard's tunnel to other machines needs it")]
    PortTaken(u16),
    /// The kernel refused.
    #[error("{what}: {source}")]
    Kernel {
        /// What was asked.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// A file of the state directory, or a network namespace's.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn kernel(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Kernel { what: what.into(), source }
    }

    /// A netlink library's error, whose interesting part is the kernel's number.
    pub(crate) fn link(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Self {
        move |error| {
            let source = match &error {
                rtnetlink::Error::NetlinkError(message) => message.to_io(),
                other => io::Error::other(other.to_string()),
            };
            Self::Kernel { what: what.into(), source }
        }
    }
}
