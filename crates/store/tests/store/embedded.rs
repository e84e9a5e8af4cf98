//! The embedded backend: the contract, and what is its own.

use std::path::PathBuf;

use store::{Embedded, Error, History, Store, Txn, Write};
use tempfile::TempDir;

use crate::contract::{Backend, bytes, contract, events, put};

struct InFile(TempDir);

impl InFile {
    fn path(&self) -> PathBuf {
        self.0.path().join("store")
    }
}

impl Backend for InFile {
    type Store = Embedded;
    type Shared = ();

    fn new((): &()) -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    async fn open(&self) -> Embedded {
        Embedded::open(&disk::Options::new(self.path()), History::default()).unwrap()
    }

    async fn close(store: Embedded) {
        store.close().await.unwrap();
    }
}

contract!(InFile);

#[tokio::test]
async fn closing_ends_watches_without_an_error_and_refuses_writes() {
    let backend = InFile::new(&());
    let store = backend.open().await;
    let mut watch = store.watch(bytes(""), 0).await.unwrap();
    store.commit(put("k", "v")).await.unwrap();
    events(&mut watch, 1).await;
    store.close().await.unwrap();
    assert!(watch.events.recv().await.is_none());
    assert!(matches!(store.commit(put("k", "v")).await, Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn maintaining_forgets_by_age_and_frees_the_log() {
    let backend = InFile::new(&());
    let history = History { age: std::time::Duration::from_secs(10), revisions: 1000 };
    let store = Embedded::open(&disk::Options::new(backend.path()), history).unwrap();
    for i in 0..3000 {
        store.commit(put(i % 2, i)).await.unwrap();
    }
    let start = clock::Instant::default();
    store.maintain(start).await.unwrap();
    assert!(matches!(store.get(b"k", Some(1999)).await, Err(Error::Compacted { oldest: 2000, .. })));
    store.maintain(start + std::time::Duration::from_secs(10)).await.unwrap();
    assert!(matches!(store.get(b"k", Some(2999)).await, Err(Error::Compacted { oldest: 3000, .. })));
    store.close().await.unwrap();

    let file = disk::Disk::open(&disk::Options::new(backend.path()), &[disk::Table::new("log")]).unwrap();
    let mut rows = 0;
    let mut visit = |_: &[u8], _: &[u8]| {
        rows += 1;
        std::ops::ControlFlow::Continue(())
    };
    file.snapshot().unwrap().scan(disk::Table::new("log"), &disk::KeyRange::default(), &mut visit).unwrap();
    assert_eq!(rows, 2);
}

/// Writes so many values of 4 KiB, all of them new.
async fn fill(store: &Embedded, round: usize, count: usize) {
    for i in 0..count {
        store.commit(put(format!("{round}/{i}"), "x".repeat(4096))).await.unwrap();
    }
}

async fn empty(store: &Embedded, round: usize, count: usize) {
    for i in 0..count {
        let key = bytes(format!("{round}/{i}"));
        store
            .commit(Txn { expect: vec![], writes: vec![Write::Delete(key)], ..Txn::default() })
            .await
            .unwrap();
    }
    store.compact(store.head().await.unwrap()).await.unwrap();
}

fn length(backend: &InFile) -> u64 {
    std::fs::metadata(backend.path()).unwrap().len()
}

fn sparing(backend: &InFile) -> Embedded {
    let options =
        disk::Options { spare_bytes: 64 << 10, log_bytes: 256 << 10, ..disk::Options::new(backend.path()) };
    Embedded::open(&options, History::default()).unwrap()
}

#[tokio::test]
async fn maintaining_makes_the_file_smaller() {
    let backend = InFile::new(&());
    let store = sparing(&backend);
    store.commit(put("kept", "value")).await.unwrap();
    fill(&store, 0, 1000).await;
    empty(&store, 0, 1000).await;
    assert!(length(&backend) > 4 << 20, "what is free was the store's until now");
    let now = clock::Instant::default();
    store.maintain(now).await.unwrap();
    assert!(length(&backend) < 256 << 10, "{} bytes are left", length(&backend));
    let log = backend.path().with_file_name("store-wal");
    assert_eq!(std::fs::metadata(log).unwrap().len(), 0);
    assert_eq!(store.get(b"kept", None).await.unwrap().unwrap().value, "value");
    store.commit(put("kept", "another")).await.unwrap();
    store.close().await.unwrap();
    let store = backend.open().await;
    assert_eq!(store.get(b"kept", None).await.unwrap().unwrap().value, "another");
}

#[tokio::test]
async fn a_steady_load_keeps_its_space() {
    let backend = InFile::new(&());
    let store = sparing(&backend);
    let now = clock::Instant::default();
    let mut longest = 0;
    for round in 0..12 {
        fill(&store, round, 200).await;
        store.maintain(now).await.unwrap();
        empty(&store, round, 200).await;
        assert!(length(&backend) >= longest, "it shrank in round {round}, and will grow again");
        longest = length(&backend);
    }
    assert!(longest < 4 << 20, "{longest} bytes for 800 KiB a round");
}

#[tokio::test]
async fn a_malformed_log_is_not_opened() {
    let backend = InFile::new(&());
    let log = disk::Table::new("log");
    let file = disk::Disk::open(&disk::Options::new(backend.path()), &[log]).unwrap();
    let mut batch = disk::Batch::new();
    batch.put(log, vec![0; 12], vec![1, 2, 3]);
    file.commit(batch).await.unwrap();
    file.close().await.unwrap();
    let error = Embedded::open(&disk::Options::new(backend.path()), History::default()).unwrap_err();
    assert!(error.to_string().contains("malformed"), "{error}");
}
