//! Which engine? 32 writers put 1 KiB values under growing revisions and move a key's index entry to the newest one, each
//! waiting for its fsync, all through the same group commit; then the file is opened again, and again after kill -9.
//!
//! `cargo bench -p disk --bench engines -- [--puts N] [--dir DIR] [ENGINE…]`. A child process does the writing, so that
//! CPU time and kills belong to one engine.

// A benchmark is no part of the product: it may stop at the first surprise, and prints its figures.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod others;

use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use disk::{Batch, Disk, Engine, KeyRange, Options, Sqlite, Table};

const LOG: Table = Table::new("log");
const INDEX: Table = Table::new("index");
const TABLES: [Table; 2] = [LOG, INDEX];
const WRITERS: u64 = 32;
const VALUE_BYTES: usize = 1024;
/// Written before the run that is killed, so that reopening has something to open.
const KILL_AFTER: Duration = Duration::from_millis(1500);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments.first().is_some_and(|first| first == "write") {
        return write(&arguments[1], Path::new(&arguments[2]), arguments[3].parse().unwrap(), &arguments[4]);
    }
    let value =
        |flag: &str| arguments.iter().position(|a| a == flag).and_then(|at| arguments.get(at + 1)).cloned();
    let puts = value("--puts").map_or(200_000, |text| text.parse().unwrap());
    let directory = value("--dir").map_or_else(std::env::temp_dir, PathBuf::from);
    let chosen: Vec<&str> = ["plain", "sqlite", "fjall", "redb"]
        .into_iter()
        .filter(|e| arguments.iter().any(|a| a == e))
        .collect();
    let engines = if chosen.is_empty() { vec!["plain", "sqlite", "fjall", "redb"] } else { chosen };
    println!(
        "| engine | writes | puts/s | p50 ms | p99 ms | p99.9 ms | CPU µs/put | bytes written a byte | RSS MB | reopen ms | after kill -9 ms | scan rows/s |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    for engine in engines {
        for layout in ["log", "log+index"] {
            measure(engine, layout, &directory, puts);
        }
    }
}

fn open(engine: &str, path: &Path) -> Box<dyn Engine> {
    match engine {
        "plain" => others::Plain::open(path),
        "fjall" => others::Fjall::open(path, &TABLES),
        "redb" => others::Redb::open(path, &TABLES),
        _ => {
            let mut options = Options::new(path);
            if let Ok(pages) = std::env::var("PAGE_BYTES") {
                options.page_bytes = pages.parse().unwrap();
            }
            if let Ok(cache) = std::env::var("CACHE_BYTES") {
                options.cache_bytes = cache.parse().unwrap();
            }
            if let Ok(log) = std::env::var("LOG_BYTES") {
                options.log_bytes = log.parse().unwrap();
            }
            Box::new(Sqlite::open(&options, &TABLES).unwrap())
        }
    }
}

fn measure(engine: &str, layout: &str, directory: &Path, puts: u64) {
    let directory = tempfile::tempdir_in(directory).unwrap();
    let path = directory.path().join("data");
    let finished = writer(engine, &path, puts, layout).wait_with_output().unwrap();
    let report = String::from_utf8(finished.stdout).unwrap();
    let report = report.trim();

    let (reopen, scan) =
        if engine == "plain" { (String::new(), String::new()) } else { reopen(engine, &path) };
    let killed = if engine == "plain" { String::new() } else { kill(engine, &path, layout) };
    println!("| {engine} | {layout} | {report} | {reopen} | {killed} | {scan} |");
}

fn writer(engine: &str, path: &Path, puts: u64, layout: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["write", engine])
        .arg(path)
        .args([&puts.to_string(), layout])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn reopen(engine: &str, path: &Path) -> (String, String) {
    let start = Instant::now();
    let engine = open(engine, path);
    let opened = start.elapsed();
    let start = Instant::now();
    let (mut rows, mut bytes) = (0u64, 0);
    let mut visit = |key: &[u8], value: &[u8]| {
        rows += 1;
        bytes += key.len() + value.len();
        ControlFlow::Continue(())
    };
    engine.reader().snapshot().unwrap().scan(LOG, &KeyRange::default(), &mut visit).unwrap();
    std::hint::black_box(bytes);
    let scan = format!("{:.0}", rows as f64 / start.elapsed().as_secs_f64());
    engine.close().unwrap();
    (format!("{:.1}", opened.as_secs_f64() * 1e3), scan)
}

