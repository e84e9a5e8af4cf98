//! The task that follows the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use store::{Changes, Error, Event, Store};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{Applied, Item, Pending};
use crate::resource::{Resource, stored_kind};

/// Everything that is an object lies below this key.
pub(crate) const ROOT: &str = "/registry/";
/// How often watchers that allow bookmarks get one.
const PROGRESS_EVERY: Duration = Duration::from_secs(60);
/// Pause before the store is asked again after it failed. It doubles while the store goes on failing, because each try
/// may decode everything that is stored.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// The longest of these pauses.
const RETRY_AT_MOST: Duration = Duration::from_secs(30);

/// What the registry asks of its feed.
pub(crate) enum Command {
    /// Loads the resource and keeps it up to date from then on. Answers when it is loaded.
    Add(Arc<Resource>, oneshot::Sender<Result<(), Error>>),
    /// Forgets the resource and ends its watches.
    Remove(Arc<Resource>),
}

/// Follows the store and feeds every resource.
pub(crate) struct Feed {
    store: Arc<dyn Store>,
    clock: Arc<dyn clock::Clock>,
    applied: Arc<Applied>,
    pending: Arc<Pending>,
    resources: BTreeMap<String, Arc<Resource>>,
}

impl Feed {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn clock::Clock>,
        applied: Arc<Applied>,
        pending: Arc<Pending>,
    ) -> Self {
        Self { store, clock, applied, pending, resources: BTreeMap::new() }
    }

    /// Loads a resource as the store's head has it.
    pub(crate) async fn add(&mut self, resource: Arc<Resource>) -> Result<(), Error> {
        let (items, revision) = self.read(&resource).await?;
        resource.hub.load(items, revision);
        self.resources.insert(resource.path.clone(), resource);
        Ok(())
    }

    async fn read(&self, resource: &Resource) -> Result<(Vec<Item>, u64), Error> {
        let mut scan = self.store.scan(Bytes::from(resource.prefix.clone())).await?;
        let mut items = Vec::new();
        while let Some(entries) = scan.next().await? {
            items.extend(entries.iter().filter_map(|entry| {
                let item = resource.parse(entry);
                if item.is_none() {
                    let key = String::from_utf8_lossy(&entry.key);
                    error!(%key, "stored bytes are not an object; left out");
                }
                item
            }));
        }
        Ok((items, scan.revision()))
    }

    /// Follows the store from `after` until the registry is gone.
    pub(crate) async fn run(
        mut self,
        after: u64,
        mut commands: mpsc::Receiver<Command>,
        token: CancellationToken,
    ) {
        token.run_until_cancelled(self.follow_always(after, &mut commands)).await;
        self.applied.close();
        for resource in self.resources.values() {
            resource.hub.close();
        }
    }

    async fn follow_always(&mut self, after: u64, commands: &mut mpsc::Receiver<Command>) {
        let mut after = after;
        let mut pause = RETRY_AFTER;
        loop {
            let followed = self.follow(after, commands).await;
            self.applied.set_following(false);
            let Err(error) = followed else { return };
            warn!(%error, "the store cannot be followed; trying again");
            // One that got somewhere was none of a row of failures.
            if self.applied.revision() > after {
                pause = RETRY_AFTER;
            }
            let is_lost = matches!(error, Error::Compacted { .. } | Error::Future { .. });
            after = loop {
                self.clock.sleep(pause).await;
                pause = (pause * 2).min(RETRY_AT_MOST);
                if !is_lost {
                    // It goes on where it stopped, so that no watcher misses anything.
                    break self.applied.revision().max(after);
                }
                match self.reload().await {
                    Ok(revision) => break revision,
                    Err(error) => warn!(%error, "the store cannot be read"),
                }
            };
        }
    }

    async fn follow(&mut self, after: u64, commands: &mut mpsc::Receiver<Command>) -> Result<(), Error> {
        let clock = self.clock.clone();
        let mut watch = self.store.watch(Bytes::from_static(ROOT.as_bytes()), after).await?;
        self.applied.set_following(true);
        let mut tick = clock.sleep(PROGRESS_EVERY);
        loop {
            tokio::select! {
                // What is rare first: there may be no end of changes.
                biased;
                () = &mut tick => {
                    self.progress();
                    tick = clock.sleep(PROGRESS_EVERY);
                }
                command = commands.recv() => match command {
                    Some(command) => self.obey(command).await,
                    None => return Ok(()),
                },
                batch = watch.events.recv() => match batch {
                    Some(changes) => self.apply(changes?),
                    None => return Ok(()), // The store has shut down.
                },
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Add(resource, done) => {
                // Whoever asked may have gone; the resource is there all the same.
                let _ = done.send(self.add(resource).await);
            }
            Command::Remove(resource) => {
                self.resources.remove(&resource.path);
                resource.hub.close();
            }
        }
    }

    fn progress(&self) {
        let (revision, now) = (self.applied.revision(), self.clock.monotonic());
        for resource in self.resources.values() {
            resource.hub.progress(revision, now);
        }
    }

    /// Applies changes: first for readers, then says how far it got, and tells watchers last.
    fn apply(&self, changes: Changes) {
        let mut runs: Vec<(&Arc<Resource>, Vec<_>)> = Vec::new();
        for event in changes.events {
            let Some(resource) = self.resource_of(&event.key) else { continue };
            let Some(change) = self.decode(resource, event) else { continue };
            match runs.iter_mut().find(|(each, _)| Arc::ptr_eq(each, resource)) {
                Some((_, changes)) => changes.push(change),
                None => runs.push((resource, vec![change])),
            }
        }
        let applied: Vec<_> =
            runs.into_iter().map(|(resource, changes)| (resource, resource.hub.apply(changes))).collect();
        self.applied.advance(changes.revision);
        for (resource, changes) in applied {
            resource.hub.dispatch(&changes);
        }
    }

    fn decode(&self, resource: &Resource, event: Event) -> Option<(u64, Arc<str>, Option<Item>)> {
        let key: Arc<str> = resource.short_key(&event.key)?.into();
        let Some(entry) = event.entry else { return Some((event.revision, key, None)) };
        let item = match self.pending.take(&entry.key, &entry.value) {
            Some((encoded, extract)) => Some(Item::new(key.clone(), &encoded, entry.mod_revision, extract)),
            None => resource.parse(&entry),
        };
        if item.is_none() {
            error!(%key, resource = resource.path, "stored bytes are not an object; left out");
        }
        item.map(|item| (event.revision, key, Some(item)))
    }

    fn resource_of(&self, key: &[u8]) -> Option<&Arc<Resource>> {
        self.resources.get(stored_kind(key)?)
    }

    /// Reads everything again.
    async fn reload(&mut self) -> Result<u64, Error> {
        let mut reached = u64::MAX;
        for resource in self.resources.values() {
            let (items, revision) = self.read(resource).await?;
            resource.hub.load(items, revision);
            // Events between the earliest and the latest of these reads come again, and are known to the later ones.
            reached = reached.min(revision);
        }
        if reached == u64::MAX {
            reached = self.store.head().await?;
        }
        self.applied.advance(reached);
        Ok(reached)
    }
}

#[cfg(test)]
mod tests {
    use clock::{Clock, ManualClock};
    use store::{Embedded, Fault, Faulty, History};

    use super::*;

    #[tokio::test]
    async fn a_store_that_goes_on_failing_is_asked_ever_less_often() {
        let directory = tempfile::tempdir().unwrap();
        let disk = disk::Options::new(directory.path().join("store"));
        let store = Arc::new(Faulty::new(Embedded::open(&disk, History::default()).unwrap()));
        store.inject([Fault::Before; 8]);
        let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
        let applied = Arc::new(Applied::default());
        let feed = Feed::new(store.clone(), clock.clone(), applied.clone(), Arc::default());
        let (_commands, inbox) = mpsc::channel(1);
        let token = CancellationToken::new();
        let running = tokio::spawn(feed.run(0, inbox, token.clone()));
        let mut pauses = Vec::new();
        while !applied.is_following() {
            let now = clock.monotonic();
            if let Some(deadline) = clock.next_deadline().filter(|deadline| *deadline > now) {
                pauses.push((deadline - now).as_millis());
                clock.advance(deadline - now);
            }
            tokio::task::yield_now().await;
        }
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600]);
        token.cancel();
        running.await.unwrap();
    }
}
