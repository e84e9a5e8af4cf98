//! What is counted, as Prometheus reads it.

use std::net::TcpListener;

use http::{Request, StatusCode};

use crate::api::FakeApi;
use crate::edge::{Edge, send, spec};

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_by_who_answers_and_how() {
    let (folder, api) = (tempfile::tempdir().unwrap(), FakeApi::new());
    api.apply("components", "shop", "probe", spec("probe", Some("a.test"), "/"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let metrics = listener.local_addr().unwrap();
    let edge = Edge::start_with(folder.path(), &api, |options| options.metrics = Some(listener)).await;
    api.until("components", "shop", "probe", "Ready").await;
    for (url, want) in [
        ("http://a.test/body", StatusCode::OK),
        ("http://a.test/body", StatusCode::OK),
        ("http://a.test/panic", StatusCode::BAD_GATEWAY),
        ("http://b.test/metrics", StatusCode::NOT_FOUND),
    ] {
        assert_eq!(edge.send(Request::post(url), "").await.status, want, "{url}");
    }
    let page = send(metrics, Request::get("http://prometheus.test/metrics"), "").await;
    assert_eq!(page.header("content-type"), instruments::TEXT);
    let count = |family: &str, backend: &str, code: &str| {
        let begins = format!("monoplane_ingress_{family}{{backend=\"{backend}\",code=\"{code}\"}} ");
        page.text.lines().find_map(|line| line.strip_prefix(&begins)?.parse::<u64>().ok())
    };
    for (backend, code, want) in
        [("component", "2xx", 2), ("component", "5xx", 1), ("none", "4xx", 1), ("service", "2xx", 0)]
    {
        assert_eq!(count("requests_total", backend, code), Some(want), "{backend} {code}: {}", page.text);
    }
    assert_eq!(count("request_duration_seconds_count", "component", "2xx"), Some(2));
    let other = send(metrics, Request::get("http://prometheus.test/"), "").await;
    assert_eq!(other.status, StatusCode::NOT_FOUND);
    edge.stop().await;
}
