//! The endpoints behind a port of a Service. Pure.
//!
//! As upstream's proxies choose them (KEP-1669): ready ones; while there are none, those that still serve although they
//! end.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use client::ResourceExt as _;
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::translate::{BackendRef, PortRef, Problem};
use crate::upstream::Protocol;

/// Names the Service of a slice.
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// What ports say that speak HTTP/2 with prior knowledge (KEP-3726), and gRPC's own name.
const HTTP2: [&str; 3] = ["kubernetes.io/h2c", "grpc", "kubernetes.io/grpc"];
/// What ports say that want TLS, which is not spoken to endpoints.
const ENCRYPTED: [&str; 4] = ["https", "kubernetes.io/wss", "wss", "grpcs"];

/// What stands behind a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) protocol: Protocol,
    /// Why there is no address.
    pub(super) why_none: String,
    /// What the Ingress's author should know.
    pub(super) problem: Option<Problem>,
}

impl Found {
    fn none(reason: &'static str, why: String) -> Self {
        let problem = Some(Problem::new(reason, why.clone()));
        Self { addresses: Vec::new(), protocol: Protocol::Http1, why_none: why, problem }
    }
}

/// The endpoints of a port.
pub(super) fn endpoints(
    wanted: &BackendRef,
    service: Option<&Service>,
    slices: &[Arc<EndpointSlice>],
) -> Found {
    let BackendRef { service: name, port } = wanted;
    let Some(spec) = service.and_then(|service| service.spec.as_ref()) else {
        return Found::none("BackendNotFound", format!("Service {name} does not exist"));
    };
    if spec.type_.as_deref() == Some("ExternalName") {
        let why = format!("Service {name} is of type ExternalName, which has no endpoints");
        return Found::none("BackendUnsupported", why);
    }
    let fits = |candidate: &&ServicePort| {
        let tcp = candidate.protocol.as_deref().unwrap_or("TCP") == "TCP";
        tcp && match port {
            PortRef::Number(number) => candidate.port == *number,
            PortRef::Name(name) => candidate.name.as_ref() == Some(name),
        }
    };
    let Some(port) = spec.ports.iter().flatten().find(fits) else {
        return Found::none("BackendNotFound", format!("Service {name} has no TCP port {port}"));
    };
    let speaks = port.app_protocol.as_deref().unwrap_or_default();
    if ENCRYPTED.contains(&speaks) {
        let why = format!("Service {name} wants {speaks}, and TLS is not spoken to endpoints");
        return Found::none("BackendUnsupported", why);
    }
    let protocol = if HTTP2.contains(&speaks) { Protocol::Http2 } else { Protocol::Http1 };
    let families = spec.ip_families.as_deref().unwrap_or_default().iter().map(String::as_str);
    // The pods of a Service of both families have an address of each: one is enough.
    let families = families.chain(["IPv4", "IPv6"]);
    let chosen = families.map(|family| chosen(slices, family, port)).find(|found| !found.is_empty());
    let addresses: Vec<SocketAddr> = chosen.unwrap_or_default().into_iter().collect();
    let why_none = match addresses.is_empty() {
        true => format!("Service {name} has no endpoint that is ready"),
        false => String::new(),
    };
    Found { addresses, protocol, why_none, problem: None }
}

fn chosen(slices: &[Arc<EndpointSlice>], family: &str, port: &ServicePort) -> BTreeSet<SocketAddr> {
    let (mut ready, mut serving) = (BTreeSet::new(), BTreeSet::new());
    for slice in slices.iter().filter(|slice| slice.address_type == family) {
        let name = port.name.as_deref().unwrap_or_default();
        let number = slice.ports.iter().flatten().find(|candidate| {
            let tcp = candidate.protocol.as_deref().unwrap_or("TCP") == "TCP";
            tcp && candidate.name.as_deref().unwrap_or_default() == name
        });
        let Some(number) = number.and_then(|port| u16::try_from(port.port?).ok()) else { continue };
        for endpoint in slice.endpoints.iter().flatten() {
            // All addresses of an endpoint are the same endpoint: the first stands for it.
            let address = endpoint.addresses.first().and_then(|address| address.parse().ok());
            let Some(address) = address.map(|address| SocketAddr::new(address, number)) else { continue };
            let conditions = endpoint.conditions.as_ref();
            let is_ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
            if is_ready {
                ready.insert(address);
            } else if conditions.and_then(|conditions| conditions.serving).unwrap_or(false) {
                serving.insert(address);
            }
        }
    }
    if ready.is_empty() { serving } else { ready }
}

