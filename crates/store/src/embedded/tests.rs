use disk::{Batch, Engine, Options, Reader, Shrunk, Sqlite, Table};

use super::*;
use crate::Write;

/// An engine whose disk fails as it is told to.
struct Breaking {
    engine: Sqlite,
    fault: Fault,
}

type Fault = Arc<Mutex<Option<disk::Error>>>;

fn breaking(directory: &std::path::Path) -> (Embedded, Fault) {
    let engine = Sqlite::open(&Options::new(directory.join("store")), &[row::LOG, row::META]).unwrap();
    let fault = Fault::default();
    let disk = Disk::start(Box::new(Breaking { engine, fault: fault.clone() })).unwrap();
    (Embedded::over(disk, History::default()).unwrap(), fault)
}

impl Engine for Breaking {
    fn apply(&mut self, group: &[Batch]) -> Result<(), disk::Error> {
        match self.fault.lock().unwrap().clone() {
            Some(fault) => Err(fault),
            None => self.engine.apply(group),
        }
    }

    fn shrink(&mut self) -> Result<Shrunk, disk::Error> {
        self.fault.lock().unwrap().clone().map_or(Ok(Shrunk::Enough), Err)
    }

    fn knows(&self, table: Table) -> bool {
        self.engine.knows(table)
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.engine.reader()
    }

    fn close(self: Box<Self>) -> Result<(), disk::Error> {
        Box::new(self.engine).close()
    }
}

fn put(key: &'static str, value: &'static str) -> Txn {
    Txn {
        expect: Vec::new(),
        writes: vec![Write::Put(Bytes::from(key), Bytes::from(value))],
        ..Txn::default()
    }
}

#[tokio::test]
async fn a_failing_disk_is_told_of_once_and_for_all() {
    let directory = tempfile::tempdir().unwrap();
    let (store, fault) = breaking(directory.path());
    store.commit(put("k", "1")).await.unwrap();
    let failed = tokio::spawn({
        let store = store.clone();
        async move { store.failed().await.to_string() }
    });
    store.health().await.unwrap();
    *fault.lock().unwrap() = Some(disk::Error::Failed("torn".into()));
    store.commit(put("k", "2")).await.unwrap_err();
    assert!(failed.await.unwrap().contains("torn"));
    assert!(store.failed().await.to_string().contains("torn"), "who comes late is told too");
    store.health().await.unwrap_err();
    let entry = store.get(b"k", None).await.unwrap().unwrap();
    assert_eq!(entry.value, "1", "what is durable can still be read");
}

#[tokio::test]
async fn a_full_disk_refuses_writes_until_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let (store, fault) = breaking(directory.path());
    store.commit(put("k", "1")).await.unwrap();
    *fault.lock().unwrap() = Some(disk::Error::NoRoom("full".into()));
    // The one that finds it out is decided already: it stays in its place, and its writer is told so.
    assert!(matches!(store.commit(put("k", "2")).await, Err(Error::Waiting)));
    assert!(matches!(store.health().await, Err(Error::Full)));
    assert!(matches!(store.commit(put("k", "3")).await, Err(Error::Full)));
    let entry = store.get(b"k", None).await.unwrap().unwrap();
    assert_eq!((entry.value, store.head().await.unwrap()), (Bytes::from("1"), 1));
    *fault.lock().unwrap() = None;
    while store.head().await.unwrap() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(store.get(b"k", None).await.unwrap().unwrap().value, "2");
    assert_eq!(store.commit(put("k", "4")).await.unwrap().revision, 3);
    store.health().await.unwrap();
}

#[tokio::test]
async fn a_disk_that_fails_while_space_is_given_back_has_failed() {
    let directory = tempfile::tempdir().unwrap();
    let (store, fault) = breaking(directory.path());
    let now = clock::Instant::default();
    *fault.lock().unwrap() = Some(disk::Error::NoRoom("full".into()));
    store.maintain(now).await.unwrap();
    store.health().await.unwrap();
    *fault.lock().unwrap() = Some(disk::Error::Failed("torn".into()));
    store.maintain(now).await.unwrap_err();
    assert!(store.failed().await.to_string().contains("torn"));
    *fault.lock().unwrap() = None;
    store.commit(put("k", "1")).await.unwrap_err();
}

#[tokio::test]
async fn a_damaged_row_ends_a_watch_instead_of_being_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(&Options::new(directory.path().join("store")), History::default()).unwrap();
    for value in ["1", "2", "3"] {
        store.commit(put("k", value)).await.unwrap();
    }
    let mut batch = Batch::new();
    batch.put(row::LOG, row::address(2, 0), vec![1]);
    store.inner.disk.commit(batch).await.unwrap();
    let mut watch = store.watch(Bytes::new(), 0).await.unwrap();
    let first = watch.events.recv().await.unwrap();
    assert!(matches!(&first, Err(Error::Unavailable(why)) if why.contains("malformed")), "{first:?}");
}

#[tokio::test]
async fn one_that_is_patient_is_neither_shown_nor_acknowledged_before_it_is_durable() {
    let directory = tempfile::tempdir().unwrap();
    let (store, fault) = breaking(directory.path());
    let patient = Txn { patience: std::time::Duration::from_secs(3600), ..put("k", "1") };
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.commit(patient).await }
    });
    while store.inner.state().assigned < 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!((store.get(b"k", None).await.unwrap(), waiting.is_finished()), (None, false));
    // Who does not wait takes it along, in the order in which they came.
    assert_eq!(store.commit(put("k", "2")).await.unwrap().revision, 2);
    assert_eq!(waiting.await.unwrap().unwrap().revision, 1);
    assert_eq!(store.get(b"k", Some(1)).await.unwrap().unwrap().value, "1");

    let patient = Txn { patience: std::time::Duration::from_secs(3600), ..put("k", "3") };
    *fault.lock().unwrap() = Some(disk::Error::Failed("torn".into()));
    let (patient, other) = tokio::join!(store.commit(patient), store.commit(put("k", "4")));
    assert!(matches!((patient, other), (Err(Error::Unavailable(_)), Err(Error::Unavailable(_)))));
}
