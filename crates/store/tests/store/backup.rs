//! Backups: of one revision whatever is written meanwhile, from either backend into either.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use store::{
    BackupError, BackupReader, BackupWriter, Embedded, Etcd, History, Look, Range, Revision, Store, Txn,
    Write, backup, restore,
};

use crate::contract::bytes;
use crate::etcd::options;

/// Keys that each transaction sets to one value.
const WIDTH: u64 = 5;

/// Writes until it is told to stop.
async fn write(store: impl Store, stop: Arc<AtomicBool>) {
    for round in 0u64.. {
        let value = bytes(format!("{round}:{}", "x".repeat((round % 900) as usize)));
        let writes = (0..WIDTH).map(|key| Write::Put(bytes(format!("/wide/{key}")), value.clone())).collect();
        store.commit(Txn { expect: vec![], writes, ..Txn::default() }).await.unwrap();
        store.commit(crate::contract::put(format!("/many/{}", round % 700), round)).await.unwrap();
        if stop.load(Ordering::Relaxed) {
            return;
        }
    }
}

fn look(options: &disk::Options) -> Vec<u8> {
    let mut writer = None;
    Embedded::look(options, |shown| -> Result<(), BackupError> {
        match (shown, &mut writer) {
            (Look::Revision(revision), _) => writer = Some(BackupWriter::new(Vec::new(), revision)?),
            (Look::Entry(key, value), Some(writer)) => writer.add(key, value)?,
            (Look::Entry(..), None) => panic!("an entry before the revision"),
        }
        Ok(())
    })
    .unwrap();
    writer.unwrap().finish().unwrap().0
}

fn contents(file: &[u8]) -> Result<(Revision, BTreeMap<Bytes, Bytes>), BackupError> {
    let mut reader = BackupReader::new(file)?;
    let mut found = BTreeMap::new();
    while let Some((key, value)) = reader.entry()? {
        found.insert(key, value);
    }
    Ok((reader.revision(), found))
}

fn is_of_one_revision(file: &[u8]) {
    let (_, found) = contents(file).unwrap();
    let wide: Vec<_> = found.iter().filter(|(key, _)| key.starts_with(b"/wide/")).collect();
    assert_eq!(wide.len() as u64, WIDTH);
    assert!(wide.windows(2).all(|pair| pair[0].1 == pair[1].1), "half a transaction");
}

async fn holds(store: &impl Store, file: &[u8]) {
    let (revision, expected) = contents(file).unwrap();
    let page = store.range(Range { prefix: bytes("/"), ..Range::default() }).await.unwrap();
    assert!(page.entries.iter().all(|entry| entry.mod_revision > revision), "revisions go on above");
    let found: BTreeMap<_, _> = page.entries.into_iter().map(|entry| (entry.key, entry.value)).collect();
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_file_under_load_to_etcd_under_load_and_back() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| disk::Options::new(directory.path().join(name));
    let stop = Arc::new(AtomicBool::new(false));
    let store = Embedded::open(&file("first"), History::default()).unwrap();
    let writer = tokio::spawn(write(store.clone(), stop.clone()));
    let mut first = Vec::new();
    for revision in [50, 500, 3000] {
        while store.head().await.unwrap() < revision {
            tokio::task::yield_now().await;
        }
        let options = file("first");
        first = tokio::task::spawn_blocking(move || look(&options)).await.unwrap();
        is_of_one_revision(&first);
        assert!(contents(&first).unwrap().0 >= revision);
    }
    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    store.close().await.unwrap();

    let server = harness::Etcd::start();
    let revision = contents(&first).unwrap().0;
    let moved = Etcd::begin_after(options(&server, "/plane"), revision).await.unwrap();
    let count = restore(&moved, &mut BackupReader::new(&first[..]).unwrap()).await.unwrap();
    assert_eq!(count, contents(&first).unwrap().1.len() as u64);
    holds(&moved, &first).await;
    let again = restore(&moved, &mut BackupReader::new(&first[..]).unwrap()).await;
    assert!(matches!(again, Err(BackupError::NotEmpty)), "{again:?}");
    assert!(Etcd::begin_after(options(&server, "/plane"), revision).await.is_err());

    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(write(moved.clone(), stop.clone()));
    let head = moved.head().await.unwrap();
    while moved.head().await.unwrap() < head + 300 {}
    let (second, at, _) = backup(&moved, b"/", Vec::new()).await.unwrap();
    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    is_of_one_revision(&second);
    assert!(at >= head + 300);

    Embedded::begin_after(&file("back"), at).await.unwrap();
    let back = Embedded::open(&file("back"), History::default()).unwrap();
    restore(&back, &mut BackupReader::new(&second[..]).unwrap()).await.unwrap();
    holds(&back, &second).await;
    back.close().await.unwrap();
    let back = Embedded::open(&file("back"), History::default()).unwrap();
    holds(&back, &second).await;
    back.close().await.unwrap();
    assert!(Embedded::begin_after(&file("back"), at).await.is_err());
}

#[test]
fn what_is_cut_or_changed_is_not_taken() {
    let mut writer = BackupWriter::new(Vec::new(), 7).unwrap();
    for i in 0..5 {
        writer.add(format!("/k{i}").as_bytes(), b"value").unwrap();
    }
    let (whole, count) = writer.finish().unwrap();
    assert_eq!((count, contents(&whole).unwrap().0, contents(&whole).unwrap().1.len()), (5, 7, 5));
    for at in 0..whole.len() {
        assert!(contents(&whole[..at]).is_err(), "cut at {at}");
        let mut changed = whole.clone();
        changed[at] ^= 1;
        assert!(contents(&changed).is_err(), "changed at {at}");
    }
}
