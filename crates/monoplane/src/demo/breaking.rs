//! The chapter of kills.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use api::k8s::api::core::v1::Pod;
use client::kube::api::Api;
use rustix::process::{Pid, Signal, kill_process};

use super::components::Link;
use super::load::{Seen, crowd};
use super::plane::{Plane, eventually};
use super::report::seconds;
use super::{components, containers};

/// How long requests go on around the kill of the edge, and when in that time it comes.
const AROUND: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(1));
const CLIENTS: usize = 8;

/// Kills a container's process and waits until its pod is Ready again, restarted once.
///
/// # Errors
/// When it does not come back.
pub async fn container(plane: &Plane) -> Result<(Duration, String)> {
    let victim = containers::ready(plane).await?.into_iter().next().context("no Ready pod")?;
    let name = victim.metadata.name.context("a pod without a name")?;
    let uid = victim.metadata.uid.context("a pod without a UID")?;
    let before = containers::running(plane).await?;
    let (id, restarts) = before.get(&name).cloned().context("no running container")?;
    let pid = process_of(&uid).with_context(|| format!("no process in pod {name}'s cgroup"))?;
    let started = Instant::now();
    kill_process(pid, Signal::KILL)?;
    let pods: Api<Pod> = Api::namespaced(plane.client().await?, "default");
    eventually("the container was restarted", || async {
        let pod = pods.get(&name).await?;
        let status = pod.status.and_then(|s| s.container_statuses).and_then(|s| s.into_iter().next());
        let back = status.is_some_and(|s| {
            s.ready && s.restart_count == restarts + 1 && s.container_id.as_ref() != Some(&id)
        });
        Ok(back.then_some(()))
    })
    .await?;
    let took = started.elapsed();
    Ok((
        took,
        format!(
            "pod {name}: process {} killed, a new container Ready after {}",
            pid.as_raw_nonzero(),
            seconds(took)
        ),
    ))
}

/// A process whose cgroup path names the pod: one of its containers' first processes.
fn process_of(uid: &str) -> Option<Pid> {
    let mut processes: Vec<i32> = std::fs::read_dir("/proc")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|id| std::fs::read_to_string(format!("/proc/{id}/cgroup")).is_ok_and(|c| c.contains(uid)))
        .filter(|id| {
            std::fs::read_to_string(format!("/proc/{id}/cmdline")).is_ok_and(|c| c.contains("hello"))
        })
        .collect();
    processes.sort_unstable();
    processes.first().and_then(|id| Pid::from_raw(*id))
}

/// Kills the edge while a crowd asks for a link.
///
/// # Errors
/// When somebody got a wrong answer, or the crowd was cut off for longer than the requests in hand.
pub async fn edge(plane: &Plane, link: &Link) -> Result<(Seen, String)> {
    let until = Instant::now() + AROUND.0;
    let address = plane.gateway()?;
    let ask = link.ask();
    let (seen, killed) = tokio::join!(crowd(address, &ask, 302, CLIENTS, until), async {
        tokio::time::sleep(AROUND.1).await;
        plane.kill("edge")
    });
    killed?;
    ensure!(seen.wrong == 0, "{} answers were wrong", seen.wrong);
    ensure!(seen.broken <= CLIENTS as u64, "{} requests were cut off, more than were in hand", seen.broken);
    let found = format!(
        "{CLIENTS} clients: {} answered, {} cut off in flight, 0 wrong, 0 refused; longest wait {}",
        seen.answered,
        seen.broken,
        seconds(seen.longest)
    );
    Ok((seen, found))
}

/// Kills every process of the plane and starts it again.
///
/// # Errors
/// When it does not come back.
pub async fn everything(plane: &mut Plane) -> Result<(Duration, String)> {
    let killed = plane.pids().len();
    plane.kill_everything().await?;
    let took = plane.up().await?;
    components::ready(plane, "shortener").await?;
    components::ready(plane, "order").await?;
    Ok((
        took,
        format!("{killed} processes killed; the same data directory serves again after {}", seconds(took)),
    ))
}
