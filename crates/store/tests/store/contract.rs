//! What every backend has to do, as a program. `contract!(name, Backend)` runs all of it against one.

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use store::{Entry, Error, Event, Expect, Page, Range, Revision, Store, Txn, Watch, Write};

use crate::model::Model;

/// A kind of store that can be made, and made anew over what it kept.
pub trait Backend: Send + Sized {
    type Store: Store + Clone;
    /// What all backends of one test have in common.
    type Shared: Default;
    /// An empty one.
    fn new(shared: &Self::Shared) -> Self;
    /// Opens it. The one opened before, if any, has been closed.
    async fn open(&self) -> Self::Store;
    /// Closes one so that it can be opened again.
    async fn close(store: Self::Store);
}

macro_rules! contract {
    ($backend:ty: $($name:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let shared = Default::default();
                let backend = <$backend as crate::contract::Backend>::new(&shared);
                crate::contract::$name(&backend).await;
            }
        )*
    };
    ($backend:ty) => {
        crate::contract::contract!($backend:
            one_key_through_its_life, a_transaction_is_all_or_nothing, malformed_transactions_are_refused,
            pages_of_one_revision, scans_show_all_of_one_revision, one_of_many_writers_wins_each_revision, watches_see_everything_in_order,
            a_watch_crosses_from_history_to_now_without_a_gap, a_watch_gets_as_far_as_the_head,
            a_slow_watcher_hinders_nobody,
            a_dropped_call_still_counts, compaction_ends_what_is_behind,
        );

        #[test]
        fn it_does_what_the_model_does() {
            crate::contract::it_does_what_the_model_does::<$backend>();
        }
    };
}
pub(crate) use contract;

pub fn bytes(text: impl ToString) -> Bytes {
    text.to_string().into_bytes().into()
}

pub fn put(key: impl ToString, value: impl ToString) -> Txn {
    Txn { expect: vec![], writes: vec![Write::Put(bytes(key), bytes(value))], ..Txn::default() }
}

pub fn delete(key: impl ToString) -> Txn {
    Txn { expect: vec![], writes: vec![Write::Delete(bytes(key))], ..Txn::default() }
}

fn when(mut txn: Txn, key: &str, expect: Expect) -> Txn {
    txn.expect.push((bytes(key), expect));
    txn
}

async fn value(store: &impl Store, key: &str, at: Option<Revision>) -> Option<String> {
    let entry = store.get(key.as_bytes(), at).await.unwrap();
    entry.map(|entry| String::from_utf8(entry.value.to_vec()).unwrap())
}

/// Waits for events until there are so many. A watch that stays silent fails the test by the runner's time limit.
pub async fn events(watch: &mut Watch, count: usize) -> Vec<Event> {
    let mut found = Vec::new();
    while found.len() < count {
        found.extend(watch.events.recv().await.expect("the watch ended").expect("the watch failed").events);
    }
    found
}

pub async fn one_key_through_its_life(backend: &impl Backend) {
    let store = backend.open().await;
    assert_eq!(store.head().await.unwrap(), 0);
    assert_eq!(store.commit(when(put("k", "1"), "k", Expect::Absent)).await.unwrap().revision, 1);
    let Err(Error::Conflict { key, current }) = store.commit(when(put("k", "x"), "k", Expect::Absent)).await
    else {
        panic!("created twice");
    };
    assert_eq!((key, current.unwrap().mod_revision), (bytes("k"), 1));
    assert_eq!(store.commit(when(put("k", "2"), "k", Expect::ModRevision(1))).await.unwrap().revision, 2);
    assert!(store.commit(when(put("k", "x"), "k", Expect::ModRevision(1))).await.is_err());
    let entry = store.get(b"k", None).await.unwrap().unwrap();
    assert_eq!((entry.create_revision, entry.mod_revision, entry.value), (1, 2, bytes("2")));
    assert_eq!(store.commit(when(delete("k"), "k", Expect::ModRevision(2))).await.unwrap().revision, 3);
    assert_eq!(store.commit(delete("k")).await.unwrap().revision, 3, "deleting nothing takes no revision");
    assert_eq!(value(&store, "k", None).await, None);
    assert_eq!(value(&store, "k", Some(1)).await.as_deref(), Some("1"));
    assert_eq!(value(&store, "k", Some(2)).await.as_deref(), Some("2"));
    assert_eq!(store.commit(put("k", "3")).await.unwrap().revision, 4);
    assert_eq!(store.get(b"k", None).await.unwrap().unwrap().create_revision, 4, "it is another key now");
    assert!(matches!(store.get(b"k", Some(5)).await, Err(Error::Future { requested: 5, current: 4 })));
    close(backend, store).await;

    let store = backend.open().await;
    assert_eq!(store.head().await.unwrap(), 4);
    assert_eq!(value(&store, "k", Some(2)).await.as_deref(), Some("2"));
    assert_eq!(store.commit(put("other", "")).await.unwrap().revision, 5);
    assert_eq!(value(&store, "other", None).await.as_deref(), Some(""), "an empty value is a value");
}