/// Writes on, kills the writer, opens the file and looks for every revision that the writer said was durable.
fn kill(engine: &str, path: &Path, layout: &str) -> String {
    let mut child = writer(engine, path, u64::MAX, layout);
    let stdout = child.stdout.take().unwrap();
    let acknowledged = std::thread::spawn(move || {
        BufReader::new(stdout).lines().map_while(Result::ok).filter_map(|line| line.parse::<u64>().ok()).max()
    });
    std::thread::sleep(KILL_AFTER);
    child.kill().unwrap();
    child.wait().unwrap();
    let acknowledged = acknowledged.join().unwrap().unwrap_or_default();
    let start = Instant::now();
    let engine = open(engine, path);
    let opened = start.elapsed();
    let snapshot = engine.reader().snapshot().unwrap();
    assert!(acknowledged > 0, "nothing was written before the kill");
    assert!(snapshot.get(LOG, &acknowledged.to_be_bytes()).unwrap().is_some(), "lost {acknowledged}");
    drop(snapshot);
    engine.close().unwrap();
    format!("{:.1}", opened.as_secs_f64() * 1e3)
}

/// The child: writes, and prints either each durable revision now and then (until it is killed) or one line of figures.
fn write(engine: &str, path: &Path, puts: u64, layout: &str) {
    let until_killed = puts == u64::MAX;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let disk = Disk::start(open(engine, path)).unwrap();
    let next = Arc::new(AtomicU64::new(if until_killed { 1 << 40 } else { 1 }));
    let index = layout == "log+index";
    let (cpu, start) = (cpu(), Instant::now());
    let mut times: Vec<Duration> = runtime.block_on(async {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                tokio::spawn(put(disk.clone(), next.clone(), writer, puts / WRITERS, index, until_killed))
            })
            .collect();
        let mut times = Vec::new();
        for writer in writers {
            times.extend(writer.await.unwrap());
        }
        disk.close().await.unwrap();
        times
    });
    let (elapsed, cpu) = (start.elapsed(), self::cpu() - cpu);
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    let count = times.len() as f64;
    println!(
        "{:.0} | {:.2} | {:.2} | {:.1} | {:.1} | {:.1} | {}",
        count / elapsed.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(0.999),
        cpu.as_secs_f64() * 1e6 / count,
        written() as f64 / (count * VALUE_BYTES as f64),
        peak_rss() >> 10,
    );
}

async fn put(
    disk: Disk,
    next: Arc<AtomicU64>,
    writer: u64,
    puts: u64,
    index: bool,
    print: bool,
) -> Vec<Duration> {
    let mut times = Vec::new();
    let mut seed = writer + 1;
    let mut put = 0;
    while put < puts {
        put += 1;
        let mut value = vec![0; VALUE_BYTES];
        for word in value.chunks_exact_mut(8) {
            // xorshift: bytes that do not compress.
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            word.copy_from_slice(&seed.to_le_bytes());
        }
        let key = format!("/registry/core/configmaps/default/object-{:06}", seed % 100_000);
        let start = Instant::now();
        let mut batch = Batch::new();
        let revision = next.fetch_add(1, Ordering::Relaxed);
        batch.put(LOG, revision.to_be_bytes().to_vec(), value);
        if index {
            batch.put(INDEX, key.into_bytes(), revision.to_be_bytes().to_vec());
        }
        disk.commit(batch).await.unwrap();
        times.push(start.elapsed());
        if print {
            let mut out = std::io::stdout().lock();
            let _ = writeln!(out, "{revision}").and_then(|()| out.flush());
        }
    }
    times
}

/// CPU time of this process so far.
fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn proc_field(file: &str, field: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Bytes this process has passed to write calls.
fn written() -> u64 {
    proc_field("/proc/self/io", "wchar:")
}

/// Greatest resident size in KiB.
fn peak_rss() -> u64 {
    proc_field("/proc/self/status", "VmHWM:")
}
