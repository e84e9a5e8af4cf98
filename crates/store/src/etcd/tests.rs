use std::time::Duration;

use super::*;
use crate::{Changes, Write};

async fn open(server: &harness::Etcd, prefix: &'static [u8]) -> Etcd {
    let options = EtcdOptions {
        endpoints: server.endpoints(),
        prefix: Bytes::from_static(prefix),
        ..EtcdOptions::default()
    };
    Etcd::open(options).await.unwrap()
}

fn put(key: &'static str) -> Txn {
    Txn { expect: vec![], writes: vec![Write::Put(key.into(), "v".into())], ..Txn::default() }
}

async fn told(watch: &mut Watch) -> Changes {
    let next = tokio::time::timeout(Duration::from_secs(20), watch.events.recv());
    next.await.expect("the watch is silent").expect("the watch ended").unwrap()
}

/// What a watch tells until it is as far as the revision: the revisions of its events.
async fn until(watch: &mut Watch, revision: Revision) -> Vec<Revision> {
    let mut seen = Vec::new();
    loop {
        let changes = told(watch).await;
        seen.extend(changes.events.iter().map(|event| event.revision));
        if changes.revision >= revision {
            return seen;
        }
    }
}

/// With members of either kind: those whose word on progress can be relied on, and those of which everything is watched.
#[tokio::test]
async fn watches_pass_what_others_write() {
    let server = harness::Etcd::start();
    let (ours, theirs) = (open(&server, b"/ours").await, open(&server, b"/theirs").await);
    for tells_progress in [false, true] {
        let connection = ours.inner.channel.connection().await.unwrap();
        assert!(!connection.tells_progress, "the server is of a release that overtakes events");
        ours.inner.channel.current.lock().await.as_mut().unwrap().tells_progress = tells_progress;
        let start = ours.head().await.unwrap();
        let mut watch = ours.watch(Bytes::from_static(b"/a"), start).await.unwrap();
        let first = ours.commit(put("/a")).await.unwrap().revision;
        assert_eq!(until(&mut watch, first).await, [first]);
        theirs.commit(put("/a")).await.unwrap();
        ours.commit(put("/b")).await.unwrap();
        let head = ours.head().await.unwrap();
        assert_eq!(head, first + 2);
        assert_eq!(until(&mut watch, head).await, Vec::<Revision>::new());
        // So does one that changes nothing.
        let nothing = Txn { expect: vec![], writes: vec![Write::Delete("/none".into())], ..Txn::default() };
        theirs.commit(put("/a")).await.unwrap();
        let unchanged = ours.commit(nothing).await.unwrap().revision;
        assert_eq!(until(&mut watch, unchanged).await, Vec::<Revision>::new());
        // What is told later begins behind it.
        let last = ours.commit(put("/a")).await.unwrap().revision;
        assert_eq!(until(&mut watch, last).await, [last]);
    }
    ours.close().await;
    theirs.close().await;
}

#[tokio::test]
async fn a_store_with_an_offset_counts_on_from_there() {
    let server = harness::Etcd::start();
    let store = open(&server, b"/ours").await;
    store.commit(put("/a")).await.unwrap();
    let before = store.head().await.unwrap();
    let offset = 1000;
    let key = Bytes::from_static(b".offset");
    store
        .commit(Txn { expect: vec![], writes: vec![Write::Put(key, "1000".into())], ..Txn::default() })
        .await
        .unwrap();
    let store = open(&server, b"/ours").await;
    assert_eq!(store.head().await.unwrap(), before + 1 + offset);
    let entry = store.get(b"/a", None).await.unwrap().unwrap();
    assert_eq!(entry.mod_revision, before + offset);
    let expect = vec![(entry.key.clone(), crate::Expect::ModRevision(entry.mod_revision))];
    let next = store.commit(Txn { expect, ..put("/a") }).await.unwrap().revision;
    assert_eq!(next, before + 2 + offset);
    let stale = vec![(entry.key.clone(), crate::Expect::ModRevision(before))];
    assert!(matches!(store.commit(Txn { expect: stale, ..put("/a") }).await, Err(Error::Conflict { .. })));
    let mut watch = store.watch(Bytes::from_static(b"/"), entry.mod_revision).await.unwrap();
    assert_eq!(until(&mut watch, next).await, [next]);
    let before = store.watch(Bytes::from_static(b"/"), 999).await;
    assert!(matches!(before, Err(Error::Compacted { requested: 999, oldest: 1001 })), "{before:?}");
}
