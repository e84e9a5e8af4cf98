//! How many durable transactions a second the embedded store takes: 32 writers create or update 1 KiB objects while one
//! watcher follows. `cargo bench -p store --bench commit -- [COUNT]`.
// A benchmark is no part of the product: it may stop at the first surprise, and prints its figures.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use store::{Embedded, Expect, History, Range, Store, Txn, Write};

const WRITERS: u64 = 32;

fn main() {
    let count: u64 = std::env::args().skip(1).find_map(|text| text.parse().ok()).unwrap_or(200_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let directory =
        tempfile::tempdir_in(std::env::var_os("BENCH_DIR").unwrap_or_else(|| "/var/tmp".into())).unwrap();
    let options = disk::Options::new(directory.path().join("store"));
    runtime.block_on(async {
        let store = Embedded::open(&options, History::default()).unwrap();
        let mut watch = store.watch(Bytes::new(), 0).await.unwrap();
        let follower = tokio::spawn(async move {
            let mut seen = 0;
            while let Some(Ok(told)) = watch.events.recv().await {
                seen += told.events.len();
            }
            seen
        });
        report("create", &store, count, |writer, i| format!("/registry/core/configmaps/bench/{writer}-{i}"))
            .await;
        report("update", &store, count, |writer, i| {
            format!("/registry/core/configmaps/bench/{writer}-{}", i % 50)
        })
        .await;
        let start = Instant::now();
        let page = store.range(Range::default()).await.unwrap();
        println!("range: {:.0} entries/s", page.entries.len() as f64 / start.elapsed().as_secs_f64());
        store.close().await.unwrap();
        println!("watched: {} events", follower.await.unwrap());
    });
    let start = Instant::now();
    runtime.block_on(async { drop(Embedded::open(&options, History::default()).unwrap()) });
    println!("open: {:.0} ms for {} revisions", start.elapsed().as_secs_f64() * 1e3, 2 * count);
}

async fn report(name: &str, store: &Embedded, count: u64, key: fn(u64, u64) -> String) {
    let (cpu, start) = (cpu(), Instant::now());
    let writers: Vec<_> =
        (0..WRITERS).map(|writer| tokio::spawn(write(store.clone(), writer, count / WRITERS, key))).collect();
    let mut times = Vec::new();
    for writer in writers {
        times.extend(writer.await.unwrap());
    }
    let (elapsed, cpu) = (start.elapsed(), self::cpu() - cpu);
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    let done = times.len() as f64;
    println!(
        "{name}: {:.0}/s, p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.1} ms, {:.1} µs of CPU each",
        done / elapsed.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(0.999),
        cpu.as_secs_f64() * 1e6 / done,
    );
}

async fn write(store: Embedded, writer: u64, count: u64, key: fn(u64, u64) -> String) -> Vec<Duration> {
    let value = Bytes::from(vec![b'x'; 1024]);
    let mut times = Vec::new();
    for i in 0..count {
        let key = Bytes::from(key(writer, i));
        let start = Instant::now();
        let current = store.get(&key, None).await.unwrap();
        let expect = current.map_or(Expect::Absent, |entry| Expect::ModRevision(entry.mod_revision));
        let txn = Txn {
            expect: vec![(key.clone(), expect)],
            writes: vec![Write::Put(key, value.clone())],
            ..Txn::default()
        };
        store.commit(txn).await.unwrap();
        times.push(start.elapsed());
    }
    times
}

/// CPU time of this process so far.
fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
