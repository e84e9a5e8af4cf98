//! Where a Service's port is: at one of its ready endpoints. As upstream with `--enable-aggregator-routing`: the API server
//! needs no way into the network of Services, and is not sent twice to an endpoint that has left.

use apimachinery::status::Status;
use registry::{ListOptions, Registry};
use serde_json::Value;

/// Endpoints of which one after the other is tried.
const TRIED: usize = 3;

/// Where one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Its node's name, if it is known.
    pub(crate) node: String,
}

/// Endpoints to try, in that order. `turn` spreads calls over the endpoints.
pub(super) async fn endpoints(
    registry: &Registry,
    (namespace, name, port): (&str, &str, u16),
    turn: usize,
) -> Result<Vec<Endpoint>, String> {
    let kinds = registry.kinds();
    let services = kinds.lookup("", "v1", "services").ok_or("Services are not served")?;
    let not_found = || format!("service {name:?} not found");
    let service = registry.known(services, namespace, name).ok_or_else(not_found)?.tree();
    let spec = &service["spec"];
    if spec["type"] == "ExternalName" {
        let host = spec["externalName"].as_str().unwrap_or_default().to_owned();
        return Ok(vec![Endpoint { host, port, node: String::new() }]);
    }
    let ports = spec["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = ports.iter().find(|each| each["port"] == port);
    let found = found.ok_or_else(|| format!("no service port {port} found for service {name:?}"))?;
    let port_name = found["name"].as_str().unwrap_or_default();
    let slices = slices(registry, namespace, name).await.map_err(|status| status.message)?;
    let ready = in_turn(&slices, port_name, family(&service), turn, |_| true);
    if ready.is_empty() {
        return Err(format!("no endpoints available for service {name:?}"));
    }
    Ok(ready)
}

/// The EndpointSlices of a Service.
pub(crate) async fn slices(registry: &Registry, namespace: &str, name: &str) -> Result<Vec<Value>, Status> {
    let kinds = registry.kinds();
    let kind = kinds.lookup("discovery.k8s.io", "v1", "endpointslices").ok_or_else(Status::no_such_path)?;
    let options = ListOptions {
        label_selector: format!("kubernetes.io/service-name={name}"),
        resource_version: "0".to_owned(),
        ..ListOptions::default()
    };
    let slices = registry.list(kind, namespace, &options).await?;
    Ok(slices.objects().map(|slice| slice.tree()).collect())
}

/// The family of addresses that a Service would rather have.
pub(crate) fn family(service: &Value) -> &str {
    service["spec"]["ipFamilies"][0].as_str().unwrap_or_default()
}

/// The ready endpoints that have the port and are fit, those of the Service's first family before others, begun at a turn.
pub(crate) fn in_turn(
    slices: &[Value],
    port_name: &str,
    family: &str,
    turn: usize,
    is_fit: impl Fn(&Value) -> bool,
) -> Vec<Endpoint> {
    let mut ready = Vec::new();
    for preferred in [true, false] {
        let of_family = slices.iter().filter(|slice| (slice["addressType"] == family) == preferred);
        let mut found: Vec<Endpoint> =
            of_family.flat_map(|slice| of_slice(slice, port_name, &is_fit)).collect();
        if !found.is_empty() {
            let count = found.len();
            found.rotate_left(turn % count);
        }
        ready.extend(found);
    }
    ready.truncate(TRIED);
    ready
}

fn of_slice(slice: &Value, port_name: &str, is_fit: impl Fn(&Value) -> bool) -> Vec<Endpoint> {
    let mut ports = slice["ports"].as_array().into_iter().flatten();
    let port = ports.find_map(|port| {
        let number = port["port"].as_u64().and_then(|number| u16::try_from(number).ok())?;
        (port["name"].as_str().unwrap_or_default() == port_name).then_some(number)
    });
    let Some(port) = port else { return Vec::new() };
    let endpoints = slice["endpoints"].as_array().into_iter().flatten();
    let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] != false && is_fit(endpoint));
    let at = |endpoint: &Value| {
        let host = endpoint["addresses"][0].as_str()?.to_owned();
        Some(Endpoint { host, port, node: endpoint["nodeName"].as_str().unwrap_or_default().to_owned() })
    };
    ready.filter_map(at).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ready_endpoints_of_the_port_take_turns() {
        let slices = [
            json!({"addressType": "IPv6", "ports": [{"name": "web", "port": 7}],
                "endpoints": [{"addresses": ["fd00::1"], "conditions": {}}]}),
            json!({"addressType": "IPv4", "ports": [{"name": "other", "port": 1}, {"name": "web", "port": 8443}],
            "endpoints": [
                {"addresses": ["10.0.0.1"], "conditions": {"ready": true}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
                {"addresses": ["10.0.0.3"]},
            ]}),
        ];
        let at = |turn| in_turn(&slices, "web", "IPv4", turn, |_| true);
        let one = |host: &str, port| Endpoint { host: host.to_owned(), port, node: String::new() };
        assert_eq!(at(0), [one("10.0.0.1", 8443), one("10.0.0.3", 8443), one("fd00::1", 7)]);
        assert_eq!(at(1), [one("10.0.0.3", 8443), one("10.0.0.1", 8443), one("fd00::1", 7)]);
        assert!(in_turn(&slices, "none", "IPv4", 0, |_| true).is_empty());
    }
}
