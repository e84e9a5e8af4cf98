//! The contract of key-value stores: every backend against one model, in every order of calls, and against many callers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod redis_server;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use capabilities::{Backend, Embedded, Error, KeyValue, Redis, Store, Stores};
use egress::{Connector, Policy};
use proptest::prelude::*;
use redis_server::RedisServer;

#[derive(Clone, Debug)]
enum Call {
    Get(String),
    Set(String, Vec<u8>),
    Delete(String),
    Exists(String),
    Increment(String, i64),
    IncrementOnce(String, i64, u8),
    Forget(u8),
    GetMany(Vec<String>),
    SetMany(Vec<(String, Vec<u8>)>),
    DeleteMany(Vec<String>),
    List,
}

/// Few keys, so that calls meet; among them what a pattern, a prefix or an encoding could trip over.
fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "a*", "a/b", "[x]", "\u{fc}", " ", "a\nb", "\\"])
        .prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..20),
        any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        prop::sample::select(vec!["7", "+7", "007", " 7", "-0", "7 ", ""])
            .prop_map(|text| text.as_bytes().to_vec()),
    ]
}

fn call() -> impl Strategy<Value = Call> {
    let delta = || prop_oneof![-5..5_i64, Just(i64::MAX), Just(i64::MIN)];
    prop_oneof![
        key().prop_map(Call::Get),
        (key(), value()).prop_map(|(key, value)| Call::Set(key, value)),
        key().prop_map(Call::Delete),
        key().prop_map(Call::Exists),
        (key(), delta()).prop_map(|(key, delta)| Call::Increment(key, delta)),
        (key(), delta(), 0..3_u8).prop_map(|(key, delta, token)| Call::IncrementOnce(key, delta, token)),
        (0..3_u8).prop_map(Call::Forget),
        prop::collection::vec(key(), 0..4).prop_map(Call::GetMany),
        prop::collection::vec((key(), value()), 0..4).prop_map(Call::SetMany),
        prop::collection::vec(key(), 0..4).prop_map(Call::DeleteMany),
        Just(Call::List),
    ]
}

/// What a store is: a map, and what was given for tokens.
#[derive(Default)]
struct Model {
    values: BTreeMap<String, Vec<u8>>,
    tokens: BTreeMap<u8, i64>,
}

impl Model {
    fn increment(&mut self, key: &str, delta: i64) -> Result<i64, Error> {
        let now = match self.values.get(key) {
            None => 0,
            Some(value) => number(value).ok_or(Error::NotAnInteger)?,
        };
        let sum = now.checked_add(delta).ok_or(Error::NotAnInteger)?;
        self.values.insert(key.to_owned(), sum.to_string().into_bytes());
        Ok(sum)
    }
}

/// As the strictest backend reads a number: in its shortest form.
fn number(value: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(value).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == value).then_some(number)
}

async fn apply(store: &dyn KeyValue, model: &mut Model, call: Call) {
    let context = format!("{call:?}");
    match call {
        Call::Get(key) => {
            let got = store.get(&key).await.unwrap().map(Vec::from);
            assert_eq!(got, model.values.get(&key).cloned(), "{context}");
        }
        Call::Set(key, value) => {
            store.set(&key, value.clone().into()).await.unwrap();
            model.values.insert(key, value);
        }
        Call::Delete(key) => {
            store.delete(&key).await.unwrap();
            model.values.remove(&key);
        }
        Call::Exists(key) => {
            assert_eq!(store.exists(&key).await.unwrap(), model.values.contains_key(&key), "{context}");
        }
        Call::Increment(key, delta) => {
            let sum = store.increment(&key, delta, None).await;
            assert_eq!(sum, model.increment(&key, delta), "{context}");
        }
        Call::IncrementOnce(key, delta, token) => {
            let sum = store.increment(&key, delta, Some(&token.to_string())).await;
            let expected = match model.tokens.get(&token) {
                Some(earlier) => Ok(*earlier),
                None => model.increment(&key, delta).inspect(|sum| {
                    model.tokens.insert(token, *sum);
                }),
            };
            assert_eq!(sum, expected, "{context}");
        }
        Call::Forget(token) => {
            store.forget(&token.to_string()).await.unwrap();
            model.tokens.remove(&token);
        }
        Call::GetMany(keys) => {
            let limit: usize = keys.iter().filter_map(|key| model.values.get(key)).map(Vec::len).sum();
            if limit > 0 {
                let error = store.get_many(&keys, limit - 1).await.unwrap_err();
                assert_eq!(error, Error::BatchBytes { limit: limit - 1 }, "{context}");
            }
            let got: Vec<_> =
                store.get_many(&keys, limit).await.unwrap().into_iter().map(|v| v.map(Vec::from)).collect();
            let expected: Vec<_> = keys.iter().map(|key| model.values.get(key).cloned()).collect();
            assert_eq!(got, expected, "{context}");
        }
        Call::SetMany(pairs) => {
            let bytes = pairs.iter().map(|(key, value)| (key.clone(), Bytes::from(value.clone()))).collect();
            store.set_many(bytes).await.unwrap();
            model.values.extend(pairs);
        }
        Call::DeleteMany(keys) => {
            store.delete_many(&keys).await.unwrap();
            keys.iter().for_each(|key| drop(model.values.remove(key)));
        }
        Call::List => {
            assert_eq!(all_keys(store).await, model.values.keys().cloned().collect::<Vec<_>>(), "{context}");
        }
    }
}

