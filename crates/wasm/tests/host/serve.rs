//! Serving requests.

use std::sync::Arc;
use std::time::Duration;

use capabilities::{Backend, Stores};
use egress::{Connector, Policy};
use futures::StreamExt as _;
use http_body::Body as _;
use http_body_util::{BodyExt, BodyStream};
use wasm::ServeError;

use crate::fixture::{Fixture, PATIENCE, Peer, Within, ask, get, post, text};

#[tokio::test]
async fn every_request_has_an_instance_of_its_own() {
    let fixture = Fixture::new();
    let echo = fixture.deployed("echo").await;
    for _ in 0..3 {
        let mut request = get("/");
        request.headers_mut().insert("x-echo", "hello".parse().unwrap());
        assert_eq!(text(echo.serve(request).await.unwrap()).await, (200, "hello 1\n".into()));
    }
}

#[tokio::test]
async fn more_requests_than_slots_wait_for_their_turn() {
    let fixture = Fixture::new();
    let echo = fixture.deployed("echo").await;
    let all = futures::future::join_all((0..120).map(|_| async { ask(&echo, "/").await.1 })).within().await;
    assert!(all.iter().all(|body| body == " 1\n"));
}

#[tokio::test]
async fn a_small_whole_answer_has_a_length() {
    let fixture = Fixture::new();
    let echo = fixture.deployed("echo").await;
    // A guest that lost its thread in the middle is sent as it writes; most do not.
    let sizes = futures::stream::repeat(())
        .then(|()| async { echo.serve(get("/")).await.unwrap().body().size_hint().exact() });
    let mut known = std::pin::pin!(sizes.filter_map(|size| async move { size }));
    assert_eq!(known.next().within().await, Some(3));
}

#[tokio::test]
async fn a_large_answer_arrives_whole() {
    let fixture = Fixture::new();
    let probe = fixture.deployed("probe").await;
    for size in [65_535, 65_536, 65_537, 3_000_000] {
        let (status, body) = ask(&probe, &format!("/big/{size}")).within().await;
        assert_eq!((status, body.len()), (200, size));
    }
}

#[tokio::test]
async fn pieces_reach_the_client_as_they_are_written() {
    let fixture = Fixture::new();
    let probe = fixture.deployed("probe").await;
    let response = probe.serve(get("/stream/3")).await.unwrap();
    let pieces: Vec<_> = BodyStream::new(response.into_body())
        .map(|frame| frame.unwrap().into_data().unwrap())
        .collect()
        .within()
        .await;
    assert_eq!(pieces, ["0\n", "1\n", "2\n"]);
}

#[tokio::test]
async fn a_guest_finishes_its_work_after_the_answer_was_read() {
    let fixture = Fixture::new();
    let store = fixture.store("links").await;
    let mut spec = fixture.spec("probe").await;
    spec.key_value.insert("default".into(), store.clone());
    let probe = fixture.host.deploy("test/probe", spec).unwrap();
    let done = async || {
        while store.get("after").await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        store.delete("after").await.unwrap();
    };
    // Read to its end; as far as its length says; not at all, where there is nothing to read.
    assert_eq!(ask(&probe, "/after").await.1, "answered");
    tokio::time::timeout(PATIENCE, done()).await.unwrap();
    let mut response = probe.serve(get("/after")).await.unwrap();
    assert_eq!(response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "answered");
    drop(response);
    tokio::time::timeout(PATIENCE, done()).await.unwrap();
    let mut request = get("/after");
    *request.method_mut() = http::Method::HEAD;
    drop(probe.serve(request).await.unwrap());
    tokio::time::timeout(PATIENCE, done()).await.unwrap();
    for status in [204, 304] {
        let response = probe.serve(get(&format!("/after/{status}"))).await.unwrap();
        assert_eq!(response.status().as_u16(), status);
        drop(response);
        tokio::time::timeout(PATIENCE, done()).await.unwrap();
    }
}

