//! A large cluster's objects in one server: the memory that they take, and how soon it is back after SIGKILL.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::Plane;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::api::{TOKEN, plane};
use super::rule;
use crate::api::Api;

const NODES: u32 = 5_000;
const PODS: u32 = 150_000;
const NAMESPACES: u32 = 50;
const WRITERS: u32 = 32;
/// Bytes of a pod as it is stored, who manages what included.
const POD_BYTES: usize = 4 << 10;

/// Makes nodes and pods, says what the server's process holds then, kills it and waits until the next one is ready: once with
/// everything that the server runs, and once the API alone, as where upstream's controllers and scheduler run beside it.
///
/// # Errors
/// When a request fails, or something is gone after the kill.
pub fn run(root: &Path) -> Result<()> {
    println!("\n{PODS} pods of {POD_BYTES} bytes (managedFields included) and {NODES} nodes");
    measure("the API alone", &plane(root, &["--disable", "controllers,scheduler"])?)?;
    measure("the API, all controllers and the scheduler", &plane(root, &[])?)
}

fn measure(what: &str, plane: &Plane) -> Result<()> {
    rule();
    println!("{what}");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let api = Api::new(plane, TOKEN)?;
    let began = Instant::now();
    runtime.block_on(fill(&api))?;
    let rate = f64::from(PODS + NODES) / began.elapsed().as_secs_f64();
    println!("{:<72} {rate:>9.0} /s", "made, 32 connections");
    std::thread::sleep(Duration::from_secs(10));
    println!("{:<72} {:>9.0} MB", "resident in the server's process", resident(plane)?);
    let before = runtime.block_on(count(&api))?;
    let (ready, whole) = runtime.block_on(kill(plane, &api, before))?;
    println!("{:<72} {ready:>9.2} s", "from SIGKILL to /readyz");
    println!("{:<72} {whole:>9.2} s", "from SIGKILL to the first list of them all");
    std::thread::sleep(Duration::from_secs(10));
    println!("{:<72} {:>9.0} MB", "resident after that", resident(plane)?);
    Ok(())
}

/// MB of the server's process.
fn resident(plane: &Plane) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{}/status", plane.pid("server")))?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kib * 1024.0 / 1e6)
}

async fn fill(api: &Api) -> Result<()> {
    let mut first = api.connect().await?;
    for number in 0..NAMESPACES {
        let body = json!({"metadata": {"name": format!("scale-{number}")}});
        first.must(Method::POST, "/api/v1/namespaces", body.to_string()).await?;
        // Where nobody else makes one.
        let account = json!({"metadata": {"name": "default"}}).to_string();
        let accounts = format!("/api/v1/namespaces/scale-{number}/serviceaccounts");
        let (status, _) = first.ask(Method::POST, &accounts, account).await?;
        ensure!(status.is_success() || status == StatusCode::CONFLICT, "{accounts}: {status}");
    }
    let filling = filling(&mut first).await?;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (api, filling) = (api.clone(), filling.clone());
        writers.spawn(async move {
            let mut connection = api.connect().await?;
            for number in (writer..NODES).step_by(WRITERS as usize) {
                connection.must(Method::POST, "/api/v1/nodes", node(number).to_string()).await?;
            }
            for number in (writer..PODS).step_by(WRITERS as usize) {
                let path = format!("/api/v1/namespaces/scale-{}/pods", number % NAMESPACES);
                connection.must(Method::POST, &path, pod(number, &filling).to_string()).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    Ok(())
}

/// What brings a pod up to its size.
async fn filling(connection: &mut crate::api::Connection) -> Result<String> {
    let path = "/api/v1/namespaces/scale-0/pods?dryRun=All";
    let bare = connection.must(Method::POST, path, pod(0, "").to_string()).await?;
    let missing = POD_BYTES.checked_sub(bare.len()).context("a bare pod is larger than it should be")?;
    Ok("x".repeat(missing))
}

fn node(number: u32) -> Value {
    json!({"metadata": {"name": format!("node-{number}"), "labels": {
        "kubernetes.io/hostname": format!("node-{number}"), "topology.kubernetes.io/zone": format!("zone-{}", number % 3)}},
        "spec": {"podCIDR": format!("10.{}.{}.0/24", number / 256, number % 256)},
        "status": {"capacity": {"cpu": "16", "memory": "64Gi", "pods": "110"},
            "allocatable": {"cpu": "16", "memory": "64Gi", "pods": "110"}}})
}

fn pod(number: u32, filling: &str) -> Value {
    let probe = json!({"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 10});
    let environment: Vec<Value> =
        (0..4).map(|n| json!({"name": format!("SETTING_{n}"), "value": format!("value-{n}")})).collect();
    let labels: BTreeMap<&str, String> = [
        ("app", format!("app-{}", number % 1000)),
        ("pod-template-hash", format!("{:x}", number % 1000)),
        ("tier", "backend".to_owned()),
    ]
    .into();
    json!({"metadata": {"name": format!("app-{}-{number:06}", number % 1000), "labels": labels,
            "annotations": {"example.com/filling": filling}},
        "spec": {"nodeName": format!("node-{}", number % NODES), "automountServiceAccountToken": false, "containers": [{
            "name": "main", "image": "registry.example.com/team/app:1.2.3", "env": environment,
            "ports": [{"name": "http", "containerPort": 8080}],
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
            "livenessProbe": probe.clone(), "readinessProbe": probe}]}})
}

/// How many pods there are, by the list's own account.
async fn count(api: &Api) -> Result<u64> {
    let answer = api.connect().await?.must(Method::GET, "/api/v1/pods?limit=1", "").await?;
    let list: Value = serde_json::from_slice(&answer)?;
    let remaining = list["metadata"]["remainingItemCount"].as_u64().context("no count")?;
    let count = remaining + 1;
    ensure!(count >= u64::from(PODS), "only {count} pods");
    Ok(count)
}

/// Seconds from SIGKILL to readiness, and to a list of all.
async fn kill(plane: &Plane, api: &Api, before: u64) -> Result<(f64, f64)> {
    let began = Instant::now();
    harness::kill(plane.pid("server"), 9);
    let ready = loop {
        ensure!(began.elapsed() < Duration::from_secs(120), "not ready two minutes after SIGKILL");
        if let Ok(mut connection) = api.connect().await
            && let Ok((status, _)) = connection.ask(Method::GET, "/readyz", "").await
            && status.is_success()
        {
            break began.elapsed();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let after = count(api).await?;
    ensure!(after == before, "{before} pods before SIGKILL, {after} after");
    let list = api.connect().await?.must(Method::GET, "/api/v1/pods", "").await?;
    ensure!(list.len() > POD_BYTES / 2 * PODS as usize, "a list of {} bytes", list.len());
    Ok((ready.as_secs_f64(), began.elapsed().as_secs_f64()))
}