async fn all_keys(store: &dyn KeyValue) -> Vec<String> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let page = store.keys(cursor.as_deref()).await.unwrap();
        all.extend(page.keys);
        cursor = page.next;
        if cursor.is_none() {
            all.sort();
            all.dedup();
            return all;
        }
    }
}

/// Runs generated sequences of calls, each on a store that `fresh` makes empty.
async fn follows_the_model<F: Future<Output = Arc<dyn KeyValue>>>(cases: u32, fresh: impl Fn(u32) -> F) {
    use proptest::strategy::ValueTree;
    let config = ProptestConfig::with_cases(cases);
    let mut runner = proptest::test_runner::TestRunner::new(config);
    for case in 0..cases {
        let calls = prop::collection::vec(call(), 1..40).new_tree(&mut runner).unwrap().current();
        let (store, mut model) = (fresh(case).await, Model::default());
        println!("case {case}: {calls:?}");
        for call in calls {
            apply(&*store, &mut model, call).await;
        }
        assert_eq!(all_keys(&*store).await, model.values.keys().cloned().collect::<Vec<_>>());
    }
}

async fn counts_every_caller(store: Arc<dyn KeyValue>) {
    let callers = (0..16).map(|caller| {
        let store = store.clone();
        tokio::spawn(async move {
            for round in 0..20 {
                store.increment("plain", 1, None).await.unwrap();
                // Each twice, as after a crash in between.
                let token = format!("{caller}-{round}");
                let first = store.increment("once", 1, Some(&token)).await.unwrap();
                assert_eq!(store.increment("once", 1, Some(&token)).await.unwrap(), first);
                store.forget(&token).await.unwrap();
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    assert_eq!(store.get("plain").await.unwrap().unwrap(), "320");
    assert_eq!(store.get("once").await.unwrap().unwrap(), "320");
}

async fn lists_many_keys(store: Arc<dyn KeyValue>) {
    let names: Vec<_> = (0..1234).map(|number| format!("key-{number:04}")).collect();
    store.set_many(names.iter().map(|name| (name.clone(), Bytes::new())).collect()).await.unwrap();
    assert_eq!(all_keys(&*store).await, names);
    assert!(store.keys(None).await.unwrap().next.is_some());
}

async fn embedded(directory: &tempfile::TempDir, name: &str) -> Arc<dyn KeyValue> {
    Arc::new(Embedded::open(&directory.path().join(name)).await.unwrap())
}

#[tokio::test]
async fn embedded_follows_the_model() {
    let directory = tempfile::tempdir().unwrap();
    follows_the_model(40, async |case| embedded(&directory, &case.to_string()).await).await;
}

#[tokio::test]
async fn embedded_counts_every_caller() {
    let directory = tempfile::tempdir().unwrap();
    counts_every_caller(embedded(&directory, "kv").await).await;
}

#[tokio::test]
async fn embedded_lists_many_keys() {
    let directory = tempfile::tempdir().unwrap();
    lists_many_keys(embedded(&directory, "kv").await).await;
}

#[tokio::test]
async fn embedded_keeps_what_it_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let store = embedded(&directory, "kv").await;
    store.set("a", "1".into()).await.unwrap();
    store.increment("n", 5, Some("token")).await.unwrap();
    drop(store);
    let store = embedded(&directory, "kv").await;
    assert_eq!(store.get("a").await.unwrap().unwrap(), "1");
    assert_eq!(store.increment("n", 5, Some("token")).await.unwrap(), 5);
}

#[tokio::test]
async fn redis_follows_the_model() {
    let server = RedisServer::start().await;
    // A prefix a case: an empty store, in a database that holds others.
    follows_the_model(100, async |case| server.store(&format!("[{case}]*:"))).await;
}

#[tokio::test]
async fn redis_counts_every_caller() {
    let server = RedisServer::start().await;
    counts_every_caller(server.store("")).await;
}

#[tokio::test]
async fn redis_lists_many_keys() {
    let server = RedisServer::start().await;
    lists_many_keys(server.store("p:")).await;
}

#[tokio::test]
async fn redis_is_found_again_after_it_was_gone() {
    let mut server = RedisServer::start().await;
    let store = server.store("");
    store.set("a", "1".into()).await.unwrap();
    server.stop().await;
    assert!(matches!(store.get("a").await, Err(Error::Unavailable(_))));
    assert!(matches!(store.check().await, Err(Error::Unavailable(_))));
    server.restart().await;
    store.set("a", "2".into()).await.unwrap();
    assert_eq!(store.get("a").await.unwrap().unwrap(), "2");
}

#[tokio::test]
async fn redis_goes_only_where_egress_goes() {
    let server = RedisServer::start().await;
    let store = Redis::new(&server.address(), "", Connector::new(Policy::default())).unwrap();
    let error = store.check().await.unwrap_err();
    assert!(error.to_string().contains("a loopback address"), "{error}");
}

#[test]
fn addresses_that_are_none_are_told() {
    let new = |address| Redis::new(address, "", Connector::new(Policy::default())).unwrap_err();
    for address in ["", "http://a", "rediss://a", "redis://", "redis://a:x", "redis+unix:///a", "redis://a/x"]
    {
        assert!(matches!(new(address), Error::InvalidBackend(_)), "{address}");
    }
}

#[tokio::test]
async fn a_store_is_named_before_it_is_backed_and_swapped_while_it_is_used() {
    let server = RedisServer::start().await;
    let directory = tempfile::tempdir().unwrap();
    let stores = Stores::new();
    let store = stores.get("ns/links");
    assert_eq!(store.get("a").await, Err(Error::Unbound("ns/links".into())));

    let file = Backend::Embedded { path: directory.path().join("kv") };
    let redis = Backend::Redis { address: server.address(), key_prefix: String::new() };
    stores.bind("ns/links", file.clone(), &server.egress()).await.unwrap();
    store.set("a", "embedded".into()).await.unwrap();

    let users: Vec<_> = (0..4)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..200 {
                    store.set("x", "y".into()).await.unwrap();
                }
            })
        })
        .collect();
    for _ in 0..3 {
        stores.bind("ns/links", redis.clone(), &server.egress()).await.unwrap();
        stores.bind("ns/links", file.clone(), &server.egress()).await.unwrap();
    }
    for user in users {
        user.await.unwrap();
    }
    assert_eq!(store.get("a").await.unwrap().unwrap(), "embedded");

    // What does not answer is not bound; the old one stays.
    let nowhere = Backend::Redis { address: "redis://127.0.0.1:1".into(), key_prefix: String::new() };
    assert!(matches!(stores.bind("ns/links", nowhere, &server.egress()).await, Err(Error::Unavailable(_))));
    assert_eq!(store.get("a").await.unwrap().unwrap(), "embedded");

    stores.remove("ns/links");
    assert!(matches!(store.get("a").await, Err(Error::Unbound(_))));
    stores.bind("ns/links", file, &server.egress()).await.unwrap();
    assert_eq!(store.get("a").await.unwrap().unwrap(), "embedded");
}

