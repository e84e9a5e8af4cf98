//! Ingresses: what they lead to, and what is told of them.

use http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::api::FakeApi;
use crate::edge::Edge;
use crate::upstream::{Upstream, api, backend, ingress, path, reach_tests, rule, service, slices, until};

async fn edge(folder: &std::path::Path, api: &FakeApi) -> Edge {
    Edge::start_with(folder, api, reach_tests).await
}

/// Who answers, or with which status nobody does.
async fn who(edge: &Edge, url: &str) -> String {
    let reply = edge.get(url).await;
    match reply.status {
        StatusCode::OK => reply.header("x-from").to_owned(),
        status => status.as_str().to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_and_paths_lead_to_services() {
    let (folder, api) = (tempfile::tempdir().unwrap(), api());
    let (one, two, rest) =
        (Upstream::start("one").await, Upstream::start("two").await, Upstream::start("rest").await);
    for (name, upstream) in [("one", &one), ("two", &two), ("rest", &rest)] {
        service(&api, "shop", name, &[upstream.address], json!({}));
    }
    let named = json!({ "service": { "name": "rest", "port": { "name": "http" } } });
    ingress(
        &api,
        "shop",
        "main",
        json!({ "defaultBackend": named, "rules": [
            { "host": "a.test", "http": { "paths": [
                path("/x", "Prefix", "one"), path("/x", "Exact", "two"), path("/x/deep", "ImplementationSpecific", "two"),
            ] } },
            rule("*.b.test", "one"),
            { "host": "gone.test", "http": { "paths": [path("/", "Prefix", "none")] } },
        ] }),
    );
    // Of another controller, and of none.
    for class in [json!("other"), Value::Null] {
        let spec = json!({ "ingressClassName": class, "rules": [rule("foreign.test", "one")] });
        api.place(
            "ingresses",
            json!({ "metadata": { "namespace": "shop", "name": "foreign" }, "spec": spec }),
        );
    }
    let edge = edge(folder.path(), &api).await;
    for (url, want) in [
        ("http://a.test/x", "two"),
        ("http://a.test/x/", "one"),
        ("http://a.test/x/deep/er?q=/", "two"),
        ("http://a.test/xy", "rest"),
        ("http://w.b.test/any", "one"),
        ("http://w.w.b.test/any", "rest"),
        ("http://unknown.test/", "rest"),
        ("http://foreign.test/", "rest"),
        ("http://gone.test/", "503"),
    ] {
        assert_eq!(who(&edge, url).await, want, "{url}");
    }
    until("the missing Service is told", || {
        api.messages("BackendNotFound") == ["Service none does not exist"]
    })
    .await;
    until("the address is in the status", || {
        let status = api.get("ingresses", "shop", "main")["status"].clone();
        status == json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.80" }] } })
    })
    .await;
    // A change is served without a restart.
    ingress(&api, "shop", "main", json!({ "rules": [rule("a.test", "two")] }));
    while who(&edge, "http://a.test/x/").await != "two" {}
    assert_eq!(who(&edge, "http://unknown.test/").await, "404");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_the_first_namespaces() {
    let (folder, api) = (tempfile::tempdir().unwrap(), api());
    let (one, two) = (Upstream::start("one").await, Upstream::start("two").await);
    service(&api, "first", "web", &[one.address], json!({}));
    service(&api, "second", "web", &[two.address], json!({}));
    ingress(&api, "first", "a", json!({ "rules": [rule("shop.test", "web")] }));
    ingress(&api, "second", "a", json!({ "rules": [rule("shop.test", "web"), rule("own.test", "web")] }));
    let edge = edge(folder.path(), &api).await;
    assert_eq!(who(&edge, "http://shop.test/").await, "one");
    assert_eq!(who(&edge, "http://own.test/").await, "two");
    let conflict = "host shop.test belongs to namespace first, which claimed shop.test first";
    until("the conflict is told", || api.messages("RouteConflict") == [conflict]).await;
    api.delete("ingresses", "first", "a");
    while who(&edge, "http://shop.test/").await != "two" {}
    // Made again, it comes after who has the host now; and across a restart it stays so.
    ingress(&api, "first", "a", json!({ "rules": [rule("else.test", "web")] }));
    while who(&edge, "http://else.test/").await != "one" {}
    ingress(&api, "first", "a", json!({ "rules": [rule("else.test", "web"), rule("shop.test", "web")] }));
    until("the other conflict is told", || api.messages("RouteConflict").len() == 2).await;
    assert_eq!(who(&edge, "http://shop.test/").await, "two");
    edge.stop().await;
    let again = Edge::start_with(folder.path(), &api, reach_tests).await;
    assert_eq!(who(&again, "http://shop.test/").await, "two");
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_come_and_go() {
    let (folder, api) = (tempfile::tempdir().unwrap(), api());
    let (one, two) = (Upstream::start("one").await, Upstream::start("two").await);
    service(&api, "shop", "web", &[], json!({}));
    ingress(&api, "shop", "main", json!({ "defaultBackend": backend("web") }));
    let edge = edge(folder.path(), &api).await;
    let none = edge.get("http://a.test/").await;
    assert_eq!((none.status, none.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    assert!(none.text.contains("Service web has no endpoint that is ready"), "{}", none.text);
    slices(&api, "shop", "web", &[one.address, two.address]);
    while who(&edge, "http://a.test/").await == "503" {}
    let mut seen = Vec::new();
    for _ in 0..10 {
        seen.push(who(&edge, "http://a.test/").await);
    }
    assert!(seen.contains(&"one".to_owned()) && seen.contains(&"two".to_owned()), "{seen:?}");
    // One leaves while it answers: the request is finished, and its connections are closed.
    slices(&api, "shop", "web", &[one.address]);
    two.until_open(0).await;
    let begun = one.count();
    let slow = tokio::spawn(crate::edge::send(edge.address, Request::get("http://a.test/gate"), ""));
    one.until_begun(begun + 1).await;
    slices(&api, "shop", "web", &[two.address]);
    while who(&edge, "http://a.test/").await != "two" {}
    one.gate.add_permits(1);
    let reply = slow.await.unwrap();
    assert_eq!(reply.text, "one");
    one.until_open(0).await;
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_of_the_plane_is_not_reached() {
    let (folder, api) = (tempfile::tempdir().unwrap(), api());
    let upstream = Upstream::start("plane").await;
    service(&api, "shop", "web", &[upstream.address], json!({}));
    ingress(&api, "shop", "main", json!({ "defaultBackend": backend("web") }));
    // Without the exception that lets the other tests reach their servers.
    let edge = Edge::start(folder.path(), &api).await;
    let reply = edge.get("http://a.test/").await;
    assert_eq!(reply.status, StatusCode::BAD_GATEWAY);
    assert!(reply.text.contains("is a loopback address"), "{}", reply.text);
    assert_eq!(upstream.accepted.load(std::sync::atomic::Ordering::SeqCst), 0);
    edge.stop().await;
}
