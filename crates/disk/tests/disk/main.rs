//! What `disk` promises its owners.
#![allow(clippy::unwrap_used)]

mod patience;
mod shrink;

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use disk::{
    Batch, Direction, Disk, Engine, Error, KeyRange, OpenError, Options, Reader, Reservation, Snapshot, Table,
};
use proptest::prelude::*;
use tokio::sync::{mpsc, oneshot};

const A: Table = Table::new("a");
const B: Table = Table::new("b");

fn open(path: &Path) -> Result<Disk, OpenError> {
    Disk::open(&Options::new(path), &[A, B])
}

fn put(table: Table, key: &str, value: &str) -> Batch {
    let mut batch = Batch::new();
    batch.put(table, key.to_owned(), value.to_owned());
    batch
}

fn all(snapshot: &dyn Snapshot, table: Table, range: &KeyRange) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        found.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    };
    snapshot.scan(table, range, &mut visit).unwrap();
    found
}

#[tokio::test]
async fn what_was_committed_is_there_after_closing_and_after_not_closing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let disk = open(&path).unwrap();
    disk.commit(put(A, "k", "one")).await.unwrap();
    disk.commit(put(B, "k", "other table")).await.unwrap();
    disk.close().await.unwrap();
    assert_eq!(disk.commit(put(A, "k", "late")).await, Err(Error::Closed));
    assert!(matches!(disk.snapshot(), Err(Error::Closed)));

    let disk = open(&path).unwrap();
    let snapshot = disk.snapshot().unwrap();
    assert_eq!(snapshot.get(A, b"k").unwrap().as_deref(), Some(&b"one"[..]));
    assert_eq!(snapshot.get(B, b"k").unwrap().as_deref(), Some(&b"other table"[..]));
    assert_eq!(snapshot.get(A, b"none").unwrap(), None);
}

#[tokio::test]
async fn a_snapshot_shows_nothing_later() {
    let directory = tempfile::tempdir().unwrap();
    let disk = open(&directory.path().join("file")).unwrap();
    disk.commit(put(A, "k", "one")).await.unwrap();
    let before = disk.snapshot().unwrap();
    disk.commit(put(A, "k", "two")).await.unwrap();
    assert_eq!(before.get(A, b"k").unwrap().as_deref(), Some(&b"one"[..]));
    assert_eq!(disk.snapshot().unwrap().get(A, b"k").unwrap().as_deref(), Some(&b"two"[..]));
}

