//! What the node, its pods and their containers use now, as the kernel counts it.

use std::collections::HashMap;
use std::sync::Arc;

use api::k8s::api::core::v1::Pod;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use runtime::{ContainerState, ContainerStats, ContainerStatus, GroupUsage, Runtime};

use crate::cgroups;
use crate::context::Context;

/// Containers that are measured at one time.
const TOGETHER: usize = 8;
/// How many of the kernel's ticks make a second, in all that it tells users.
const TICKS: u64 = 100;

/// What all use.
pub(crate) struct Usage {
    /// When that was.
    pub(crate) at: Timestamp,
    pub(crate) node: Option<NodeUsage>,
    pub(crate) pods: Vec<PodUsage>,
    /// Whether a runtime could not be asked.
    pub(crate) is_partial: bool,
}

/// What the machine uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeUsage {
    /// CPU time used since it began, in nanoseconds.
    pub(crate) cpu_nanoseconds: u64,
    /// Bytes in use that cannot be reclaimed.
    pub(crate) memory_working_set: u64,
    /// Bytes that could be had.
    pub(crate) memory_available: u64,
}

/// What a pod uses.
pub(crate) struct PodUsage {
    pub(crate) pod: Arc<Pod>,
    /// All of it; nothing, while its control group is not there.
    pub(crate) whole: Option<GroupUsage>,
    /// Its control group.
    pub(crate) group: String,
    /// Those of its containers that run.
    pub(crate) containers: Vec<(ContainerStatus, ContainerStats)>,
}

impl PodUsage {
    pub(crate) fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    pub(crate) fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }
}

/// Measures everything.
pub(crate) async fn measure(cx: &Context) -> Usage {
    let mut runs: HashMap<String, Vec<(ContainerStatus, ContainerStats)>> = HashMap::new();
    let mut is_partial = false;
    for runtime in cx.runtimes.all() {
        match running(runtime).await {
            Ok(found) => {
                let measured = stream::iter(found).map(|(uid, run)| async move {
                    // One that has ended meanwhile uses nothing.
                    let stats = runtime.container_stats(&run.id).await.ok()?;
                    Some((uid, run, stats))
                });
                let mut measured = std::pin::pin!(measured.buffer_unordered(TOGETHER));
                while let Some(each) = measured.next().await {
                    if let Some((uid, run, stats)) = each {
                        runs.entry(uid).or_default().push((run, stats));
                    }
                }
            }
            Err(error) => {
                tracing::info!(runtime = runtime.name(), %error, "what its containers use cannot be told");
                is_partial = true;
            }
        }
    }
    let (groups, root) = (cx.groups.clone(), cx.cgroup.clone());
    let pods = cx.all_pods();
    let wholes = tokio::task::spawn_blocking(move || {
        let whole = |pod: Arc<Pod>| {
            let group = cgroups::of_pod(&root, &pod);
            let whole = groups.usage(&group).ok();
            (pod, group, whole)
        };
        (node(), pods.into_iter().map(whole).collect::<Vec<_>>())
    });
    let Ok((node, wholes)) = wholes.await else {
        return Usage { at: cx.ambient.clock.now(), node: None, pods: Vec::new(), is_partial: true };
    };
    let pods = wholes.into_iter().map(|(pod, group, whole)| {
        let mut containers = pod.metadata.uid.as_ref().and_then(|uid| runs.remove(uid)).unwrap_or_default();
        containers.sort_by(|(one, _), (other, _)| one.metadata.name.cmp(&other.metadata.name));
        PodUsage { pod, whole, group, containers }
    });
    Usage { at: cx.ambient.clock.now(), node, pods: pods.collect(), is_partial }
}

/// The containers of a runtime that run, with the UID of their pod. Of several runs of one the newest counts.
async fn running(runtime: &Arc<dyn Runtime>) -> Result<Vec<(String, ContainerStatus)>, runtime::Error> {
    let sandboxes = runtime.list_sandboxes().await?;
    let uids: HashMap<String, String> =
        sandboxes.into_iter().map(|sandbox| (sandbox.id, sandbox.metadata.uid)).collect();
    let mut containers = runtime.list_containers().await?;
    containers.retain(|run| run.state == ContainerState::Running);
    let mut newest: HashMap<(String, String), ContainerStatus> = HashMap::new();
    for run in containers {
        let Some(uid) = uids.get(&run.sandbox_id) else { continue };
        let known = newest.entry((uid.clone(), run.metadata.name.clone())).or_insert_with(|| run.clone());
        if known.metadata.attempt < run.metadata.attempt {
            *known = run;
        }
    }
    Ok(newest.into_iter().map(|((uid, _), run)| (uid, run)).collect())
}

/// Measures the machine. Blocks.
fn node() -> Option<NodeUsage> {
    let text = |path: &str| std::fs::read_to_string(path).ok();
    of_machine(&text("/proc/stat")?, &text("/proc/meminfo")?)
}

fn of_machine(stat: &str, meminfo: &str) -> Option<NodeUsage> {
    let cpu = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // user, nice, system, idle, iowait, irq, softirq, steal; what guests use is in the first two.
    let ticks: Vec<u64> = cpu.split_whitespace().take(8).filter_map(|number| number.parse().ok()).collect();
    let all: u64 = ticks.iter().sum();
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    let of = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    };
    let unused = of("MemFree:")?.saturating_add(of("Inactive(file):").unwrap_or(0));
    Some(NodeUsage {
        cpu_nanoseconds: all.saturating_sub(idle).saturating_mul(1_000_000_000 / TICKS),
        memory_working_set: of("MemTotal:")?.saturating_sub(unused),
        memory_available: of("MemAvailable:").unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_files_are_read() {
        let stat = "cpu  100 10 50 900 40 1 2 3 7 0\ncpu0 1 2 3\n";
        let meminfo = "MemTotal: 10 kB\nMemFree: 2 kB\nMemAvailable: 6 kB\nInactive(file): 3 kB\n";
        let wanted = NodeUsage {
            cpu_nanoseconds: 1_660_000_000,
            memory_working_set: 5 * 1024,
            memory_available: 6 * 1024,
        };
        assert_eq!(of_machine(stat, meminfo), Some(wanted));
        assert_eq!(of_machine("", meminfo), None);
        assert!(node().is_some());
    }
}
