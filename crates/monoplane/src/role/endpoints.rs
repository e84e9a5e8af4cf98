//! Where the API is found from inside the cluster: the Endpoints and the EndpointSlice of `default/kubernetes`, kept by the
//! server itself as upstream's do.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use api::k8s::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints};
use api::k8s::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort as SlicePort, EndpointSlice};
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use client::kube::core::NamespaceResourceScope;
use client::{Api, Client, PostParams, Resource};
use clock::Clock;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::peers::Peers;

/// How often they are looked at: upstream's number.
const EVERY: Duration = Duration::from_secs(10);
const NAME: &str = "kubernetes";
/// The address of nobody (RFC 5737): what is sent there would leave by the default route.
const ELSEWHERE: &str = "192.0.2.1:9";

/// The address that others reach a listener by: its own, or for one that listens on all of them the one by which this
/// machine reaches others. `None` for one that nobody else reaches.
pub fn outward(listener: IpAddr) -> Option<IpAddr> {
    if listener.is_loopback() {
        return None;
    }
    if !listener.is_unspecified() {
        return Some(listener);
    }
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect(ELSEWHERE).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_unspecified() && !address.is_loopback())
}

/// The address by which a node that listens there is reached: by others, if there is a way to them.
pub fn of_node(listener: IpAddr) -> IpAddr {
    match listener.is_unspecified() {
        true => outward(listener).unwrap_or(Ipv4Addr::LOCALHOST.into()),
        false => listener,
    }
}

/// Which servers there are.
pub enum Servers {
    /// This one alone, at its address.
    One(SocketAddr),
    /// Those of one store.
    Many(Box<Peers>),
}

impl Servers {
    async fn addresses(&mut self) -> Result<BTreeSet<SocketAddr>, client::kube::Error> {
        match self {
            Self::One(address) => Ok(BTreeSet::from([*address])),
            Self::Many(peers) => peers.alive().await,
        }
    }
}

/// Keeps them so. What fails is tried again.
pub async fn keep(client: Client, mut servers: Servers, clock: Arc<dyn Clock>) {
    loop {
        if let Err(error) = settle(&client, &mut servers).await {
            tracing::warn!(%error, "pods may not find the API: the endpoints of default/kubernetes are not written");
        }
        clock.sleep(EVERY).await;
    }
}

async fn settle(client: &Client, servers: &mut Servers) -> Result<(), client::kube::Error> {
    let addresses = alike(servers.addresses().await?);
    let endpoints = endpoints(&addresses);
    bring_in(client, &endpoints, |found: &Endpoints| found.subsets == endpoints.subsets).await?;
    let slice = slice(&addresses);
    let same = |found: &EndpointSlice| found.endpoints == slice.endpoints && found.ports == slice.ports;
    bring_in(client, &slice, same).await
}

async fn bring_in<K>(
    client: &Client,
    wanted: &K,
    same: impl Fn(&K) -> bool,
) -> Result<(), client::kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), "default");
    let parameters = PostParams::default();
    match api.get_opt(NAME).await? {
        None => api.create(&parameters, wanted).await.map(|_| ()),
        Some(found) if same(&found) => Ok(()),
        Some(_) => api.replace(NAME, &parameters, wanted).await.map(|_| ()),
    }
}

/// One slice has one port and one family: that of the first. All servers come to the same, whichever of them looks.
fn alike(addresses: BTreeSet<SocketAddr>) -> Vec<SocketAddr> {
    let first = addresses.first().copied();
    let alike = |address: &SocketAddr| {
        first.is_some_and(|first| first.port() == address.port() && first.is_ipv4() == address.is_ipv4())
    };
    addresses.into_iter().filter(alike).collect()
}

fn metadata(labels: &[(&str, &str)]) -> ObjectMeta {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    ObjectMeta {
        name: Some(NAME.to_owned()),
        namespace: Some("default".to_owned()),
        labels: Some(labels.collect()),
        ..ObjectMeta::default()
    }
}

fn endpoints(addresses: &[SocketAddr]) -> Endpoints {
    let address =
        |address: &SocketAddr| EndpointAddress { ip: address.ip().to_string(), ..Default::default() };
    Endpoints {
        metadata: metadata(&[("endpointslice.kubernetes.io/skip-mirror", "true")]),
        subsets: Some(vec![EndpointSubset {
            addresses: Some(addresses.iter().map(address).collect()),
            not_ready_addresses: None,
            ports: Some(vec![EndpointPort {
                name: Some("https".to_owned()),
                port: port(addresses),
                protocol: Some("TCP".to_owned()),
                app_protocol: None,
            }]),
        }]),
    }
}

fn port(addresses: &[SocketAddr]) -> i32 {
    addresses.first().map_or(0, |address| address.port().into())
}

fn slice(addresses: &[SocketAddr]) -> EndpointSlice {
    let endpoint = |address: &SocketAddr| Endpoint {
        addresses: vec![address.ip().to_string()],
        conditions: Some(EndpointConditions { ready: Some(true), ..Default::default() }),
        ..Endpoint::default()
    };
    EndpointSlice {
        metadata: metadata(&[("kubernetes.io/service-name", NAME)]),
        address_type: if addresses.iter().all(SocketAddr::is_ipv4) { "IPv4" } else { "IPv6" }.to_owned(),
        endpoints: Some(addresses.iter().map(endpoint).collect()),
        ports: Some(vec![SlicePort {
            name: Some("https".to_owned()),
            port: Some(port(addresses)),
            protocol: Some("TCP".to_owned()),
            app_protocol: None,
        }]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_differ_in_port_or_family_are_not_in_one_slice() {
        let set =
            |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<BTreeSet<SocketAddr>>();
        let given = ["192.0.2.2:1", "[2001:db8::1]:1", "192.0.2.1:1", "192.0.2.3:2"];
        let alike = alike(set(&given));
        assert_eq!(alike, set(&given[..1]).into_iter().chain(set(&given[2..3])).rev().collect::<Vec<_>>());
        assert_eq!((port(&alike), slice(&alike).endpoints.unwrap().len()), (1, 2));
    }

    #[test]
    fn who_is_reached_from_outside() {
        let outward = |address: &str| outward(address.parse().unwrap());
        assert_eq!(outward("127.0.0.1"), None);
        assert_eq!(outward("::1"), None);
        assert_eq!(outward("192.0.2.7"), Some("192.0.2.7".parse().unwrap()));
        assert_eq!(of_node("192.0.2.7".parse().unwrap()).to_string(), "192.0.2.7");
        assert!(!of_node("0.0.0.0".parse().unwrap()).is_unspecified());
        assert!(outward("0.0.0.0").is_none_or(|address| !address.is_loopback() && !address.is_unspecified()));
    }
}