async fn close<B: Backend>(_: &B, store: B::Store) {
    B::close(store).await;
}

pub async fn a_transaction_is_all_or_nothing(backend: &impl Backend) {
    let store = backend.open().await;
    store.commit(put("a", "1")).await.unwrap();
    let writes = vec![Write::Put(bytes("b"), bytes("2")), Write::Delete(bytes("a"))];
    let refused = Txn {
        expect: vec![(bytes("a"), Expect::ModRevision(1)), (bytes("c"), Expect::ModRevision(9))],
        writes,
        ..Txn::default()
    };
    assert!(
        matches!(store.commit(refused.clone()).await, Err(Error::Conflict { key, current: None }) if key == "c")
    );
    assert_eq!((value(&store, "a", None).await.is_some(), value(&store, "b", None).await), (true, None));

    let mut watch = store.watch(bytes(""), 1).await.unwrap();
    let accepted = Txn { expect: refused.expect[..1].to_vec(), writes: refused.writes, ..Txn::default() };
    assert_eq!(store.commit(accepted).await.unwrap().revision, 2);
    assert_eq!((value(&store, "a", None).await, value(&store, "b", None).await.is_some()), (None, true));
    let told = watch.events.recv().await.unwrap().unwrap();
    assert_eq!(told.revision, 2);
    let seen: Vec<_> =
        told.events.iter().map(|event| (&event.key[..], event.entry.is_some(), event.revision)).collect();
    assert_eq!(seen, [(&b"b"[..], true, 2), (&b"a"[..], false, 2)], "one batch, in the order of the writes");
}

pub async fn malformed_transactions_are_refused(backend: &impl Backend) {
    let store = backend.open().await;
    let twice = vec![Write::Put(bytes("k"), bytes("")), Write::Delete(bytes("k"))];
    let large = vec![Write::Put(bytes("k"), vec![0; store::MAX_TXN_BYTES].into())];
    let many = (0..=store::MAX_TXN_OPS).map(|i| Write::Put(bytes(i), bytes(""))).collect();
    for writes in [vec![], twice, large, many] {
        let refused = store.commit(Txn { expect: vec![], writes, ..Txn::default() }).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    }
    assert_eq!(store.head().await.unwrap(), 0);
}

pub async fn pages_of_one_revision(backend: &impl Backend) {
    let store = backend.open().await;
    for i in 0..25 {
        store.commit(put(format!("p/{i:02}"), i)).await.unwrap();
    }
    store.commit(put("q/0", "")).await.unwrap();
    let (mut range, mut keys) = (Range { prefix: bytes("p/"), limit: 10, ..Range::default() }, Vec::new());
    loop {
        let page = store.range(range.clone()).await.unwrap();
        assert_eq!(page.revision, 26, "later pages show what the first did");
        // Later changes must not show.
        store.commit(delete(format!("p/{:02}", keys.len() + 15))).await.unwrap();
        keys.extend(page.entries.into_iter().map(|entry| entry.key));
        assert_eq!(page.remaining, 25 - keys.len() as u64);
        if page.remaining == 0 {
            break;
        }
        range = Range { after: keys.last().cloned(), at: Some(page.revision), ..range };
    }
    assert_eq!(keys, (0..25).map(|i| format!("p/{i:02}")).collect::<Vec<_>>());
}

/// What a scan shows, in key order, with its revision.
pub async fn scanned(store: &impl Store, prefix: &str) -> (Vec<Entry>, Revision) {
    let mut scan = store.scan(bytes(prefix)).await.unwrap();
    let mut found = Vec::new();
    while let Some(entries) = scan.next().await.unwrap() {
        found.extend(entries);
    }
    found.sort_by(|a, b| a.key.cmp(&b.key));
    (found, scan.revision())
}

