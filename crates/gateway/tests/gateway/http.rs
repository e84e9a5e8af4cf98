//! What clients meet on the wire.

use std::time::Duration;

use http::{Request, StatusCode, Version};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::api::FakeApi;
use crate::edge::{Edge, send, spec, with};

async fn probe(folder: &std::path::Path, limits: serde_json::Value) -> Edge {
    let api = FakeApi::new();
    api.apply("components", "shop", "probe", with(spec("probe", None, "/"), json!({ "limits": limits })));
    let edge = Edge::start(folder, &api).await;
    api.until("components", "shop", "probe", "Ready").await;
    edge
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_has_its_status() {
    let folder = tempfile::tempdir().unwrap();
    let edge = probe(folder.path(), json!({ "wallTime": "300ms", "requestBody": "10" })).await;
    for (path, body, want) in [
        ("/body", "small", StatusCode::OK),
        ("/sleep/20000", "", StatusCode::GATEWAY_TIMEOUT),
        ("/panic", "", StatusCode::BAD_GATEWAY),
        ("/nothing", "", StatusCode::BAD_GATEWAY),
    ] {
        let reply = edge.send(Request::post(format!("http://a.test{path}")), body).await;
        assert_eq!(reply.status, want, "{path}: {}", reply.text);
    }
    let large = edge.send(Request::post("http://a.test/body"), "more than ten bytes").await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE, "{}", large.text);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_with_prior_knowledge_is_served_too() {
    let folder = tempfile::tempdir().unwrap();
    let edge = probe(folder.path(), json!({})).await;
    let reply = edge.send(Request::post("http://a.test/body").version(Version::HTTP_2), "12345").await;
    assert_eq!((reply.status, reply.text.as_str()), (StatusCode::OK, "5"));
    edge.stop().await;
}

/// What comes back for bytes that no HTTP library would send.
async fn raw(edge: &Edge, bytes: &str) -> String {
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    reply
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_names_one_host() {
    let folder = tempfile::tempdir().unwrap();
    let edge = probe(folder.path(), json!({})).await;
    for hosts in ["", "host: a\r\nhost: b\r\n", "host: a/b\r\n"] {
        let reply = raw(&edge, &format!("GET /random HTTP/1.1\r\n{hosts}connection: close\r\n\r\n")).await;
        assert!(reply.starts_with("HTTP/1.1 400 "), "{hosts:?}: {reply}");
    }
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_is_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let edge = probe(folder.path(), json!({})).await;
    // Nothing at all, half a preface, half a head: each ends after the time for a head, two seconds here.
    let (nothing, preface, head) =
        tokio::join!(raw(&edge, ""), raw(&edge, "PRI"), raw(&edge, "GET / HTTP/1.1\r\nhos"));
    assert_eq!((nothing.as_str(), preface.as_str()), ("", ""));
    assert!(head.is_empty() || head.starts_with("HTTP/1.1 408"), "{head}");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_is_finished_when_the_gateway_stops() {
    let folder = tempfile::tempdir().unwrap();
    let edge = probe(folder.path(), json!({})).await;
    let address = edge.address;
    let slow = tokio::spawn(send(address, Request::get("http://a.test/sleep/700"), ""));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let serving = edge.begin_stop();
    let reply = slow.await.unwrap();
    assert_eq!((reply.status, reply.text.as_str()), (StatusCode::OK, "slept"));
    serving.await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_http_2_connection_is_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let edge = probe(folder.path(), json!({})).await;
    let stream = hyper_util::rt::TokioIo::new(TcpStream::connect(edge.address).await.unwrap());
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("http://a.test/random").body(http_body_util::Empty::<bytes::Bytes>::new());
    assert_eq!(sender.send_request(request.unwrap()).await.unwrap().status(), StatusCode::OK);
    // The client would stay: it is the edge that ends it.
    tokio::time::timeout(Duration::from_secs(30), connection).await.unwrap().unwrap().unwrap();
    drop(sender);
    edge.stop().await;
}
