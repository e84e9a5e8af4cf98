//! Images that go when the disk fills up, or when nobody has used them for long: upstream's rules.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::k8s::api::core::v1::ObjectReference;
use client::EventType;
use jiff::{SignedDuration, Timestamp};
use runtime::{ContainerStatus, Image, Runtime};

use super::ImageOptions;
use crate::context::Context;

/// How often it is looked at.
const PERIOD: Duration = Duration::from_secs(300);

/// What is remembered of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    /// `None`: it was here when the kubelet began.
    first: Option<Timestamp>,
    /// When it was last found in use; `None`: never, that we know of.
    used: Option<Timestamp>,
    /// Whether it was in use, or pinned, when it was last looked at.
    in_use: bool,
    size: u64,
}

/// How full a file system is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Disk {
    capacity: u64,
    available: u64,
}

/// All images, with what is remembered of them.
#[derive(Debug, Default)]
struct Memory {
    images: BTreeMap<String, Seen>,
    /// Images that were there before this are not known to be new.
    begun: bool,
}

impl Memory {
    /// Takes note of what is there and what is used now.
    fn look(&mut self, images: &[Image], in_use: &BTreeSet<String>, now: Timestamp) {
        self.images.retain(|id, _| images.iter().any(|image| image.id == *id));
        for image in images {
            let first = self.begun.then_some(now);
            let unknown = Seen { first, used: None, in_use: false, size: 0 };
            let seen = self.images.entry(image.id.clone()).or_insert(unknown);
            seen.size = image.size;
            seen.in_use = image.pinned || in_use.contains(&image.id);
            if seen.in_use {
                seen.used = Some(now);
            }
        }
        self.begun = true;
    }

    /// What may go, in the order in which it does: what was used longest ago first.
    fn removable(&self, options: &ImageOptions, now: Timestamp) -> Vec<(&str, Seen)> {
        let young = SignedDuration::try_from(options.gc_minimum_age).unwrap_or(SignedDuration::MAX);
        let mut found: Vec<(&str, Seen)> = self
            .images
            .iter()
            .filter(|(_, seen)| !seen.in_use)
            .filter(|(_, seen)| seen.first.is_none_or(|first| now.duration_since(first) >= young))
            .map(|(id, seen)| (id.as_str(), *seen))
            .collect();
        found.sort_by_key(|(_, seen)| (seen.used, seen.first));
        found
    }

    /// What goes because nobody has used it for long.
    fn outdated(&self, options: &ImageOptions, now: Timestamp) -> Vec<String> {
        let Some(oldest) = options.gc_maximum_age.and_then(|age| SignedDuration::try_from(age).ok()) else {
            return Vec::new();
        };
        // What is not known to have been used is as old as it is known to be.
        let old = |seen: &Seen| {
            let since = seen.used.or(seen.first);
            since.is_some_and(|since| now.duration_since(since) > oldest)
        };
        let removable = self.removable(options, now).into_iter();
        removable.filter(|(_, seen)| old(seen)).map(|(id, _)| id.to_owned()).collect()
    }
}

impl Disk {
    /// How many bytes have to be freed; `None`: there is room.
    fn excess(self, options: &ImageOptions) -> Option<u64> {
        let available = self.available.min(self.capacity);
        let percent = |part: u64| u128::from(part) * 100 / u128::from(self.capacity.max(1));
        let used = 100 - percent(available);
        if options.gc_high_percent >= 100 || used < u128::from(options.gc_high_percent) {
            return None;
        }
        let free = u128::from(self.capacity) * u128::from(100 - options.gc_low_percent) / 100;
        Some(u64::try_from(free).unwrap_or(u64::MAX).saturating_sub(available))
    }
}

fn disk(directory: &Path) -> std::io::Result<Disk> {
    let found = rustix::fs::statvfs(directory)?;
    Ok(Disk { capacity: found.f_blocks * found.f_frsize, available: found.f_bavail * found.f_frsize })
}

/// Why there is less room than there should be.
struct Trouble {
    /// Of the event that tells of it at once.
    reason: Option<&'static str>,
    message: String,
}

/// What is remembered of images, by their runtime's name.
#[derive(Debug, Default)]
pub(crate) struct Memories(tokio::sync::Mutex<BTreeMap<String, Memory>>);

