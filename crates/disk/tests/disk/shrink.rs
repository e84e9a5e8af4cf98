//! Space is given back, little by little, and whatever interrupts it the file is whole.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::time::Duration;

use rusqlite::Connection;

use super::*;

const FILE: &str = "DISK_TEST_SHRINK";
const SPARE: u64 = 64 << 10;
const ROWS: u32 = 800;
const PAGE: u64 = 8 << 10;

fn sparing(path: &Path) -> Disk {
    let options = Options { log_bytes: 256 << 10, spare_bytes: SPARE as usize, ..Options::new(path) };
    Disk::open(&options, &[A, B]).unwrap()
}

fn key(i: u32) -> Vec<u8> {
    i.to_be_bytes().to_vec()
}

/// Those that deletions leave.
fn stays(i: u32) -> bool {
    i.is_multiple_of(100)
}

/// A page a row.
async fn fill(disk: &Disk) {
    for i in (0..ROWS).step_by(50) {
        let mut batch = Batch::new();
        for i in i..i + 50 {
            batch.put(A, key(i), vec![i as u8; 6000]);
        }
        disk.commit(batch).await.unwrap();
    }
}

async fn thin_out(disk: &Disk) {
    let mut batch = Batch::new();
    for i in (0..ROWS).filter(|i| !stays(*i)) {
        batch.delete(A, key(i));
    }
    disk.commit(batch).await.unwrap();
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

fn pragma(path: &Path, name: &str) -> i64 {
    let connection = Connection::open(path).unwrap();
    connection.pragma_query_value(None, name, |row| row.get(0)).unwrap()
}

fn check_rows(disk: &Disk) {
    let expected: Vec<_> = (0..ROWS).filter(|i| stays(*i)).map(|i| (key(i), vec![i as u8; 6000])).collect();
    assert!(all(&*disk.snapshot().unwrap(), A, &KeyRange::default()) == expected, "the rows are others");
}

#[tokio::test]
async fn what_is_deleted_is_given_back_while_others_write() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let disk = sparing(&path);
    fill(&disk).await;
    thin_out(&disk).await;
    let before = length(&path);
    assert!(before > u64::from(ROWS / 2) * PAGE);
    let shrinking = tokio::spawn({
        let disk = disk.clone();
        async move { disk.shrink().await }
    });
    let mut writes = 0;
    while !shrinking.is_finished() {
        disk.commit(put(B, "k", &writes.to_string())).await.unwrap();
        writes += 1;
    }
    shrinking.await.unwrap().unwrap();
    assert!(writes > 5, "nobody could write meanwhile");
    // Where writers filled the log all the time, it was left to the next.
    disk.shrink().await.unwrap();
    assert!(length(&path) < 400_000, "{} of {before} bytes are left", length(&path));
    check_rows(&disk);
    disk.commit(put(B, "k", "more")).await.unwrap();
    disk.close().await.unwrap();
    assert_eq!(disk.shrink().await, Err(Error::Closed));
    check_rows(&sparing(&path));
}

#[tokio::test]
async fn a_little_that_is_free_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let disk = sparing(&path);
    fill(&disk).await;
    let mut batch = Batch::new();
    for i in 0..130 {
        batch.delete(A, key(i));
    }
    disk.commit(batch).await.unwrap();
    disk.shrink().await.unwrap();
    disk.close().await.unwrap();
    // As much as an eighth of what is in use is spared, and twice that is not yet worth it.
    let free = pragma(&path, "freelist_count");
    assert!(free > 120, "{free} pages are free of those that may stay");
}

#[tokio::test]
async fn a_snapshot_sees_what_it_saw_and_does_not_hold_up_for_good() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let disk = sparing(&path);
    fill(&disk).await;
    let snapshot = disk.snapshot().unwrap();
    thin_out(&disk).await;
    disk.shrink().await.unwrap();
    let log = length(&path.with_file_name("file-wal"));
    assert!(log < 16 << 20, "{log} bytes of log for what could not be given back");
    assert_eq!(all(&*snapshot, A, &KeyRange::default()).len() as u32, ROWS);
    drop(snapshot);
    disk.shrink().await.unwrap();
    assert!(length(&path) < 400_000, "{} bytes are left", length(&path));
    assert_eq!(length(&path.with_file_name("file-wal")), 0);
    check_rows(&disk);
}

#[tokio::test]
async fn a_file_that_could_not_shrink_is_written_anew_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let older = Connection::open(&path).unwrap();
    older
        .execute_batch(
            "PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA application_id = 1299148399;
             PRAGMA user_version = 1;
             CREATE TABLE map_a (k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID;",
        )
        .unwrap();
    for i in 0..ROWS {
        older.execute("INSERT INTO map_a VALUES (?1, ?2)", (key(i), vec![i as u8; 6000])).unwrap();
    }
    drop(older);
    assert_eq!(pragma(&path, "auto_vacuum"), 0);
    let disk = sparing(&path);
    assert_eq!(all(&*disk.snapshot().unwrap(), A, &KeyRange::default()).len() as u32, ROWS);
    thin_out(&disk).await;
    disk.shrink().await.unwrap();
    assert!(length(&path) < 400_000, "{} bytes are left", length(&path));
    check_rows(&disk);
    disk.close().await.unwrap();
    assert_eq!((pragma(&path, "auto_vacuum"), pragma(&path, "page_size")), (2, 8192));
}

/// Fills, deletes and shrinks until it is killed.
#[test]
#[ignore = "it is what the test below runs and kills"]
fn shrinker() {
    let path = std::env::var_os(FILE).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let disk = sparing(Path::new(&path));
        fill(&disk).await;
        thin_out(&disk).await;
        // Unlike println! it is not captured by the test runner.
        std::io::stderr().write_all(b"shrinking\n").unwrap();
        disk.shrink().await.unwrap();
        std::io::stderr().write_all(b"shrunk\n").unwrap();
        std::future::pending::<()>().await;
    });
}

fn start(path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "shrink::shrinker", "--ignored", "--nocapture"])
        .env(FILE, path)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn a_kill_in_the_middle_leaves_the_file_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let mut in_the_middle = 0;
    for round in 0..30 {
        let mut child = start(&path);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        while lines.next().unwrap().unwrap() != "shrinking" {}
        // There is nothing to wait for: each round meets it at another moment.
        std::thread::sleep(Duration::from_micros(round * 1500));
        child.kill().unwrap();
        child.wait().unwrap();
        let connection = Connection::open(&path).unwrap();
        let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
        let (pages, free) = (number("page_count"), number("freelist_count"));
        in_the_middle += u32::from(pages < i64::from(ROWS) && free > (SPARE / PAGE) as i64);
        let verdict: String =
            connection.pragma_query_value(None, "integrity_check", |row| row.get(0)).unwrap();
        assert_eq!(verdict, "ok", "{pages} pages, {free} free");
        drop(connection);
        let disk = sparing(&path);
        check_rows(&disk);
        disk.close().await.unwrap();
    }
    assert!(in_the_middle > 0, "no kill came while pages were moved");
}
