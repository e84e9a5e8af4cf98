//! Whether a container's image is here, by its pull policy.

use std::sync::Arc;

use api::k8s::api::core::v1::Container;
use runtime::{Image, Runtime};

use super::memory::Waiting;

/// Why an image cannot be used, and what is shown until it is tried again.
pub(crate) struct ImageFailure {
    pub(crate) what: Waiting,
    pub(crate) then: Option<Waiting>,
}

/// What was found or fetched, with upstream's words for the event.
pub(crate) struct Found {
    pub(crate) image: Image,
    pub(crate) message: String,
}

/// Upstream's default: a tag `latest`, or none, is pulled each time.
fn policy(container: &Container) -> &str {
    let image = container.image.as_deref().unwrap_or_default();
    let last = image.rsplit('/').next().unwrap_or(image);
    let latest = !last.contains('@') && (!last.contains(':') || last.ends_with(":latest"));
    container.image_pull_policy.as_deref().unwrap_or(if latest { "Always" } else { "IfNotPresent" })
}

/// Finds or fetches the image. `pulling` is called before it is fetched.
pub(crate) async fn ensure(
    runtime: &Arc<dyn Runtime>,
    container: &Container,
    pulling: impl FnOnce(&str),
) -> Result<Found, ImageFailure> {
    let image = container.image.as_deref().unwrap_or_default();
    let failure =
        |reason: &str, message: String| ImageFailure { what: Waiting::new(reason, message), then: None };
    let present = runtime.image_status(image).await.map_err(|error| {
        failure("ImageInspectError", format!("Failed to inspect image \"{image}\": {error}"))
    })?;
    let policy = policy(container);
    match present {
        Some(found) if policy != "Always" => {
            let message = format!("Container image \"{image}\" already present on machine");
            return Ok(Found { image: found, message });
        }
        None if policy == "Never" => {
            let message = format!("Container image \"{image}\" is not present with pull policy of Never");
            return Err(failure("ErrImageNeverPull", message));
        }
        _ => {}
    }
    pulling(image);
    let pulled = match runtime.pull_image(image).await {
        Ok(id) => runtime.image_status(&id).await.ok().flatten(),
        Err(error) => {
            let message = format!("failed to pull image \"{image}\": {error}");
            let then = format!("Back-off pulling image \"{image}\": ErrImagePull: {message}");
            let then = Some(Waiting::new("ImagePullBackOff", then));
            return Err(ImageFailure { what: Waiting::new("ErrImagePull", message), then });
        }
    };
    match pulled {
        Some(found) => Ok(Found { image: found, message: format!("Successfully pulled image \"{image}\"") }),
        None => Err(failure("ErrImagePull", format!("image \"{image}\" was pulled and is gone again"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_policy_goes_by_the_tag() {
        let check = |image: &str, expected: &str| {
            let container = Container { image: Some(image.to_owned()), ..Container::default() };
            assert_eq!(policy(&container), expected, "{image}");
        };
        check("busybox", "Always");
        check("busybox:latest", "Always");
        check("busybox:1.36", "IfNotPresent");
        check("registry:5000/busybox", "Always");
        check("registry:5000/a/busybox:1", "IfNotPresent");
        check("busybox@sha256:0", "IfNotPresent");
    }
}
