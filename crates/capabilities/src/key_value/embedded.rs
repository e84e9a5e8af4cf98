//! The embedded backend: a file of this process's own.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use disk::{Batch, Disk, KeyRange, OpenError, Options, Table};
use tokio::sync::oneshot;

use super::{Error, KeyValue, Keys, integer};

/// Keys and values.
const VALUES: Table = Table::new("kv");
/// Tokens of increments that may be asked for again, with what they gave.
const TOKENS: Table = Table::new("tokens");
/// Keys in a page.
const PAGE: usize = 100;
/// How long a file may still be closing behind its last user before a new one gives up.
const REOPEN_PATIENCE: Duration = Duration::from_secs(2);

/// Key-value pairs in one file, fsynced before they are acknowledged; writers that come together share one fsync.
pub struct Embedded {
    disk: Disk,
    /// What has been queued and is not durable yet, by table and key: what a read-modify-write that comes meanwhile has
    /// to start from. Batches are queued while this is locked, so that their order is the order of the decisions.
    pending: Arc<Mutex<Pending>>,
}

type Slot = (Table, Bytes);

#[derive(Default)]
struct Pending {
    values: HashMap<Slot, PendingValue>,
}

struct PendingValue {
    value: Option<Bytes>,
    /// Batches on their way that set this key.
    writers: usize,
}

impl Embedded {
    /// Opens the file, or makes it.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        let options = Options::new(path);
        let deadline = tokio::time::Instant::now() + REOPEN_PATIENCE;
        loop {
            let options = options.clone();
            let opened = tokio::task::spawn_blocking(move || Disk::open(&options, &[VALUES, TOKENS])).await;
            match opened.map_err(|error| Error::Unavailable(error.to_string()))? {
                Ok(disk) => return Ok(Self { disk, pending: Arc::default() }),
                Err(OpenError::InUse { .. }) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => return Err(Error::Unavailable(error.to_string())),
            }
        }
    }

    fn read(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.disk.snapshot().and_then(|snapshot| snapshot.get(table, key)).map_err(unavailable)
    }

    /// Decides on a batch, given a way to read what is and what is about to be, and returns when it is durable.
    async fn write<R>(
        &self,
        size: usize,
        decide: impl FnOnce(&Latest<'_>) -> Result<(Batch, R), Error> + Send,
    ) -> Result<R, Error>
    where
        R: Send,
    {
        let room = self.disk.reserve(size).await.map_err(unavailable)?;
        let (done, durable) = oneshot::channel();
        let result = {
            let mut pending = lock(&self.pending);
            let (batch, result) = decide(&Latest { store: self, pending: &pending })?;
            let slots = batch.ops().iter().map(|op| (op.table, op.key.clone())).collect::<Vec<_>>();
            pending.add(&batch);
            let (shared, taken) = (self.pending.clone(), slots.clone());
            let queued = room.submit(batch, move |outcome| {
                lock(&shared).remove(taken);
                // Nobody listens any more if the caller was dropped; the batch stands all the same.
                let _ = done.send(outcome);
            });
            if let Err(error) = queued {
                pending.remove(slots);
                return Err(unavailable(error));
            }
            result
        };
        durable.await.unwrap_or(Err(disk::Error::Closed)).map_err(unavailable)?;
        Ok(result)
    }
}

/// The state that a decision starts from.
struct Latest<'a> {
    store: &'a Embedded,
    pending: &'a Pending,
}

impl Latest<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Error> {
        match self.pending.values.get(&(table, Bytes::copy_from_slice(key))) {
            Some(pending) => Ok(pending.value.clone()),
            None => self.store.read(table, key),
        }
    }
}

impl Pending {
    fn add(&mut self, batch: &Batch) {
        for op in batch.ops() {
            let entry = self.values.entry((op.table, op.key.clone()));
            let entry = entry.or_insert(PendingValue { value: None, writers: 0 });
            entry.value.clone_from(&op.value);
            entry.writers += 1;
        }
    }

    fn remove(&mut self, slots: Vec<Slot>) {
        for slot in slots {
            if let std::collections::hash_map::Entry::Occupied(mut entry) = self.values.entry(slot) {
                entry.get_mut().writers -= 1;
                if entry.get().writers == 0 {
                    entry.remove();
                }
            }
        }
    }
}

