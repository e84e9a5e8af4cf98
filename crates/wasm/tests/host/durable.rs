//! Durable invocations, with an accident at every step.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use capabilities::{Backend, Embedded, Error, KeyValue, Keys, Store, Stores};
use effects::{Halt, InvokeError, Invoker, Reply};
use egress::{Connector, Policy};
use wasm::{ComponentSpec, ServeError};

use crate::fixture::{Fixture, Peer, Within, get};
use crate::journal::Journal;

async fn durable(fixture: &Fixture, guest: &str, change: impl FnOnce(&mut ComponentSpec)) -> String {
    let mut spec = fixture.spec(guest).await;
    spec.durable = true;
    change(&mut spec);
    fixture.host.deploy(&format!("test/{guest}"), spec).unwrap().revision().to_owned()
}

fn request(method: &str, path: &str, body: &str) -> effects::Request {
    http::Request::builder().method(method).uri(path).body(Bytes::from(body.to_owned())).unwrap()
}

fn body(reply: &Reply) -> String {
    String::from_utf8(reply.body().to_vec()).unwrap()
}

/// Runs one life after the other, the first ending after no step, the next after one, and so on: every place in the
/// journal sees an accident before it and one after it.
async fn survive(
    fixture: &Fixture,
    revision: &str,
    journal: &Journal,
    request: impl Fn() -> effects::Request,
) -> (Reply, usize) {
    for lives in 0..100 {
        match fixture.host.invoke(revision, request(), journal.life(lives)).await {
            Ok(reply) => return (reply, lives),
            Err(InvokeError::Halted(Halt::Unavailable(_) | Halt::Suspended)) => {}
            Err(other) => panic!("{other}"),
        }
    }
    panic!("never came to its end");
}

