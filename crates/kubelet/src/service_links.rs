//! The environment variables by which containers find Services: upstream's names, and with them those of Docker's links.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api::k8s::api::core::v1::{Service, ServicePort};

/// The Service that every pod is told of: the API.
const API: (&str, &str) = ("default", "kubernetes");

/// The variables of a pod in `namespace`: the API's, and where it asks for `links` those of its namespace's Services.
pub(crate) fn variables(services: &[Arc<Service>], namespace: &str, links: bool) -> Vec<(String, String)> {
    let mut named: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services {
        let of = service.metadata.namespace.as_deref().unwrap_or_default();
        let name = service.metadata.name.as_deref().unwrap_or_default();
        if links && of == namespace {
            named.insert(name, service);
        } else if (of, name) == API {
            // One of that name in the pod's own namespace is nearer.
            named.entry(name).or_insert(service);
        }
    }
    named.into_iter().flat_map(|(name, service)| of_service(name, service)).collect()
}

fn of_service(name: &str, service: &Service) -> Vec<(String, String)> {
    let spec = service.spec.as_ref();
    let address = spec.and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default();
    let ports = spec.and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let (Some(first), false) = (ports.first(), matches!(address, "" | "None")) else { return Vec::new() };
    let name = variable(name);
    let mut all = vec![
        (format!("{name}_SERVICE_HOST"), address.to_owned()),
        (format!("{name}_SERVICE_PORT"), first.port.to_string()),
    ];
    for port in ports {
        if let Some(label) = port.name.as_deref().filter(|label| !label.is_empty()) {
            all.push((format!("{name}_SERVICE_PORT_{}", variable(label)), port.port.to_string()));
        }
    }
    all.push((format!("{name}_PORT"), url(first, address)));
    for port in ports {
        let protocol = protocol(port);
        let link = format!("{name}_PORT_{}_{protocol}", port.port);
        all.push((link.clone(), url(port, address)));
        all.push((format!("{link}_PROTO"), protocol.to_lowercase()));
        all.push((format!("{link}_PORT"), port.port.to_string()));
        all.push((format!("{link}_ADDR"), address.to_owned()));
    }
    all
}

fn protocol(port: &ServicePort) -> String {
    port.protocol.as_deref().unwrap_or("TCP").to_uppercase()
}

fn url(port: &ServicePort, address: &str) -> String {
    let host = match address.parse() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => address.to_owned(),
    };
    format!("{}://{host}:{}", protocol(port).to_lowercase(), port.port)
}

fn variable(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(namespace: &str, name: &str, spec: Value) -> Arc<Service> {
        let service = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
        Arc::new(serde_json::from_value(service).unwrap())
    }

    fn lines(services: &[Arc<Service>], namespace: &str, links: bool) -> Vec<String> {
        let all = variables(services, namespace, links);
        all.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn a_services_variables() {
        let ports = json!([{"port": 80, "name": "http-alt"}, {"port": 53, "name": "dns", "protocol": "UDP"}]);
        let web = service("n", "my-web", json!({"clusterIP": "10.0.0.5", "ports": ports}));
        let expected = [
            "MY_WEB_SERVICE_HOST=10.0.0.5",
            "MY_WEB_SERVICE_PORT=80",
            "MY_WEB_SERVICE_PORT_HTTP_ALT=80",
            "MY_WEB_SERVICE_PORT_DNS=53",
            "MY_WEB_PORT=tcp://10.0.0.5:80",
            "MY_WEB_PORT_80_TCP=tcp://10.0.0.5:80",
            "MY_WEB_PORT_80_TCP_PROTO=tcp",
            "MY_WEB_PORT_80_TCP_PORT=80",
            "MY_WEB_PORT_80_TCP_ADDR=10.0.0.5",
            "MY_WEB_PORT_53_UDP=udp://10.0.0.5:53",
            "MY_WEB_PORT_53_UDP_PROTO=udp",
            "MY_WEB_PORT_53_UDP_PORT=53",
            "MY_WEB_PORT_53_UDP_ADDR=10.0.0.5",
        ];
        assert_eq!(lines(&[web], "n", true), expected);
        let six = service("n", "six", json!({"clusterIP": "fd00::5", "ports": [{"port": 1}]}));
        assert_eq!(lines(&[six], "n", true)[2], "SIX_PORT=tcp://[fd00::5]:1");
    }

    #[test]
    fn whose_variables_a_pod_gets() {
        let spec = |address: &str| json!({"clusterIP": address, "ports": [{"port": 1}]});
        let all = [
            service("default", "kubernetes", spec("10.0.0.1")),
            service("default", "other", spec("10.0.0.2")),
            service("n", "own", spec("10.0.0.3")),
            service("n", "headless", spec("None")),
            service("n", "external", json!({"type": "ExternalName", "externalName": "x"})),
        ];
        let hosts = |namespace: &str, links: bool| {
            let lines = lines(&all, namespace, links).into_iter();
            let hosts = lines.filter_map(|line| Some(line.split_once("_SERVICE_HOST=")?.0.to_owned()));
            hosts.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(hosts("n", true), "KUBERNETES OWN");
        assert_eq!(hosts("n", false), "KUBERNETES");
        assert_eq!(hosts("default", false), "KUBERNETES");
        assert_eq!(hosts("default", true), "KUBERNETES OTHER");
        let mut with_own = all.to_vec();
        with_own.insert(0, service("n", "kubernetes", spec("10.0.0.9")));
        assert!(lines(&with_own, "n", true).contains(&"KUBERNETES_SERVICE_HOST=10.0.0.9".to_owned()));
    }
}
