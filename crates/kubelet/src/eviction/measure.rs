//! What is left of the node, and what pods take of its disk.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::k8s::api::core::v1::Pod;
use runtime::{DiskUsage, Groups};

use super::Run;
use super::decide::Reading;
use super::threshold::Signal;
use crate::context::Context;
use crate::filesystem::{self, Space};
use crate::pod::containers;

/// Measures the node. What cannot be measured is left out. Blocks.
pub(super) fn node(data: &Path, images: Option<&Path>) -> Vec<Reading> {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let mut readings = Vec::new();
    let mut add = |signal, available: Option<(u64, u64)>| {
        let whole = |amount| i64::try_from(amount).unwrap_or(i64::MAX);
        readings.extend(available.map(|(available, capacity)| Reading {
            signal,
            available: whole(available),
            capacity: whole(capacity),
        }));
    };
    add(Signal::MemoryAvailable, memory(&text("/proc/meminfo")));
    add(Signal::PidAvailable, processes(&text("/proc/loadavg"), &text("/proc/sys/kernel/pid_max")));
    let bytes = |space: Space| (space.available, space.capacity);
    // Some file systems do not count files.
    let files = |space: Space| (space.inodes > 0).then_some((space.inodes_free, space.inodes));
    let space = filesystem::space(data).ok();
    add(Signal::NodefsAvailable, space.map(bytes));
    add(Signal::NodefsInodesFree, space.and_then(files));
    let space = images.map_or(space, |images| filesystem::space(images).ok());
    add(Signal::ImagefsAvailable, space.map(bytes));
    add(Signal::ImagefsInodesFree, space.and_then(files));
    readings
}

/// Measures what all pods together have left of the memory that they may have. Blocks.
pub(super) fn pods(groups: &dyn Groups, group: &str, memory: i64) -> Option<Reading> {
    let used = groups.usage(group).ok()?.memory_working_set;
    let used = i64::try_from(used).unwrap_or(i64::MAX);
    let available = memory.saturating_sub(used).max(0);
    Some(Reading { signal: Signal::AllocatableMemory, available, capacity: memory })
}

fn memory(meminfo: &str) -> Option<(u64, u64)> {
    let of = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    };
    Some((of("MemAvailable:")?, of("MemTotal:")?))
}

fn processes(loadavg: &str, most: &str) -> Option<(u64, u64)> {
    let most: u64 = most.trim().parse().ok()?;
    let running: u64 = loadavg.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()?;
    Some((most.saturating_sub(running), most))
}

/// What a pod has written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PodDisk {
    /// By container: its own root and its logs.
    pub(super) containers: BTreeMap<String, DiskUsage>,
    /// By volume: those that are directories of the pod's own, on the disk.
    pub(super) volumes: BTreeMap<String, DiskUsage>,
}

impl PodDisk {
    pub(super) fn total(&self) -> DiskUsage {
        let all = self.containers.values().chain(self.volumes.values());
        all.fold(DiskUsage::default(), |sum, one| add(sum, *one))
    }
}

fn add(one: DiskUsage, other: DiskUsage) -> DiskUsage {
    DiskUsage {
        bytes: one.bytes.saturating_add(other.bytes),
        inodes: one.inodes.saturating_add(other.inodes),
    }
}

/// Walks through what a pod has written. `runs`: all containers that the runtimes hold.
pub(super) async fn pod(cx: &Context, pod: &Arc<Pod>, runs: &[Run]) -> PodDisk {
    let meta = &pod.metadata;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let uid = text(&meta.uid);
    let mut disk = PodDisk::default();
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    for volume in volumes.filter(|volume| on_disk(volume)) {
        let used = walked(cx.paths.volume(&uid, &volume.name)).await;
        disk.volumes.insert(volume.name.clone(), used);
    }
    let logs = cx.paths.log(&text(&meta.namespace), &text(&meta.name), &uid);
    for container in containers::all(pod) {
        let mut used = walked(logs.join(container.name())).await;
        for (runtime, run) in runs.iter().filter(|(_, run)| run.metadata.name == container.name()) {
            if let Ok(own) = runtime.container_disk(&run.id).await {
                used = add(used, own);
            }
        }
        disk.containers.insert(container.name().to_owned(), used);
    }
    disk
}

/// Whether a volume is a directory of the pod's own, on the disk.
pub(super) fn on_disk(volume: &api::k8s::api::core::v1::Volume) -> bool {
    volume.empty_dir.as_ref().is_some_and(|empty| empty.medium.as_deref().unwrap_or_default().is_empty())
}

async fn walked(path: PathBuf) -> DiskUsage {
    let shown = path.display().to_string();
    let walked = tokio::task::spawn_blocking(move || ::images::tree_usage(&path));
    match walked.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Ok(used) => DiskUsage { bytes: used.bytes, inodes: used.inodes },
        Err(error) => {
            tracing::warn!(path = shown, %error, "what is in use of the disk cannot be counted");
            DiskUsage::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_files_are_read() {
        let found = memory("MemTotal:  4 kB\nMemFree: 1 kB\nMemAvailable:   3 kB\n");
        assert_eq!((found, memory("")), (Some((3072, 4096)), None));
        assert_eq!(processes("0.1 0.2 0.3 2/150 4711\n", "1000\n"), Some((850, 1000)));
        assert_eq!(processes("", "1000"), None);
        let here = tempfile::tempdir().unwrap();
        let readings = node(here.path(), None);
        let has = |signal| readings.iter().any(|reading| reading.signal == signal && reading.capacity > 0);
        assert!(
            has(Signal::NodefsAvailable) && has(Signal::ImagefsAvailable) && has(Signal::MemoryAvailable)
        );
    }
}
