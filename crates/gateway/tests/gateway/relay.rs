//! What becomes of requests on their way to endpoints.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Version};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::edge::{Edge, Reply};
use crate::upstream::{Upstream, api, backend, ingress, raw, reach_tests, read_head, service, until};

/// A gateway all of whose requests go to these.
async fn edge_to(folder: &std::path::Path, endpoints: &[SocketAddr], port: Value) -> Edge {
    edge_with(folder, endpoints, port, |_| {}).await
}

async fn edge_with(
    folder: &std::path::Path,
    endpoints: &[SocketAddr],
    port: Value,
    more: impl FnOnce(&mut gateway::Options),
) -> Edge {
    let api = api();
    service(&api, "shop", "web", endpoints, port);
    ingress(&api, "shop", "main", json!({ "defaultBackend": backend("web") }));
    let change = |options: &mut gateway::Options| {
        reach_tests(options);
        options.proxy.reply = Duration::from_secs(1);
        options.proxy.request_body = 1000;
        options.limits.drain = Duration::from_secs(2);
        more(options);
    };
    Edge::start_with(folder, &api, change).await
}

fn told(reply: &Reply) -> Value {
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    serde_json::from_str(&reply.text).unwrap()
}

fn values<'a>(told: &'a Value, name: &str) -> Vec<&'a str> {
    let headers = told["headers"].as_array().unwrap().iter();
    headers.filter(|header| header[0] == name).map(|header| header[1].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_told_what_it_should_know() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start("one").await;
    let edge = edge_to(folder.path(), &[upstream.address], json!({})).await;
    let request = || {
        Request::post("http://a.test:8080/some/path?and=query")
            .header("x-forwarded-for", "10.0.0.1")
            .header("x-forwarded-host", "evil.test")
            .header("x-mine", "1")
    };
    let first = request()
        .header("host", "a.test:8080")
        .header("connection", "keep-alive, x-mine")
        .header("keep-alive", "timeout=5")
        .header("te", "trailers, deflate");
    let mut replies = vec![edge.send(first, "12345").await];
    replies.push(edge.send(request().version(Version::HTTP_2), "12345").await);
    for reply in &replies {
        let told = told(reply);
        assert_eq!((&told["method"], &told["uri"]), (&json!("POST"), &json!("/some/path?and=query")));
        assert_eq!((&told["version"], &told["body"]), (&json!("HTTP/1.1"), &json!(5)));
        assert_eq!(values(&told, "host"), ["a.test:8080"]);
        assert_eq!(values(&told, "x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(values(&told, "x-forwarded-proto"), ["http"]);
        assert_eq!(values(&told, "x-forwarded-host"), ["a.test:8080"]);
        assert_eq!(values(&told, "content-length"), ["5"]);
        assert_eq!(
            reply.header("keep-alive"),
            "",
            "what is about the connection to the endpoint stays there"
        );
    }
    let (first, second) = (told(&replies[0]), told(&replies[1]));
    assert_eq!((values(&first, "x-mine"), values(&second, "x-mine")), (vec![], vec!["1"]));
    assert_eq!((values(&first, "te"), values(&first, "keep-alive")), (vec!["trailers"], vec![]));
    edge.stop().await;
}

/// Sends bytes that no library would, and reads until the other side closes.
async fn raw_exchange(address: SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    reply
}

#[tokio::test(flavor = "multi_thread")]
async fn two_readers_see_one_request() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start("one").await;
    let edge = edge_to(folder.path(), &[upstream.address], json!({})).await;
    let smuggled = "POST / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n5\r\nGET /\r\n0\r\n\r\n";
    let reply = raw_exchange(edge.address, smuggled).await;
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    let told: Value = serde_json::from_str(reply.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(told["body"], 5);
    assert_eq!(
        (values(&told, "content-length"), values(&told, "transfer-encoding")),
        (vec![], vec!["chunked"])
    );
    for bad in [
        "content-length: 4\r\ncontent-length: 5\r\n\r\n1234",
        "content-length: +4\r\n\r\n1234",
        "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    ] {
        let reply = raw_exchange(edge.address, &format!("POST / HTTP/1.1\r\nhost: a.test\r\n{bad}")).await;
        assert!(reply.starts_with("HTTP/1.1 400 "), "{bad:?}: {reply}");
    }
    let reply = raw_exchange(
        edge.address,
        "CONNECT a.test:443 HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(reply.starts_with("HTTP/1.1 405 "), "{reply}");
    assert_eq!(upstream.count(), 1);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_have_their_statuses() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start("one").await;
    let edge = edge_to(folder.path(), &[upstream.address], json!({})).await;
    let large = "x".repeat(1001);
    let reply = edge.send(Request::post("http://a.test/"), &large).await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE, "{}", reply.text);
    assert_eq!(upstream.count(), 0);
    let chunked = format!(
        "POST / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n3e9\r\n{large}\r\n0\r\n\r\n"
    );
    let reply = raw_exchange(edge.address, &chunked).await;
    assert!(reply.starts_with("HTTP/1.1 413 "), "{reply}");
    let reply = edge.get("http://a.test/hang").await;
    assert_eq!(reply.status, StatusCode::GATEWAY_TIMEOUT, "{}", reply.text);
    let head = format!("GET / HTTP/1.1\r\nhost: a.test\r\nx: {}\r\n\r\n", "x".repeat(256 << 10));
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    // It may be closed before all is written.
    let _ = stream.write_all(head.as_bytes()).await;
    let mut reply = [0; 12];
    if stream.read_exact(&mut reply).await.is_ok() {
        assert_eq!(&reply, b"HTTP/1.1 431");
    }
    // A client that waits is told to go on.
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"abc").await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 200 ") && reply.contains("\"body\":3"), "{reply}");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_connection_carries_anything() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start("one").await;
    let edge = edge_to(folder.path(), &[upstream.address], json!({})).await;
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    let head =
        "GET /upgrade HTTP/1.1\r\nhost: a.test\r\nconnection: keep-alive, Upgrade\r\nupgrade: shout\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut reply = Vec::new();
    while !reply.ends_with(b"\r\n\r\n") {
        reply.push(stream.read_u8().await.unwrap());
    }
    let reply = String::from_utf8(reply).unwrap().to_lowercase();
    assert!(reply.starts_with("http/1.1 101 ") && reply.contains("upgrade: shout"), "{reply}");
    for word in ["hello", "again"] {
        stream.write_all(word.as_bytes()).await.unwrap();
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, *word.to_uppercase().as_bytes());
    }
    // It ends before the gateway does.
    let serving = edge.begin_stop();
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0);
    serving.await.unwrap().unwrap();
    upstream.until_open(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_trailers_go_both_ways_over_http_2() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start("one").await;
    let edge =
        edge_to(folder.path(), &[upstream.address], json!({ "appProtocol": "kubernetes.io/h2c" })).await;
    let seen = told(&edge.get("http://a.test/").await);
    assert_eq!((&seen["version"], &seen["uri"]), (&json!("HTTP/2.0"), &json!("http://a.test/")));
    let stream = TokioIo::new(TcpStream::connect(edge.address).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let (frames, receiver) = mpsc::unbounded_channel::<Frame<Bytes>>();
    let body = stream::unfold(receiver, |mut receiver| async move {
        Some((Ok::<_, std::convert::Infallible>(receiver.recv().await?), receiver))
    });
    let request = Request::post("http://a.test/echo").header("te", "trailers").version(Version::HTTP_2);
    let reply = sender.send_request(request.body(StreamBody::new(Box::pin(body))).unwrap()).await.unwrap();
    let mut reply = reply.into_body();
    // Each frame comes back before the next is sent.
    for word in ["one", "two"] {
        frames.send(Frame::data(Bytes::from_static(word.as_bytes()))).unwrap();
        let heard = reply.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(heard, word);
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("6"));
    frames.send(Frame::trailers(trailers)).unwrap();
    drop(frames);
    let trailers = reply.frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(
        [&trailers["x-sum"], &trailers["grpc-status"]].map(|value| value.to_str().unwrap()),
        ["6", "0"]
    );
    assert!(upstream.accepted.load(Ordering::SeqCst) <= 2, "a connection a thread");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_kept_and_what_closed_them_is_not_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start("one").await;
    let edge = edge_to(folder.path(), &[upstream.address], json!({})).await;
    for _ in 0..20 {
        told(&edge.get("http://a.test/").await);
    }
    assert!(upstream.accepted.load(Ordering::SeqCst) <= 2, "a connection a thread");
    edge.stop().await;

    // This one says nothing of it, and closes after each reply: half the time just when the next request comes.
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    let closing = raw(move |mut stream, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            if read_head(&mut stream).await {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            }
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let edge = edge_to(folder.path(), &[closing], json!({})).await;
    for _ in 0..100 {
        let reply = edge.get("http://a.test/").await;
        assert_eq!((reply.status, reply.text.as_str()), (StatusCode::OK, "ok"));
    }
    assert!(connections.load(Ordering::SeqCst) >= 100);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_be_sent_twice_goes_over_no_connection_that_may_be_closing() {
    // It closes after each reply, and then says that it has.
    let (tells, mut closed) = mpsc::unbounded_channel();
    let closing = raw(move |mut stream, _| {
        let tells = tells.clone();
        async move {
            if read_head(&mut stream).await {
                stream.read_exact(&mut [0; 4]).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                drop(stream);
                tells.send(()).unwrap();
            }
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let edge = edge_to(folder.path(), &[closing], json!({})).await;
    for _ in 0..100 {
        let reply = edge.send(Request::post("http://a.test/"), "body").await;
        assert_eq!((reply.status, reply.text.as_str()), (StatusCode::OK, "ok"));
        closed.recv().await.unwrap();
    }
    edge.stop().await;

    // With no connection young enough, each of them gets its own, and the others go on sharing theirs.
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start("one").await;
    let never = |options: &mut gateway::Options| options.proxy.fresh_for = Duration::ZERO;
    let edge = edge_with(folder.path(), &[upstream.address], json!({}), never).await;
    let accepted = || upstream.accepted.load(Ordering::SeqCst);
    for _ in 0..10 {
        told(&edge.get("http://a.test/").await);
    }
    let shared = accepted();
    assert!(shared <= 2, "a connection a thread");
    for count in 1..=10 {
        told(&edge.send(Request::post("http://a.test/"), "body").await);
        assert_eq!(accepted(), shared + count);
    }
    told(&edge.get("http://a.test/").await);
    assert_eq!(accepted(), shared + 10);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_may_be_repeated_is_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let reads = Arc::new(AtomicUsize::new(0));
    let counted = reads.clone();
    let broken = raw(move |mut stream, _| {
        let counted = counted.clone();
        async move {
            if read_head(&mut stream).await {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        }
    })
    .await;
    let edge = edge_to(folder.path(), &[broken], json!({})).await;
    let reply = edge.send(Request::post("http://a.test/"), "once").await;
    assert_eq!(reply.status, StatusCode::BAD_GATEWAY, "{}", reply.text);
    assert_eq!(reads.load(Ordering::SeqCst), 1, "it may have been done");
    edge.stop().await;

    // Nobody listens at one of them, one breaks off, one answers.
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let upstream = Upstream::start("one").await;
    let folder = tempfile::tempdir().unwrap();
    let edge = edge_to(folder.path(), &[closed, broken, upstream.address], json!({})).await;
    for _ in 0..20 {
        told(&edge.get("http://a.test/").await);
    }
    edge.stop().await;
    // What was not sent may go to another whatever it is.
    let folder = tempfile::tempdir().unwrap();
    let edge = edge_to(folder.path(), &[closed, upstream.address], json!({})).await;
    for _ in 0..20 {
        assert_eq!(told(&edge.send(Request::post("http://a.test/"), "body").await)["body"], 4);
    }
    edge.stop().await;
    let folder = tempfile::tempdir().unwrap();
    let edge = edge_to(folder.path(), &[closed], json!({})).await;
    let reply = edge.get("http://a.test/").await;
    assert_eq!(
        (reply.status, reply.header("content-type")),
        (StatusCode::BAD_GATEWAY, "application/problem+json")
    );
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_requests_finish() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start("one").await;
    // A connection that meets the listener's end can take a second to fail, and the replies wait for that.
    let patient = |options: &mut gateway::Options| {
        options.proxy.reply = Duration::from_secs(60);
        options.limits.drain = Duration::from_secs(60);
    };
    let edge = edge_with(folder.path(), &[upstream.address], json!({}), patient).await;
    let address = edge.address;
    let slow = |version| {
        let request = Request::get("http://a.test/gate").version(version);
        tokio::spawn(crate::edge::send(address, request, ""))
    };
    let both = [slow(Version::HTTP_11), slow(Version::HTTP_2)];
    upstream.until_begun(2).await;
    let serving = edge.begin_stop();
    until("nobody listens", || std::net::TcpStream::connect(address).is_err()).await;
    upstream.gate.add_permits(2);
    for (reply, version) in both.into_iter().zip(["close", ""]) {
        let reply = reply.await.unwrap();
        assert_eq!((reply.text.as_str(), reply.header("connection")), ("one", version));
    }
    serving.await.unwrap().unwrap();
}
