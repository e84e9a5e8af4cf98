//! A server that is killed again and again while many write: whatever it said it had done is still done.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use harness::Etcd;
use hyper::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::Dice;
use crate::api::{Api, Connection};
use crate::bench;

/// Where the server keeps its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// A file of its own
    Embedded,
    /// An etcd cluster of three
    Etcd,
}

const WRITERS: u64 = 8;
/// Objects that each writer creates, changes and deletes.
const OBJECTS: u64 = 20;
const PATH: &str = "/api/v1/namespaces/default/configmaps";
/// How long a server may take until it serves again.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the storm on each backend.
///
/// # Errors
/// When something that was acknowledged is lost, or the server does not come back.
pub fn run(root: &Path, backends: &[Backend], rounds: u32, seed: u64) -> Result<()> {
    println!("seed {seed}");
    for backend in [Backend::Embedded, Backend::Etcd] {
        if backends.is_empty() || backends.contains(&backend) {
            on(root, backend, rounds, seed)?;
        }
    }
    Ok(())
}

fn on(root: &Path, backend: Backend, rounds: u32, seed: u64) -> Result<()> {
    let mut etcd = (backend == Backend::Etcd).then(|| Etcd::cluster(3));
    let servers = etcd.as_ref().map(|etcd| etcd.endpoints().join(","));
    let flags: Vec<&str> = servers.iter().flat_map(|servers| ["--etcd-servers", servers.as_str()]).collect();
    let plane = bench::api::plane(root, &flags)?;
    let api = Api::new(&plane, bench::api::TOKEN)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (mut dice, began) = (Dice(seed | 1), Instant::now());
    let known: Known = Arc::default();
    let mut written = 0;
    for round in 1..=rounds {
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let (api, known, stopped) = (api.clone(), known.clone(), stopped.clone());
            let dice = Dice(seed ^ (u64::from(round) << 8 | writer) | 1);
            writers.spawn_on(write(api, writer, dice, known, stopped), runtime.handle());
        }
        std::thread::sleep(Duration::from_millis(20 + dice.below(400)));
        harness::kill(plane.pid("server"), 9);
        // Now and then a member goes with it. Two are still a majority.
        if let Some(etcd) = &mut etcd
            && dice.below(4) == 0
        {
            let member = usize::try_from(dice.below(3))?;
            etcd.kill(member);
            etcd.revive(member);
        }
        let _ = stop.send(true);
        written += runtime.block_on(async {
            let mut written = 0;
            while let Some(done) = writers.join_next().await {
                written += done?;
            }
            anyhow::Ok(written)
        })?;
        runtime.block_on(verify(&api, &known)).with_context(|| format!("after kill {round}"))?;
        if round % 50 == 0 || round == rounds {
            let seconds = began.elapsed().as_secs_f64();
            println!(
                "{backend:?}: {round} kills in {seconds:.0} s, {written} writes acknowledged, none lost"
            );
        }
    }
    ensure!(written > u64::from(rounds), "hardly anything was acknowledged: nothing was tested");
    Ok(())
}

/// What an object is known to be, by the writer that owns it.
#[derive(Clone, Debug)]
struct Fate {
    /// What was acknowledged last; `None`: that it is gone.
    certain: Option<String>,
    /// What was asked for after that, and never answered.
    possible: Vec<Option<String>>,
}

type Known = Arc<Mutex<BTreeMap<String, Fate>>>;

fn lock(known: &Known) -> std::sync::MutexGuard<'_, BTreeMap<String, Fate>> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes until it is told to stop, or the connection breaks: how many writes were acknowledged.
async fn write(
    api: Api,
    writer: u64,
    mut dice: Dice,
    known: Known,
    stopped: tokio::sync::watch::Receiver<bool>,
) -> u64 {
    let Ok(mut connection) = api.connect().await else { return 0 };
    let mut acknowledged = 0;
    while !*stopped.borrow() {
        let name = format!("w{writer}-{}", dice.below(OBJECTS));
        let value =
            format!("{}-{}", dice.below(u64::MAX), "x".repeat(usize::try_from(dice.below(900)).unwrap_or(0)));
        let exists = lock(&known).get(&name).is_some_and(|fate| fate.certain.is_some());
        let wanted = (!exists || dice.below(4) > 0).then_some(value);
        if let Some(fate) = lock(&known).get_mut(&name) {
            fate.possible.push(wanted.clone());
        } else {
            let fate = Fate { certain: None, possible: vec![wanted.clone()] };
            lock(&known).insert(name.clone(), fate);
        }
        let Ok(status) = ask(&mut connection, &name, exists, wanted.as_deref()).await else { break };
        if status.is_success() {
            lock(&known).insert(name, Fate { certain: wanted, possible: Vec::new() });
            acknowledged += 1;
        }
    }
    acknowledged
}

async fn ask(
    connection: &mut Connection,
    name: &str,
    exists: bool,
    wanted: Option<&str>,
) -> Result<hyper::StatusCode> {
    let (method, path, body) = match wanted {
        None => (Method::DELETE, format!("{PATH}/{name}"), Value::Null),
        Some(value) if exists => (Method::PATCH, format!("{PATH}/{name}"), json!({"data": {"k": value}})),
        Some(value) => {
            (Method::POST, PATH.to_owned(), json!({"metadata": {"name": name}, "data": {"k": value}}))
        }
    };
    let body = if body.is_null() { String::new() } else { body.to_string() };
    Ok(connection.ask(method, &path, body).await?.0)
}

/// Waits for the next server and holds what it has against what is known; then all of that is certain.
async fn verify(api: &Api, known: &Known) -> Result<()> {
    let began = Instant::now();
    let list = loop {
        ensure!(began.elapsed() < PATIENCE, "the server is not back");
        if let Ok(mut connection) = api.connect().await
            && let Ok(list) = connection.must(Method::GET, PATH, "").await
        {
            break list;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let list: Value = serde_json::from_slice(&list)?;
    let items = list["items"].as_array().context("no items")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut there: BTreeMap<String, String> =
        items.iter().map(|item| (text(&item["metadata"]["name"]), text(&item["data"]["k"]))).collect();
    for (name, fate) in lock(known).iter_mut() {
        let found = there.remove(name);
        let is_explained = found == fate.certain || fate.possible.contains(&found);
        ensure!(is_explained, "{name} is {found:?} and should be {fate:?}");
        *fate = Fate { certain: found, possible: Vec::new() };
    }
    there.retain(|name, _| name.starts_with('w'));
    ensure!(there.is_empty(), "nobody made {:?}", there.keys());
    Ok(())
}
