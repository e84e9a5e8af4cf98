//! A writing process is killed with SIGKILL, a hundred times over one file. Each time every acknowledged write is found,
//! and of each transaction either all or nothing.
//!
//! The writer is this test binary, run again for one test that is otherwise ignored.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use store::{Embedded, History, Range, Revision, Store, Txn, Write};

use crate::contract::bytes;

const FILE: &str = "STORE_TEST_WRITE_TO";
const ROUNDS: u64 = 100;
const WRITERS: u64 = 8;
/// Keys that one transaction sets to one value.
const WIDTH: u64 = 3;

fn open(path: &Path) -> Embedded {
    // A short log makes it likely that a kill meets it being moved into the file, and little to spare that one meets the file
    // being made smaller.
    let options = disk::Options { log_bytes: 256 << 10, spare_bytes: 64 << 10, ..disk::Options::new(path) };
    Embedded::open(&options, History { revisions: 500, ..History::default() }).unwrap()
}

/// Writes until it is killed, and prints each revision and value once they are durable.
#[test]
#[ignore = "it is what the test below runs and kills"]
fn writer() {
    let path = std::env::var_os(FILE).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = open(Path::new(&path));
        let start = store.head().await.unwrap();
        let writers = (0..WRITERS).map(|writer| tokio::spawn(write(store.clone(), writer, start)));
        futures::future::join_all(writers).await;
    });
}

async fn write(store: Embedded, writer: u64, start: Revision) {
    for i in start.. {
        let value = bytes(format!("{i}:{}", "x".repeat((i % 700) as usize)));
        let writes =
            (0..WIDTH).map(|key| Write::Put(bytes(format!("{writer}/{key}")), value.clone())).collect();
        let revision = store.commit(Txn { expect: vec![], writes, ..Txn::default() }).await.unwrap().revision;
        // One call, so that lines of two writers never mix; unlike eprintln! it is not captured by the test runner.
        std::io::stderr().write_all(format!("durable {writer} {i} {revision}\n").as_bytes()).unwrap();
        if i % 25 == 0 && writer == 0 {
            let large = bytes("x".repeat(1 << 20));
            store
                .commit(Txn {
                    expect: vec![],
                    writes: vec![Write::Put(bytes("large"), large)],
                    ..Txn::default()
                })
                .await
                .unwrap();
            let delete = vec![Write::Delete(bytes("large"))];
            let deleted =
                store.commit(Txn { expect: vec![], writes: delete, ..Txn::default() }).await.unwrap();
            store.compact(deleted.revision.saturating_sub(500)).await.unwrap();
            store.maintain(clock::Instant::default()).await.unwrap();
        }
    }
}

/// A write that the child said was durable.
struct Acknowledged {
    writer: u64,
    value: u64,
    revision: Revision,
}

/// Lets a child write, kills it at a moment that moves from round to round, and returns all it acknowledged.
fn round(path: &Path, kill_after: usize) -> Vec<Acknowledged> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::writer", "--ignored", "--nocapture"])
        .env(FILE, path)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut acknowledged = Vec::new();
    while let Some(Ok(line)) = lines.next() {
        if let Some(numbers) = line.strip_prefix("durable ") {
            // A torn last line was acknowledged to nobody.
            let numbers: Vec<u64> = numbers.split(' ').map_while(|number| number.parse().ok()).collect();
            if let [writer, value, revision] = numbers[..] {
                acknowledged.push(Acknowledged { writer, value, revision });
            }
        }
        if acknowledged.len() == kill_after {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(acknowledged.len() >= kill_after, "the writer ended by itself");
    acknowledged
}

async fn check(path: &Path, acknowledged: &[Acknowledged]) -> Revision {
    let store = open(path);
    let page = store.range(Range::default()).await.unwrap();
    for write in acknowledged {
        assert!(write.revision <= page.revision, "revision {} is lost", write.revision);
    }
    for writer in 0..WRITERS {
        let prefix = bytes(format!("{writer}/"));
        let entries: Vec<_> = page.entries.iter().filter(|entry| entry.key.starts_with(&prefix)).collect();
        assert!(entries.is_empty() || entries.len() as u64 == WIDTH, "half a transaction of writer {writer}");
        assert!(
            entries.windows(2).all(|pair| pair[0].value == pair[1].value),
            "a torn write of writer {writer}"
        );
        let newest =
            acknowledged.iter().filter(|write| write.writer == writer).max_by_key(|write| write.revision);
        let Some(newest) = newest else { continue };
        let text = std::str::from_utf8(&entries[0].value).unwrap();
        let (number, filling) = text.split_once(':').unwrap();
        let number: u64 = number.parse().unwrap();
        assert_eq!(filling.len() as u64, number % 700, "a torn value");
        // One write a writer may have become durable without the kill letting it say so.
        assert!(number == newest.value || number == newest.value + 1, "{number} after {}", newest.value);
    }
    store.close().await.unwrap();
    page.revision
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_in_a_hundred_kills() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let mut head = 0;
    for i in 0..ROUNDS {
        let acknowledged = round(&path, (i * 37 % 400 + 1) as usize);
        let next = check(&path, &acknowledged).await;
        assert!(next > head, "the head went back from {head} to {next}");
        head = next;
    }
}
