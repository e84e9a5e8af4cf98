//! The addresses of the machine that this process runs on.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use tokio::time::Instant;

/// How long a list counts: an address that an interface gets is refused at the latest after this.
const FRESH: Duration = Duration::from_secs(5);

/// The addresses of all interfaces, looked up as they are needed.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    found: Mutex<Option<(Instant, Arc<[IpAddr]>)>>,
}

impl Machine {
    /// Whether the address is one of this machine. When that cannot be found out it is taken for one.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        match self.addresses() {
            Ok(addresses) => addresses.contains(&address),
            Err(error) => {
                tracing::warn!(%error, "the addresses of this machine are not known: connections are refused");
                true
            }
        }
    }

    fn addresses(&self) -> nix::Result<Arc<[IpAddr]>> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((when, addresses)) = &*found
            && when.elapsed() < FRESH
        {
            return Ok(addresses.clone());
        }
        let addresses: Arc<[IpAddr]> = getifaddrs()?
            .filter_map(|interface| {
                let address = interface.address?;
                let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
                v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
            })
            .collect();
        *found = Some((Instant::now(), addresses.clone()));
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_machine_knows_its_own_addresses() {
        let machine = Machine::default();
        assert!(machine.has("127.0.0.1".parse().unwrap()));
        assert!(!machine.has("192.0.2.1".parse().unwrap()));
    }
}