/// Removes all images that nobody uses and that may go. Whether there was one.
pub(crate) async fn reclaim(cx: &Context) -> bool {
    let (mut memories, mut any) = (cx.images.memories.0.lock().await, false);
    for runtime in cx.runtimes.all() {
        let memory = memories.entry(runtime.name().to_owned()).or_default();
        let mut errors = Vec::new();
        match look(cx, runtime, memory).await {
            Err(error) => errors.push(error.to_string()),
            Ok(()) => {
                let removable = memory.removable(&cx.images.options, cx.ambient.clock.now());
                let ids: Vec<String> = removable.into_iter().map(|(id, _)| id.to_owned()).collect();
                for id in ids {
                    any |= remove(runtime, memory, &id, &mut errors).await;
                }
            }
        }
        if !errors.is_empty() {
            let errors = errors.join(", ");
            tracing::warn!(runtime = runtime.name(), errors, "images could not be removed as they should");
        }
    }
    any
}

/// Looks after the images of all runtimes; for ever.
pub(crate) async fn run(cx: Arc<Context>, data: PathBuf) {
    let options = cx.images.options;
    let mut failed_before = false;
    loop {
        let (began, mut failure) = (cx.ambient.clock.now(), None);
        let mut memories = cx.images.memories.0.lock().await;
        for runtime in cx.runtimes.all() {
            let memory = memories.entry(runtime.name().to_owned()).or_default();
            if let Err(Trouble { reason, message }) = collect(&cx, runtime, memory, &options, &data).await {
                tracing::warn!(
                    runtime = runtime.name(),
                    message,
                    "images could not be removed as they should"
                );
                if let Some(reason) = reason {
                    tell(&cx, reason, &message);
                }
                failure = Some(message);
            }
        }
        let failed = failure.is_some();
        match failure {
            // Once may be bad luck.
            Some(message) if failed_before => tell(&cx, "ImageGCFailed", &message),
            Some(_) => {}
            None => {
                let left: Vec<String> =
                    memories.values().flat_map(|memory| memory.images.keys().cloned()).collect();
                cx.images.records.retain(&left, began);
            }
        }
        drop(memories);
        failed_before = failed;
        cx.ambient.clock.sleep(PERIOD).await;
    }
}

fn tell(cx: &Context, reason: &str, message: &str) {
    let node = ObjectReference {
        kind: Some("Node".to_owned()),
        name: Some(cx.node_name.clone()),
        // As upstream's kubelet names its node: by its name only.
        uid: Some(cx.node_name.clone()),
        ..ObjectReference::default()
    };
    cx.recorder.record_on(node, EventType::Warning, reason, message);
}

async fn collect(
    cx: &Context,
    runtime: &Arc<dyn Runtime>,
    memory: &mut Memory,
    options: &ImageOptions,
    data: &Path,
) -> Result<(), Trouble> {
    let failed = |error: runtime::Error| Trouble { reason: None, message: error.to_string() };
    look(cx, runtime, memory).await.map_err(failed)?;
    let mut errors = Vec::new();
    for id in memory.outdated(options, cx.ambient.clock.now()) {
        remove(runtime, memory, &id, &mut errors).await;
    }
    let directory = runtime.image_directory().unwrap_or_else(|| data.to_owned());
    let found = disk(&directory);
    let found = found
        .map_err(|error| Trouble { reason: None, message: format!("{}: {error}", directory.display()) })?;
    if found.capacity == 0 {
        let message = format!("invalid capacity 0 on image filesystem {}", directory.display());
        return Err(Trouble { reason: Some("InvalidDiskCapacity"), message });
    }
    if let Some(wanted) = found.excess(options) {
        // What is used may have changed since.
        look(cx, runtime, memory).await.map_err(failed)?;
        let now = cx.ambient.clock.now();
        let removable: Vec<(String, u64)> =
            memory.removable(options, now).into_iter().map(|(id, seen)| (id.to_owned(), seen.size)).collect();
        let mut freed = 0_u64;
        for (id, size) in removable {
            if freed >= wanted {
                break;
            }
            if remove(runtime, memory, &id, &mut errors).await {
                freed = freed.saturating_add(size);
            }
        }
        if freed < wanted && errors.is_empty() {
            let message = format!(
                "Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, but only found {freed} bytes eligible to free."
            );
            return Err(Trouble { reason: Some("FreeDiskSpaceFailed"), message });
        }
    }
    match errors.as_slice() {
        [] => Ok(()),
        errors => Err(Trouble { reason: None, message: errors.join(", ") }),
    }
}

