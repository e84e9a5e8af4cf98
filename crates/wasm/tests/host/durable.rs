//! Durable invocations, with an accident at every step.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use capabilities::{Embedded, Error, KeyValue, Keys, Store};
use effects::{Halt, InvokeError, Invoker, Reply};
use wasm::{ComponentSpec, ServeError};

use crate::fixture::{Fixture, Peer, get};
use crate::journal::Journal;

async fn durable(fixture: &Fixture, guest: &str, change: impl FnOnce(&mut ComponentSpec)) -> String {
    let mut spec = fixture.spec(guest).await;
    spec.durable = true;
    change(&mut spec);
    fixture.host.deploy(&format!("test/{guest}"), spec).unwrap().revision()
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
    let error =
        fixture.host.invoke(&plain.revision(), request("GET", "/", ""), recorder()).await.unwrap_err();
    assert!(matches!(error, InvokeError::Failed(_)), "{error}");

    let revision = durable(&fixture, "echo", |_| {}).await;
    let component = fixture.host.deployed("test/echo", plain.digest()).unwrap();
    assert!(!Arc::ptr_eq(&plain, &component));
    assert!(matches!(component.serve(get("/")).await, Err(ServeError::Durable(_))));
    let reply = fixture.host.invoke(&revision, request("GET", "/", ""), recorder()).await.unwrap();
    assert_eq!(body(&reply), " 1\n");

    fixture.host.retire(&revision);
    let error = fixture.host.invoke(&revision, request("GET", "/", ""), recorder()).await.unwrap_err();
    assert!(matches!(error, InvokeError::NotReady(_)), "{error}");
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

/// A store whose increments are done and then said to have failed, as when the answer is lost.
struct Doubtful {
    inner: Embedded,
    forgotten: AtomicUsize,
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
        self.inner.increment(key, delta, token).await?;
        Err(Error::Unavailable("the answer was lost".into()))
    }
    async fn forget(&self, token: &str) -> Result<(), Error> {
        self.forgotten.fetch_add(1, Ordering::Relaxed);
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
    let backend = Arc::new(Doubtful { inner, forgotten: AtomicUsize::new(0) });
    let store = Store::standing_alone("x", backend.clone());
    let revision =
        durable(&fixture, "probe", |spec| drop(spec.key_value.insert("default".into(), store))).await;
    let journal = Journal::default();
    let reply =
        fixture.host.invoke(&revision, request("GET", "/increment/a", ""), journal.life(100)).await.unwrap();
    assert!(body(&reply).contains("the answer was lost"), "{}", body(&reply));
    assert_eq!(backend.forgotten.load(Ordering::Relaxed), 0);
}