pub async fn scans_show_all_of_one_revision(backend: &impl Backend) {
    let store = backend.open().await;
    for i in 0..900 {
        store.commit(put(format!("p/{:03}", i * 7 % 900), i)).await.unwrap();
    }
    for i in 0..300 {
        store.commit(put("q/0", i)).await.unwrap();
        store.commit(delete(format!("p/{:03}", i * 3))).await.unwrap();
    }
    for prefix in ["p/", "q/", "r/", ""] {
        let mut scan = store.scan(bytes(prefix)).await.unwrap();
        let range = Range { prefix: bytes(prefix), at: Some(scan.revision()), ..Range::default() };
        let expected = store.range(range).await.unwrap();
        // Later changes must not show.
        store.commit(put("p/001", "later")).await.unwrap();
        store.commit(delete("p/002")).await.unwrap();
        store.commit(put("p/002", "later")).await.unwrap();
        let mut found = Vec::new();
        while let Some(entries) = scan.next().await.unwrap() {
            found.extend(entries);
        }
        found.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(found, expected.entries, "{prefix}");
    }
    // Nobody waits for one that is dropped.
    drop(store.scan(bytes("")).await.unwrap());
}

pub async fn one_of_many_writers_wins_each_revision(backend: &impl Backend) {
    const WRITERS: u64 = 8;
    const TURNS: u64 = 25;
    let store = backend.open().await;
    let mut watch = store.watch(bytes(""), 0).await.unwrap();
    let writers: Vec<_> = (0..WRITERS).map(|_| tokio::spawn(count_to(store.clone(), TURNS))).collect();
    let mut wins = 0;
    for writer in writers {
        wins += writer.await.unwrap();
    }
    assert_eq!(wins, WRITERS * TURNS);
    assert_eq!(value(&store, "counter", None).await.unwrap(), (WRITERS * TURNS).to_string());
    let seen: Vec<_> = events(&mut watch, wins as usize).await;
    for (i, event) in seen.iter().enumerate() {
        let i = i as u64 + 1;
        let entry = event.entry.as_ref().unwrap();
        assert_eq!((event.revision, &entry.value), (i, &bytes(i)));
        assert_eq!(event.previous.as_ref().map(|entry| entry.mod_revision), (i > 1).then(|| i - 1));
    }
}

/// Adds one to a counter, so many times, however often another is faster.
async fn count_to(store: impl Store, turns: u64) -> u64 {
    let mut current = None;
    for _ in 0..turns {
        loop {
            let (expect, count) = match &current {
                None => (Expect::Absent, 0),
                Some(entry) => {
                    let entry: &store::Entry = entry;
                    let count: u64 = std::str::from_utf8(&entry.value).unwrap().parse().unwrap();
                    (Expect::ModRevision(entry.mod_revision), count)
                }
            };
            match store.commit(when(put("counter", count + 1), "counter", expect)).await {
                Ok(_) => break,
                Err(Error::Conflict { current: now, .. }) => current = now.map(|entry| *entry),
                Err(error) => panic!("{error}"),
            }
        }
        current = store.get(b"counter", None).await.unwrap();
    }
    turns
}

pub async fn watches_see_everything_in_order(backend: &impl Backend) {
    let store = backend.open().await;
    let mut all = store.watch(bytes(""), 0).await.unwrap();
    let mut some = store.watch(bytes("3/"), 0).await.unwrap();
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for i in 0..50 {
                    store.commit(put(format!("{writer}/{}", i % 7), i)).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let revisions: Vec<_> = events(&mut all, 400).await.iter().map(|event| event.revision).collect();
    assert_eq!(revisions, (1..=400).collect::<Vec<_>>());
    let theirs = events(&mut some, 50).await;
    assert!(theirs.iter().all(|event| event.key.starts_with(b"3/")));
    let values: Vec<_> = theirs.into_iter().map(|event| event.entry.unwrap().value).collect();
    assert_eq!(values, (0..50).map(bytes).collect::<Vec<_>>());
}

pub async fn a_watch_crosses_from_history_to_now_without_a_gap(backend: &impl Backend) {
    let store = backend.open().await;
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for i in 0..1500 {
                store.commit(put(i % 10, i)).await.unwrap();
            }
        }
    });
    // Watches begin while writing goes on, at every distance from the head.
    let mut watchers = Vec::new();
    for _ in 0..20 {
        tokio::task::yield_now().await;
        let head = store.head().await.unwrap();
        for after in [0, head / 2, head] {
            let mut watch = store.watch(bytes(""), after).await.unwrap();
            watchers.push(tokio::spawn(async move {
                let seen: Vec<_> = events(&mut watch, 1500 - after as usize).await;
                let revisions: Vec<_> = seen.iter().map(|event| event.revision).collect();
                assert_eq!(revisions, (after + 1..=1500).collect::<Vec<_>>());
                for event in seen.iter().filter(|event| event.revision > 10) {
                    assert_eq!(event.previous.as_ref().unwrap().mod_revision, event.revision - 10);
                }
            }));
        }
    }
    writer.await.unwrap();
    for watcher in watchers {
        watcher.await.unwrap();
    }
    let Err(Error::Future { .. }) = store.watch(bytes(""), 1501).await else { panic!("watched the future") };
}