#[tokio::test]
async fn a_body_of_another_length_than_was_said_breaks_off() {
    let fixture = Fixture::new();
    let probe = fixture.deployed("probe").await;
    for (announced, written, why) in [(5, 11, "more"), (5, 4, "less"), (5, 0, "less"), (0, 1, "more")] {
        let response = probe.serve(get(&format!("/length/{announced}/{written}"))).await.unwrap();
        // Nobody is told a length other than the announced one.
        let exact = response.body().size_hint().exact();
        assert!(exact.is_none_or(|exact| exact == announced), "{announced} {written}: {exact:?}");
        let error = response.into_body().collect().within().await.unwrap_err();
        assert!(error.to_string().contains(why), "{announced} {written}: {error}");
    }
    let response = probe.serve(get("/length/5/5")).await.unwrap();
    assert_eq!(text(response).await.1, "xxxxx");
}

#[tokio::test]
async fn trailers_of_a_small_answer_arrive() {
    let fixture = Fixture::new();
    let probe = fixture.deployed("probe").await;
    let response = probe.serve(get("/trailers")).await.unwrap();
    let collected = response.into_body().collect().within().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["x-sum"], "5");
    assert_eq!(collected.to_bytes(), "small");
}

#[tokio::test]
async fn a_guest_whose_reader_stopped_is_ended_by_the_clock() {
    let fixture = Fixture::new();
    let mut spec = fixture.spec("probe").await;
    spec.limits.concurrency = 1;
    spec.limits.wall_time = Duration::from_millis(100);
    let probe = fixture.host.deploy("test/probe", spec).unwrap();
    let mut response = probe.serve(get("/flood")).await.unwrap();
    response.body_mut().frame().within().await.unwrap().unwrap();
    // The body is still there and nobody polls it: the place comes back all the same.
    let served = async { while probe.serve(get("/big/1")).await.is_err() {} };
    served.within().await;
    let error = response.into_body().collect().within().await.unwrap_err();
    assert!(error.to_string().contains("wall time"), "{error}");
}

#[tokio::test]
async fn a_server_that_stops_in_the_middle_of_its_answer_is_given_up_in_time() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stalling = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
        tokio::io::AsyncWriteExt::write_all(&mut stream, head).await.unwrap();
        std::future::pending::<()>().await;
    });
    let policy = Policy { allow: vec![address.to_string().parse().unwrap()], ..Policy::default() };
    let fixture = Fixture::allowing(policy);
    let mut spec = fixture.spec("probe").await;
    spec.allowed_outbound_hosts.push(format!("http://{address}").parse().unwrap());
    let probe = fixture.host.deploy("test/probe", spec).unwrap();
    let (status, body) = ask(&probe, &format!("/impatient/{address}/")).within().await;
    assert_eq!(status, 502, "{body}");
    stalling.abort();
}

