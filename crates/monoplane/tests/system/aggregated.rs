//! An API that a server of its own serves, and what kubectl explains.

use std::net::UdpSocket;

use harness::{Extension, Plane, eventually};

use crate::start;

const NAME: &str = "v1alpha1.wardle.example.com";

/// An address of this machine that is not loopback: endpoints may not have such.
pub(crate) fn own_address() -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket.connect("192.0.2.1:9").expect("a route");
    socket.local_addr().expect("an address").ip().to_string()
}

fn registration(extension: &Extension, address: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Namespace
metadata: {{name: wardle}}
---
apiVersion: v1
kind: Service
metadata: {{name: api, namespace: wardle}}
spec: {{ports: [{{port: 443, name: https}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: api-1, namespace: wardle, labels: {{kubernetes.io/service-name: api}}}}
addressType: IPv4
ports: [{{name: https, port: {port}}}]
endpoints: [{{addresses: ['{address}']}}]
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {{name: {NAME}}}
spec:
  group: wardle.example.com
  version: v1alpha1
  service: {{namespace: wardle, name: api}}
  caBundle: {bundle}
  groupPriorityMinimum: 1000
  versionPriority: 15
",
        port = extension.port,
        bundle = extension.ca_bundle,
    )
}

/// Whom servers of aggregated APIs are to trust, as they read it.
pub(crate) fn front_proxies(plane: &Plane) -> String {
    let of = "extension-apiserver-authentication";
    let map = eventually("it is published", || {
        let said = plane.kubectl(&["get", "-n", "kube-system", "configmap", of, "-o", "json"]);
        said.ok.then(|| serde_json::from_str::<serde_json::Value>(&said.out).expect("an object"))
    });
    let data = &map["data"];
    assert_eq!(data["requestheader-username-headers"], r#"["X-Remote-User"]"#);
    assert_eq!(data["requestheader-allowed-names"], r#"["front-proxy-client"]"#);
    assert!(data["client-ca-file"].as_str().is_some_and(|pem| pem.contains("BEGIN CERTIFICATE")));
    data["requestheader-client-ca-file"].as_str().expect("an authority").to_owned()
}

#[test]
fn kubectl_uses_an_aggregated_api_like_any_other() {
    let address = own_address();
    let plane = start(&["--disable", "node,edge", "--webhook-allow", &address]);
    let extension = Extension::start(&["api.wardle.svc"], &front_proxies(&plane));
    plane.apply(&registration(&extension, &address));
    plane.kubectl_ok(&["wait", "--for=condition=Available", &format!("apiservice/{NAME}"), "--timeout=30s"]);
    let resources = plane.kubectl_ok(&["api-resources", "--api-group=wardle.example.com", "--no-headers"]);
    assert_eq!(
        resources.split_whitespace().collect::<Vec<_>>(),
        ["flunders", "fl", "wardle.example.com/v1alpha1", "true", "Flunder"]
    );
    let flunder = "apiVersion: wardle.example.com/v1alpha1\nkind: Flunder\nmetadata: {name: mine}\nspec: {reference: x}\n";
    let said = plane.kubectl_with(&["create", "--validate=false", "-f", "-"], flunder);
    assert_eq!(said.out, "flunder.wardle.example.com/mine created\n", "{said:?}");
    assert!(plane.kubectl_ok(&["get", "flunders"]).contains("mine"));
    let by = plane.kubectl_ok(&["get", "fl", "mine", "-o", "jsonpath={.metadata.annotations.by}"]);
    assert_eq!(by, "kubernetes-admin");
    let by = plane.kubectl(&["get", "fl", "mine", "--as", "nobody"]);
    assert!(!by.ok && by.err.contains("User \"nobody\" cannot get resource \"flunders\""), "{by:?}");
    let explained = plane.kubectl_ok(&["explain", "flunder.spec"]);
    assert!(explained.contains("What it refers to."), "{explained}");
    let services = plane.kubectl_ok(&["get", "apiservices"]);
    let line = services.lines().find(|line| line.starts_with(NAME)).expect("a line");
    assert_eq!(line.split_whitespace().nth(1), Some("wardle/api"), "{line}");
    for local in ["v1.apps ", "v1. ", "v1alpha1.monoplane.dev "] {
        let line =
            services.lines().find(|line| line.starts_with(local)).unwrap_or_else(|| panic!("{services}"));
        assert_eq!(line.split_whitespace().nth(1), Some("Local"), "{line}");
    }
    // When it goes away that is said, and the rest of the API goes on.
    drop(extension);
    plane.kubectl_ok(&["delete", "-n", "wardle", "endpointslice", "api-1"]);
    eventually("it is said to be gone", || {
        let shown = plane.kubectl_ok(&["get", "apiservices", NAME, "--no-headers"]);
        shown.contains("False (EndpointsNotFound)").then_some(())
    });
    let said = plane.kubectl(&["get", "flunders"]);
    assert!(!said.ok, "{said:?}");
    plane.kubectl_ok(&["get", "namespaces"]);
    plane.kubectl_ok(&["delete", "namespace", "wardle", "--timeout=60s"]);
}

#[test]
fn kubectl_explains_every_field() {
    let plane = start(&["--disable", "node,edge"]);
    for (what, expected) in [
        ("pods", "Pod is a collection of containers that can run on a host."),
        (
            "pods.spec.containers.livenessProbe.httpGet",
            "HTTPGetAction describes an action based on HTTP Get requests.",
        ),
        ("deployments.spec.strategy.rollingUpdate.maxSurge", "IntOrString"),
        ("hpa.spec.metrics", "MetricSpec"),
        ("crd.spec.versions.schema.openAPIV3Schema", "JSONSchemaProps"),
        ("components.spec", "FIELDS:"),
    ] {
        let said = plane.kubectl_ok(&["explain", what]);
        assert!(said.contains(expected), "{what}: {said}");
        assert!(!said.contains("<empty>") && !said.contains("<no description>"), "{what}: {said}");
    }
    let said = plane.kubectl_ok(&["explain", "pods", "--recursive"]);
    assert!(said.lines().count() > 800, "{} lines", said.lines().count());
    let old = plane.kubectl_ok(&["explain", "hpa.spec", "--api-version", "autoscaling/v1"]);
    assert!(old.contains("targetCPUUtilizationPercentage"), "{old}");
}
