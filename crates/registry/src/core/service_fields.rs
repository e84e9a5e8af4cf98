//! Every field of a Service, sorted: honoured, or without effect and then said so in a warning.
//!
//! Each type is taken apart without `..`, so that a field that upstream adds does not compile until it is decided upon.
//! `docs/kubernetes.md` shows the same in a table.

use api::k8s::api::core::v1::{
    ClientIPConfig, LoadBalancerIngress, LoadBalancerStatus, PortStatus, ServicePort, ServiceSpec,
    ServiceStatus, SessionAffinityConfig,
};
use serde_json::Value;

use crate::tree::at;

/// What a client should know about a service that is all right otherwise.
pub(super) fn warnings(service: &Value) -> Vec<String> {
    let read = |path: &str| at(service, &[path]).cloned().unwrap_or_default();
    let mut found = Vec::new();
    // What does not fit its types was refused before.
    if let Ok(spec) = serde_json::from_value::<ServiceSpec>(read("spec")) {
        spec_fields(&spec, &mut found);
    }
    if let Ok(status) = serde_json::from_value::<ServiceStatus>(read("status")) {
        status_fields(&status);
    }
    found
}

fn spec_fields(spec: &ServiceSpec, found: &mut Vec<String>) {
    let ServiceSpec {
        // Honoured by the API.
        allocate_load_balancer_node_ports: _,
        cluster_ip,
        cluster_ips: _,
        ip_families: _,
        ip_family_policy: _,
        type_,
        // Honoured by controllers.
        publish_not_ready_addresses: _,
        selector: _,
        traffic_distribution: _,
        // Honoured by proxies and cluster DNS.
        external_ips,
        external_name,
        external_traffic_policy: _,
        health_check_node_port: _,
        internal_traffic_policy: _,
        load_balancer_source_ranges: _,
        ports,
        session_affinity,
        session_affinity_config,
        // For whoever gives out addresses of load balancers; nobody here does.
        load_balancer_class: _,
        load_balancer_ip,
    } = spec;
    for port in ports.iter().flatten() {
        port_fields(port);
    }
    if let Some(SessionAffinityConfig { client_ip: Some(ClientIPConfig { timeout_seconds: _ }) }) =
        session_affinity_config
    {}
    let is = |text: &Option<String>, word: &str| text.as_deref() == Some(word);
    let set = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    let headless = is(cluster_ip, "None");
    if set(external_name) && !is(type_, "ExternalName") {
        found.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if headless {
        if set(load_balancer_ip) {
            found.push("spec.loadBalancerIP is ignored for headless services".to_owned());
        }
        if external_ips.as_ref().is_some_and(|all| !all.is_empty()) {
            found.push("spec.externalIPs is ignored for headless services".to_owned());
        }
        if set(session_affinity) && !is(session_affinity, "None") {
            found.push("spec.sessionAffinity is ignored for headless services".to_owned());
        }
    } else if set(load_balancer_ip) {
        let why = "spec.loadBalancerIP has no effect: nothing here gives out addresses of load balancers";
        found.push(why.to_owned());
    }
}

/// All of a port is honoured.
fn port_fields(port: &ServicePort) {
    let ServicePort { app_protocol: _, name: _, node_port: _, port: _, protocol: _, target_port: _ } = port;
}

/// What others report is kept; proxies read the addresses.
fn status_fields(status: &ServiceStatus) {
    let ServiceStatus { conditions: _, load_balancer } = status;
    let Some(LoadBalancerStatus { ingress }) = load_balancer else { return };
    for point in ingress.iter().flatten() {
        let LoadBalancerIngress { hostname: _, ip: _, ip_mode: _, ports } = point;
        for PortStatus { error: _, port: _, protocol: _ } in ports.iter().flatten() {}
    }
}

#[cfg(test)]
mod tests {
    use apimachinery::schema::OpenApi;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_has_no_effect_is_said() {
        let said = |spec: Value| warnings(&json!({"spec": spec})).join("; ");
        assert_eq!(
            said(json!({"type": "ClusterIP", "ports": [{"port": 80}], "sessionAffinity": "None"})),
            ""
        );
        let external = "spec.externalName is ignored when spec.type is not \"ExternalName\"";
        assert_eq!(said(json!({"externalName": "x"})), external);
        assert_eq!(said(json!({"type": "ExternalName", "externalName": "x"})), "");
        let headless =
            json!({"clusterIP": "None", "sessionAffinity": "ClientIP", "externalIPs": ["1.2.3.4"]});
        let expected = "spec.externalIPs is ignored for headless services; spec.sessionAffinity is ignored for headless services";
        assert_eq!(said(headless), expected);
        assert!(said(json!({"type": "LoadBalancer", "loadBalancerIP": "1.2.3.4"})).contains("has no effect"));
    }

    #[test]
    fn the_page_lists_every_field() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/kubernetes.md");
        let page = std::fs::read_to_string(page).unwrap();
        let said = api::descriptions::Descriptions::unpack();
        for kind in ["ServiceSpec", "ServicePort", "ServiceStatus", "LoadBalancerIngress"] {
            let section = page.split(&format!("\n### {kind}\n")).nth(1).unwrap();
            let section = section.split("\n#").next().unwrap();
            let name = format!("io.k8s.api.core.v1.{kind}");
            let schema = api::schemas::builtin().openapi(&name, OpenApi::V3, &said).unwrap();
            for field in schema["properties"].as_object().unwrap().keys() {
                assert!(
                    section.contains(&format!("`{field}`")),
                    "{kind}: {field} is not in docs/kubernetes.md"
                );
            }
        }
    }
}
