//! Several writers of one object at once: who has lost once waits in line with the others who have.
//!
//! A change is made of what the cache shows and committed if nobody came between, else made again. Of many such writers one
//! wins a round, and any of them might lose every round. In line they go one after the other: whoever is first competes with
//! newcomers only, and nobody makes changes that cannot be committed.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use apimachinery::status::Status;
use tokio::sync::{Mutex, MutexGuard};

use crate::write::unavailable;
use crate::{Kind, Registry};

/// How often a change is made again before its client is told of the conflict.
pub(crate) const ATTEMPTS: usize = 64;
/// How long a loser waits for its turn before it goes on without one: who has the turn may be waiting for a webhook, and the
/// webhook for this very change.
const PATIENCE: Duration = Duration::from_secs(2);
/// Objects share lines, so that these need not be made and thrown away.
const LINES: usize = 256;

/// The lines of all objects.
pub(crate) struct Lines(Vec<Mutex<()>>);

impl Default for Lines {
    fn default() -> Self {
        Self((0..LINES).map(|_| Mutex::default()).collect())
    }
}

impl Lines {
    fn of(&self, kind: &Kind, namespace: &str, name: &str) -> &Mutex<()> {
        let mut hasher = DefaultHasher::new();
        kind.resource.store_key(namespace, name).hash(&mut hasher);
        &self.0[usize::try_from(hasher.finish() % LINES as u64).unwrap_or_default()]
    }
}

/// A writer's part in it. One that nobody comes between pays nothing for its line.
pub(crate) struct Race<'a> {
    registry: &'a Registry,
    kind: &'a Kind,
    namespace: &'a str,
    name: &'a str,
    turn: Option<MutexGuard<'a, ()>>,
}

impl Registry {
    /// Begins to write an object.
    pub(crate) fn race<'a>(&'a self, kind: &'a Kind, namespace: &'a str, name: &'a str) -> Race<'a> {
        Race { registry: self, kind, namespace, name, turn: None }
    }
}

impl Race<'_> {
    /// After a conflict with what is stored now (`None`: nothing): waits for its turn, which it keeps, and until the cache shows
    /// that.
    ///
    /// # Errors
    /// When the registry is shutting down, or the store cannot be asked.
    pub(crate) async fn lost(&mut self, current: Option<&store::Entry>) -> Result<(), Status> {
        let registry = self.registry;
        if self.turn.is_none() {
            self.turn = tokio::select! {
                biased;
                turn = registry.lines.of(self.kind, self.namespace, self.name).lock() => Some(turn),
                () = registry.options.clock.sleep(PATIENCE) => None,
            };
        }
        let revision = match current {
            Some(entry) => entry.mod_revision,
            None => registry.store.head().await.map_err(unavailable)?,
        };
        match registry.applied.reached(revision).await {
            true => Ok(()),
            false => Err(Status::service_unavailable("the registry is shutting down")),
        }
    }
}
