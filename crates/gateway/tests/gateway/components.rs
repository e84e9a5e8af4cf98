//! From objects to what is served, and back to their status.

use http::{Request, StatusCode};
use serde_json::json;

use crate::api::FakeApi;
use crate::edge::{Edge, spec, with};

#[tokio::test(flavor = "multi_thread")]
async fn a_component_is_served_once_it_is_compiled_and_no_more_when_it_is_gone() {
    let (folder, api) = (tempfile::tempdir().unwrap(), FakeApi::new());
    let edge = Edge::start(folder.path(), &api).await;
    assert_eq!(edge.get("http://a.test/").await.status, StatusCode::NOT_FOUND);
    api.apply("components", "shop", "echo", spec("echo", Some("a.test"), "/"));
    let object = api.until("components", "shop", "echo", "Ready").await;
    assert!(object["status"]["digest"].as_str().unwrap().starts_with("sha256:"), "{object}");
    assert_eq!(object["status"]["conditions"][0]["status"], "True");
    // A fresh instance each time: the counter never moves.
    for _ in 0..3 {
        let reply = edge.send(Request::get("http://a.test/x").header("x-echo", "hi"), "").await;
        assert_eq!((reply.status, reply.text.as_str()), (StatusCode::OK, "hi 1\n"));
    }
    let missing = edge.get("http://b.test/").await;
    assert_eq!(
        (missing.status, missing.header("content-type")),
        (StatusCode::NOT_FOUND, "application/problem+json")
    );
    api.delete("components", "shop", "echo");
    while edge.get("http://a.test/").await.status != StatusCode::NOT_FOUND {
        tokio::task::yield_now().await;
    }
    edge.stop().await;
    assert!(api.reasons().contains(&"Ready".to_owned()), "{:?}", api.reasons());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_namespace_owns_a_host_and_the_later_object_is_told() {
    let (folder, api) = (tempfile::tempdir().unwrap(), FakeApi::new());
    api.apply("components", "a", "echo", spec("echo", Some("a.test"), "/"));
    api.apply("components", "b", "echo", spec("echo", Some("a.test"), "/b"));
    let edge = Edge::start(folder.path(), &api).await;
    api.until("components", "a", "echo", "Ready").await;
    let later = api.until("components", "b", "echo", "RouteConflict").await;
    let message = later["status"]["conditions"][0]["message"].as_str().unwrap();
    assert_eq!(message, "host a.test belongs to namespace a, which claimed a.test first");
    // When the first goes, the later one gets the host.
    api.delete("components", "a", "echo");
    api.until("components", "b", "echo", "Ready").await;
    assert_eq!(edge.get("http://a.test/b").await.status, StatusCode::OK);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_component_is_said_and_the_old_revision_serves() {
    let (folder, api) = (tempfile::tempdir().unwrap(), FakeApi::new());
    let edge = Edge::start(folder.path(), &api).await;
    let source =
        |text: &str| json!({ "source": { "inline": text }, "routes": [{ "host": "a.test", "path": "/" }] });
    api.apply("components", "shop", "echo", source("AGFzbQ=="));
    api.until("components", "shop", "echo", "SourceInvalid").await;
    let reply = edge.get("http://a.test/").await;
    assert_eq!((reply.status, reply.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    api.apply("components", "shop", "echo", spec("echo", Some("a.test"), "/"));
    api.until("components", "shop", "echo", "Ready").await;
    api.apply("components", "shop", "echo", source("not base64"));
    let object = api.until("components", "shop", "echo", "SourceInvalid").await;
    assert!(
        object["status"]["conditions"][0]["message"].as_str().unwrap().contains("goes on serving"),
        "{object}"
    );
    assert_eq!(edge.get("http://a.test/").await.status, StatusCode::OK);
    let file = json!({ "source": { "path": "/etc/passwd" }, "routes": [{ "host": "a.test", "path": "/" }] });
    api.apply("components", "shop", "echo", file);
    let object = api.until("components", "shop", "echo", "SourceInvalid").await;
    assert!(object["status"]["conditions"][0]["message"].as_str().unwrap().contains("Forbidden"), "{object}");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_waited_for_and_kept_across_a_restart() {
    let (folder, api) = (tempfile::tempdir().unwrap(), FakeApi::new());
    let edge = Edge::start(folder.path(), &api).await;
    let bound = json!({ "keyValue": [{ "name": "default", "store": "counts" }] });
    api.apply("components", "shop", "probe", with(spec("probe", Some("a.test"), "/"), bound));
    api.until("components", "shop", "probe", "StoreNotFound").await;
    api.apply("keyvaluestores", "shop", "counts", json!({ "embedded": {} }));
    let store = api.until("keyvaluestores", "shop", "counts", "Ready").await;
    assert_eq!(store["status"]["backend"], "embedded");
    api.until("components", "shop", "probe", "Ready").await;
    assert_eq!(edge.get("http://a.test/increment/x").await.text, "Ok(1)");
    edge.stop().await;

    // The API is away: the edge serves what it knew, with what it kept.
    api.set_down(true);
    let edge = Edge::start(folder.path(), &api).await;
    // The very first request finds it: connections wait until what was served is served again.
    assert_eq!(edge.get("http://a.test/increment/x").await.text, "Ok(2)");
    // What changed meanwhile is caught up with when it is back.
    api.delete("components", "shop", "probe");
    api.set_down(false);
    while edge.get("http://a.test/").await.status != StatusCode::NOT_FOUND {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_changes_its_backend_under_a_component_that_does_not_notice() {
    let (folder, api) = (tempfile::tempdir().unwrap(), FakeApi::new());
    api.apply("keyvaluestores", "shop", "counts", json!({ "embedded": {} }));
    let bound = json!({ "keyValue": [{ "name": "default", "store": "counts" }] });
    api.apply("components", "shop", "probe", with(spec("probe", Some("a.test"), "/"), bound));
    let edge = Edge::start(folder.path(), &api).await;
    api.until("components", "shop", "probe", "Ready").await;
    assert_eq!(edge.get("http://a.test/increment/x").await.text, "Ok(1)");
    // Egress refuses the loopback address, so this backend never answers.
    api.apply("keyvaluestores", "shop", "counts", json!({ "redis": { "address": "redis://127.0.0.1:1/0" } }));
    let store = api.until("keyvaluestores", "shop", "counts", "BackendUnavailable").await;
    assert_eq!(store["status"]["conditions"][0]["status"], "False");
    api.apply("keyvaluestores", "shop", "counts", json!({ "embedded": {} }));
    api.until("keyvaluestores", "shop", "counts", "Ready").await;
    api.until("components", "shop", "probe", "Ready").await;
    assert_eq!(edge.get("http://a.test/increment/x").await.text, "Ok(2)");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_object_does_not_take_a_host_that_it_claims_later() {
    let (folder, api) = (tempfile::tempdir().unwrap(), FakeApi::new());
    api.apply("components", "a", "old", spec("echo", Some("own.test"), "/"));
    let edge = Edge::start(folder.path(), &api).await;
    api.until("components", "a", "old", "Ready").await;
    api.apply("components", "b", "shop", spec("echo", Some("shop.test"), "/"));
    let shop = api.until("components", "b", "shop", "Ready").await;
    assert_eq!(shop["status"]["hosts"][0]["host"], "shop.test");
    api.apply("components", "a", "old", spec("echo", Some("shop.test"), "/"));
    let old = api.until("components", "a", "old", "RouteConflict").await;
    let message = old["status"]["conditions"][0]["message"].as_str().unwrap();
    assert_eq!(message, "host shop.test belongs to namespace b, which claimed shop.test first");
    edge.stop().await;
    // An edge that saw neither happen decides the same.
    let other = tempfile::tempdir().unwrap();
    let edge = Edge::start(other.path(), &api).await;
    api.apply("components", "c", "last", spec("echo", Some("last.test"), "/"));
    api.until("components", "c", "last", "Ready").await;
    api.until("components", "a", "old", "RouteConflict").await;
    api.until("components", "b", "shop", "Ready").await;
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_of_a_store_goes_with_its_object() {
    let (folder, api) = (tempfile::tempdir().unwrap(), FakeApi::new());
    let edge = Edge::start(folder.path(), &api).await;
    for name in ["gone", "stays"] {
        api.apply("keyvaluestores", "shop", name, json!({ "embedded": {} }));
        api.until("keyvaluestores", "shop", name, "Ready").await;
    }
    let files = || {
        let entries = std::fs::read_dir(folder.path().join("gateway/keyvalue")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    assert!(files().iter().any(|name| name.starts_with("shop_gone_")), "{:?}", files());
    edge.stop().await;
    // Also when nobody was there to see it go.
    api.delete("keyvaluestores", "shop", "gone");
    let edge = Edge::start(folder.path(), &api).await;
    while files().iter().any(|name| name.starts_with("shop_gone_")) {
        tokio::task::yield_now().await;
    }
    assert!(files().iter().any(|name| name.starts_with("shop_stays_")), "{:?}", files());
    edge.stop().await;
}
