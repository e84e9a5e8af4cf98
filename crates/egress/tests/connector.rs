//! The connector against real sockets on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use egress::{Connector, Error, Policy, Refusal};
use tokio::net::TcpListener;

fn allowing(text: &str) -> Connector {
    Connector::new(Policy { allow: vec![text.parse().unwrap()], ..Policy::default() })
}

#[tokio::test]
async fn loopback_is_refused_by_address_and_by_name() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connector = Connector::new(Policy::default());
    for host in ["127.0.0.1", "localhost", "[::1]", "::ffff:127.0.0.1", "0.0.0.0"] {
        let error = connector.connect(host, port).await.unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{host}: {error}");
    }
}

#[tokio::test]
async fn what_is_listed_connects_and_its_neighbours_do_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connector = allowing(&format!("127.0.0.1:{port}"));
    connector.connect("127.0.0.1", port).await.unwrap();
    let other = connector.connect("127.0.0.1", port.wrapping_add(1)).await.unwrap_err();
    assert!(matches!(other, Error::Refused { refusal: Refusal::Loopback, .. }), "{other}");
    allowing(&format!("localhost:{port}")).connect("localhost", port).await.unwrap();
}

#[tokio::test]
async fn nobody_there_and_no_such_name_are_told_apart() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let error = allowing("127.0.0.1").connect("127.0.0.1", port).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    let error = allowing("127.0.0.1").connect("no such name", 80).await.unwrap_err();
    assert!(matches!(error, Error::Resolve { .. }), "{error}");
}

#[tokio::test]
async fn a_silent_tls_server_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let policy = Policy { allow: vec!["127.0.0.1".parse().unwrap()], ..Policy::default() };
    let connector = Connector::with_timeout(policy, Duration::from_millis(50));
    let error = connector.connect_tls("127.0.0.1", port).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
}