async fn look(cx: &Context, runtime: &Arc<dyn Runtime>, memory: &mut Memory) -> Result<(), runtime::Error> {
    let images = runtime.list_images().await?;
    let containers = runtime.list_containers().await?;
    memory.look(&images, &used(containers), cx.ambient.clock.now());
    Ok(())
}

/// The ids of the images that containers use: their own, and those that they have mounted.
fn used(containers: Vec<ContainerStatus>) -> BTreeSet<String> {
    let of = |container: ContainerStatus| container.mounted_images.into_iter().chain([container.image_id]);
    containers.into_iter().flat_map(of).collect()
}

async fn remove(runtime: &Arc<dyn Runtime>, memory: &mut Memory, id: &str, errors: &mut Vec<String>) -> bool {
    tracing::info!(image = id, "an image that nobody uses is removed");
    match runtime.remove_image(id).await {
        Ok(()) => memory.images.remove(id).is_some(),
        Err(error) => {
            errors.push(error.to_string());
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    fn image(id: &str, size: u64) -> Image {
        Image {
            id: id.to_owned(),
            tags: vec![],
            digests: vec![],
            size,
            uid: None,
            username: String::new(),
            pinned: id == "pinned",
        }
    }

    #[test]
    fn images_that_are_mounted_are_used() {
        let container = ContainerStatus {
            id: "c".into(),
            sandbox_id: "s".into(),
            metadata: Default::default(),
            state: runtime::ContainerState::Exited,
            created_at: 0,
            started_at: 0,
            finished_at: 0,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            image: "a:1".into(),
            image_id: "a".into(),
            resources: Default::default(),
            image_ref: String::new(),
            mounted_images: vec!["b".into(), "a".into()],
            log_path: Default::default(),
            labels: Default::default(),
            annotations: Default::default(),
        };
        assert_eq!(used(vec![container]), ["a".to_owned(), "b".to_owned()].into());
    }

    fn ids(found: Vec<(&str, Seen)>) -> Vec<&str> {
        found.into_iter().map(|(id, _)| id).collect()
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_what_is_used_stays() {
        let options = ImageOptions::default();
        let used = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
        let mut images: Vec<Image> = ["a", "b", "c", "pinned"].map(|id| image(id, 1)).into();
        let mut memory = Memory::default();
        memory.look(&images, &used(&["a", "b"]), at(0));
        memory.look(&images, &used(&["b"]), at(100));
        images.push(image("fresh", 1));
        memory.look(&images, &used(&[]), at(200));
        assert_eq!(ids(memory.removable(&options, at(200))), ["c", "a", "b"]);
        assert_eq!(ids(memory.removable(&options, at(320))), ["c", "fresh", "a", "b"]);
        memory.look(&images, &used(&["c"]), at(320));
        // However much later it is decided what goes.
        assert_eq!(ids(memory.removable(&options, at(330))), ["fresh", "a", "b"]);
        let old = ImageOptions { gc_maximum_age: Some(Duration::from_secs(250)), ..options };
        assert_eq!(memory.outdated(&old, at(320)), ["a"]);
        assert!(memory.outdated(&options, at(320)).is_empty());
        images.retain(|image| image.id != "a");
        memory.look(&images, &used(&[]), at(330));
        assert!(!memory.images.contains_key("a"));
    }

    #[test]
    fn thresholds_are_of_the_file_system() {
        let options = ImageOptions::default();
        let excess = |available| Disk { capacity: 1000, available }.excess(&options);
        // A whole percent is what counts, as upstream: 84.1 % used are 84, and 84.9 are 85.
        assert_eq!(excess(160), None);
        assert_eq!(excess(159), Some(41));
        assert_eq!(excess(150), Some(50));
        assert_eq!(excess(0), Some(200));
        assert_eq!(excess(5000), None);
        let never = ImageOptions { gc_high_percent: 100, ..options };
        assert_eq!(Disk { capacity: 1000, available: 0 }.excess(&never), None);
    }

    #[test]
    fn numbers_without_sense_are_refused() {
        let bad = |change: fn(&mut ImageOptions)| {
            let mut options = ImageOptions::default();
            change(&mut options);
            options.check().unwrap_err()
        };
        assert!(ImageOptions::default().check().is_ok());
        assert!(bad(|options| options.gc_high_percent = 101).starts_with("imageGCHighThresholdPercent"));
        assert!(bad(|options| options.gc_low_percent = 85).starts_with("imageGCLowThresholdPercent"));
        assert!(bad(|options| options.max_parallel_pulls = 0).starts_with("maxParallelImagePulls"));
    }
}
