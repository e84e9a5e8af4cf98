//! The cluster's names, as the specification of cluster DNS (version 1.1.0) has them: a value made from Services and
//! EndpointSlices, and asked by name.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use client::ResourceExt;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use crate::translate::by_service;

/// The version of the specification, told at `dns-version`.
const VERSION: &str = "1.1.0";

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    /// An address.
    Address(IpAddr),
    /// A port of a Service, and the name of what serves it.
    Port {
        /// The port's number.
        port: u16,
        /// A name in the zone, without the zone's own.
        target: String,
        /// How many share the port: each gets an equal part of the weight.
        among: u16,
    },
    /// Another name, with all its labels.
    Alias(String),
    /// Text.
    Text(&'static str),
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// The name is there and has these; none, where it is only part of others.
    Known(&'a [Data]),
    /// Another name, for an address.
    Names(&'a [String]),
    /// The name is the cluster's to give and not given.
    Unknown,
    /// The name is somebody else's.
    Foreign,
}

/// All names of a cluster.
#[derive(Debug, Default)]
pub struct Zone {
    domain: String,
    /// Names without the zone's own, in lower case.
    names: HashMap<String, Vec<Data>>,
    addresses: HashMap<IpAddr, Vec<String>>,
}

impl Zone {
    /// The names that these make in a domain such as `cluster.local`.
    pub fn new(domain: &str, services: &[Arc<Service>], slices: &[Arc<EndpointSlice>]) -> Self {
        let mut zone = Self { domain: domain.trim_matches('.').to_lowercase(), ..Self::default() };
        zone.add("dns-version", Data::Text(VERSION));
        // There are such names even while there is nobody to have one.
        zone.names.insert(String::new(), Vec::new());
        let by_service = by_service(slices);
        for service in services {
            let key = (service.namespace().unwrap_or_default(), service.name_any());
            let slices = by_service.get(&key).map(Vec::as_slice).unwrap_or_default();
            if let Some(spec) = &service.spec {
                zone.add_service(&format!("{}.{}.svc", key.1, key.0), spec, slices);
            }
        }
        for data in zone.names.values_mut() {
            data.sort();
            data.dedup();
        }
        zone
    }

    /// The zone's own name.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// What a name (without a last dot, in any case) stands for.
    pub fn look_up(&self, name: &str) -> Answer<'_> {
        let name = name.trim_end_matches('.').to_lowercase();
        if let Some(address) = reversed(&name) {
            return self.addresses.get(&address).map_or(Answer::Foreign, |names| Answer::Names(names));
        }
        let Some(own) = name.strip_suffix(&self.domain).filter(|own| own.is_empty() || own.ends_with('.'))
        else {
            return Answer::Foreign;
        };
        match self.names.get(own.trim_end_matches('.')) {
            Some(data) => Answer::Known(data),
            None => Answer::Unknown,
        }
    }

    /// Gives a name something to stand for, and makes the names that it is part of known.
    fn add(&mut self, name: &str, data: Data) {
        let mut above = name;
        while let Some((_, rest)) = above.split_once('.') {
            self.names.entry(rest.to_owned()).or_default();
            above = rest;
        }
        self.names.entry(name.to_owned()).or_default().push(data);
    }

    fn add_service(&mut self, name: &str, spec: &ServiceSpec, slices: &[&EndpointSlice]) {
        if spec.type_.as_deref() == Some("ExternalName") {
            if let Some(alias) = &spec.external_name {
                self.add(name, Data::Alias(alias.trim_end_matches('.').to_owned()));
            }
            return;
        }
        let addresses: BTreeSet<IpAddr> = spec
            .cluster_ips
            .iter()
            .flatten()
            .chain(&spec.cluster_ip)
            .filter_map(|address| address.parse().ok())
            .collect();
        if addresses.is_empty() {
            return self.add_headless(name, slices);
        }
        for address in addresses {
            self.add(name, Data::Address(address));
            self.addresses.entry(address).or_default().push(name.to_owned());
        }
        for port in spec.ports.iter().flatten() {
            if let (Some(label), Ok(number)) = (&port.name, u16::try_from(port.port)) {
                let port_name = port_name(name, label, port.protocol.as_deref());
                self.add(&port_name, Data::Port { port: number, target: name.to_owned(), among: 1 });
            }
        }
    }

    /// Without an address of its own, a Service stands for its endpoints.
    fn add_headless(&mut self, name: &str, slices: &[&EndpointSlice]) {
        for slice in slices {
            let ready: Vec<&Endpoint> = slice.endpoints.iter().flatten().filter(|e| is_ready(e)).collect();
            let among = u16::try_from(ready.len()).unwrap_or(u16::MAX);
            for endpoint in ready {
                let addresses =
                    endpoint.addresses.iter().filter_map(|address| address.parse::<IpAddr>().ok());
                for address in addresses {
                    let own = format!("{}.{name}", label_of(endpoint, address));
                    self.add(name, Data::Address(address));
                    self.add(&own, Data::Address(address));
                    if endpoint.hostname.is_some() {
                        self.addresses.entry(address).or_default().push(own.clone());
                    }
                    for port in slice.ports.iter().flatten() {
                        if let (Some(label), Some(Ok(number))) = (&port.name, port.port.map(u16::try_from)) {
                            let port_name = port_name(name, label, port.protocol.as_deref());
                            self.add(&port_name, Data::Port { port: number, target: own.clone(), among });
                        }
                    }
                }
            }
        }
    }
}

fn port_name(service: &str, port: &str, protocol: Option<&str>) -> String {
    format!("_{}._{}.{service}", port.to_lowercase(), protocol.unwrap_or("TCP").to_lowercase())
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
}

/// An endpoint's own label: its host name, or else its address with dashes.
fn label_of(endpoint: &Endpoint, address: IpAddr) -> String {
    match &endpoint.hostname {
        Some(hostname) => hostname.to_lowercase(),
        None => address.to_string().replace(['.', ':'], "-"),
    }
}

/// The address that a name for finding names (`4.3.2.1.in-addr.arpa`) is about.
fn reversed(name: &str) -> Option<IpAddr> {
    if let Some(octets) = name.strip_suffix(".in-addr.arpa") {
        let octets: Vec<u8> = octets.split('.').rev().map(str::parse).collect::<Result<_, _>>().ok()?;
        return <[u8; 4]>::try_from(octets).ok().map(IpAddr::from);
    }
    let digits = name.strip_suffix(".ip6.arpa")?;
    let digits: Vec<u8> =
        digits.split('.').rev().map(|digit| u8::from_str_radix(digit, 16).ok()).collect::<Option<_>>()?;
    if digits.iter().any(|digit| *digit > 15) {
        return None;
    }
    let bytes: Vec<u8> =
        digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    (digits.len() == 32).then(|| <[u8; 16]>::try_from(bytes).ok()).flatten().map(IpAddr::from)
}