fn lock(pending: &Mutex<Pending>) -> MutexGuard<'_, Pending> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl KeyValue for Embedded {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        self.read(VALUES, key.as_bytes())
    }

    async fn set(&self, key: &str, value: Bytes) -> Result<(), Error> {
        self.set_many(vec![(key.to_owned(), value)]).await
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        self.delete_many(&[key.to_owned()]).await
    }

    async fn exists(&self, key: &str) -> Result<bool, Error> {
        Ok(self.get(key).await?.is_some())
    }

    async fn keys(&self, cursor: Option<&str>) -> Result<Keys, Error> {
        // The cursor is the last key of the page before; the next possible key is that one and a zero byte.
        let from = cursor.map_or_else(Bytes::new, |last| [last.as_bytes(), b"\0"].concat().into());
        let mut page = Keys::default();
        let mut more = false;
        let range = KeyRange { from, ..KeyRange::default() };
        let snapshot = self.disk.snapshot().map_err(unavailable)?;
        let visited = snapshot.scan(VALUES, &range, &mut |key, _| {
            if page.keys.len() == PAGE {
                more = true;
                return ControlFlow::Break(());
            }
            page.keys.push(String::from_utf8_lossy(key).into_owned());
            ControlFlow::Continue(())
        });
        visited.map_err(unavailable)?;
        if more {
            page.next = page.keys.last().cloned();
        }
        Ok(page)
    }

    async fn increment(&self, key: &str, delta: i64, token: Option<&str>) -> Result<i64, Error> {
        let size = key.len() + token.map_or(0, str::len) + 64;
        self.write(size, |latest| {
            let mut batch = Batch::new();
            if let Some(token) = token
                && let Some(earlier) = latest.get(TOKENS, token.as_bytes())?
            {
                return Ok((batch, integer(Some(&earlier))?));
            }
            let value = integer(latest.get(VALUES, key.as_bytes())?.as_deref())?;
            let sum = value.checked_add(delta).ok_or(Error::NotAnInteger)?;
            let text = Bytes::from(sum.to_string());
            batch.put(VALUES, Bytes::copy_from_slice(key.as_bytes()), text.clone());
            if let Some(token) = token {
                batch.put(TOKENS, Bytes::copy_from_slice(token.as_bytes()), text);
            }
            Ok((batch, sum))
        })
        .await
    }

    async fn forget(&self, token: &str) -> Result<(), Error> {
        self.write(token.len(), |_| {
            let mut batch = Batch::new();
            batch.delete(TOKENS, Bytes::copy_from_slice(token.as_bytes()));
            Ok((batch, ()))
        })
        .await
    }

    async fn get_many(&self, keys: &[String], limit: usize) -> Result<Vec<Option<Bytes>>, Error> {
        let snapshot = self.disk.snapshot().map_err(unavailable)?;
        let mut size = 0;
        let read = keys.iter().map(|key| {
            let value = snapshot.get(VALUES, key.as_bytes()).map_err(unavailable)?;
            size += value.as_ref().map_or(0, Bytes::len);
            if size > limit { Err(Error::BatchBytes { limit }) } else { Ok(value) }
        });
        read.collect()
    }

    async fn set_many(&self, pairs: Vec<(String, Bytes)>) -> Result<(), Error> {
        let size = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
        self.write(size, |_| {
            let mut batch = Batch::new();
            for (key, value) in pairs {
                batch.put(VALUES, key, value);
            }
            Ok((batch, ()))
        })
        .await
    }

    async fn delete_many(&self, keys: &[String]) -> Result<(), Error> {
        let size = keys.iter().map(String::len).sum();
        self.write(size, |_| {
            let mut batch = Batch::new();
            for key in keys {
                batch.delete(VALUES, Bytes::copy_from_slice(key.as_bytes()));
            }
            Ok((batch, ()))
        })
        .await
    }

    async fn check(&self) -> Result<(), Error> {
        // An empty batch goes through the queue and the writer's thread: it fails exactly if writes would.
        self.write(0, |_| Ok((Batch::new(), ()))).await
    }
}

fn unavailable(error: disk::Error) -> Error {
    Error::Unavailable(error.to_string())
}
