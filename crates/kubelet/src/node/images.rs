//! The images that a Node tells of, for the scheduler to prefer.

use api::k8s::api::core::v1::ContainerImage;

use crate::context::Runtimes;

/// Images that are told of at most, and names of each: upstream's numbers.
const IMAGES: usize = 50;
const NAMES: usize = 5;

/// The largest images of all runtimes; `None`: they cannot be listed now.
pub(super) async fn of(runtimes: &Runtimes) -> Option<Vec<ContainerImage>> {
    let mut all = Vec::new();
    for runtime in runtimes.all() {
        all.extend(runtime.list_images().await.ok()?);
    }
    all.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    all.dedup_by(|a, b| a.id == b.id);
    let told = all.into_iter().take(IMAGES).map(|image| ContainerImage {
        names: Some(image.digests.into_iter().chain(image.tags).take(NAMES).collect()),
        size_bytes: i64::try_from(image.size).ok(),
    });
    Some(told.collect())
}
