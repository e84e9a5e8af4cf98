//! Whether a container's image is here, by its pull policy; and bringing it here as one of those who may have it.

use std::collections::BTreeMap;
use std::time::Duration;

use api::k8s::api::core::v1::Container;
use client::EventType;
use images::Reference;
use runtime::Image;

use super::credentials::{self, Asker};
use super::records::Verdict;
use crate::pod::memory::Waiting;
use crate::pod::operation::Scope;

/// Why an image cannot be used, and what is shown until it is tried again.
pub(crate) struct ImageFailure {
    pub(crate) what: Waiting,
    pub(crate) then: Option<Waiting>,
    /// Reason and message of the event that tells of it.
    pub(crate) event: Box<(&'static str, String)>,
}

impl ImageFailure {
    fn new(reason: &str, event: &'static str, message: String) -> Self {
        Self { what: Waiting::new(reason, message.clone()), then: None, event: Box::new((event, message)) }
    }

    /// A pull that failed is tried again after a while, and meanwhile is said to wait.
    fn pull(image: &str, message: String) -> Self {
        let then = format!("Back-off pulling image \"{image}\": ErrImagePull: {message}");
        Self {
            event: Box::new(("Failed", format!("Failed to pull image \"{image}\": {message}"))),
            then: Some(Waiting::new("ImagePullBackOff", then)),
            what: Waiting::new("ErrImagePull", message),
        }
    }
}

/// Upstream's default: a tag `latest`, or none, is pulled each time.
fn default_policy(image: &str) -> &'static str {
    let last = image.rsplit('/').next().unwrap_or(image);
    let latest = !last.contains('@') && (!last.contains(':') || last.ends_with(":latest"));
    if latest { "Always" } else { "IfNotPresent" }
}

/// Finds or fetches a container's image, and tells of it with upstream's events.
pub(crate) async fn ensure(scope: &Scope, container: &Container) -> Result<Image, ImageFailure> {
    let image = container.image.as_deref().unwrap_or_default();
    let policy = container.image_pull_policy.as_deref().unwrap_or_else(|| default_policy(image));
    let tell = |reason: &str, message: String| {
        scope.about(&container.name, EventType::Normal, reason, message);
    };
    find_or_fetch(scope, image, policy, &tell).await
}

/// The same for the images of the volumes that a container mounts, by the names that the pod has for them. What there is to
/// tell is told of the pod.
pub(crate) async fn ensure_mounted(
    scope: &Scope,
    container: &Container,
) -> Result<BTreeMap<String, Image>, ImageFailure> {
    let mounted = |name: &str| container.volume_mounts.iter().flatten().any(|mount| mount.name == name);
    let volumes = scope.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let tell = |reason: &str, message: String| {
        scope.cx.recorder.record(&*scope.pod, EventType::Normal, reason, message);
    };
    let mut found = BTreeMap::new();
    for volume in volumes.filter(|volume| mounted(&volume.name)) {
        let Some(source) = &volume.image else { continue };
        let image = source.reference.as_deref().unwrap_or_default();
        let policy = source.pull_policy.as_deref().unwrap_or_else(|| default_policy(image));
        found.insert(image.to_owned(), find_or_fetch(scope, image, policy, &tell).await?);
    }
    Ok(found)
}

