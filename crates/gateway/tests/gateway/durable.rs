//! Durable components over HTTP.

use std::time::Duration;

use http::{Request, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::api::FakeApi;
use crate::edge::{Edge, spec, with};

pub async fn orders(folder: &std::path::Path) -> (FakeApi, Edge) {
    orders_with(folder, |_| ()).await
}

async fn orders_with(
    folder: &std::path::Path,
    change: impl FnOnce(&mut gateway::Options),
) -> (FakeApi, Edge) {
    let api = FakeApi::new();
    api.apply("keyvaluestores", "shop", "orders", json!({ "embedded": {} }));
    api.apply("components", "shop", "order", durable("order", json!([])));
    let edge = Edge::start_with(folder, &api, change).await;
    api.until("components", "shop", "order", "Ready").await;
    (api, edge)
}

fn durable(guest: &str, environment: Value) -> Value {
    let more = json!({
        "keyValue": [{ "name": "default", "store": "orders" }],
        "durable": { "suspendAfter": "100ms" },
        "environment": environment,
    });
    with(spec(guest, None, "/orders"), more)
}

pub fn order(id: &str) -> http::request::Builder {
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
    // While the edge is down the component becomes another one, which the order was not begun with, and a newer engine
    // takes the place of the one that compiled it.
    std::fs::remove_dir_all(folder.path().join("cache")).unwrap();
    api.apply("components", "shop", "order", durable("probe", json!([{ "name": "A", "value": "1" }])));
    let edge = Edge::start(folder.path(), &api).await;
    api.until("components", "shop", "order", "Ready").await;
    let location = format!("http://shop.test{}", accepted.header("location"));
    let reply = edge.send(Request::get(&location).header("prefer", "wait=30"), "").await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert!(reply.text.contains("\"id\":\"o3\""), "{}", reply.text);
    edge.stop().await;
}

/// What an invocation is pinned to.
fn revision(edge: &Edge, id: &str) -> std::sync::Arc<str> {
    edge.worker().status("shop/order", id).unwrap().unwrap().invocation.component
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_changes_while_a_request_is_under_way_is_invoked_as_it_is_then() {
    let folder = tempfile::tempdir().unwrap();
    let (api, edge) = orders(folder.path()).await;
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    let head = format!(
        "POST /orders HTTP/1.1\r\nhost: shop.test\r\nidempotency-key: up\r\nexpect: 100-continue\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n",
        ORDER.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut word = [0; 25];
    stream.read_exact(&mut word).await.unwrap();
    assert!(word.starts_with(b"HTTP/1.1 100"), "the gateway reads the body, and so has found its target");
    assert_eq!(edge.send(order("before"), r#"{"item":"tea"}"#).await.status, StatusCode::OK);
    api.apply("components", "shop", "order", durable("order", json!([{ "name": "A", "value": "1" }])));
    api.until("components", "shop", "order", "Ready").await;
    stream.write_all(ORDER.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    assert_eq!(edge.send(order("after"), r#"{"item":"tea"}"#).await.status, StatusCode::OK);
    assert_eq!(revision(&edge, "up"), revision(&edge, "after"));
    assert_ne!(revision(&edge, "up"), revision(&edge, "before"), "the environment is another");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_reply_is_for_the_one_who_asked() {
    let folder = tempfile::tempdir().unwrap();
    let (_api, edge) = orders(folder.path()).await;
    let mine = |request: http::request::Builder| request.header("authorization", "Bearer mine");
    let reply = edge.send(mine(order("m")), r#"{"item":"tea"}"#).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let attached = edge.send(order("m").header("cookie", "yours"), r#"{"item":"tea"}"#).await;
    assert_eq!(attached.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", attached.text);
    let url = "http://shop.test/.well-known/monoplane/invocations/shop/order/m";
    assert_eq!(edge.get(url).await.status, StatusCode::NOT_FOUND);
    assert_eq!(edge.send(mine(Request::get(url)), "").await.text, reply.text);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_worker_durable_requests_are_put_off_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let (_api, edge) = orders(folder.path()).await;
    let worker = edge.workers.send_replace(None);
    let refused = edge.send(order("late"), r#"{"item":"tea"}"#).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.text);
    assert_eq!(refused.header("monoplane-invocation"), "shop/order/late");
    edge.workers.send_replace(worker);
    assert_eq!(edge.send(order("late"), r#"{"item":"tea"}"#).await.status, StatusCode::OK);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_when_the_gateway_stops_is_answered_or_told_where_to_ask() {
    let folder = tempfile::tempdir().unwrap();
    let (_api, edge) =
        orders_with(folder.path(), |options| options.limits.drain = Duration::from_secs(5)).await;
    let address = edge.address;
    let asks = |id, body| tokio::spawn(crate::edge::send(address, order(id), body));
    let (short, long) = (asks("short", ORDER), asks("long", r#"{"item":"tea","sleepSeconds":3600}"#));
    for id in ["short", "long"] {
        // Once it sleeps, its caller waits.
        while counts(&edge, id).await["placed"] == 0 {}
    }
    let worker = edge.worker();
    let serving = edge.begin_stop();
    assert_eq!(short.await.unwrap().status, StatusCode::OK);
    let sent_away = long.await.unwrap();
    assert_eq!(sent_away.status, StatusCode::SERVICE_UNAVAILABLE, "{}", sent_away.text);
    assert_eq!(sent_away.header("monoplane-invocation"), "shop/order/long");
    serving.await.unwrap().unwrap();
    worker.stop().await;
}
