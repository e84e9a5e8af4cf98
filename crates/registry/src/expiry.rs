//! Objects that live for a limited time: events, which nobody else takes away.

use std::sync::{Arc, Weak};
use std::time::Duration;

use apimachinery::status::Status;
use tracing::warn;

use crate::cache::Item;
use crate::{DeleteOptions, Registry};

/// How often they are looked through.
const SWEEP_EVERY: Duration = Duration::from_secs(300);
/// How many are decoded before other tasks get their turn.
const CHUNK: usize = 256;

/// Removes what has expired, again and again until the registry is gone.
pub(crate) async fn run(registry: Weak<Registry>) {
    while let Some(clock) = registry.upgrade().map(|registry| registry.options.clock.clone()) {
        clock.sleep(SWEEP_EVERY).await;
        let Some(registry) = registry.upgrade() else { return };
        if let Err(status) = registry.sweep().await {
            warn!(%status, "expired objects could not be removed; trying again later");
        }
    }
}

impl Registry {
    async fn sweep(&self) -> Result<(), Status> {
        let cx = self.own_context();
        let kinds = self.kinds();
        for kind in kinds.all().iter().filter(|kind| kind.storage) {
            let Some(expired) = kind.rules.expired else { continue };
            let items: Vec<Arc<Item>> = kind.resource.hub.view().items.values().cloned().collect();
            for chunk in items.chunks(CHUNK) {
                let gone = chunk
                    .iter()
                    .filter(|item| item.tree().is_ok_and(|tree| expired(&tree, cx.now)))
                    .map(|item| {
                        let (namespace, name) = item.names();
                        // Whoever writes it meanwhile keeps it alive.
                        let resource_version = Some(item.revision.to_string());
                        let options = DeleteOptions { resource_version, ..DeleteOptions::default() };
                        (namespace.to_owned(), name.to_owned(), options)
                    });
                match self.delete_each(&cx, kind, gone).await {
                    Err(status) if !status.is_conflict() => return Err(status),
                    _ => {} // What is left of the chunk waits for the next time.
                }
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }
}