#[tokio::test]
async fn an_order_is_taken_once_and_confirmed_once_whatever_happens() {
    let fixture = Fixture::new();
    let store = fixture.store("orders").await;
    let revision =
        durable(&fixture, "order", |spec| drop(spec.key_value.insert("default".into(), store.clone()))).await;
    let journal = Journal::default();
    let order = || {
        let mut request = request("POST", "/orders", r#"{"item": "tea", "sleepSeconds": 3600}"#);
        request.headers_mut().insert("idempotency-key", "A-1".parse().unwrap());
        request
    };
    let (reply, lives) = survive(&fixture, &revision, &journal, order).await;
    assert!(lives > 5, "{lives}");
    let text = body(&reply);
    assert!(text.starts_with(r#"{"id":"A-1","item":"tea","placedAt":"#), "{text}");
    let counts = async || {
        let asked = request("GET", "/orders/A-1", "");
        body(&fixture.host.invoke(&revision, asked, Journal::default().life(1000)).await.unwrap())
    };
    assert_eq!(counts().await, "{\"placed\":1,\"confirmed\":1}\n");
    assert!(journal.calls().contains(&"sleep".to_owned()));

    // Asked again, it answers the same and touches nothing.
    let again = fixture.host.invoke(&revision, order(), journal.life(1000)).await.unwrap();
    assert_eq!(body(&again), text);
    assert_eq!(counts().await, "{\"placed\":1,\"confirmed\":1}\n");
}

#[tokio::test]
async fn a_guest_that_repeats_itself_is_not_logged_again() {
    let fixture = Fixture::new();
    let store = fixture.store("orders").await;
    let revision =
        durable(&fixture, "order", |spec| drop(spec.key_value.insert("default".into(), store))).await;
    let journal = Journal::default();
    for _ in 0..3 {
        let mut order = request("POST", "/orders", r#"{"item": "tea", "sleepSeconds": 3600}"#);
        order.headers_mut().insert("idempotency-key", "A-1".parse().unwrap());
        // The first life ends at the sleep, the second comes to the end, the third only repeats.
        let _ = fixture.host.invoke(&revision, order, journal.life(1000)).await;
    }
    let placed = "test/order Stdout order A-1 placed, confirming in 3600 s";
    assert_eq!(fixture.logs.take(), [placed, "test/order Stdout order A-1 confirmed"]);
}

#[tokio::test]
async fn requests_go_out_under_the_key_of_their_place() {
    let peer = Peer::start().await;
    let fixture = Fixture::allowing(peer.policy());
    let store = fixture.store("steps").await;
    let revision = durable(&fixture, "probe", |spec| {
        spec.key_value.insert("default".into(), store.clone());
        spec.allowed_outbound_hosts.push(format!("http://{}", peer.address).parse().unwrap());
    })
    .await;
    let journal = Journal::default();
    let path = format!("/steps/{}/pay", peer.address);
    let (reply, _) = survive(&fixture, &revision, &journal, || request("GET", &path, "")).await;
    assert_eq!(body(&reply), "Ok(1) 200 POST /pay key=key-1 Ok(1)");
    // Sent again where it was in doubt, each time under the same key, by which its receiver can tell.
    let seen = peer.seen();
    assert!(!seen.is_empty() && seen.iter().all(|line| line == "POST /pay key=key-1"), "{seen:?}");
    assert_eq!(
        journal.calls(),
        [
            "wasi:keyvalue/atomics#increment",
            "wasi:http/outgoing-handler#handle",
            "wasi:keyvalue/atomics#increment"
        ]
    );
}

#[tokio::test]
async fn time_and_chance_come_out_the_same_again() {
    let fixture = Fixture::new();
    let revision = durable(&fixture, "probe", |_| {}).await;
    for path in ["/random", "/elapsed/100", "/sleep/5000"] {
        let journal = Journal::default();
        let (first, _) = survive(&fixture, &revision, &journal, || request("GET", path, "")).await;
        let again =
            fixture.host.invoke(&revision, request("GET", path, ""), journal.life(1000)).await.unwrap();
        assert_eq!(body(&first), body(&again), "{path}");
        assert!(!journal.calls().is_empty(), "{path}");
    }
}

#[tokio::test]
async fn what_cannot_be_replayed_is_refused_by_name() {
    let fixture = Fixture::new();
    let revision = durable(&fixture, "probe", |_| {}).await;
    let journal = Journal::default();
    let refused =
        fixture.host.invoke(&revision, request("GET", "/socket/1.1.1.1:80", ""), journal.life(100)).await;
    match refused {
        Err(InvokeError::Halted(Halt::Refused(function))) => {
            assert!(function.starts_with("wasi:sockets/"), "{function}")
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn another_path_than_the_journals_is_found_out() {
    let fixture = Fixture::new();
    let store = fixture.store("x").await;
    let revision =
        durable(&fixture, "probe", |spec| drop(spec.key_value.insert("default".into(), store))).await;
    let journal = Journal::default();
    let run = |path: &str| fixture.host.invoke(&revision, request("GET", path, ""), journal.life(100));
    run("/increment/a").await.unwrap();
    assert!(matches!(
        run("/increment/b").await,
        Err(InvokeError::Halted(Halt::Diverged { sequence: 0, .. }))
    ));
    assert!(matches!(run("/random").await, Err(InvokeError::Halted(Halt::Diverged { sequence: 0, .. }))));
}

#[tokio::test]
async fn durable_and_other_components_are_not_mixed_up() {
    let fixture = Fixture::new();
    let plain = fixture.deployed("echo").await;
    let recorder = || Journal::default().life(100);
    let error = fixture.host.invoke(plain.revision(), request("GET", "/", ""), recorder()).await.unwrap_err();
    assert!(matches!(error, InvokeError::NotReady(_)), "{error}");

    let revision = durable(&fixture, "echo", |_| {}).await;
    let component = fixture.host.deployed(&revision).unwrap();
    assert!(!Arc::ptr_eq(&plain, &component));
    assert!(matches!(component.serve(get("/")).await, Err(ServeError::Durable(_))));
    let reply = fixture.host.invoke(&revision, request("GET", "/", ""), recorder()).await.unwrap();
    assert_eq!(body(&reply), " 1\n");

    fixture.host.retire(&revision);
    let error = fixture.host.invoke(&revision, request("GET", "/", ""), recorder()).await.unwrap_err();
    assert!(matches!(error, InvokeError::NotReady(_)), "{error}");
}

/// A peer that takes connections and never answers.
async fn silence() -> (tokio::net::TcpListener, Fixture, String) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let fixture = Fixture::allowing(Policy { allow: vec![address.parse().unwrap()], ..Policy::default() });
    (listener, fixture, address)
}

#[tokio::test]
async fn time_awake_is_limited_and_time_asleep_is_not() {
    let (_listener, fixture, address) = silence().await;
    let revision = durable(&fixture, "probe", |spec| {
        spec.limits.wall_time = Duration::from_millis(300);
        spec.allowed_outbound_hosts.push(format!("http://{address}").parse().unwrap());
    })
    .await;
    let asked = request("GET", &format!("/post/{address}/"), "");
    let hit = fixture.host.invoke(&revision, asked, Journal::default().life(100)).within().await;
    assert!(matches!(hit, Err(InvokeError::LimitExceeded { limit: "wall time" })), "{hit:?}");

    let journal = Journal::napping(Duration::from_millis(400));
    let reply = fixture.host.invoke(&revision, request("GET", "/sleep/500", ""), journal.life(100)).await;
    assert_eq!(body(&reply.unwrap()), "slept");
}

#[tokio::test]
async fn one_more_than_there_is_room_for_is_told_that_it_is_busy() {
    let (_listener, fixture, address) = silence().await;
    let revision = durable(&fixture, "probe", |spec| {
        spec.limits.concurrency = 1;
        spec.allowed_outbound_hosts.push(format!("http://{address}").parse().unwrap());
    })
    .await;
    assert_eq!(fixture.host.concurrency(&revision), Some(1));
    assert_eq!(fixture.host.concurrency("test/none@1"), None);
    let many = durable(&fixture, "echo", |_| {}).await;
    assert_eq!(fixture.host.concurrency(&many), Some(48), "its share of the pool");
    let mut runs = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (host, revision) = (fixture.host.clone(), revision.clone());
        let asked = request("GET", &format!("/post/{address}/"), "");
        runs.spawn(async move { host.invoke(&revision, asked, Journal::default().life(100)).await });
    }
    // One runs, one waits for its place.
    let first = runs.join_next().within().await.unwrap().unwrap();
    assert!(matches!(first, Err(InvokeError::Busy(_))), "{first:?}");
}

#[tokio::test]
async fn a_store_that_cannot_be_asked_interrupts_and_is_asked_again() {
    let fixture = Fixture::new();
    let stores = Stores::new();
    let store = stores.get("test/counts");
    let revision =
        durable(&fixture, "probe", |spec| drop(spec.key_value.insert("default".into(), store))).await;
    let journal = Journal::default();
    let run = || fixture.host.invoke(&revision, request("GET", "/increment/a", ""), journal.life(100));
    let interrupted = run().await;
    assert!(matches!(interrupted, Err(InvokeError::Halted(Halt::Unavailable(_)))), "{interrupted:?}");
    let backend = Backend::Embedded { path: fixture.directory.path().join("counts") };
    stores.bind("test/counts", backend, &Connector::new(Policy::default())).await.unwrap();
    assert_eq!(body(&run().await.unwrap()), "Ok(1)");
    stores.remove("test/counts");
    assert_eq!(body(&run().await.unwrap()), "Ok(1)", "from the journal");
}

#[tokio::test]
async fn what_a_durable_guest_sees_without_a_record_is_its_revision() {
    let fixture = Fixture::new();
    let (a, b) = (fixture.store("a").await, fixture.store("b").await);
    let bare = durable(&fixture, "probe", |_| {}).await;
    let environment = durable(&fixture, "probe", |spec| {
        spec.environment.push(("A".into(), "1".into()));
    });
    let bound = durable(&fixture, "probe", |spec| drop(spec.key_value.insert("default".into(), a)));
    let other = durable(&fixture, "probe", |spec| drop(spec.key_value.insert("default".into(), b)));
    let limited = durable(&fixture, "probe", |spec| spec.limits.concurrency = 7);
    let served = fixture.deployed("probe").await.revision().to_owned();
    let all = [bare.clone(), environment.await, bound.await, other.await, served];
    assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), all.len(), "{all:?}");
    assert_eq!(limited.await, bare);
    for revision in &all {
        assert_eq!(fixture.host.deployed(revision).unwrap().revision(), revision);
    }
}

#[tokio::test]
async fn a_reply_over_the_limit_is_an_error_that_names_it() {
    let fixture = Fixture::new();
    let revision = durable(&fixture, "probe", |spec| spec.limits.buffered_body = 1000).await;
    let run = |path: &'static str| {
        fixture.host.invoke(&revision, request("GET", path, ""), Journal::default().life(9))
    };
    assert_eq!(run("/big/1000").await.unwrap().body().len(), 1000);
    assert!(matches!(run("/big/1001").await, Err(InvokeError::LimitExceeded { limit: "body size" })));
}

/// A store whose first increment is done and then said to have failed, as when the answer is lost.
struct Doubtful {
    inner: Embedded,
    doubted: AtomicBool,
}

#[async_trait]
impl KeyValue for Doubtful {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        self.inner.get(key).await
    }
    async fn set(&self, key: &str, value: Bytes) -> Result<(), Error> {
        self.inner.set(key, value).await
    }
    async fn delete(&self, key: &str) -> Result<(), Error> {
        self.inner.delete(key).await
    }
    async fn exists(&self, key: &str) -> Result<bool, Error> {
        self.inner.exists(key).await
    }
    async fn keys(&self, cursor: Option<&str>) -> Result<Keys, Error> {
        self.inner.keys(cursor).await
    }
    async fn increment(&self, key: &str, delta: i64, token: Option<&str>) -> Result<i64, Error> {
        let sum = self.inner.increment(key, delta, token).await?;
        if self.doubted.swap(true, Ordering::Relaxed) {
            return Ok(sum);
        }
        Err(Error::Unavailable("the answer was lost".into()))
    }
    async fn forget(&self, token: &str) -> Result<(), Error> {
        self.inner.forget(token).await
    }
    async fn get_many(&self, keys: &[String], limit: usize) -> Result<Vec<Option<Bytes>>, Error> {
        self.inner.get_many(keys, limit).await
    }
    async fn set_many(&self, pairs: Vec<(String, Bytes)>) -> Result<(), Error> {
        self.inner.set_many(pairs).await
    }
    async fn delete_many(&self, keys: &[String]) -> Result<(), Error> {
        self.inner.delete_many(keys).await
    }
    async fn check(&self) -> Result<(), Error> {
        self.inner.check().await
    }
}

#[tokio::test]
async fn the_marker_of_an_increment_in_doubt_stays() {
    let fixture = Fixture::new();
    let inner = Embedded::open(&fixture.directory.path().join("x")).await.unwrap();
    let backend = Arc::new(Doubtful { inner, doubted: AtomicBool::new(false) });
    let store = Store::standing_alone("x", backend);
    let revision =
        durable(&fixture, "probe", |spec| drop(spec.key_value.insert("default".into(), store))).await;
    let journal = Journal::default();
    let run = || fixture.host.invoke(&revision, request("GET", "/increment/a", ""), journal.life(100));
    let interrupted = run().await;
    assert!(matches!(interrupted, Err(InvokeError::Halted(Halt::Unavailable(_)))), "{interrupted:?}");
    // Found by the next attempt, which so adds nothing.
    assert_eq!(body(&run().await.unwrap()), "Ok(1)");
}
