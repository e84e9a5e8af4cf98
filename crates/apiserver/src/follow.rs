//! Keeping in step with all objects of a kind: what authorization, webhooks and policies are made of.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::status::Status;
use clock::{Clock, Tasks};
use registry::{Kind, ListOptions, Object, Registry, ResourceVersionMatch, WatchEvent};

/// How long until it is tried again when the registry cannot be followed.
const PAUSE: Duration = Duration::from_secs(1);

/// Somebody who wants to know the objects of a kind as they are now.
pub(crate) trait Follower: Send + Sync + 'static {
    /// These are all.
    fn replace(&self, kind: &Kind, objects: Vec<Object>);
    /// One is new or has changed.
    fn set(&self, kind: &Kind, object: &Object);
    /// One is gone.
    fn remove(&self, kind: &Kind, object: &Object);
}

/// Follows a resource (group, version, plural) until the tasks are stopped.
pub(crate) fn start(
    follower: Arc<impl Follower>,
    resource: (&'static str, &'static str, &'static str),
    registry: &Arc<Registry>,
    clock: &Arc<dyn Clock>,
    tasks: &Tasks,
) {
    let (registry, clock) = (registry.clone(), clock.clone());
    tasks.spawn("follower", async move {
        loop {
            let (group, version, plural) = resource;
            let Some(kind) = registry.kinds().lookup(group, version, plural).cloned() else {
                // A custom resource's definition may be installed later.
                clock.sleep(PAUSE).await;
                continue;
            };
            if let Err(status) = once(follower.as_ref(), &kind, &registry).await {
                tracing::warn!(resource = resource.2, %status, "cannot follow what requests are judged by");
                clock.sleep(PAUSE).await;
            }
        }
    });
}

/// One watch, from the first object to the end of the stream.
async fn once(follower: &impl Follower, kind: &Arc<Kind>, registry: &Registry) -> Result<(), Status> {
    let options = ListOptions {
        allow_bookmarks: true,
        send_initial_events: true,
        resource_version_match: Some(ResourceVersionMatch::NotOlderThan),
        ..ListOptions::default()
    };
    let mut events = registry.watch(kind, "", &options).await?;
    // What was known stays in force until all that is there now has been seen.
    let mut initial = Some(Vec::new());
    while let Some(event) = events.next().await {
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => match &mut initial {
                Some(objects) => objects.push(object),
                None => follower.set(kind, &object),
            },
            WatchEvent::Deleted(object) => match &mut initial {
                Some(objects) => objects.retain(|known: &Object| known.names() != object.names()),
                None => follower.remove(kind, &object),
            },
            WatchEvent::Bookmark { initial_events_end: true, .. } => {
                follower.replace(kind, initial.take().unwrap_or_default());
            }
            WatchEvent::Bookmark { .. } => {}
            WatchEvent::Failed(status) => return Err(*status),
        }
    }
    Ok(())
}
