//! Durable components over HTTP.

use http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::api::FakeApi;
use crate::edge::{Edge, spec, with};

async fn orders(folder: &std::path::Path) -> (FakeApi, Edge) {
    let api = FakeApi::new();
    api.apply("keyvaluestores", "shop", "orders", json!({ "embedded": {} }));
    let more = json!({
        "keyValue": [{ "name": "default", "store": "orders" }],
        "durable": { "suspendAfter": "100ms" },
    });
    api.apply("components", "shop", "order", with(spec("order", None, "/orders"), more));
    let edge = Edge::start(folder, &api).await;
    api.until("components", "shop", "order", "Ready").await;
    (api, edge)
}

fn order(id: &str) -> http::request::Builder {
    Request::post("http://shop.test/orders").header("idempotency-key", id)
}

const ORDER: &str = r#"{"item":"tea","sleepSeconds":1}"#;

async fn counts(edge: &Edge, id: &str) -> Value {
    let reply = edge.get(&format!("http://shop.test/orders/{id}")).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    serde_json::from_str(&reply.text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_id_is_one_order_however_often_it_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let (_api, edge) = orders(folder.path()).await;
    let (first, second) = tokio::join!(edge.send(order("\"o1\""), ORDER), edge.send(order("o1"), ORDER));
    assert_eq!((first.status, &first.text), (StatusCode::OK, &second.text), "{}", second.text);
    assert_eq!(first.header("monoplane-invocation"), "shop/order/o1");
    assert_eq!(first.header("idempotency-key"), "o1");
    let third = edge.send(order("o1"), ORDER).await;
    assert_eq!(third.text, first.text);
    assert_eq!(counts(&edge, "o1").await, json!({ "placed": 1, "confirmed": 1 }));
    let other = edge.send(order("o1"), r#"{"item":"coffee"}"#).await;
    assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", other.text);
    let bad = edge.send(order("a/b"), ORDER).await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST, "{}", bad.text);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_need_not_wait() {
    let folder = tempfile::tempdir().unwrap();
    let (_api, edge) = orders(folder.path()).await;
    let accepted = edge.send(order("o2").header("prefer", "respond-async"), ORDER).await;
    assert_eq!(accepted.status, StatusCode::ACCEPTED, "{}", accepted.text);
    assert_eq!(accepted.header("preference-applied"), "respond-async");
    let location = format!("http://shop.test{}", accepted.header("location"));
    assert_eq!(edge.get(&location).await.status, StatusCode::ACCEPTED);
    let reply = edge.send(Request::get(&location).header("prefer", "wait=30"), "").await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert!(reply.text.contains("\"id\":\"o2\""), "{}", reply.text);
    assert_eq!(edge.get(&location).await.text, reply.text);
    assert_eq!(edge.get(&format!("{location}x")).await.status, StatusCode::NOT_FOUND);
    assert_eq!(edge.send(Request::post(&location), "").await.status, StatusCode::METHOD_NOT_ALLOWED);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_location_is_found_though_another_component_has_all_paths() {
    let folder = tempfile::tempdir().unwrap();
    let (api, edge) = orders(folder.path()).await;
    api.apply("components", "shop", "echo", spec("echo", None, "/"));
    api.until("components", "shop", "echo", "Ready").await;
    let accepted = edge.send(order("o9").header("prefer", "respond-async"), ORDER).await;
    let location = format!("http://shop.test{}", accepted.header("location"));
    let reply = edge.send(Request::get(&location).header("prefer", "wait=30"), "").await;
    assert!(reply.text.contains("\"id\":\"o9\""), "{}", reply.text);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_outlives_its_client_its_edge_and_its_revision() {
    let folder = tempfile::tempdir().unwrap();
    let (api, edge) = orders(folder.path()).await;
    let accepted = edge.send(order("o3").header("prefer", "respond-async"), ORDER).await;
    assert_eq!(accepted.status, StatusCode::ACCEPTED, "{}", accepted.text);
    edge.stop().await;
    // While the edge is down the component becomes another one, which the order was not begun with.
    let more = json!({
        "keyValue": [{ "name": "default", "store": "orders" }],
        "durable": { "suspendAfter": "100ms" },
    });
    api.apply("components", "shop", "order", with(spec("probe", None, "/orders"), more));
    let edge = Edge::start(folder.path(), &api).await;
    api.until("components", "shop", "order", "Ready").await;
    let location = format!("http://shop.test{}", accepted.header("location"));
    let reply = edge.send(Request::get(&location).header("prefer", "wait=30"), "").await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert!(reply.text.contains("\"id\":\"o3\""), "{}", reply.text);
    edge.stop().await;
}
