//! Ingresses and their classes: what upstream fills in, shows and refuses.

use registry::Part;
use serde_json::{Value, json};

use crate::world::World;

const INGRESSES: &str = "ingresses.networking.k8s.io";
const CLASSES: &str = "ingressclasses.networking.k8s.io";

fn ingress(spec: Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "a"}, "spec": spec})
}

fn service(name: &str, port: Value) -> Value {
    json!({"service": {"name": name, "port": port}})
}

fn path(path: &str, kind: Value, backend: Value) -> Value {
    json!({"path": path, "pathType": kind, "backend": backend})
}

fn web() -> Value {
    path("/", json!("Prefix"), service("web", json!({"number": 80})))
}

async fn refused(spec: Value, expected: &[&str]) {
    let world = World::new().await;
    let status = world.create(INGRESSES, ingress(spec.clone())).await.unwrap_err();
    assert_eq!(status.code, 422, "{}", status.message);
    let said = status.message.trim_start_matches("Ingress.networking.k8s.io \"a\" is invalid: ");
    let joined =
        if expected.len() == 1 { expected[0].to_owned() } else { format!("[{}]", expected.join(", ")) };
    assert_eq!(said, joined, "{spec}");
}

#[tokio::test]
async fn an_ingress_is_shown_as_upstream_shows_it() {
    let world = World::new().await;
    let rule = |host: &str| json!({"host": host, "http": {"paths": [web()]}});
    let hosts = ["a.test", "*.b.test", "c.test", "d.test", "e.test"];
    let spec = json!({"ingressClassName": "own", "tls": [{"hosts": ["a.test"], "secretName": "s"}],
        "rules": hosts.map(rule)});
    let mut made = world.create(INGRESSES, ingress(spec)).await.unwrap();
    assert_eq!(made["status"], json!({"loadBalancer": {}}));
    assert_eq!(made["metadata"]["generation"], 1);
    made["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.2"}, {"hostname": "x.test"}, {"ip": "192.0.2.1"}]}});
    let updated = world.update_part(INGRESSES, Part::Status, made).await.unwrap();
    assert_eq!(updated["metadata"]["generation"], 1);
    let row = world.row(INGRESSES, "a").await;
    let expected = json!({"Name": "a", "Class": "own", "Hosts": "a.test,*.b.test,c.test + 2 more...",
        "Address": "192.0.2.1,192.0.2.2,x.test", "Ports": "80, 443", "Age": row["Age"]});
    assert_eq!(row, expected);
    let only = json!({"metadata": {"name": "b"}, "spec": {"defaultBackend": service("web", json!({"name": "http"}))}});
    world.create(INGRESSES, only).await.unwrap();
    let row = world.row(INGRESSES, "b").await;
    assert_eq!((&row["Class"], &row["Hosts"], &row["Ports"]), (&json!("<none>"), &json!("*"), &json!("80")));
}

#[tokio::test]
async fn what_an_ingress_may_not_say() {
    refused(
        json!({}),
        &["spec: Invalid value: \"null\": either `defaultBackend` or `rules` must be specified"],
    )
    .await;
    let rules = |rule: Value| json!({"rules": [rule]});
    let paths = |path: Value| rules(json!({"http": {"paths": [path]}}));
    refused(
        rules(json!({"host": "192.0.2.1"})),
        &["spec.rules[0].host: Invalid value: \"192.0.2.1\": must be a DNS name, not an IP address"],
    )
    .await;
    let wildcard = "spec.rules[0].host: Invalid value: \"*\": a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    refused(rules(json!({"host": "*"})), &[wildcard]).await;
    refused(rules(json!({"http": {"paths": []}})), &["spec.rules[0].http.paths: Required value"]).await;
    let at = "spec.rules[0].http.paths[0]";
    let number = || service("web", json!({"number": 80}));
    for (given, expected) in [
        (path("a", json!("Prefix"), number()), "path: Invalid value: \"a\": must be an absolute path"),
        (path("/a//b", json!("Exact"), number()), "path: Invalid value: \"/a//b\": must not contain '//'"),
        (path("/a/..", json!("Exact"), number()), "path: Invalid value: \"/a/..\": cannot end with '/..'"),
        (
            path("a", json!("ImplementationSpecific"), number()),
            "path: Invalid value: \"a\": must be an absolute path",
        ),
        (
            path("/", json!("Regex"), number()),
            "pathType: Unsupported value: \"Regex\": supported values: \"Exact\", \"ImplementationSpecific\", \"Prefix\"",
        ),
        (
            path("/", json!("Exact"), json!({})),
            "backend: Invalid value: \"\": resource or service backend is required",
        ),
        (
            path("/", json!("Exact"), service("web", json!({}))),
            "backend: Required value: port name or number is required",
        ),
        (
            path("/", json!("Exact"), service("web", json!({"number": 80, "name": "http"}))),
            "backend: Invalid value: \"\": cannot set both port name & port number",
        ),
        (
            path("/", json!("Exact"), service("web", json!({"number": 70000}))),
            "backend.service.port.number: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            path("/", json!("Exact"), service("", json!({"number": 80}))),
            "backend.service.name: Required value",
        ),
    ] {
        refused(paths(given), &[&format!("{at}.{expected}")]).await;
    }
}

#[tokio::test]
async fn a_class_keeps_its_controller() {
    let world = World::new().await;
    let class = |spec: Value| json!({"metadata": {"name": "a"}, "spec": spec});
    let parameters = json!({"apiGroup": "x.test", "kind": "Settings", "name": "main"});
    let made = world
        .create(CLASSES, class(json!({"controller": "x.test/y", "parameters": parameters})))
        .await
        .unwrap();
    assert_eq!(made["spec"]["parameters"]["scope"], "Cluster");
    let row = world.row(CLASSES, "a").await;
    let shown = (row["Controller"].as_str().unwrap(), row["Parameters"].as_str().unwrap());
    assert_eq!(shown, ("x.test/y", "Settings.x.test/main"));
    let status = world.merge(CLASSES, "a", json!({"spec": {"controller": "x.test/z"}})).await.unwrap_err();
    let expected = "spec.controller: Invalid value: \"x.test/z\": field is immutable";
    assert!(status.message.ends_with(expected), "{}", status.message);
    let status = world.create(CLASSES, class(json!({"controller": "plain"}))).await.unwrap_err();
    let expected =
        "spec.controller: Invalid value: \"plain\": must be a domain-prefixed path (such as \"acme.io/foo\")";
    assert!(status.message.ends_with(expected), "{}", status.message);
}
