//! What befalls servers: kill -9, silence, a change of leaders. Whatever was acknowledged stays, nothing happens twice, and
//! watches tell every change once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use store::{Error, Etcd, Event, Expect, Range, Revision, Store, Txn, Write};
use tokio::task::JoinHandle;

use crate::contract::bytes;
use crate::etcd::options;

const WRITERS: u64 = 6;
/// Writes that are acknowledged before the next thing befalls.
const BETWEEN: u64 = 150;

/// Writers, each adding one to a counter of its own, and a watch over all.
struct Load {
    acknowledged: Arc<AtomicU64>,
    unknown: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<u64>>,
    watcher: JoinHandle<Vec<Event>>,
    store: Etcd,
}

impl Load {
    async fn start(server: &harness::Etcd) -> Self {
        let store = Etcd::open(options(server, "/load")).await.unwrap();
        let (acknowledged, unknown, stop) = (Arc::<AtomicU64>::default(), Arc::default(), Arc::default());
        let head = store.head().await.unwrap();
        let watch = store.watch(bytes("/"), head).await.unwrap();
        let watcher = tokio::spawn(watch_until_last(watch));
        let writers = (0..WRITERS)
            .map(|writer| {
                let writer = Writer {
                    store: store.clone(),
                    key: format!("/counter{writer}"),
                    acknowledged: Arc::clone(&acknowledged),
                    unknown: Arc::clone(&unknown),
                    stop: Arc::clone(&stop),
                };
                tokio::spawn(writer.run())
            })
            .collect();
        Self { acknowledged, unknown, stop, writers, watcher, store }
    }

    /// Waits until so many more writes were acknowledged.
    async fn progress(&self) {
        let until = self.acknowledged.load(Ordering::Relaxed) + BETWEEN;
        while self.acknowledged.load(Ordering::Relaxed) < until {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// Ends it, and looks at what is there. Gives how often nobody knew what had become of a write.
    async fn check(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let mut counts = Vec::new();
        for writer in self.writers {
            counts.push(writer.await.unwrap());
        }
        let last =
            Txn { expect: vec![], writes: vec![Write::Put(bytes("/last"), bytes(""))], ..Txn::default() };
        while self.store.commit(last.clone()).await.is_err() {}
        let page = self.store.range(Range { prefix: bytes("/counter"), ..Range::default() }).await.unwrap();
        let stored: Vec<u64> = page.entries.iter().map(|entry| number(&entry.value)).collect();
        assert_eq!(stored, counts, "what is stored is what writers know of");
        let events = self.watcher.await.unwrap();
        assert!(events.windows(2).all(|pair| pair[0].revision < pair[1].revision), "each once, and in order");
        for (writer, count) in counts.into_iter().enumerate() {
            let key = bytes(format!("/counter{writer}"));
            let told: Vec<u64> = events
                .iter()
                .filter(|event| event.key == key)
                .map(|event| number(&event.entry.as_ref().unwrap().value))
                .collect();
            assert_eq!(told, (1..=count).collect::<Vec<_>>(), "none is missing, none twice");
        }
        self.unknown.load(Ordering::Relaxed)
    }
}

async fn watch_until_last(mut watch: store::Watch) -> Vec<Event> {
    let mut seen = Vec::new();
    loop {
        let changes = watch.events.recv().await.expect("the watch ended").expect("the watch failed");
        let last = changes.events.iter().any(|event| event.key == "/last");
        seen.extend(changes.events);
        if last {
            return seen;
        }
    }
}

fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}

struct Writer {
    store: Etcd,
    key: String,
    acknowledged: Arc<AtomicU64>,
    unknown: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Writer {
    /// Counts until it is told to stop; gives how far it came.
    async fn run(self) -> u64 {
        let (mut count, mut revision, mut doubtful) = (0, None, false);
        while !self.stop.load(Ordering::Relaxed) {
            let expect = revision.map_or(Expect::Absent, Expect::ModRevision);
            let key = bytes(&self.key);
            let txn = Txn {
                expect: vec![(key.clone(), expect)],
                writes: vec![Write::Put(key, bytes(count + 1))],
                ..Txn::default()
            };
            match self.store.commit(txn).await {
                Ok(committed) => {
                    self.acknowledged.fetch_add(1, Ordering::Relaxed);
                    (count, revision, doubtful) = (count + 1, Some(committed.revision), false);
                }
                // A write that nobody knew of may still have been on its way when it was looked for.
                Err(Error::Conflict { .. }) if doubtful => (count, revision) = self.look(count).await,
                Err(Error::Conflict { .. }) => panic!("nobody else writes, and nothing is sent twice"),
                Err(_) => {
                    self.unknown.fetch_add(1, Ordering::Relaxed);
                    (count, revision) = self.look(count).await;
                    doubtful = true;
                }
            }
        }
        count
    }

    /// What the key holds: what was acknowledged last, or what nobody knew of.
    async fn look(&self, count: u64) -> (u64, Option<Revision>) {
        loop {
            let Ok(found) = self.store.get(self.key.as_bytes(), None).await else { continue };
            let stored = found.as_ref().map_or(0, |entry| number(&entry.value));
            assert!(stored == count || stored == count + 1, "{stored} is stored after {count}");
            return (stored, found.map(|entry| entry.mod_revision));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_killed_again_and_again() {
    let mut server = harness::Etcd::start();
    let load = Load::start(&server).await;
    for _ in 0..8 {
        load.progress().await;
        server.kill(0);
        server.revive(0);
    }
    load.progress().await;
    assert!(load.check().await > 0, "no kill met a write under way");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_is_waited_for() {
    let server = harness::Etcd::start();
    let load = Load::start(&server).await;
    load.progress().await;
    server.freeze(0);
    let before = load.acknowledged.load(Ordering::Relaxed);
    // Longer than a read waits for one answer, and shorter than a write does.
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    let meanwhile = load.acknowledged.load(Ordering::Relaxed) - before;
    assert!(meanwhile <= WRITERS, "{meanwhile} writes were acknowledged by nobody");
    server.thaw(0);
    load.progress().await;
    load.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_serve_while_a_member_is_gone() {
    let mut server = harness::Etcd::cluster(3);
    let load = Load::start(&server).await;
    // One of the three leads, one is connected to, and each has its turn.
    for number in 0..3 {
        load.progress().await;
        server.kill(number);
        load.progress().await;
        server.revive(number);
    }
    for number in 0..3 {
        server.freeze(number);
        load.progress().await;
        server.thaw(number);
        load.progress().await;
    }
    load.check().await;
}