#[tokio::test]
async fn lengths_are_checked_before_a_backend_sees_them() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::standing_alone("ns/x", embedded(&directory, "kv").await);
    assert!(matches!(store.get("").await, Err(Error::KeyLength { .. })));
    assert!(matches!(store.get(&"k".repeat(1025)).await, Err(Error::KeyLength { limit: 1024 })));
    let large = Bytes::from(vec![0; (1 << 20) + 1]);
    assert!(matches!(store.set("k", large.clone()).await, Err(Error::ValueLength { .. })));
    assert!(matches!(store.set_many(vec![("k".into(), large)]).await, Err(Error::ValueLength { .. })));
    let many = vec!["k".to_owned(); 1001];
    assert!(matches!(store.get_many(&many).await, Err(Error::BatchLength { limit: 1000 })));
    let large = Bytes::from(vec![0; 1 << 20]);
    let pairs = (0..17).map(|number| (number.to_string(), large.clone())).collect();
    assert_eq!(store.set_many(pairs).await, Err(Error::BatchBytes { limit: 16 << 20 }));
    store.set("k", large).await.unwrap();
    assert_eq!(store.get_many(&vec!["k".into(); 17]).await, Err(Error::BatchBytes { limit: 16 << 20 }));
    assert_eq!(store.get_many(&vec!["k".into(); 16]).await.unwrap().len(), 16);
}