pub async fn a_watch_gets_as_far_as_the_head(backend: &impl Backend) {
    let store = backend.open().await;
    store.commit(put("watched/1", "")).await.unwrap();
    store.commit(put("other", "")).await.unwrap();
    let mut watch = store.watch(bytes("watched/"), 0).await.unwrap();
    let mut reached = 0;
    let mut seen = Vec::new();
    for round in 1..=3 {
        while reached < store.head().await.unwrap() {
            let told = watch.events.recv().await.unwrap().unwrap();
            assert!(told.revision > reached, "it goes forward");
            assert!(
                told.events.iter().all(|event| event.revision > reached && event.revision <= told.revision)
            );
            reached = told.revision;
            seen.extend(told.events.into_iter().map(|event| event.revision));
        }
        assert_eq!(reached, round * 2);
        store.commit(put("other", round)).await.unwrap();
        store.commit(put("other", "")).await.unwrap();
    }
    assert_eq!(seen, [1]);
}

pub async fn a_slow_watcher_hinders_nobody(backend: &impl Backend) {
    let store = backend.open().await;
    let mut slow = store.watch(bytes(""), 0).await.unwrap();
    for i in 0..40 {
        let batch: Vec<_> = (0..100).map(|j| store.commit(put(j, i))).collect();
        futures::future::join_all(batch).await;
    }
    // It may be told that it was too slow, but never shown a gap.
    let mut next = 1;
    loop {
        match slow.events.recv().await.expect("ended without a word") {
            Ok(told) => {
                for event in told.events {
                    assert_eq!(event.revision, next);
                    next += 1;
                }
                assert_eq!(told.revision, next - 1);
            }
            Err(Error::Compacted { .. }) => break,
            Err(error) => panic!("{error}"),
        }
        if next > 4000 {
            break;
        }
    }
}

pub async fn a_dropped_call_still_counts(backend: &impl Backend) {
    let store = backend.open().await;
    let mut watch = store.watch(bytes(""), 0).await.unwrap();
    let writers: Vec<_> = (0..50)
        .map(|i| {
            let store = store.clone();
            tokio::spawn(async move { store.commit(put(i, i)).await })
        })
        .collect();
    for (i, writer) in writers.iter().enumerate() {
        if i % 2 == 0 {
            writer.abort();
        }
        tokio::task::yield_now().await;
    }
    for writer in writers {
        let _ = writer.await;
    }
    // Whatever the head has come to, there is no hole below it.
    let last = store.commit(put("last", "")).await.unwrap().revision;
    let revisions: Vec<_> =
        events(&mut watch, last as usize).await.iter().map(|event| event.revision).collect();
    assert_eq!(revisions, (1..=last).collect::<Vec<_>>());
}

pub async fn compaction_ends_what_is_behind(backend: &impl Backend) {
    let store = backend.open().await;
    for i in 1..=10 {
        store.commit(put("k", i)).await.unwrap();
    }
    store.commit(delete("k")).await.unwrap();
    store.commit(put("other", "")).await.unwrap();
    assert!(matches!(store.compact(13).await, Err(Error::Future { requested: 13, current: 12 })));
    store.compact(5).await.unwrap();
    store.compact(3).await.unwrap();
    for reopen in [false, true] {
        let store = if reopen { backend.open().await } else { store.clone() };
        assert!(matches!(store.get(b"k", Some(4)).await, Err(Error::Compacted { requested: 4, oldest: 5 })));
        assert!(matches!(store.watch(bytes(""), 4).await, Err(Error::Compacted { oldest: 5, .. })));
        assert_eq!(value(&store, "k", Some(5)).await.as_deref(), Some("5"));
        assert_eq!(value(&store, "k", Some(10)).await.as_deref(), Some("10"));
        let mut watch = store.watch(bytes("k"), 5).await.unwrap();
        let seen = events(&mut watch, 6).await;
        assert_eq!(seen[0].previous.as_ref().unwrap().value, bytes("5"));
        assert!(seen[5].entry.is_none());
        close(backend, store).await;
    }
    let store = backend.open().await;
    store.compact(12).await.unwrap();
    close(backend, store).await;
    let store = backend.open().await;
    assert_eq!(store.head().await.unwrap(), 12);
    assert_eq!(value(&store, "other", Some(12)).await.as_deref(), Some(""));
    assert_eq!(store.commit(put("k", "again")).await.unwrap().revision, 13);
    assert_eq!(store.get(b"k", None).await.unwrap().unwrap().create_revision, 13);
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Txn),
    Get(Bytes, Option<Revision>),
    Range(Range),
    Scan(Bytes),
    Watch(Bytes, Revision),
    Compact(Revision),
    Reopen,
}