#[tokio::test]
async fn done_is_called_in_the_order_of_submission() {
    let directory = tempfile::tempdir().unwrap();
    let disk = open(&directory.path().join("file")).unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut reservations = Vec::new();
    for _ in 0..100 {
        reservations.push(disk.reserve(10).await.unwrap());
    }
    // The last to be reserved is the first to be turned in.
    for (i, reservation) in reservations.into_iter().rev().enumerate() {
        let order = order.clone();
        let done = move |result: Result<(), Error>| {
            result.unwrap();
            order.lock().unwrap().push(i);
        };
        reservation.submit(put(A, "k", &i.to_string()), done).unwrap();
    }
    disk.close().await.unwrap();
    assert_eq!(*order.lock().unwrap(), (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_batch_larger_than_the_queue_still_passes() {
    let directory = tempfile::tempdir().unwrap();
    let disk = open(&directory.path().join("file")).unwrap();
    let mut batch = Batch::new();
    batch.put(A, "large", vec![7; 20 << 20]);
    disk.commit(batch).await.unwrap();
    assert_eq!(disk.snapshot().unwrap().get(A, b"large").unwrap().unwrap().len(), 20 << 20);
}

#[tokio::test]
async fn many_writers_and_readers_while_the_log_is_moved_into_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let options = Options { log_bytes: 128 << 10, ..Options::new(&path) };
    let disk = Disk::open(&options, &[A]).unwrap();
    let writers: Vec<_> = (0..8u32)
        .map(|writer| {
            let disk = disk.clone();
            tokio::spawn(async move {
                for i in 0..200u32 {
                    let mut batch = Batch::new();
                    batch.put(A, format!("{writer}/{i:04}"), vec![writer as u8; 4096]);
                    disk.commit(batch).await.unwrap();
                    let own = KeyRange::prefix(format!("{writer}/"));
                    assert_eq!(all(&*disk.snapshot().unwrap(), A, &own).len(), i as usize + 1);
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    disk.close().await.unwrap();
    assert_eq!(
        all(&*Disk::open(&options, &[A]).unwrap().snapshot().unwrap(), A, &KeyRange::default()).len(),
        1600
    );
}

#[tokio::test]
async fn the_log_stays_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let options = Options { log_bytes: 128 << 10, ..Options::new(&path) };
    let disk = Disk::open(&options, &[A]).unwrap();
    for i in 0..500u32 {
        let mut batch = Batch::new();
        batch.put(A, i.to_be_bytes().to_vec(), vec![7; 8192]);
        disk.commit(batch).await.unwrap();
    }
    let log = std::fs::metadata(path.with_file_name("file-wal")).unwrap().len();
    assert!(log < 6 * (128 << 10), "500 values of 8 KiB have left a log of {log} bytes");
}

#[tokio::test]
async fn a_table_the_file_was_not_opened_with_fails_alone() {
    let directory = tempfile::tempdir().unwrap();
    let disk = open(&directory.path().join("file")).unwrap();
    let stray = Table::new("stray");
    assert_eq!(disk.commit(put(stray, "k", "v")).await, Err(Error::NoTable("stray")));
    assert_eq!(disk.snapshot().unwrap().get(stray, b"k"), Err(Error::NoTable("stray")));
    disk.commit(put(A, "k", "v")).await.unwrap();
}

#[tokio::test]
async fn opening_says_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let check = |name: &str, message: &str| {
        let error = open(&directory.path().join(name)).unwrap_err().to_string();
        assert!(error.contains(message) && error.contains(name), "{error}");
    };
    let held = open(&directory.path().join("held")).unwrap();
    check("held", "in use by another process");
    held.close().await.unwrap();

    std::fs::write(directory.path().join("text"), "a shopping list, long enough to have a header in it")
        .unwrap();
    check("text", "not a file of this program");

    let sql = |name: &str, statement: &str| {
        rusqlite::Connection::open(directory.path().join(name)).unwrap().execute_batch(statement).unwrap();
    };
    sql("theirs", "CREATE TABLE t (x)");
    check("theirs", "not a file of this program");

    sql("held", "PRAGMA user_version = 99");
    check("held", "has format 99, and this program knows formats up to 1");

    let torn = open(&directory.path().join("torn")).unwrap();
    torn.commit(put(A, "k", "v")).await.unwrap();
    torn.close().await.unwrap();
    let mut bytes = std::fs::read(directory.path().join("torn")).unwrap();
    bytes[100..200].fill(0xee);
    std::fs::write(directory.path().join("torn"), bytes).unwrap();
    check("torn", "is damaged");

    check("no/such/directory", "cannot open");
    let error = Disk::open(&Options::new(directory.path().join("f")), &[Table::new("x; DROP")]).unwrap_err();
    assert!(error.to_string().contains("table name"), "{error}");
}

/// Fails at the second group.
struct Brittle(u32);

impl Engine for Brittle {
    fn apply(&mut self, _: &[Batch]) -> Result<(), Error> {
        self.0 += 1;
        assert!(self.0 <= 2, "called again after a failure");
        if self.0 == 2 { Err(Error::Failed("no space left on device".into())) } else { Ok(()) }
    }

    fn knows(&self, _: Table) -> bool {
        true
    }

    fn reader(&self) -> Arc<dyn Reader> {
        struct Nothing;
        impl Reader for Nothing {
            fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error> {
                Err(Error::Closed)
            }
        }
        Arc::new(Nothing)
    }

    fn close(self: Box<Self>) -> Result<(), Error> {
        Ok(())
    }
}

#[tokio::test]
async fn nothing_is_written_after_a_failure() {
    let disk = Disk::start(Box::new(Brittle(0))).unwrap();
    disk.commit(put(A, "k", "1")).await.unwrap();
    for _ in 0..3 {
        let failed = disk.commit(put(A, "k", "2")).await;
        assert_eq!(failed, Err(Error::Failed("no space left on device".into())));
    }
    assert!(disk.close().await.is_err());
}

/// Has no room until it is given some; tells of each try, and of what it wrote.
struct Cramped {
    has_room: Arc<AtomicBool>,
    tries: mpsc::UnboundedSender<usize>,
}

impl Engine for Cramped {
    fn apply(&mut self, group: &[Batch]) -> Result<(), Error> {
        self.tries.send(group.len()).unwrap();
        if self.has_room.load(Ordering::SeqCst) { Ok(()) } else { Err(Error::NoRoom("full".into())) }
    }

    fn knows(&self, _: Table) -> bool {
        true
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Brittle(0).reader()
    }

    fn close(self: Box<Self>) -> Result<(), Error> {
        Ok(())
    }
}

#[tokio::test]
async fn a_full_device_is_waited_for_but_not_at_the_end() {
    let has_room = Arc::new(AtomicBool::new(false));
    let (tries, mut tried) = mpsc::unbounded_channel();
    let disk = Disk::start(Box::new(Cramped { has_room: has_room.clone(), tries })).unwrap();
    assert!(!disk.is_full());
    let commit = |value: &'static str| {
        let disk = disk.clone();
        tokio::spawn(async move { disk.commit(put(A, "k", value)).await })
    };
    let one = commit("1");
    assert_eq!([tried.recv().await, tried.recv().await], [Some(1), Some(1)]);
    assert!(disk.is_full() && !one.is_finished());
    let two = commit("2");
    // What comes meanwhile is behind it, in the same group.
    while tried.recv().await != Some(2) {}
    has_room.store(true, Ordering::SeqCst);
    assert_eq!((one.await.unwrap(), two.await.unwrap()), (Ok(()), Ok(())));
    assert!(!disk.is_full());

    has_room.store(false, Ordering::SeqCst);
    let three = commit("3");
    while tried.recv().await != Some(1) {}
    let full = Err(Error::NoRoom("full".into()));
    assert_eq!(disk.close().await, full);
    assert_eq!(three.await.unwrap(), full);
}

/// A file system of 2 MiB, until it is dropped.
struct Small(PathBuf);

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[tokio::test]
async fn a_file_system_that_was_full_loses_nothing_and_takes_more() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let small = Small(tempfile::tempdir().unwrap().keep());
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(&small.0).status();
    assert!(mounted.unwrap().success());
    let disk = open(&small.0.join("file")).unwrap();
    disk.commit(put(A, "before", "1")).await.unwrap();
    let mut flood = std::fs::File::create(small.0.join("flood")).unwrap();
    while flood.write(&[0; 512]).is_ok_and(|written| written > 0) {}
    let waiting = tokio::spawn({
        let disk = disk.clone();
        async move { disk.commit(put(A, "large", &"x".repeat(200_000))).await }
    });
    while !disk.is_full() {
        tokio::task::yield_now().await;
    }
    assert_eq!(disk.snapshot().unwrap().get(A, b"before").unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(disk.snapshot().unwrap().get(A, b"large").unwrap(), None);
    flood.set_len(0).unwrap();
    waiting.await.unwrap().unwrap();
    disk.commit(put(A, "after", "2")).await.unwrap();
    disk.close().await.unwrap();
    let disk = open(&small.0.join("file")).unwrap();
    let snapshot = disk.snapshot().unwrap();
    for (key, length) in [("before", 1), ("large", 200_000), ("after", 1)] {
        let value = snapshot.get(A, key.as_bytes()).unwrap();
        assert_eq!(value.map(|value| value.len()), Some(length), "{key}");
    }
    drop(snapshot);
    disk.close().await.unwrap();
}

/// Submits a batch while it closes, so that the batch is in the queue behind the request to close.
struct Late(Arc<Mutex<Option<LateBatch>>>);

type LateBatch = (Reservation, oneshot::Sender<Result<(), Error>>);

impl Engine for Late {
    fn apply(&mut self, _: &[Batch]) -> Result<(), Error> {
        Ok(())
    }

    fn knows(&self, _: Table) -> bool {
        true
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Brittle(0).reader()
    }

    fn close(self: Box<Self>) -> Result<(), Error> {
        let (reservation, done) = self.0.lock().unwrap().take().unwrap();
        reservation.submit(put(A, "k", "late"), move |result| done.send(result).unwrap())
    }
}

#[tokio::test]
async fn a_batch_behind_the_end_of_the_queue_is_answered() {
    let slot = Arc::new(Mutex::new(None));
    let disk = Disk::start(Box::new(Late(slot.clone()))).unwrap();
    let (done, outcome) = oneshot::channel();
    *slot.lock().unwrap() = Some((disk.reserve(10).await.unwrap(), done));
    disk.close().await.unwrap();
    assert_eq!(outcome.await.unwrap(), Err(Error::Closed));
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(vec![0u8, 1, b'a', b'b', 0xfe, 0xff]), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases * 3 / 32, ..ProptestConfig::default() })]

    #[test]
    fn a_map_is_a_btreemap(
        batches in prop::collection::vec(
            (prop::option::of((key(), key())), prop::collection::vec((key(), prop::option::of(key())), 0..6)),
            0..12,
        ),
        ranges in prop::collection::vec((key(), prop::option::of(key()), any::<bool>()), 0..12),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let mut model = BTreeMap::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let disk = open(&directory.path().join("file")).unwrap();
            for (emptied, ops) in batches {
                let mut batch = Batch::new();
                if let Some((from, to)) = emptied {
                    model.retain(|key, _| !(*key >= from && *key < to));
                    batch.delete_range(A, from, to);
                }
                for (key, value) in ops {
                    match value {
                        Some(value) => {
                            model.insert(key.clone(), value.clone());
                            batch.put(A, key, value);
                        }
                        None => {
                            model.remove(&key);
                            batch.delete(A, key);
                        }
                    }
                }
                disk.commit(batch).await.unwrap();
            }
            let snapshot = disk.snapshot().unwrap();
            for (from, to, backward) in ranges {
                let inside = |key: &Vec<u8>| *key >= from && to.as_ref().is_none_or(|to| key < to);
                let mut expected: Vec<_> =
                    model.iter().filter(|(key, _)| inside(key)).map(|(k, v)| (k.clone(), v.clone())).collect();
                if backward {
                    expected.reverse();
                }
                let direction = if backward { Direction::Backward } else { Direction::Forward };
                let range = KeyRange { from: from.clone().into(), to: to.clone().map(Bytes::from), direction };
                assert_eq!(all(&*snapshot, A, &range), expected, "{range:?}");
            }
        });
    }
}
