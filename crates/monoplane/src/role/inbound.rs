//! What the edge's flags say of clients' connections.

use std::net::{IpAddr, TcpListener};
use std::path::Path;

use anyhow::{Context, Result};
use apimachinery::quantity::Quantity;
use gateway::ProxyLimits;
use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;

use crate::flags::Inbound;

/// The certificate chain and key for names that have none, if there is one.
pub fn certificate(flags: &Inbound) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
    let read =
        |flag: &str, path: &Path| std::fs::read(path).with_context(|| format!("{flag} {}", path.display()));
    let files = flags.tls_certificate.as_deref().zip(flags.tls_key.as_deref());
    files.map(|(chain, key)| Ok((read("--tls-certificate", chain)?, read("--tls-key", key)?))).transpose()
}

/// Where clients reach the gateway.
pub fn addresses(flags: &Inbound, bound: IpAddr) -> Result<Vec<String>> {
    if !flags.publish_address.is_empty() {
        return Ok(flags.publish_address.clone());
    }
    if !bound.is_unspecified() {
        return Ok(vec![bound.to_string()]);
    }
    // The first that is not the machine's alone: bridges of pods come and go later than what leads outside.
    let all = getifaddrs().context("looking for this machine's addresses")?.filter_map(|interface| {
        let address = interface.address?;
        address.as_sockaddr_in().map(nix::sys::socket::SockaddrIn::ip)
    });
    let outside = all.into_iter().find(|address| !address.is_loopback() && !address.is_link_local());
    Ok(outside.map(|address| address.to_string()).into_iter().collect())
}

/// Networks of proxies in front of the gateway.
pub fn trusted(flags: &Inbound) -> Result<Vec<IpNet>> {
    let network = |text: &String| {
        let read = text.parse().or_else(|error| text.parse::<IpAddr>().map(IpNet::from).map_err(|_| error));
        read.with_context(|| format!("--trusted-proxy {text}"))
    };
    flags.trusted_proxy.iter().map(network).collect()
}

/// Bounds of requests to Services.
pub fn limits(flags: &Inbound) -> Result<ProxyLimits> {
    let text = &flags.max_request_body;
    let bytes = text.parse::<Quantity>().ok().and_then(|quantity| u64::try_from(quantity.value()).ok());
    let request_body = bytes.with_context(|| format!("--max-request-body {text}"))?;
    Ok(ProxyLimits { request_body, ..ProxyLimits::default() })
}

/// Where Prometheus asks.
pub fn metrics(flags: &Inbound) -> Result<Option<TcpListener>> {
    let listen = |at| TcpListener::bind(at).with_context(|| format!("--metrics-bind-address {at}"));
    flags.metrics_bind_address.map(listen).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_address_is_the_bound_one_unless_another_is_named() {
        let mut flags = Inbound { max_request_body: "1Mi".to_owned(), ..Inbound::default() };
        assert_eq!(addresses(&flags, [192, 0, 2, 1].into()).unwrap(), ["192.0.2.1"]);
        assert!(
            addresses(&flags, [0, 0, 0, 0].into())
                .unwrap()
                .iter()
                .all(|address| !address.starts_with("127."))
        );
        flags.publish_address = vec!["edge.test".to_owned()];
        assert_eq!(addresses(&flags, [0, 0, 0, 0].into()).unwrap(), ["edge.test"]);
        assert_eq!(limits(&flags).unwrap().request_body, 1 << 20);
        flags.trusted_proxy = vec!["192.0.2.0/24".to_owned(), "2001:db8::1".to_owned()];
        assert_eq!(trusted(&flags).unwrap().len(), 2);
        flags.trusted_proxy = vec!["nobody".to_owned()];
        assert!(trusted(&flags).is_err());
    }
}