/// The same for any image that a pod names.
pub(crate) async fn find_or_fetch(
    scope: &Scope,
    image: &str,
    policy: &str,
    tell: &(dyn Fn(&str, String) + Sync),
) -> Result<Image, ImageFailure> {
    let reference: Reference = image.parse().map_err(|error| {
        let message = format!(
            "Failed to apply default image tag \"{image}\": couldn't parse image name \"{image}\": {error}"
        );
        ImageFailure::new("InvalidImageName", "InspectFailed", message)
    })?;
    let inspect_failed = |error: runtime::Error| {
        let message = format!("Failed to inspect image \"{image}\": {error}");
        ImageFailure::new("ImageInspectError", "InspectFailed", message)
    };
    let never = || {
        let message = format!("Container image \"{image}\" is not present with pull policy of Never");
        ImageFailure::new("ErrImageNeverPull", "ErrImageNeverPull", message)
    };
    let present = scope.runtime.image_status(image).await.map_err(inspect_failed)?;
    let mut askers = None;
    match present {
        Some(found) if policy != "Always" => {
            let repository = reference.repository();
            let records = &scope.cx.images.records;
            let known = match records.verdict(&found.id, &repository) {
                Verdict::Yes => true,
                Verdict::IfKnown => {
                    let asking = credentials::of_pod(scope, &reference).await;
                    let asking = askers.insert(asking.map_err(|error| ImageFailure::pull(image, error))?);
                    records.knows(&found.id, &repository, asking.iter().map(|asker| &asker.source))
                }
            };
            if known {
                let message = format!(
                    "Container image \"{image}\" already present on machine and can be accessed by the pod"
                );
                tell("Pulled", message);
                return Ok(found);
            }
            if policy == "Never" {
                return Err(never());
            }
        }
        None if policy == "Never" => return Err(never()),
        _ => {}
    }
    let askers = match askers {
        Some(askers) => askers,
        None => {
            let askers = credentials::of_pod(scope, &reference).await;
            askers.map_err(|error| ImageFailure::pull(image, error))?
        }
    };
    fetch(scope, image, &reference, &askers, tell).await.map_err(|error| ImageFailure::pull(image, error))
}

/// Pulls an image as the first of those to whom it is given.
async fn fetch(
    scope: &Scope,
    image: &str,
    reference: &Reference,
    askers: &[Asker],
    tell: &(dyn Fn(&str, String) + Sync),
) -> Result<Image, String> {
    let clock = &scope.cx.ambient.clock;
    tell("Pulling", format!("Pulling image \"{image}\""));
    let asked = clock.monotonic();
    let _one_of_some =
        scope.cx.images.pulls.clone().acquire_owned().await.map_err(|error| error.to_string())?;
    let began = clock.monotonic();
    let mut errors: Vec<String> = Vec::new();
    let nobody = [None];
    let ways: Vec<Option<&Asker>> = askers.iter().map(Some).collect();
    for asker in if ways.is_empty() { &nobody[..] } else { &ways } {
        match scope.runtime.pull_image(image, asker.map(|asker| &asker.auth)).await {
            Ok(id) => {
                let (took, waited) = (clock.monotonic() - began, clock.monotonic() - asked);
                let source = asker.map(|asker| &asker.source);
                let records = &scope.cx.images.records;
                let recorded = records.pulled(&id, &reference.repository(), source);
                recorded.map_err(|error| format!("failed to record who pulled it: {error}"))?;
                let found = scope.runtime.image_status(&id).await.map_err(|error| error.to_string())?;
                let found = found.ok_or_else(|| "it was pulled and is gone again".to_owned())?;
                tell(
                    "Pulled",
                    format!(
                        "Successfully pulled image \"{image}\" in {} ({} including waiting). Image size: {} bytes.",
                        written(took),
                        written(waited),
                        found.size
                    ),
                );
                return Ok(found);
            }
            Err(error) => errors.push(format!("failed to pull image \"{image}\": {error}")),
        }
    }
    errors.dedup();
    Err(match errors.len() {
        1 => errors.remove(0),
        _ => format!("[{}]", errors.join(", ")),
    })
}

/// As Go writes durations, to the millisecond.
fn written(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    if milliseconds < 1000 {
        return format!("{milliseconds}ms");
    }
    let seconds = format!("{}.{:03}", milliseconds / 1000 % 60, milliseconds % 1000);
    let seconds = seconds.trim_end_matches('0').trim_end_matches('.');
    match (milliseconds / 3_600_000, milliseconds / 60_000 % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_policy_goes_by_the_tag() {
        for (image, expected) in [
            ("busybox", "Always"),
            ("busybox:latest", "Always"),
            ("busybox:1.36", "IfNotPresent"),
            ("registry:5000/busybox", "Always"),
            ("registry:5000/a/busybox:1", "IfNotPresent"),
            ("busybox@sha256:0", "IfNotPresent"),
        ] {
            assert_eq!(default_policy(image), expected, "{image}");
        }
    }

    #[test]
    fn durations_are_written_as_go_does() {
        for (milliseconds, expected) in [
            (0, "0ms"),
            (393, "393ms"),
            (1000, "1s"),
            (1230, "1.23s"),
            (62_500, "1m2.5s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(written(Duration::from_millis(milliseconds)), expected);
        }
    }
}
