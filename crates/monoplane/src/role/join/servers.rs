//! Which servers the plane has: those that the API names as its own under `default/kubernetes`, so that who joined by one of
//! them knows of all.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use api::k8s::api::discovery::v1::EndpointSlice;
use client::reflector::Selection;
use client::{Ambient, Api, Change, Client, Informer, InformerOptions, Servers};
use clock::Tasks;
use http::Uri;

use super::files::Files;

const NAMESPACE: &str = "default";
const NAME: &str = "kubernetes";
const PORT: &str = "https";

/// Learns of them for as long as the tasks run, and remembers them: the machine may start while the first is down.
pub fn follow(client: Client, joined: Uri, servers: Servers, files: Files, ambient: &Ambient, tasks: &Tasks) {
    let slices: Api<EndpointSlice> = Api::namespaced(client, NAMESPACE);
    let selection = Selection { fields: Some(format!("metadata.name={NAME}")), ..Selection::default() };
    let options = InformerOptions { selection, ..InformerOptions::default() };
    let informer = Informer::start(slices, options, ambient, tasks);
    informer.on_change(move |change: &Change<EndpointSlice>| {
        let Some(slice) = change.after() else { return };
        let told: Vec<Uri> = told(slice).into_iter().filter_map(|at| url(at).parse().ok()).collect();
        if let Err(error) = files.remember(&told) {
            tracing::warn!(error = format!("{error:#}"), "the servers are not remembered");
        }
        servers.replace(with(&joined, told));
    });
}

/// The one that was joined, last: a name or a balancer may stand in front of them all.
pub fn with(joined: &Uri, told: Vec<Uri>) -> Vec<Uri> {
    let others = told.into_iter().filter(|server| server != joined);
    let mut all: Vec<Uri> = others.collect();
    all.push(joined.clone());
    all
}

fn told(slice: &EndpointSlice) -> BTreeSet<SocketAddr> {
    let ports = slice.ports.iter().flatten();
    let port = ports.filter(|port| port.name.as_deref() == Some(PORT)).find_map(|port| port.port);
    let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else { return BTreeSet::new() };
    let endpoints = slice.endpoints.iter().flatten();
    let serving = endpoints.filter(|endpoint| {
        endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false)
    });
    let addresses = serving.flat_map(|endpoint| &endpoint.addresses);
    addresses.filter_map(|text| Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, port))).collect()
}

fn url(at: SocketAddr) -> String {
    format!("https://{at}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn servers_are_those_that_the_api_names() {
        let slice: EndpointSlice = from_value(json!({
            "metadata": { "name": "kubernetes" }, "addressType": "IPv4",
            "ports": [{ "name": "https", "port": 6443 }],
            "endpoints": [
                { "addresses": ["192.0.2.2"], "conditions": { "ready": true } },
                { "addresses": ["192.0.2.1"] },
                { "addresses": ["192.0.2.3"], "conditions": { "ready": false } },
                { "addresses": ["nonsense"] },
            ],
        }))
        .unwrap();
        let found: Vec<String> = told(&slice).into_iter().map(url).collect();
        assert_eq!(found, ["https://192.0.2.1:6443", "https://192.0.2.2:6443"]);
        assert_eq!(url("[2001:db8::1]:6443".parse().unwrap()), "https://[2001:db8::1]:6443");
        let uris = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Uri>>();
        let told = uris(&["https://a:1", "https://b:1"]);
        assert_eq!(with(&told[0], told.clone()), uris(&["https://b:1", "https://a:1"]));
        assert_eq!(with(&"https://name:1".parse().unwrap(), told).len(), 3);
    }
}