#[tokio::test]
async fn one_component_leaves_a_part_of_the_pool_to_the_others() {
    let fixture = Fixture::new();
    let (greedy, other) = (fixture.deployed("probe").await, fixture.deployed("echo").await);
    let mut waiting: Vec<_> = (0..64).map(|_| Box::pin(greedy.serve(get("/sleep/600000")))).collect();
    for waiting in &mut waiting {
        assert!(futures::poll!(waiting).is_pending());
    }
    let response = other.serve(get("/")).await;
    assert_eq!(text(response.unwrap()).await.0, 200);
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_guest() {
    let fixture = Fixture::new();
    let mut spec = fixture.spec("probe").await;
    spec.limits.concurrency = 1;
    let probe = fixture.host.deploy("test/probe", spec).unwrap();
    let response = probe.serve(get("/stream/100000")).await.unwrap();
    drop(response);
    let waiting = tokio::time::timeout(Duration::from_millis(20), probe.serve(get("/sleep/60000"))).await;
    assert!(waiting.is_err());
    // Both gave their place back.
    assert_eq!(ask(&probe, "/big/1").within().await.1, "x");
}

#[tokio::test]
async fn nothing_is_granted_that_was_not_given() {
    let fixture = Fixture::new();
    let probe = fixture.deployed("probe").await;
    assert_eq!(ask(&probe, "/environment").await.1, "");
    assert!(ask(&probe, "/file").await.1.starts_with("refused"));
    assert!(ask(&probe, "/directory").await.1.starts_with("refused"));
    assert!(ask(&probe, "/socket/127.0.0.1:1").await.1.starts_with("refused"));
    assert_eq!(ask(&probe, "/increment/x").await.0, 503);
    let peer = Peer::start().await;
    let (status, body) = ask(&probe, &format!("/get/{}/", peer.address)).await;
    assert_eq!((status, body.contains("HttpRequestDenied")), (502, true), "{body}");
    assert!(peer.seen().is_empty());
}

#[tokio::test]
async fn what_was_given_is_there() {
    let peer = Peer::start().await;
    let fixture = Fixture::allowing(peer.policy());
    let mut spec = fixture.spec("probe").await;
    spec.environment.push(("COLOUR".into(), "green".into()));
    spec.allowed_outbound_hosts.push(format!("http://{}", peer.address).parse().unwrap());
    let probe = fixture.host.deploy("test/probe", spec).unwrap();
    assert_eq!(ask(&probe, "/environment").await.1, "COLOUR=green\n");
    let (status, body) = ask(&probe, &format!("/get/{}/a?b", peer.address)).within().await;
    assert_eq!((status, body.as_str()), (200, "200 GET /a key=none"));
    let (status, body) = ask(&probe, &format!("/post/{}/c", peer.address)).within().await;
    assert_eq!((status, body.as_str()), (200, "200 POST /c key=none"));
}

#[tokio::test]
async fn a_host_that_is_granted_is_still_refused_where_egress_refuses_it() {
    let peer = Peer::start().await;
    let fixture = Fixture::new();
    let mut spec = fixture.spec("probe").await;
    spec.allowed_outbound_hosts.push(format!("http://{}", peer.address).parse().unwrap());
    let probe = fixture.host.deploy("test/probe", spec).unwrap();
    let (status, body) = ask(&probe, &format!("/get/{}/", peer.address)).await;
    assert_eq!((status, body.contains("DestinationIpProhibited")), (502, true), "{body}");
    assert!(peer.seen().is_empty());
}

#[tokio::test]
async fn lines_of_both_streams_reach_the_log() {
    let fixture = Fixture::new();
    let probe = fixture.deployed("probe").await;
    ask(&probe, "/log/hello").await;
    assert_eq!(fixture.logs.take(), ["test/probe Stdout out hello", "test/probe Stderr err hello"]);
}

#[tokio::test]
async fn a_request_without_a_host_is_the_clients_mistake() {
    let fixture = Fixture::new();
    let echo = fixture.deployed("echo").await;
    let mut request = get("/");
    *request.uri_mut() = "/".parse().unwrap();
    let error = echo.serve(request).await.unwrap_err();
    assert!(matches!(error, ServeError::RequestInvalid(_)), "{error}");
}

#[tokio::test]
async fn a_store_changes_its_backend_under_a_component_that_does_not_notice() {
    let fixture = Fixture::new();
    let (stores, egress) = (Stores::new(), Connector::new(Policy::default()));
    let mut spec = fixture.spec("shortener").await;
    spec.key_value.insert("default".into(), stores.get("test/links"));
    let shortener = fixture.host.deploy("test/shortener", spec).unwrap();
    let shorten = || async { text(shortener.serve(post("/", "http://example.com/a")).await.unwrap()).await };
    assert_eq!(shorten().await.0, 503);

    let backend = |name: &str| Backend::Embedded { path: fixture.directory.path().join(name) };
    stores.bind("test/links", backend("one"), &egress).await.unwrap();
    let (status, code) = shorten().await;
    assert_eq!(status, 201);
    let path = format!("/{}", code.trim());
    let response = shortener.serve(get(&path)).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["location"]),
        (302, &"http://example.com/a".parse().unwrap())
    );
    assert_eq!(
        ask(&shortener, "/").await.1,
        format!("[{{\"code\":\"{}\",\"url\":\"http://example.com/a\"}}]\n", code.trim())
    );

    stores.bind("test/links", backend("two"), &egress).await.unwrap();
    assert_eq!(ask(&shortener, &path).await.0, 404);
    stores.bind("test/links", backend("one"), &egress).await.unwrap();
    assert_eq!(ask(&shortener, &path).await.0, 302);
}

#[tokio::test]
async fn a_new_deployment_does_not_disturb_what_runs_on_the_old() {
    let fixture = Fixture::new();
    let old = fixture.deployed("probe").await;
    let response = old.serve(get("/stream/3")).await.unwrap();
    let new = fixture.deployed("probe").await;
    assert!(!Arc::ptr_eq(&old, &new));
    fixture.host.retire(old.revision());
    drop(old);
    assert_eq!(response.into_body().collect().within().await.unwrap().to_bytes(), "0\n1\n2\n");
    assert_eq!(ask(&new, "/big/1").await.1, "x");
}
