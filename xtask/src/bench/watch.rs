//! How late a thousand watchers of one resource learn of a change.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use tokio::task::JoinSet;

use super::api::{TOKEN, plane};
use super::rule;
use crate::api::Api;

const NAMESPACE: &str = "bench";
const OBJECTS: usize = 20;
const WATCHERS: usize = 1_000;
const A_SECOND: u32 = 100;
/// What the stamp of a change stands behind in an event.
const MARK: &[u8] = b"\"stamp\":\"";

/// Changes ConfigMaps of a namespace so often a second, while so many watch them over connections of their own; says how
/// long after its sending each watcher had each change.
///
/// # Errors
/// When a request fails, or a watcher misses a change.
pub fn run(root: &Path, seconds: u32) -> Result<()> {
    let plane = plane(root, &[])?;
    plane.kubectl_ok(&["create", "namespace", NAMESPACE]);
    let api = Api::new(&plane, TOKEN)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut late = runtime.block_on(measure(&api, seconds * A_SECOND))?;
    late.sort_unstable();
    let at = |share: usize| late.get((late.len() - 1) * share / 1000).copied().unwrap_or_default();
    println!("\n{WATCHERS} watchers of one resource, each over TLS of its own; {A_SECOND} changes a second");
    rule();
    println!("{:<72} {:>9}", "events seen, none missing", late.len());
    for (what, share) in [("p50", 500), ("p99", 990), ("p99.9", 999)] {
        println!("{:<72} {:>9.1} ms", format!("from sending a change to seeing it, {what}"), ms(at(share)));
    }
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

async fn measure(api: &Api, changes: u32) -> Result<Vec<Duration>> {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
    let mut writer = api.connect().await?;
    for number in 0..OBJECTS {
        let body = format!(
            r#"{{"metadata":{{"name":"watched-{number}","labels":{{"bench":"watch"}}}},"data":{{"filling":"{}"}}}}"#,
            "x".repeat(900)
        );
        writer.must(Method::POST, &path, body).await?;
    }
    let began = Instant::now();
    let mut watchers = JoinSet::new();
    for _ in 0..WATCHERS {
        let mut connection = api.connect().await?;
        let query = format!("{path}?watch=1&labelSelector=bench%3Dwatch");
        let answer = connection.send(Method::GET, &query, "").await?;
        ensure!(answer.status().is_success(), "a watch was refused: {}", answer.status());
        watchers.spawn(async move {
            let seen = follow(answer.into_body(), began, changes).await;
            drop(connection);
            seen
        });
    }
    let mut tick = tokio::time::interval(Duration::from_secs(1) / A_SECOND);
    for number in 0..changes {
        tick.tick().await;
        let target = format!("{path}/watched-{}", usize::try_from(number)? % OBJECTS);
        let body = format!(r#"{{"data":{{"stamp":"{}"}}}}"#, began.elapsed().as_nanos());
        writer.must(Method::PATCH, &target, body).await?;
    }
    let mut late = Vec::new();
    while let Some(seen) = watchers.join_next().await {
        late.extend(seen??);
    }
    Ok(late)
}

/// Reads events until all changes were seen: how late each was.
async fn follow(mut body: Incoming, began: Instant, changes: u32) -> Result<Vec<Duration>> {
    let mut late = Vec::new();
    let mut rest: Vec<u8> = Vec::new();
    while late.len() < usize::try_from(changes)? {
        let frame = tokio::time::timeout(Duration::from_secs(30), body.frame()).await;
        let frame = frame.context("a change is missing")?.context("a watch ended early")??;
        rest.extend_from_slice(&frame.into_data().unwrap_or_default());
        let now = began.elapsed();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            if let Some(stamp) = stamp(&rest[..end]) {
                late.push(now.saturating_sub(Duration::from_nanos(stamp)));
            }
            rest.drain(..=end);
        }
    }
    Ok(late)
}

fn stamp(event: &[u8]) -> Option<u64> {
    let at = event.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
    let digits = event[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&event[at..at + digits]).ok()?.parse().ok()
}
