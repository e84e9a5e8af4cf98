//! Whom the name in a proxied request means: `NAME`, `NAME:PORT` or `SCHEME:NAME:PORT`.
//!
//! Addresses are those that nodes have reported of themselves and their pods, never what somebody wrote into a Service or an
//! EndpointSlice by hand; loopback and link-local ones are refused when they are connected to.

use std::net::IpAddr;

use apimachinery::gvk::GroupResource;
use apimachinery::status::Status;
use registry::Part;
use serde_json::Value;

use super::super::{On, kubelet};
use crate::outgoing::services::{self, Endpoint};
use crate::outgoing::{Place, Server, Trust};
use crate::relay::To;

/// A name's parts; what it does not say is empty.
#[derive(Debug, PartialEq, Eq)]
struct Named<'a> {
    scheme: &'a str,
    name: &'a str,
    port: &'a str,
}

impl<'a> Named<'a> {
    fn parse(id: &'a str) -> Option<Self> {
        let parts: Vec<&str> = id.split(':').collect();
        let (scheme, name, port) = match parts[..] {
            [name] => ("", name, ""),
            [name, port] => ("", name, port),
            [scheme, name, port] => (scheme, name, port),
            _ => return None,
        };
        (!name.is_empty() && matches!(scheme, "" | "http" | "https")).then_some(Self { scheme, name, port })
    }

    /// A port at an address that a node has reported.
    fn at(&self, host: String, port: &str, node: String) -> Result<To, Status> {
        let is_secured = self.scheme == "https";
        let port = match port {
            "" if is_secured => 443,
            "" => 80,
            port => port.parse().map_err(|_| {
                let why = format!("dial tcp: lookup tcp/{port}: unknown port");
                Status::service_unavailable(format!("error trying to reach service: {why}"))
            })?,
        };
        // As upstream: nobody knows what the certificate of a pod should be.
        let trust = if is_secured { Trust::Anything } else { Trust::Plain };
        Ok(To::Server(Server { place: Place::Reported { host, port, node }, trust, shown_who: false }))
    }
}

/// Whom the request's name means.
pub(super) async fn find(on: &On<'_>) -> Result<To, Status> {
    let plural = on.kind.plural.as_str();
    let named = Named::parse(on.name).ok_or_else(|| {
        let what = plural.trim_end_matches('s');
        Status::bad_request(format!("invalid {what} request {:?}", on.name))
    })?;
    match plural {
        "nodes" => node(on, &named).await,
        "pods" => pod(on, &named).await,
        _ => service(on, &named).await,
    }
}

/// Host and port, as a URL shows them.
pub(super) fn authority(to: &To) -> String {
    match to {
        To::Server(server) => server.place.authority(),
        To::Kubelet(node) => Place::Host { host: node.host.clone(), port: node.port }.authority(),
    }
}

/// The kubelet of a node, or another port there.
async fn node(on: &On<'_>, named: &Named<'_>) -> Result<To, Status> {
    let node = kubelet::of_node(on, named.name).await?;
    match named.port {
        port if port.is_empty() || port == node.port.to_string() => Ok(To::Kubelet(node)),
        port => named.at(node.host, port, node.name),
    }
}

async fn pod(on: &On<'_>, named: &Named<'_>) -> Result<To, Status> {
    let pod = on.server.registry.get(&on.kind, on.namespace, named.name, Part::Whole).await?.tree();
    let address = addresses(&pod).next().and_then(|address| address.parse::<IpAddr>().ok());
    let address = address.ok_or_else(|| Status::bad_request("address not allowed"))?;
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let mut ports = containers.filter_map(|container| container["ports"][0]["containerPort"].as_u64());
    let port = match named.port {
        "" => ports.next().map(|port| port.to_string()).unwrap_or_default(),
        port => port.to_owned(),
    };
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
    named.at(address.to_string(), &port, node)
}

/// The addresses that a pod was given.
fn addresses(pod: &Value) -> impl Iterator<Item = &str> {
    let many = pod["status"]["podIPs"].as_array().filter(|many| !many.is_empty());
    let one = many.is_none().then(|| pod["status"]["podIP"].as_str()).flatten();
    many.into_iter().flatten().filter_map(|each| each["ip"].as_str()).chain(one)
}