fn key() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["", "a", "a/", "a/b", "a/c", "b", "b\u{7f}"]).prop_map(bytes)
}

fn write() -> impl Strategy<Value = Write> {
    prop_oneof![
        2 => (key(), 0..9u8).prop_map(|(key, value)| Write::Put(key, bytes(value))),
        1 => key().prop_map(Write::Delete),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let revision = 0..20u64;
    let expect = prop_oneof![Just(Expect::Absent), revision.clone().prop_map(Expect::ModRevision)];
    let expects = prop_oneof![3 => Just(vec![]), 2 => prop::collection::vec((key(), expect), 0..3)];
    let patience = prop::sample::select(vec![Duration::ZERO, Duration::from_millis(1)]);
    let txn = (expects, prop::collection::vec(write(), 0..4), patience)
        .prop_map(|(expect, writes, patience)| Txn { expect, writes, patience });
    let at = prop::option::of(revision.clone());
    let range = (key(), prop::option::of(key()), 0..4usize, at.clone())
        .prop_map(|(prefix, after, limit, at)| Range { prefix, after, limit, at });
    prop_oneof![
        10 => txn.prop_map(Step::Commit),
        3 => (key(), at).prop_map(|(key, at)| Step::Get(key, at)),
        3 => range.prop_map(Step::Range),
        1 => key().prop_map(Step::Scan),
        3 => (key(), revision.clone()).prop_map(|(prefix, after)| Step::Watch(prefix, after)),
        1 => revision.prop_map(Step::Compact),
        1 => Just(Step::Reopen),
    ]
}

pub fn it_does_what_the_model_does<B: Backend>() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    // A part of what is asked for (256 by default): each case is a whole life of a store.
    let cases = ProptestConfig::default().cases * 3 / 8;
    let config = ProptestConfig { cases, max_shrink_iters: 2000, ..ProptestConfig::default() };
    let shared = B::Shared::default();
    proptest!(config, |(steps in prop::collection::vec(step(), 1..40))| {
        runtime.block_on(async {
            let (backend, mut model) = (B::new(&shared), Model::default());
            let mut store = backend.open().await;
            for step in &steps {
                if let Step::Reopen = step {
                    B::close(store).await;
                    store = backend.open().await;
                } else {
                    take(&store, &mut model, step).await;
                }
            }
            B::close(store).await;
        });
    });
}

async fn take(store: &impl Store, model: &mut Model, step: &Step) {
    match step {
        Step::Commit(txn) => {
            let committed = store.commit(txn.clone()).await.map(|committed| committed.revision);
            same(step, committed, model.commit(txn));
        }
        Step::Get(key, at) => same(step, store.get(key, *at).await, model.get(key, *at)),
        Step::Range(range) => same(step, store.range(range.clone()).await, model.range(range)),
        Step::Scan(prefix) => {
            let range = Range { prefix: prefix.clone(), ..Range::default() };
            let (entries, revision) = scanned(store, std::str::from_utf8(prefix).unwrap()).await;
            same(step, Ok(Page { entries, revision, remaining: 0 }), model.range(&range));
        }
        Step::Compact(revision) => same(step, store.compact(*revision).await, model.compact(*revision)),
        Step::Watch(prefix, after) => {
            let expected = model.history(prefix, *after);
            let found = match store.watch(prefix.clone(), *after).await {
                Err(error) => Err(error),
                Ok(mut watch) => {
                    let count = expected.as_ref().map_or(0, Vec::len);
                    let wait = tokio::time::timeout(Duration::from_secs(20), events(&mut watch, count));
                    let mut found = wait.await.expect("events are missing");
                    found.sort_by(|a, b| (a.revision, &a.key).cmp(&(b.revision, &b.key)));
                    Ok(found)
                }
            };
            same(step, found, expected);
        }
        Step::Reopen => {}
    }
    assert_eq!(store.head().await.unwrap(), model.head());
}

fn same<T: Debug>(step: &Step, found: Result<T, Error>, expected: Result<T, Error>) {
    assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{step:?}");
}
