//! What the registry costs over the embedded store: creates by many writers (each durable when answered), gets and lists
//! of 500; beside them the same transactions committed to the store alone.
//!
//! `cargo bench -p registry` prints one line each.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clock::{SystemClock, SystemRandom};
use jiff::Timestamp;
use registry::{AdmitAll, ListOptions, Options, Part, Registry, RequestContext};
use serde_json::{Value, json};
use store::{Expect, Store, Txn, Write};

const WRITERS: usize = 32;
const SECONDS: u64 = 4;

fn body(index: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("c{index:08}")},
        "data": {"value": "x".repeat(1024)}})
}

/// Runs `step(index)` in so many tasks for some seconds; gives steps a second and the median time of one.
async fn measure<F, Fut>(tasks: usize, step: F) -> (f64, Duration)
where
    F: Fn(usize) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send,
{
    let (step, counter) = (Arc::new(step), Arc::new(AtomicUsize::new(0)));
    let start = Instant::now();
    let until = start + Duration::from_secs(SECONDS);
    let running: Vec<_> = (0..tasks)
        .map(|_| {
            let (step, counter) = (step.clone(), counter.clone());
            tokio::spawn(async move {
                let mut times = Vec::new();
                while Instant::now() < until {
                    let began = Instant::now();
                    step(counter.fetch_add(1, Ordering::Relaxed)).await;
                    times.push(began.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in running {
        times.extend(task.await.unwrap());
    }
    let elapsed = start.elapsed().as_secs_f64();
    times.sort_unstable();
    (times.len() as f64 / elapsed, times[times.len() / 2])
}

fn report(what: &str, (rate, median): (f64, Duration)) -> f64 {
    println!("{what:<44} {rate:>10.0}/s   p50 {median:?}");
    rate
}

async fn open(directory: &std::path::Path, name: &str) -> store::Embedded {
    let disk = disk::Options::new(directory.join(name));
    store::Embedded::open(&disk, store::History::default()).unwrap()
}

async fn plain(directory: &std::path::Path) -> f64 {
    let store = open(directory, "plain").await;
    let value = Bytes::from(body(0).to_string());
    let commits = measure(WRITERS, move |index| {
        let (store, value) = (store.clone(), value.clone());
        async move {
            let key = Bytes::from(format!("/registry/core/configmaps/default/c{index:08}"));
            let txn = Txn {
                expect: vec![(key.clone(), Expect::Absent)],
                writes: vec![Write::Put(key, value)],
                ..Txn::default()
            };
            store.commit(txn).await.unwrap();
        }
    });
    report("store alone: commit 1 KiB, 32 writers", commits.await)
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let directory = tempfile::tempdir().unwrap();
    let baseline = plain(directory.path()).await;
    let options = Options::new(Arc::new(SystemClock::default()), Arc::new(SystemRandom::default()));
    let registry = Registry::open(Arc::new(open(directory.path(), "objects").await), options).await.unwrap();
    let kind = registry.kinds().lookup("", "v1", "configmaps").unwrap().clone();
    let (r, k) = (registry.clone(), kind.clone());
    let creates = measure(WRITERS, move |index| {
        let (registry, kind) = (r.clone(), k.clone());
        async move {
            let cx = RequestContext::new(Timestamp::now(), Arc::new(AdmitAll));
            registry.create(&cx, &kind, "default", body(index)).await.unwrap();
        }
    });
    let rate = report("create 1 KiB ConfigMap, 32 writers", creates.await);
    println!("{:<44} {:>10.2}", "  of the store alone", rate / baseline);
    let (r, k) = (registry.clone(), kind.clone());
    let gets = measure(2, move |index| {
        let (registry, kind) = (r.clone(), k.clone());
        async move {
            let name = format!("c{:08}", index % 1000);
            std::hint::black_box(
                registry.get(&kind, "default", &name, Part::Whole).await.unwrap().segments(),
            );
        }
    });
    report("get", gets.await);
    let lists = measure(2, move |_| {
        let (registry, kind) = (registry.clone(), kind.clone());
        async move {
            let options = ListOptions { limit: 500, ..ListOptions::default() };
            std::hint::black_box(registry.list(&kind, "default", &options).await.unwrap().into_segments());
        }
    });
    report("list 500 (pieces)", lists.await);
}
