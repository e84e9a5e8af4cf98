//! A process over a real file, killed again and again.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use clock::{SystemClock, SystemRandom};
use durable::engine::Ending;
use durable::{Config, FileStorage, Limits, Terms, Worker};
use effects::{Class, Decision, InvokeError, Invoker, Operation, Recorder, Reply, Request};
use tokio_util::sync::CancellationToken;

const FOLDER: &str = "DURABLE_TEST_FOLDER";
const INVOCATIONS: usize = 60;
const WRITES: usize = 12;
const KILLS: usize = 25;

/// Writes lines to a log that the kernel keeps when the process dies.
struct Logger(std::fs::File);

impl Logger {
    fn line(&self, line: &str) {
        (&self.0).write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

#[async_trait]
impl Invoker for Logger {
    async fn invoke(
        &self,
        _: &str,
        request: Request,
        recorder: Arc<dyn Recorder>,
    ) -> Result<Reply, InvokeError> {
        let id = String::from_utf8(request.body().to_vec()).unwrap();
        let mut reply = id.clone();
        for number in 0..WRITES {
            let operation = Operation {
                interface: "test:log/log",
                function: "line",
                class: Class::Write,
                arguments: Bytes::from(format!("{id} {number}")),
            };
            let result = match recorder.start(operation).await? {
                Decision::Replay(result) => result,
                Decision::Perform(ticket) => {
                    let doubt = if ticket.in_doubt { "doubt" } else { "sure" };
                    self.line(&format!("write {} {id} {number} {doubt}", ticket.idempotency_key));
                    let result = Bytes::from(format!(" {number}"));
                    let key = ticket.idempotency_key.clone();
                    recorder.finish(ticket, result.clone()).await?;
                    self.line(&format!("done {key}"));
                    result
                }
            };
            reply.push_str(std::str::from_utf8(&result).unwrap());
            // Half of them leave memory.
            recorder.sleep(if number % 2 == 0 { 1_000_000 } else { 6_000_000 }).await?;
        }
        Ok(Reply::new(reply.into()))
    }
}

/// What the killed process runs; it does nothing when nobody is there to kill it.
#[test]
#[ignore = "run by the test below, in a process of its own"]
fn the_process_that_is_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(work(Path::new(&folder)));
}

async fn work(folder: &Path) {
    let log = std::fs::OpenOptions::new().append(true).create(true).open(folder.join("log")).unwrap();
    let told = Arc::new(Logger(log.try_clone().unwrap()));
    let storage = Box::new(FileStorage::open(&folder.join("journal.db")).unwrap());
    let config =
        Config { limits: Limits { running: 16, prefetch: 8, ..Limits::default() }, ..Config::default() };
    let (clock, random) = (Arc::new(SystemClock::default()), SystemRandom::default());
    let worker =
        Worker::open(storage, Arc::new(Logger(log)), clock, &random, config, CancellationToken::new())
            .await
            .unwrap();
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..INVOCATIONS {
        let (worker, told) = (worker.clone(), told.clone());
        clients.spawn(async move {
            let id = format!("i{number}");
            let request = http::Request::post("http://test/").body(Bytes::from(id.clone())).unwrap();
            let submission = worker
                .submit("ns/log@1", &id, request, Terms::suspending_after(Duration::from_millis(3)))
                .await
                .unwrap();
            told.line(&format!("accepted {id}"));
            let Ending::Completed(reply) = submission.ending().await.unwrap() else {
                panic!("{id} did not complete")
            };
            told.line(&format!("told {id} {}", String::from_utf8_lossy(reply.body())));
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    worker.stop().await;
}

fn start(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::the_process_that_is_killed", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until the log has grown by some lines since, or the process has ended by itself.
fn grown(folder: &Path, child: &mut Child, since: u64, bytes: u64) -> u64 {
    loop {
        let length = std::fs::metadata(folder.join("log")).map_or(0, |meta| meta.len());
        if length >= since + bytes || child.try_wait().unwrap().is_some() {
            return length;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

#[test]
fn killed_at_any_moment_it_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut length = 0;
    for kill in 0..KILLS {
        let mut child = start(folder.path());
        // Another length each time, so that the kills fall into every part of the work.
        length = grown(folder.path(), &mut child, length, 300 + (kill as u64 * 977) % 2500);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(start(folder.path()).wait().unwrap().success());
    check(&std::fs::read_to_string(folder.path().join("log")).unwrap());
}

fn check(log: &str) {
    let mut doubts = 0;
    let mut performed: BTreeMap<&str, &str> = BTreeMap::new();
    let mut recorded: BTreeMap<&str, bool> = BTreeMap::new();
    let mut told: BTreeMap<&str, &str> = BTreeMap::new();
    for line in log.lines() {
        let (kind, rest) = line.split_once(' ').unwrap();
        let (name, value) = rest.split_once(' ').unwrap_or((rest, ""));
        match kind {
            "write" => {
                let (what, doubt) = value.rsplit_once(' ').unwrap();
                assert!(!recorded.contains_key(name), "performed after its result was recorded: {line}");
                if let Some(before) = performed.insert(name, what) {
                    assert_eq!((before, doubt), (what, "doubt"), "{line}");
                    doubts += 1;
                }
            }
            "done" => drop(recorded.insert(name, true)),
            "told" => {
                let before = told.insert(name, value);
                assert!(before.is_none_or(|before| before == value), "{line}");
            }
            _ => {}
        }
    }
    assert_eq!((performed.len(), told.len()), (INVOCATIONS * WRITES, INVOCATIONS));
    let distinct: std::collections::BTreeSet<_> = performed.values().collect();
    assert_eq!(distinct.len(), INVOCATIONS * WRITES, "each effect has one key");
    let wanted: Vec<_> = (0..WRITES).map(|number| number.to_string()).collect();
    for (id, reply) in told {
        assert_eq!(reply, format!("{id} {}", wanted.join(" ")));
    }
    println!("{KILLS} kills, {doubts} effects in doubt of {}", INVOCATIONS * WRITES);
}