/// A ready endpoint of a Service's port, by chance.
async fn service(on: &On<'_>, named: &Named<'_>) -> Result<To, Status> {
    let registry = &on.server.registry;
    let number = named.port.parse::<i64>().ok();
    let service = registry.known(&on.kind, on.namespace, named.name).ok_or_else(|| {
        // v1.36 looks at the Service only to find out what a number is called.
        let plural = if number.is_some() { "services" } else { "endpoints" };
        Status::not_found(&GroupResource::of("", plural), named.name)
    })?;
    let service = service.tree();
    let port = match number {
        None => named.port,
        Some(number) => port_name(&service, number).ok_or_else(|| {
            let name = named.name;
            Status::service_unavailable(format!("no service port {number} found for service {name:?}"))
        })?,
    };
    let none = |id: &str| Status::service_unavailable(format!("no endpoints available for service {id:?}"));
    let slices = services::slices(registry, on.namespace, named.name).await?;
    if !slices.iter().any(|slice| slice["endpoints"].as_array().is_some_and(|all| !all.is_empty())) {
        return Err(none(named.name));
    }
    let turn = usize::try_from(on.server.random.u64() >> 32).unwrap_or_default();
    let ready = services::in_turn(&slices, port, services::family(&service), turn, |each| is_pods(on, each));
    let Endpoint { host, port, node } = ready.into_iter().next().ok_or_else(|| none(on.name))?;
    named.at(host, &port.to_string(), node)
}

/// What a Service calls its port of that number.
fn port_name(service: &Value, number: i64) -> Option<&str> {
    let mut ports = service["spec"]["ports"].as_array().into_iter().flatten();
    Some(ports.find(|port| port["port"] == number)?["name"].as_str().unwrap_or_default())
}

/// Whether an endpoint is a pod of the namespace and has its address. One that somebody wrote by hand could lead anywhere,
/// with the power of this server.
fn is_pods(on: &On<'_>, endpoint: &Value) -> bool {
    let target = &endpoint["targetRef"];
    let (Some(name), Some(address)) = (target["name"].as_str(), endpoint["addresses"][0].as_str()) else {
        return false;
    };
    let kinds = on.server.registry.kinds();
    let pod = kinds.lookup("", "v1", "pods").filter(|_| target["namespace"] == on.namespace);
    let pod = pod.and_then(|pods| on.server.registry.known(pods, on.namespace, name));
    pod.is_some_and(|pod| addresses(&pod.tree()).any(|own| own == address))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names() {
        let parsed = |id| Named::parse(id).map(|named| [named.scheme, named.name, named.port]);
        for (id, expected) in [
            ("a", Some(["", "a", ""])),
            ("a:b", Some(["", "a", "b"])),
            ("a:", Some(["", "a", ""])),
            ("https:a:b", Some(["https", "a", "b"])),
            ("http:a:", Some(["http", "a", ""])),
            (":a:1", Some(["", "a", "1"])),
            ("ftp:a:1", None),
            ("", None),
            (":1", None),
            ("http::1", None),
            ("http:a:1:2", None),
        ] {
            assert_eq!(parsed(id), expected, "{id}");
        }
    }

    #[test]
    fn schemes_and_ports() {
        let at = |id, port: &str| Named::parse(id).unwrap().at("fd00::1".to_owned(), port, String::new());
        let reached = |id, port| match at(id, port) {
            Ok(To::Server(server)) => (server.place.authority(), server.trust),
            _ => panic!("{id}"),
        };
        assert_eq!(reached("a", ""), ("[fd00::1]:80".to_owned(), Trust::Plain));
        assert_eq!(reached("https:a:", ""), ("[fd00::1]:443".to_owned(), Trust::Anything));
        assert_eq!(reached("http:a:8080", "8080"), ("[fd00::1]:8080".to_owned(), Trust::Plain));
        for port in ["web", "65536", "-1"] {
            let status = at("a", port).err().unwrap();
            let why = format!("error trying to reach service: dial tcp: lookup tcp/{port}: unknown port");
            assert_eq!((status.code, status.message), (503, why));
        }
    }

    #[test]
    fn numbers_of_ports_and_addresses_of_pods() {
        let service = json!({"spec": {"ports": [{"port": 80}, {"port": 81, "name": "b"}]}});
        assert_eq!([80, 81, 82].map(|number| port_name(&service, number)), [Some(""), Some("b"), None]);
        let of = |status: Value| {
            let pod = json!({"status": status});
            addresses(&pod).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(of(json!({"podIP": "a", "podIPs": [{"ip": "a"}, {"ip": "b"}]})), ["a", "b"]);
        assert_eq!(of(json!({"podIP": "a"})), ["a"]);
        assert!(of(json!({})).is_empty());
    }
}
