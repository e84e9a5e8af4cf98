use std::sync::atomic::{AtomicBool, Ordering};

use disk::{Batch, Engine, Options, Reader, Sqlite, Table};

use super::*;
use crate::Write;

/// An engine whose disk breaks when it is told to.
struct Breaking {
    engine: Sqlite,
    broken: Arc<AtomicBool>,
}

impl Engine for Breaking {
    fn apply(&mut self, group: &[Batch]) -> Result<(), disk::Error> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(disk::Error::Failed("no space".into()));
        }
        self.engine.apply(group)
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
    Txn { expect: Vec::new(), writes: vec![Write::Put(Bytes::from(key), Bytes::from(value))] }
}

#[tokio::test]
async fn a_failing_disk_is_told_of_once_and_for_all() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Sqlite::open(&Options::new(directory.path().join("store")), &[row::LOG, row::META]).unwrap();
    let broken = Arc::new(AtomicBool::new(false));
    let disk = Disk::start(Box::new(Breaking { engine, broken: broken.clone() })).unwrap();
    let store = Embedded::over(disk, History::default()).unwrap();
    store.commit(put("k", "1")).await.unwrap();
    let failed = tokio::spawn({
        let store = store.clone();
        async move { store.failed().await.to_string() }
    });
    store.health().await.unwrap();
    broken.store(true, Ordering::Relaxed);
    store.commit(put("k", "2")).await.unwrap_err();
    assert!(failed.await.unwrap().contains("no space"));
    assert!(store.failed().await.to_string().contains("no space"), "who comes late is told too");
    store.health().await.unwrap_err();
    let entry = store.get(b"k", None).await.unwrap().unwrap();
    assert_eq!(entry.value, "1", "what is durable can still be read");
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