/// The Service that a slice belongs to, as `namespace/name`.
pub(super) fn owner(slice: &EndpointSlice) -> Vec<String> {
    let name = slice.labels().get(SERVICE_NAME);
    name.map(|name| format!("{}/{name}", slice.namespace().unwrap_or_default())).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(spec: Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": spec})).unwrap()
    }

    fn slice(kind: &str, ports: Value, endpoints: &[(&str, Value)]) -> Arc<EndpointSlice> {
        let endpoints: Vec<Value> = endpoints
            .iter()
            .map(|(address, conditions)| json!({"addresses": [address, "192.0.2.200"], "conditions": conditions}))
            .collect();
        let slice = json!({"metadata": {"name": "web-1"}, "addressType": kind, "ports": ports, "endpoints": endpoints});
        Arc::new(serde_json::from_value(slice).unwrap())
    }

    fn to(port: PortRef) -> BackendRef {
        BackendRef { service: "web".into(), port }
    }

    fn shown(found: &Found) -> Vec<String> {
        found.addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ready_endpoints_count_then_those_that_still_serve() {
        let web = service(json!({"ports": [{"name": "http", "port": 80}, {"name": "admin", "port": 81}]}));
        let ports = json!([{"name": "admin", "port": 9000}, {"name": "http", "port": 8080}]);
        let leaving = json!({"ready": false, "serving": true, "terminating": true});
        let gone = json!({"ready": false, "serving": false, "terminating": true});
        let both = [
            slice(
                "IPv4",
                ports.clone(),
                &[("192.0.2.1", json!({"ready": true})), ("192.0.2.2", leaving.clone())],
            ),
            slice("IPv4", ports.clone(), &[("192.0.2.3", json!({})), ("192.0.2.4", gone.clone())]),
            slice("IPv6", ports.clone(), &[("2001:db8::1", json!({"ready": true}))]),
        ];
        let found = endpoints(&to(PortRef::Number(80)), Some(&web), &both);
        assert_eq!(shown(&found), ["192.0.2.1:8080", "192.0.2.3:8080"]);
        let found = endpoints(&to(PortRef::Name("admin".into())), Some(&web), &both[2..]);
        assert_eq!(shown(&found), ["[2001:db8::1]:9000"]);
        let ending = [slice("IPv4", ports, &[("192.0.2.2", leaving), ("192.0.2.4", gone)])];
        let found = endpoints(&to(PortRef::Number(80)), Some(&web), &ending);
        assert_eq!(shown(&found), ["192.0.2.2:8080"]);
        let found = endpoints(&to(PortRef::Number(80)), Some(&web), &[]);
        assert_eq!(found.why_none, "Service web has no endpoint that is ready");
        assert_eq!(found.problem, None);
    }

    #[test]
    fn a_backend_that_cannot_be_is_told() {
        let port = |number| to(PortRef::Number(number));
        let said = |wanted: &BackendRef, service: Option<&Service>| {
            let found = endpoints(wanted, service, &[]);
            let problem = found.problem.unwrap();
            format!("{} {}", problem.reason, problem.message)
        };
        assert_eq!(said(&port(80), None), "BackendNotFound Service web does not exist");
        let web = service(
            json!({"ports": [{"port": 80, "protocol": "UDP"}, {"port": 443, "appProtocol": "https"}]}),
        );
        assert_eq!(said(&port(80), Some(&web)), "BackendNotFound Service web has no TCP port 80");
        let expected = "BackendUnsupported Service web wants https, and TLS is not spoken to endpoints";
        assert_eq!(said(&port(443), Some(&web)), expected);
        let outside = service(json!({"type": "ExternalName", "externalName": "x.test"}));
        assert!(said(&port(80), Some(&outside)).starts_with("BackendUnsupported "));
    }

    #[test]
    fn a_port_says_that_it_speaks_http_2() {
        for (speaks, protocol) in
            [("kubernetes.io/h2c", Protocol::Http2), ("grpc", Protocol::Http2), ("http", Protocol::Http1)]
        {
            let web = service(json!({"ports": [{"port": 80, "appProtocol": speaks}]}));
            assert_eq!(endpoints(&to(PortRef::Number(80)), Some(&web), &[]).protocol, protocol);
        }
    }
}
